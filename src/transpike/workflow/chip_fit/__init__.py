"""Whether a converted network fits a chip, and what to change where it does not."""
