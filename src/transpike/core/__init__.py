"""What everything may import: the graph, the contracts of its members, and the form that runs."""
