"""What results are made of: statistics, quantities with units and sources, display in notebooks."""
