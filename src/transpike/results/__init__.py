"""Building blocks of results: statistics, quantities with units and sources, notebook display."""
