"""From a Graph to the form that engines run: the lowered form, its scales, bounds, exact grid and counts."""
