"""The contracts: graph, ops, cells, passes, recipes, schedules, encoders, readouts, tasks, and the registry."""
