"""What engines share for one mode of a schedule."""
