"""CAT, YOSO, linear TTFS and T2FSNN: what each promises, and that it fails without what the promise rests on."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from measured import chance
from networks import small_cnn
from transpike.activations import ClampQuantise, FirstSpikeStaircase, TimeToFirstSpike
from transpike.codes.first_spike import first_levels
from transpike.codes.time_code import TimeCode
from transpike.core.cell import Neuron
from transpike.neurons import FirstSpike
from transpike.passes.neurons import first_spikes
from transpike.passes.neurons.first_spikes import Shares, trained_kernel
from transpike.recipes import CAT, CQ, S4NN, T2FSNN, YOSO, LinearTTFS
from transpike.schedules import LayerSynchronous

# T2FSNN's VGG-16 on CIFAR-10, from its repository: layer → (τ, td) after training (ttfs-cq-energy.md, 1.2)
TRAINED = {
    "in": (25.4929, 0.0), "conv1": (19.4556, -2.0044), "conv1_1": (19.9047, -1.7328), "conv2": (19.5881, -2.0951),
    "conv2_1": (19.3780, -1.5213), "conv3": (19.3305, -2.9436), "conv3_1": (19.3270, -2.7658),
    "conv3_2": (19.2916, -2.6294), "conv4": (19.2852, -3.4545), "conv4_1": (19.2880, -4.0599),
    "conv4_2": (19.2594, -3.6751), "conv5": (19.2470, -3.2785), "conv5_1": (19.2540, -3.2763),
    "conv5_2": (19.2257, -2.3807), "fc1": (19.3440, -3.7172), "fc2": (19.3336, -4.5516),
}  # fmt: skip


def network(seed: int = 0) -> nn.Module:
    """Two convolutions, a maximum pool and a shortcut, without an activation on the input."""
    return small_cnn(seed).model


def prepared(**options: object) -> tuple[nn.Module, Tensor, Tensor]:
    case = small_cnn()
    x, test = case.calibration.abs(), case.x.abs()
    entrance = TimeToFirstSpike(12, 2.0) if options.get("entrance") else None
    return ts.prepare(case.model, TimeToFirstSpike(12, 2.0), x, input=entrance).eval(), x, test


def levels(snn: ts.SNN, x: Tensor, engine: str) -> dict[str, Tensor]:
    """Every neuron's value, in the units of its source."""
    cells = {n.name: n.op for n in snn.graph if isinstance(n.op, Neuron) and not n.op.is_delay}
    trace = ts.simulate(snn, x, engine=engine, record=cells)
    return {name: trace.trains[name].double().sum(0) * op.output_scale() for name, op in cells.items()}


def activations(snn: ts.SNN, x: Tensor, names: object) -> dict[str, Tensor]:
    source = ts.passes.FoldBatchNorm().apply(snn.source, None).to(dtype=torch.float64)
    found: dict[str, Tensor] = {}
    source.run(x.double(), observe=lambda node, inputs, out: found.update({node.name: out}))
    return {name: found[name] for name in names}


@pytest.mark.parametrize("entrance", [False, True])
def test_the_network_in_time_is_the_source_network_with_phi(entrance):
    model, x, test = prepared(entrance=entrance)
    recipe = CAT(timesteps=12, tau=2.0, input="spikes" if entrance else "analogue")
    snn = ts.convert(model, recipe, x, exact_grid=False)
    sent = levels(snn, test, "reference")
    wanted = activations(snn, test, sent)
    assert sent and all(torch.allclose(sent[name], wanted[name], rtol=0, atol=1e-12) for name in sent)
    assert all(0.05 < float((value > 0).double().mean()) < 0.95 for value in sent.values())
    # logits sum in another order, weights are scaled in between
    assert torch.allclose(snn(test), model(test), rtol=0, atol=1e-4)


def test_early_firing_is_not_the_source_network():
    model, x, test = prepared()
    snn = ts.convert(model, CAT(timesteps=12), x, exact_grid=False)

    class Early(CAT):
        schedule = ts.schedules.TimeSlots(3)

    hasty = dataclasses.replace(snn, recipe=Early(timesteps=12))
    sent = levels(hasty, test, "reference")
    wanted = activations(snn, test, sent)
    last = list(sent)[-1]
    assert not torch.allclose(sent[last], wanted[last], rtol=0, atol=1e-6)


def test_an_input_of_spikes_takes_the_range_that_was_trained():
    model, x, test = prepared(entrance=True)
    snn = ts.convert(model, CAT(timesteps=12, tau=2.0, input="spikes"), x[:8] * 0.5)
    assert snn.encoder.largest == float(model.input_activation.thresh)
    assert not any(isinstance(node.op, FirstSpikeStaircase) for node in snn.graph)
    analogue = ts.convert(model, CAT(timesteps=12), x)  # the φ on the input becomes a neuron of its own
    assert analogue.total_steps() == snn.total_steps() + 12
    # which rounds to its grid what the encoder has in float64
    assert float((analogue(test) - snn(test)).abs().max()) < 0.05 * float(snn(test).abs().max())


def test_what_vanishes_in_the_dark_is_said():
    case = small_cnn()
    x = case.calibration.abs() * 0.02
    x[0, 0, 0, 0] = 1.0
    snn = ts.convert(case.model, YOSO(timesteps=12, tau=2.0, input="spikes"), x)
    assert any("of the non-zero input values on the calibration data are below" in text for text in snn.remarks)
    with pytest.raises(ts.errors.DataError, match="no spike time"):
        snn(-x)


@pytest.mark.parametrize("window", [(24, 4.0), (12, 2.0)])
def test_the_activation_and_its_gradient(window):
    phi = TimeToFirstSpike(*window, bits=24)
    x = torch.tensor([1.3, 1.0, 0.9, 0.5, 0.3, 0.1, 0.001, 0.0, -0.5], requires_grad=True)
    y = phi(x)
    code = TimeCode(*window, bits=24)
    assert torch.allclose(y, torch.tensor([code.value(code.slot(v)) for v in x.tolist()]), rtol=0, atol=1e-7)
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]  # that of the clip
    phi.stage = "clip"
    assert torch.equal(phi(x.detach()), x.detach().clamp(0, 1))
    phi.stage = "relu"
    assert torch.equal(phi(x.detach()), torch.relu(x.detach()))


def test_nearest_levels_serve_a_network_that_was_not_trained_for_them(digits):
    plain = digits.accuracy(YOSO(timesteps=12, tau=2.0, rounding="down"))
    nearest = digits.accuracy(YOSO(timesteps=12, tau=2.0))
    ann = float((digits.model(digits.images).argmax(1) == digits.labels).float().mean())
    assert nearest > plain + 0.01 and nearest > ann - 0.03


def test_linear_first_spikes_are_the_counts_of_averaging_neurons_in_one_spike_each():
    case = small_cnn()
    x, test = case.calibration.abs(), case.x.abs()
    model = ts.prepare(case.model, ClampQuantise(16), x).eval()
    once = ts.convert(model, LinearTTFS(timesteps=16, rounding="down", learned=True), x, exact_grid=False)
    rate = ts.convert(model, CQ(timesteps=16, schedule=LayerSynchronous(), beta=0.0), x, exact_grid=False)
    names = [n.name for n in rate.graph if isinstance(n.op, Neuron)]
    one = ts.simulate(once, test, record=names).trains
    many = ts.simulate(rate, test, record=names).trains
    assert names and all(torch.equal(one[name].sum(0), many[name].sum(0)) for name in names)
    # and one spike for each of them
    fired = ts.simulate(once, test).activity.layers[0].spikes.sum()
    assert float(fired) == float((many[names[0]] > 0).sum()) < float(many[names[0]].sum())


def test_the_trained_kernels_of_t2fsnn_have_the_codes_of_its_repository():
    code = TimeCode(80, *(TRAINED["conv1"][0], math.e, TRAINED["conv1"][1]), bits=24)
    assert code.ceiling == pytest.approx(0.902, abs=5e-4)  # values above are clipped to it
    assert code.value(79) == pytest.approx(math.exp(-(79 + 2.0044) / 19.4556), rel=1e-4)
    assert math.exp(-(79 + 2.0044) / 19.4556) == pytest.approx(0.0156, abs=1e-4)
    for tau, delay in TRAINED.values():
        one = TimeCode(80, tau, math.e, delay)
        assert one.slots == 80 and one.ceiling == pytest.approx(math.exp(delay / tau), rel=1 / 128)


def test_training_kernels_lowers_the_losses_that_its_rule_descends():
    torch.manual_seed(0)
    share = torch.rand(64, 500).double().pow(3) * 0.7  # most are small, and nothing comes near θ

    def losses(tau: float, delay: float) -> tuple[float, float]:
        slots = torch.ceil(delay - tau * share.log()).clamp(min=0)
        fired = slots < 80
        value = torch.exp(-(slots - delay) / tau)
        top = (share.amax(1) - math.exp(delay / tau)).square().mean()
        return float(0.5 * (share - value)[fired].square().mean()), float(0.5 * top)

    tau, delay = 20.0, 0.0
    before = losses(tau, delay)
    for _ in range(200):
        tau, delay = trained_kernel(Shares.of(share), 80, tau, delay)
    after = losses(tau, delay)
    assert delay < 0 and after[1] < 0.5 * before[1]  # the first threshold falls to where values begin
    assert after[0] < before[0] * 1.5


@given(st.integers(0, 2**31), st.floats(2.0, 40.0), st.floats(-4.0, 4.0), st.integers(2, 90), st.integers(1, 400))
def test_a_kernel_is_trained_by_the_rule_on_every_single_share(seed, tau, delay, window, values):
    generator = torch.Generator().manual_seed(seed)
    share = torch.randn(5, values, generator=generator).double().clamp(min=0) * 0.6
    found = trained_kernel(Shares.of(share), window, tau, delay)
    if not bool((share > 0).any()):
        assert found == (tau, delay)
        return
    slots = torch.ceil(delay - tau * torch.log(share.clamp(min=1e-30))).clamp(min=0)
    fired, value = (share > 0) & (slots < window), torch.exp(-(slots - delay) / tau)
    precise = ((share - value) * value * (slots - delay))[fired].sum() / max(int(fired.sum()), 1)
    last, first = math.exp(-(window - delay) / tau), math.exp(delay / tau)
    least = (float(torch.quantile(share[share > 0], 0.02)) - last) * last * (window - delay)
    shift = float(((share.amax(1) - first) * first / tau).mean())
    expected = tau + (10 * float(precise) + 100 * least) / tau**2, delay + shift
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_kernels_are_the_same_whether_all_activations_fit_into_memory_or_not(monkeypatch):
    case, runs = small_cnn(), []
    run = ts.ops.Conv.run
    batches, epochs = list(case.calibration.abs().split(20)), 3
    recipe = T2FSNN(timesteps=20, tau=6.0, epochs=epochs)

    def codes() -> list[TimeCode]:
        runs.clear()
        return [
            node.op.code for node in ts.convert(case.model, recipe, batches).graph if isinstance(node.op, FirstSpike)
        ]

    monkeypatch.setattr(ts.ops.Conv, "run", lambda *given: runs.append(given[0]) or run(*given))
    together, few = codes(), len(runs)
    monkeypatch.setattr(first_spikes, "TOGETHER", 0)
    again, all_ = codes(), len(runs)
    assert again == together and len(set(together)) > 1
    convolutions = sum(isinstance(node.op, ts.ops.Conv) for node in ts.capture(case.model, batches[0]))
    assert all_ - few == (epochs - 1) * convolutions * len(batches)


def test_kernels_are_trained_for_each_layer_and_early_firing_costs_no_window(digits):
    snn = digits.converted(T2FSNN(timesteps=40, tau=10.0, epochs=2))
    codes = {node.op.code for node in snn.graph if isinstance(node.op, FirstSpike)}
    assert len(codes) > 1 and all(code.base == math.e for code in codes)
    layers = ts.core.schedule.depth(snn.graph, snn.graph.output.name)
    assert snn.total_steps() == layers * 20 + 40
    assert digits.accuracy(T2FSNN(timesteps=40, tau=10.0, epochs=0, wait_steps=40)) > 0.9


def test_logarithmic_weights_of_five_bits_cost_little(digits):
    def answers(**settings: object) -> Tensor:
        return digits.converted(YOSO(timesteps=24, **settings))(digits.images).double()

    plain = answers()
    few = {(bits, how): answers(weight_bits=bits, weight_correction=how) for bits in (3, 5) for how in ("none", "bias")}
    right = {key: logits.argmax(1) == digits.labels for key, logits in few.items()}
    whole = plain.argmax(1) == digits.labels
    assert chance(whole, right[5, "bias"]) > 0.01  # of five bits nothing is seen
    assert chance(whole, right[3, "none"]) < 0.01  # three bits cost answers,
    assert chance(right[3, "bias"], right[3, "none"]) < 0.01  # and biases give most of them back
    error = {key: float((logits - plain).square().sum() / plain.square().sum()) for key, logits in few.items()}
    # 15 exponents hold the 3 and all that lies between at half the step: at most a quarter of the error's power
    assert error[5, "none"] < error[3, "none"] / 4 and error[5, "bias"] < error[5, "none"]
    assert error[3, "bias"] < error[3, "none"] / 2


def test_the_earliest_spike_answers_like_the_membrane(digits):
    membrane = digits.converted(YOSO(timesteps=32, tau=8.0))
    earliest = digits.converted(YOSO(timesteps=32, tau=8.0, readout=ts.readouts.EarliestSpike()))
    same = (membrane(digits.images).argmax(1) == earliest(digits.images).argmax(1)).float().mean()
    assert float(same) > 0.95 and earliest.total_steps() == membrane.total_steps() + 32


def test_slots_that_were_trained_are_kept_or_the_recipe_is_refused():
    model, x, _ = prepared()
    for recipe in (YOSO(12, tau=3.0), LinearTTFS(12), T2FSNN(12, tau=3.0, epochs=0)):
        with pytest.raises(ts.errors.SettingError, match=r"was trained with 12 slots, base 2, τ 2.*use the recipe cat"):
            ts.convert(model, recipe, x)
    snn = ts.convert(model, CAT(12, tau=9.0), x)
    assert any("keeps the code that it was trained with" in remark for remark in snn.remarks)
    assert not ts.convert(model, CAT(12, tau=2.0), x).remarks


@pytest.mark.parametrize("source", [ClampQuantise(8), ts.activations.QuantisedClip(8)], ids=["CQ", "QCFS"])
def test_learned_floor_clip_are_rounded_as_they_were_trained(source):
    """CQ's stairs round down and QCFS's to the nearest: the linear code does the same, level by level."""
    case = small_cnn()
    x = case.calibration.abs()
    model = ts.prepare(case.model, source, x).eval()
    snn = ts.convert(model, LinearTTFS(8, learned=True), x, exact_grid=False)
    found = levels(snn, x, "reference")
    wanted = activations(snn, x, found)
    for name, value in found.items():
        theta = snn.graph[name].op.threshold
        same = (value / theta - wanted[name] / theta).abs() < 1e-5  # CQ's stairs begin a thousandth of a level early
        assert float(same.double().mean()) > (0.99 if isinstance(source, ClampQuantise) else 0.9999)
        assert float(value.max()) > 0
    case = small_cnn()
    odd = ts.prepare(case.model, ts.activations.SlipReLU(8), x).eval()
    with pytest.raises(ts.errors.SettingError, match="round down or to the nearest"):
        ts.convert(odd, LinearTTFS(8, learned=True), x)


def test_not_a_number_passes_through_phi_and_reaches_no_level():
    nan = torch.tensor([float("nan"), 0.5, 2.0])
    value = TimeToFirstSpike(8, 2.0).eval()(nan.repeat(3000))
    assert value.isnan().sum() == 3000 and not bool(value[1:3].isnan().any())
    found = first_levels(nan.repeat(3000), 1.0, TimeCode(8, 2.0))
    assert found[0] == 0 and found[1] > 0 and torch.equal(found[:3], first_levels(nan, 1.0, TimeCode(8, 2.0)))


def test_spiking_averages_fire_with_what_their_inputs_have_learned():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 3),
    )  # fmt: skip
    x = torch.rand(24, 1, 8, 8)
    trained = ts.prepare(model, TimeToFirstSpike(12, 2.0), x).eval()
    snn = ts.convert(trained, CAT(12, tau=2.0, average_pooling="spiking"), x)
    cells = {n.name: n.op for n in snn.graph if isinstance(n.op, FirstSpike)}
    assert len(cells) == 3
    pool = next(op for name, op in cells.items() if "fired" in name)
    assert float(pool.threshold) == pytest.approx(float(next(iter(cells.values())).threshold))
    logits = trained(x).detach()
    assert float((snn(x) - logits).abs().mean()) < 0.2 * float(logits.abs().mean())


def test_an_input_beyond_the_range_of_spikes_is_said():
    case = small_cnn()
    x = case.calibration.abs()
    labels = torch.zeros(len(case.x), dtype=torch.long)
    snn = ts.convert(case.graph, YOSO(12, input="spikes"), x).accepting_any_input()
    report = ts.evaluate(snn, (200 * case.x.abs(), labels))
    assert any("of the input values exceed" in remark for remark in report.remarks)
    assert not any(
        "of the input values exceed" in remark for remark in ts.evaluate(snn, (0.5 * case.x.abs(), labels)).remarks
    )
    pixels = ts.convert(case.graph, S4NN(12, threshold=1.0), 200 * x)
    assert any("above 1, the largest value that a spike represents" in remark for remark in pixels.remarks)


def test_layers_that_never_fire_are_named():
    case = small_cnn()
    snn = ts.convert(case.graph, S4NN(12, threshold=1e6), case.calibration.abs())
    report = ts.evaluate(snn, (case.x.abs(), torch.zeros(len(case.x), dtype=torch.long)))
    assert any(remark.startswith("no neuron of") for remark in report.remarks)


def test_fine_tuning_names_the_way_that_there_is(digits):
    with pytest.raises(ts.errors.SettingError, match="TimeToFirstSpike and convert it with the recipe cat"):
        ts.finetune(digits.converted(YOSO(timesteps=8)), [(digits.images, digits.labels)], epochs=1)
