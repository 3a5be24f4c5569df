"""What a user calls, in the order in which it is called: one module or folder for each function."""
