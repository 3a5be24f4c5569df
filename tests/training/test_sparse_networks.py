"""Zero weights stay zero from the source network to the form that runs, and no engine counts them as synapses."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, settle
from transpike.core.op import Synapse
from transpike.errors import SettingError
from transpike.recipes._base import LearnedCoded
from transpike.training import connectivity

T, SHAPE = 8, (2, 8, 8)
TUNED = ts.recipes.SNNCalibration(timesteps=T, calibrate="advanced-weights")
CONVERSIONS = [
    recipe(timesteps=T, weight_bits=bits, **({"period": T} if recipe.name == "bsnn" else {}))
    for recipe in ts.recipes.members
    # which want a network trained for them, or one without batch normalisation
    if not issubclass(recipe, LearnedCoded | ts.recipes.OPI | ts.recipes.CAT | ts.recipes.Cao | ts.recipes.SpikeZIP)
    and "weight_bits" in recipe.__dataclass_fields__
    for bits in (None, 5)
]


def keep_few(layer: nn.Module, share: float, generator: torch.Generator) -> None:
    """Zeros at random, and none of what is left so small that a grid would round it away."""
    with torch.no_grad():
        w = layer.weight
        w.copy_(w.sign() * w.abs().clamp(min=0.1 * float(w.abs().max())))
        w.mul_((torch.rand(w.shape, generator=generator) < share).to(w))


@pytest.fixture(scope="module")
def sparse() -> tuple[nn.Sequential, Tensor, Tensor]:
    """One weight in five is there; an input channel of the last convolution and a filter of the first have none."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16, eps=1e-2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(32, 16, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip
    x = torch.rand(56, *SHAPE, generator=generator)
    settle(model, x)
    for index in (0, 3, 7, 10):
        keep_few(model[index], 0.2, generator)
    with torch.no_grad():
        model[0].weight[5] = 0  # its neurons have their bias alone
        model[7].weight[:, 7] = 0  # nobody hears this channel
    return model, x[:48], x[48:]


def weights(lowered) -> dict[str, Tensor]:
    return {
        node.name: node.op.weight for node in lowered.nodes if isinstance(node.op, Synapse) and node.op.weight.ndim > 1
    }


def source(model: nn.Sequential) -> dict[str, Tensor]:
    return {name: part.weight for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize("recipe", [*CONVERSIONS, TUNED], ids=lambda recipe: f"{recipe.name}-{recipe.weight_bits}")
def test_zeros_stay_zero_through_folding_scaling_few_bits_the_grid_and_a_file(sparse, recipe, tmp_path):
    model, calibration, _ = sparse
    snn = ts.convert(model, recipe, calibration)
    ts.save(snn, tmp_path / "net.transpike")
    loaded = ts.load(tmp_path / "net.transpike")
    for form in (snn.program.lowered, loaded.program.lowered):
        assert form.exactness is not None
        found = weights(form)
        for name, weight in source(model).items():
            assert 0.5 < float((weight == 0).float().mean()) < 0.9
            there = found[name] != 0
            assert not bool((there & (weight == 0)).any()), name
            if recipe.weight_bits is None:
                assert bool((there | (weight == 0)).all()), name
    assert connectivity(loaded.graph) == connectivity(snn.graph)


def test_weights_calibrated_on_spikes_are_really_tuned(sparse):
    """Or the zeros that they keep would say nothing."""
    model, calibration, _ = sparse
    recipes = (ts.recipes.SNNCalibration(timesteps=T, calibrate="advanced"), TUNED)
    plain, tuned = (weights(ts.convert(model, r, calibration, exact_grid=False).program.lowered) for r in recipes)
    for name in ("3", "7"):  # no neuron is after the last layer
        assert not torch.allclose(plain[name], tuned[name])


def paths_of_linear(weight: Tensor) -> list[int]:
    outputs, inputs = weight.shape
    return [sum(1 for o in range(outputs) if weight[o, i] != 0) for i in range(inputs)]


def paths_of_convolution(weight: Tensor, size: int, stride: int, padding: int) -> list[int]:
    """Channel by channel, row by row, of an image ``size`` high and wide: the weights that an element meets."""
    outputs, inputs, kernel, _ = weight.shape
    positions = (size + 2 * padding - kernel) // stride + 1
    found = []
    for i in range(inputs):
        for y in range(size):
            for x in range(size):
                count = 0
                for out_y in range(positions):
                    for out_x in range(positions):
                        ky, kx = y + padding - out_y * stride, x + padding - out_x * stride
                        if 0 <= ky < kernel and 0 <= kx < kernel:
                            count += sum(1 for o in range(outputs) if weight[o, i, ky, kx] != 0)
                found.append(count)
    return found


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
@pytest.mark.parametrize("recipe", [ts.recipes.ECC(timesteps=T), TUNED], ids=lambda recipe: recipe.name)
def test_every_engine_counts_the_weights_that_are_there(sparse, recipe, engine):
    model, calibration, x = sparse
    snn = ts.convert(model, recipe, calibration)
    trace = ts.simulate(snn, x, T, engine=engine, record=["2", "5", "8"])
    rows = {row.name: row for row in trace.activity.layers}
    second = paths_of_convolution(model[7].weight, 2, 1, 0)
    # after the average pool each of four neurons sends to the same place of the next layer
    pooled = torch.tensor(second).reshape(32, 2, 2).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten().tolist()
    fans = {"2": paths_of_convolution(model[3].weight, 8, 2, 1), "5": pooled, "8": paths_of_linear(model[10].weight)}
    for name, fan in fans.items():
        train = trace.trains[name].double().sum((0, 1)).flatten()
        assert 0.01 < float(train.sum()) / (train.numel() * T * len(x)) < 0.6
        wanted = sum(int(n) * f for n, f in zip(train.tolist(), fan, strict=True))
        assert int(rows[name].synaptic_operations.sum()) == wanted
        dense = {"2": 9 * 32 / 4, "5": 16, "8": 5}[name] * float(train.sum())
        assert wanted < 0.4 * dense


def test_connectivity_of_a_module_and_of_what_it_becomes(sparse):
    model, calibration, _ = sparse
    found = connectivity(model)
    assert [row.name for row in found.rows] == ["0.weight", "3.weight", "7.weight", "10.weight"]
    assert [row.weights for row in found.rows] == [288, 4608, 512, 320]
    assert [row.connections for row in found.rows] == [int((w != 0).sum()) for w in source(model).values()]
    assert found.total.connectivity == sum(row.connections for row in found.rows) / 5728
    assert "total" in str(found) and f"{found.total.connectivity:.2%}" in str(found)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=T), calibration)
    assert [row.connections for row in connectivity(snn.graph).rows] == [row.connections for row in found.rows]


@pytest.mark.parametrize("network", [nn.BatchNorm2d(3), nn.ReLU(), torch.zeros(2, 2)], ids=["norm", "relu", "tensor"])
def test_connectivity_refuses_what_has_no_connections(network):
    with pytest.raises(SettingError, match=r"BatchNorm2d has no weights|ReLU has no weights|not Tensor"):
        connectivity(network)
