"""The dense engine: layer by layer, with time folded into the batch."""
