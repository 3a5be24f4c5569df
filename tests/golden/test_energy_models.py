"""Published numbers of energy models, from counts that anybody can write down."""

import pytest
import torch

from transpike.core.activity import Activity, Connection, LayerActivity
from transpike.energy import AnnActivity, AnnLayer, Lemaire, MemoryHierarchy, Movement, SpatialDataflow

INPUTS, SYNAPSES, DENSITY = 2395, 2395 * 1000, 0.45  # Yan 2024: average fan-in, and the ANN's best case
# T → break-even sparsity, classical and spatial (ttfs-cq-energy.md, 4.1)
SPARSITY = {
    1: (0.439, 0.546), 2: (0.744, 0.774), 3: (0.838, 0.849), 4: (0.882, 0.887), 5: (0.908, 0.910), 6: (0.924, 0.925),
    7: (0.936, 0.936), 8: (0.944, 0.944), 10: (0.956, 0.955), 12: (0.964, 0.963), 16: (0.973, 0.972),
}  # fmt: skip


def layer(timesteps: int, events: float, spikes: float, neurons: int, synapses: int, name: str = "a") -> LayerActivity:
    return LayerActivity(
        name, "neuron", "neuron", neurons, "binary", torch.tensor([spikes]).double(), torch.tensor([events]).double(), neurons * timesteps,
        synapses=synapses,
    )  # fmt: skip


def network(timesteps: int, sparsity: float) -> Activity:
    """As many neurons as synapses / 2395; a share 1 − sparsity of them fires in a step."""
    events = timesteps * (1 - sparsity) * SYNAPSES
    return Activity((layer(timesteps, events, 0.0, SYNAPSES // INPUTS, SYNAPSES),), 1, {}, (), timesteps)


ANN = AnnActivity((AnnLayer("a", SYNAPSES, DENSITY * SYNAPSES, 1, 1, 1, 3, 3),))


@pytest.mark.parametrize(("model", "published"), [(MemoryHierarchy(), 0.849), (SpatialDataflow(), 0.778)])
def test_the_ratios_of_vgg_at_six_steps(model, published):
    """T = 6, sparsity 94.19 %: 0.85 and 0.78 in table 5 of arXiv 2409.08290 v1."""
    assert model.joule(network(6, 0.9419)) / model.ann_joule(ANN, True) == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(("model", "place"), [(MemoryHierarchy(), 0), (SpatialDataflow(), 1)])
def test_the_table_of_break_even_sparsities(model, place):
    for timesteps, published in SPARSITY.items():
        none, all_ = (model.joule(network(timesteps, s)) for s in (1.0, 0.0))
        found = 1 - (model.ann_joule(ANN, True) - none) / (all_ - none)
        assert found == pytest.approx(published[place], abs=6e-4), timesteps


def test_the_spatial_ratio_of_the_abstract_needs_another_sparsity():
    """69 % at T = 6 is that of sparsity 0.9486 by the formula."""
    ratio = SpatialDataflow().joule(network(6, 0.9486)) / SpatialDataflow().ann_joule(ANN, True)
    assert ratio == pytest.approx(0.69, abs=5e-3)


def test_the_worked_convolution_of_lemaire():
    """16 → 32 channels, 3 × 3, 32 × 32, T = 8, 10 % in and 8 % out (ttfs-cq-energy.md, 4.3)."""
    inputs, outputs, steps = 16 * 32 * 32, 32 * 32 * 32, 8
    heard, sent = 0.1 * inputs * steps, 0.08 * outputs * steps
    layers = (layer(steps, 0, heard, inputs, 0, "in"), layer(steps, 0, sent, outputs, 0, "out"))
    conv = Connection("c", ("in",), "out", 4_718_592, 0, 4608, 4608, inputs, outputs, 32, 16, 1, (3, 3), (1, 1))
    activity = Activity(layers, 1, {}, (conv,), steps)
    counts = {row.cause: row for row in Lemaire().rows(activity)}
    assert counts["accumulate"].count == pytest.approx(4_057_989, abs=1)
    assert counts["accumulate"].joule == pytest.approx(406e-9, rel=2e-3)
    reads = counts["memory access"].count
    assert reads == pytest.approx(3 * heard * 32 * 9 + 3 * steps * outputs + heard + sent, rel=1e-7)
    ann = AnnActivity((AnnLayer("c", 4_718_592, 4_718_592, inputs, outputs, 4608, 8, 3, (3, 3)),))
    dense = {row.cause: row for row in Lemaire().ann_rows(ann, False)}
    assert dense["multiply-accumulate"].count == 4_718_592
    assert dense["multiply-accumulate"].joule == pytest.approx(15_103e-9, rel=5e-3)
    assert Lemaire().ann_joule(ann, False) == pytest.approx(110e-6, rel=0.01)
    assert Lemaire().joule(activity) == pytest.approx(121e-6, rel=0.02)


@pytest.mark.parametrize(("timesteps", "bits", "published"), [(2, 2, 0.083), (3, 2, 0.056), (5, 3, 0.050)])
def test_the_transport_alone_breaks_even_where_its_own_bound_says(timesteps, bits, published):
    """``rate = bits · 0.25 / (3 T)``: of the reference's derivation, not of the paper's table."""
    model, outputs = Movement(), 1000
    one = [
        row for row in model.rows(Activity((layer(timesteps, 0, 1.0, outputs, 0),), 1, {})) if "transport" in row.cause
    ]
    ann = AnnActivity((AnnLayer("a", 0, 0, 1, outputs, 1, bits, bits),))
    dense = [row for row in model.ann_rows(ann, True) if "transport" in row.cause]
    assert dense[0].joule / one[0].joule / (outputs * timesteps) == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(
    ("macs", "weights", "fan"), [(400, 4, 1), (4000, 40, 10)], ids=["a scale", "a layer on tokens"]
)
def test_an_event_of_lemaire_computes_an_address_for_each_of_its_own_weights(macs, weights, fan):
    """Not for every output of the layer: a scale has one weight for an input, a layer on 100 tokens those of its token."""
    one = Connection("c", ("in",), "out", macs, macs, weights, weights, 400, macs * 100 // 400, 10, 1)
    activity = Activity((layer(1, 0, 30.0, 400, 0, "in"),), 1, {}, (one,), 1)
    counts = {row.cause: row.count for row in Lemaire().rows(activity)}
    assert counts["address"] == 30 * fan
