"""Energy and operations, next to the quantised network that the spiking one replaces."""
