"""A layer may have any name that Python allows: the trainable modules keep their own attributes apart."""

import copy

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.training.spiking.tandem import Tandem
from transpike.training.spiking.unrolled import Unrolled

ATTRIBUTES = [name for name in Unrolled.__annotations__ if not name.startswith("_")] + ["source_graph"]


class Named(nn.Module):
    """Linear layers of given names, each with a ReLU after it, and one at the end."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.order = [f"layer_{name}" if name == "order" else name for name in names]
        for name in self.order:
            setattr(self, name, nn.Linear(6, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.order:
            x = torch.relu(self._modules[name](x) + 0.2)
        return self.head(x)


def converted(names: list[str]) -> tuple[ts.SNN, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.rand(48, 6)
    return ts.convert(Named(names), ts.recipes.ECC(timesteps=6), x), x


def test_the_attributes_that_could_collide_are_all_tried():
    assert {"last", "encoder", "readout", "seen", "cut"} <= set(ATTRIBUTES)


def plain(count: int) -> list[str]:
    return [f"layer{i}" for i in range(count)]


@pytest.mark.parametrize("kind", [Unrolled, Tandem])
def test_a_layer_called_like_an_attribute_is_a_layer(kind):
    snn, x = converted(ATTRIBUTES)
    other, _ = converted(plain(len(ATTRIBUTES)))
    module, expected = kind.of(snn), kind.of(other)
    new = dict(zip(plain(len(ATTRIBUTES)), ATTRIBUTES, strict=True))
    renamed = [".".join(new.get(part, part) for part in key.split(".")) for key in expected.state_dict()]
    assert list(module.state_dict()) == renamed
    assert torch.equal(module(x), expected(x))
    (seen,) = expected.watched(x, {f"layer{ATTRIBUTES.index('seen')}"}).values()
    assert torch.equal(module.watched(x, {"seen"})["seen"].charge, seen.charge)
    module.cut = module.detach_reset = True
    module.spiking = frozenset()
    module(x)
    loaded = copy.deepcopy(module)
    loaded.load_state_dict(kind.of(snn).state_dict())
    assert set(loaded.double().to_graph().parameters()) == set(snn.graph.parameters())
    assert loaded.cut and kind.of(snn).spiking is None


@pytest.mark.parametrize("settings", [{}, {"normalise": True}, {"gradients": "counts", "train": ("weights",)}])
def test_fine_tuning_does_not_depend_on_the_names_of_layers(settings):
    answers = []
    for names in (ATTRIBUTES, plain(len(ATTRIBUTES))):
        snn, x = converted(names)
        tuned = ts.finetune(snn, (x, torch.arange(48) % 3), epochs=1, learning_rate=0.01, **settings)
        answers.append(ts.simulate(tuned, x).logits)
    assert torch.equal(*answers)


def test_a_layer_that_a_subclass_adds_is_trained():
    module = ts.capture(nn.Linear(4, 2), torch.rand(3, 4)).to_module()
    module.extra = nn.Linear(2, 2)
    assert "extra.weight" in dict(module.named_parameters())
