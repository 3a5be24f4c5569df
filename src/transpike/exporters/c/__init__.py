"""Export to C99."""

from transpike.exporters.c.exporter import C
