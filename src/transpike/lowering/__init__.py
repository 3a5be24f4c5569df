"""From a Graph to what runs: the lowered form, its scales, bounds, exact grid and counts."""
