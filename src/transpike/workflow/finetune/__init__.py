"""Fine-tuning of a converted network."""
