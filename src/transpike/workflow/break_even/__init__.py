"""Training towards fewer spikes, until the spiking network costs less than the quantised network that it replaces."""
