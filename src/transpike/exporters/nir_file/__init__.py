"""Files of the Neuromorphic Intermediate Representation: written for other simulators, and read back."""

from transpike.exporters.nir_file.exporter import Nir
