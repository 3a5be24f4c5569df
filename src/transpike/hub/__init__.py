"""Networks on a hub of models: their addresses, and how files come from there and go there."""
