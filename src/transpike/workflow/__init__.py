"""The functions that a user calls: one module or folder for each."""
