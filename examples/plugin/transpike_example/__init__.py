"""One of each kind of thing that a package can add to transpike; importing it registers all of them."""

from transpike_example import balanced, chip, dataset, energy, neuron, operator, recipe, task

__all__ = ["balanced", "chip", "dataset", "energy", "neuron", "operator", "recipe", "task"]
