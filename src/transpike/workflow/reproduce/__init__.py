"""Published numbers next to ours: what a paper's reproduction needs, how long it takes, its run and its comparison."""
