"""Publishing a network on a hub: its file, its card and its certificate."""
