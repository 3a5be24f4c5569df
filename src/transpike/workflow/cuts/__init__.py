"""Every cut of a converted network into a spiking part and an analogue rest."""
