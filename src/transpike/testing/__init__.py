"""The laws that recipes, neurons, operators and other members of a family keep, for packages inside and outside.

Each ``check_…`` takes one object and raises AssertionError with its class, the broken law and the values. Use them in
the tests of a package::

    from transpike.testing import check_neuron, check_recipe

    def test_my_parts():
        check_neuron(MyNeuron(ReLU(), torch.tensor(1.0), torch.tensor(0.0)), (4,))
        check_recipe(MyRecipe(timesteps=8))

Shapes are without the batch. Inputs are drawn with a fixed seed. Tensors and spikes are compared bit for bit where no
tolerance is named; sums are compared in float64 with the tolerance ``ROUNDING``, relative to the largest value.
``example`` makes the object of a class to be checked.
"""

from transpike.testing._law import check_member, example
from transpike.testing.cells import check_neuron
from transpike.testing.conversion import check_pass, check_recipe
from transpike.testing.exporters import check_exporter
from transpike.testing.inputs import check_dataset, check_encoder
from transpike.testing.operators import check_op
from transpike.testing.results import check_chip, check_energy_model, check_task

__all__ = [
    "check_chip",
    "check_dataset",
    "check_encoder",
    "check_energy_model",
    "check_exporter",
    "check_member",
    "check_neuron",
    "check_op",
    "check_pass",
    "check_recipe",
    "check_task",
    "example",
]
