"""Early exit: scores a person can check, a promise that holds as often as it says, and answers that stop in truth."""

import dataclasses
import json
import math

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import small_cnn
from stored import stored
from transpike import exits
from transpike.cli import main
from transpike.core.exit import ExitScore
from transpike.errors import DataError, FileError, SettingError
from transpike.exits import ExitPolicy
from transpike.recipes import ECC, FewSteps
from transpike.results.statistics import binomial_at_most
from transpike.schedules import LayerSynchronous
from transpike.workflow.early_exit import (
    CHECKPOINT_COST,
    _quantile,
    _strangeness,
    _temperature,
    answer_early,
    checkpoints_until,
    fit_exit,
    fit_policy,
)


def policy(score=None, places=(2, 5), timesteps=8, thresholds=(0.8, 0.6), **settings) -> ExitPolicy:
    given = {"temperatures": (1.0,) * len(places), "drop": 0.01, "confidence": 0.95, "samples": 100} | settings
    return ExitPolicy(score or exits.Confidence(), timesteps, places, thresholds=thresholds, **given)


def test_scores_are_what_their_formulas_say():
    logits = torch.tensor([[math.log(6.0), math.log(3.0), 0.0]], dtype=torch.float64)
    assert float(exits.Confidence()(logits)) == pytest.approx(0.6)
    entropy = -(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1))
    assert float(exits.Entropy()(logits)) == pytest.approx(1 - entropy / math.log(3))
    assert float(exits.Gap()(logits)) == pytest.approx(math.log(2))
    assert float(exits.Conformal()(logits)) == pytest.approx(-math.log(0.3))
    same = torch.zeros(1, 4, dtype=torch.float64)
    assert float(exits.Entropy()(same)) == pytest.approx(0) and float(exits.Gap()(same)) == 0
    for kind in exits.members:  # surer logits, larger score
        assert float(kind()(3 * logits)) > float(kind()(logits))


@given(st.integers(1, 200), st.floats(0.01, 0.5), st.data())
def test_binomial_tails_are_sums_of_the_distribution(samples, rate, data):
    count = data.draw(st.integers(0, samples))
    wanted = math.fsum(math.comb(samples, k) * rate**k * (1 - rate) ** (samples - k) for k in range(count + 1))
    assert binomial_at_most(count, samples, rate) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_a_sample_stops_at_the_first_checkpoint_that_it_passes(seed):
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(8, 20, 3, generator=random, dtype=torch.float64)
    found = policy().stops(logits)
    for sample, stop in enumerate(found.tolist()):
        sure = [float(logits[t - 1, sample].softmax(-1).max()) for t in (2, 5)]
        assert stop == (2 if sure[0] >= 0.8 else 5 if sure[1] >= 0.6 else 8)


def test_the_temperature_is_the_one_that_the_answers_were_drawn_with():
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20000, 5, generator=random, dtype=torch.float64)
    y = torch.multinomial((logits / 2.5).softmax(-1), 1, generator=random)[:, 0]
    assert _temperature(logits, y) == pytest.approx(2.5, rel=0.06)
    assert _temperature(100 * logits, y) == pytest.approx(250, rel=0.06)  # sums instead of means change it alone


def _walk(samples: int, random: torch.Generator, steps: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that become surer with time, (steps, samples, 4), and labels."""
    y = torch.randint(0, 4, (samples,), generator=random)
    truth = torch.nn.functional.one_hot(y, 4).double()
    noise = torch.randn(steps, samples, 4, generator=random, dtype=torch.float64).cumsum(0)
    time = torch.arange(1, steps + 1, dtype=torch.float64)[:, None, None]
    return 1.2 * truth + 1.3 * noise / time, y


@pytest.mark.parametrize("score", list(exits.table))
def test_the_promise_holds_as_often_as_it_says(score):
    """Fitted again and again on fresh samples, the true loss is above the promise in 5 % of the fits at most."""
    random = torch.Generator().manual_seed(1)
    places, drop = (1, 2, 3, 5, 6), 0.02
    rows = torch.tensor([*places, 8]) - 1
    big, labels = _walk(40000, random)
    full = big[-1].argmax(-1) == labels
    broken, stopped, repeats = 0, 0, 120
    for _ in range(repeats):
        logits, y = _walk(600, random)
        never = (math.inf,) * len(places)
        start = ExitPolicy(exits.table[score](), 8, places, never, never, drop, 0.95, 600)
        found = fit_policy(start, logits[rows], y, 0.3, int(torch.randint(2**31, (), generator=random)))
        stops = found.stops(big)
        early = (big.argmax(-1) == labels).gather(0, stops[None] - 1)[0]
        broken += float((full & ~early).double().mean()) > drop
        stopped += float((stops < 8).double().mean()) > 0.02
    assert broken <= 12, "5 % of 120 are 6, and more than 12 a chance of 1 %"
    assert stopped > repeats / 2, "a policy that never stops keeps every promise"


def _fit(score: str, logits: torch.Tensor, y: torch.Tensor, drop: float = 0.02, **settings) -> ExitPolicy:
    """Of answers after each step, with a look after each but the last."""
    places = tuple(range(1, len(logits)))
    never = (math.inf,) * len(places)
    start = ExitPolicy(exits.table[score](), len(logits), places, never, never, drop, 0.95, 0)
    return fit_policy(start, logits, y, **settings)


@pytest.mark.parametrize("score", list(exits.table))
def test_an_exit_foresees_the_answer_after_all_steps_not_the_right_one(score):
    """Labels only test: what is tested is the same for other labels."""
    random = torch.Generator().manual_seed(2)
    logits, y = _walk(1000, random)
    other = torch.randint(0, 4, (1000,), generator=random)
    first, second = (_fit(score, logits, labels, drop=0.99, thin=False) for labels in (y, other))
    assert first == second and max(first.thresholds) < math.inf, "with such a drop the laxest candidate is taken"


def test_candidates_of_conformal_sets_begin_beyond_what_was_seen():
    """The largest of 400 is exceeded by 4 of 1,600, and a promise of 0.5 points allows 3."""
    stopped = [
        float((_fit("conformal", *(data := _walk(2000, torch.Generator().manual_seed(seed))), drop=0.005)
               .stops(data[0]) < 8).double().mean()) for seed in range(12)
    ]  # fmt: skip
    assert sum(share > 0.02 for share in stopped) >= 10


def test_a_look_costs_steps():
    """Half are sure after 7 of 16 steps, all after 8: the first look saves half a step, and costs two."""
    y = torch.arange(1000) % 2
    sure = 4 * torch.nn.functional.one_hot(y, 2).double() - 2
    logits = torch.zeros(3, 1000, 2, dtype=torch.float64)
    logits[0, :500], logits[1], logits[2] = sure[:500], sure, sure
    start = ExitPolicy(exits.Gap(), 16, (7, 8), (1.0, 1.0), (math.inf, math.inf), 0.02, 0.95, 0)
    assert fit_policy(start, logits, y).checkpoints == (8,)
    assert fit_policy(dataclasses.replace(start, checkpoints=(2, 8)), logits, y).checkpoints == (2, 8)


@pytest.mark.parametrize("score", list(exits.table))
def test_looks_that_do_not_pay_are_dropped(score):
    logits, y = _walk(3000, torch.Generator().manual_seed(3), 16)
    logits[:4] = torch.randn(logits[:4].shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    thin, all_of_them = _fit(score, logits, y), _fit(score, logits, y, thin=False)
    assert all_of_them.checkpoints == tuple(range(1, 16))
    assert 1 <= len(thin.checkpoints) < 12 and not set(thin.checkpoints) & {1, 2, 3, 4}
    checkpoints = [sum(p.checkpoints.index(s) + 1 if s < 16 else len(p.checkpoints) for s in p.stops(logits).tolist())
             for p in (thin, all_of_them)]  # fmt: skip
    steps = [float(p.stops(logits).double().sum()) for p in (thin, all_of_them)]
    assert steps[0] + CHECKPOINT_COST * checkpoints[0] < steps[1] + CHECKPOINT_COST * checkpoints[1]


def test_a_policy_that_never_stops_says_so():
    assert "after 2, 5 of 8 steps" in str(policy())
    assert "never before the end" in str(policy(thresholds=(math.inf, math.inf)))


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.02, 0.3))
def test_conformal_quantiles_are_order_statistics(seed, alpha):
    random = torch.Generator().manual_seed(seed)
    logits, y = torch.randn(99, 4, generator=random, dtype=torch.float64), torch.randint(0, 4, (99,), generator=random)
    strange = _strangeness(logits, y)
    wanted = sorted(-math.log(float(row.softmax(-1)[k])) for row, k in zip(logits, y, strict=True))
    assert strange.tolist() == pytest.approx(wanted)
    found = _quantile(strange, alpha)
    assert found in strange.tolist() and int((strange <= found).sum()) >= 100 * (1 - alpha) - 1e-9
    assert _quantile(strange, 0.005) == math.inf  # 99 samples cannot bound so small a share


@pytest.fixture(scope="module")
def network():
    data = ts.data.load("digits")
    images = data.train.batch(torch.arange(300))[0]
    snn = ts.convert(stored("small-cnn"), ECC(24), images, preprocessing=data.preprocessing)
    fitted = fit_exit(snn, data.test.batches(64, limit=300), drop=2.0)
    return fitted, data.test.batch(torch.arange(300, 540))


@pytest.mark.parametrize("engine", ["auto", "event", "dense", "reference"])
def test_answers_are_those_of_the_whole_run_at_the_stop(network, engine):
    snn, (x, _) = network
    x = x[:60] if engine != "reference" else x[:12]
    whole = ts.simulate(snn, x, engine=engine).logits
    found = answer_early(snn, x, engine=engine)
    stops = snn.exit.stops(whole)
    assert torch.equal(found.timesteps, stops) and len(stops.unique()) > 1 and int(stops.min()) < 24
    assert torch.equal(found.logits, whole.gather(0, (stops - 1)[None, :, None].expand(1, -1, 10))[0])
    alone = answer_early(snn, x[:1], engine=engine)
    assert torch.equal(alone.logits[0], found.logits[0]) and int(alone.timesteps) == int(found.timesteps[0])


def test_samples_leave_the_batch(network, monkeypatch):
    from transpike.engines import run as _base

    sizes = []
    keep = _base.Run.keep
    monkeypatch.setattr(_base.Run, "keep", lambda run, mask: (sizes.append(int(mask.sum())), keep(run, mask))[1])
    snn, (x, _) = network
    chosen = policy(places=(4, 8, 16), timesteps=24, thresholds=(0.9, 0.9, 0.9), temperatures=(1.0,) * 3)
    answer_early(dataclasses.replace(snn, exit=chosen), x)
    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 1 and sizes[-1] < len(x) / 2


def test_evaluate_counts_each_sample_up_to_its_stop(network):
    snn, (x, y) = network
    report = ts.evaluate(snn, (x[:80], y[:80]), energy=ts.energy.Operations())
    found, stops = report.exit, snn.exit.stops(ts.simulate(snn, x[:80]).logits)
    assert found.mean_steps == pytest.approx(float(stops.double().mean()))
    assert found.quantiles["p50"] == int(stops.double().quantile(0.5, interpolation="higher"))
    answers = answer_early(snn, x[:80]).logits.argmax(-1)
    assert found.accuracy == float((answers == y[:80]).double().mean())
    assert found.full_accuracy == report.final.accuracy
    assert found.lost - found.gained == pytest.approx(found.drop) and found.kept == (found.lost <= 0.02)
    operations = joules = 0.0
    for index in range(80):
        activity = ts.simulate(snn, x[index : index + 1], int(stops[index])).activity
        operations += sum(float(row.synaptic_operations.sum()) for row in activity.layers)
        joules += ts.energy.Operations().joule(activity)
    assert found.synaptic_operations == pytest.approx(operations / 80)
    assert found.energy_joule["operations"] == pytest.approx(joules / 80)
    assert found.synaptic_operations < report.final.synaptic_operations
    right = torch.stack([report.outcomes[t] for t in range(1, 25)])
    assert found.oracle_accuracy == float(right.any(0).double().mean()) and found.oracle_steps <= found.mean_steps
    first = [right[:, k].tolist().index(True) + 1 if bool(right[:, k].any()) else 24 for k in range(80)]
    assert found.oracle_steps == pytest.approx(sum(first) / 80)
    assert json.loads(json.dumps(report.to_json()["exit"], allow_nan=False))["score"] == "confidence"
    assert "Early exit by confidence" in ts.report.text(report) and "Early exit" in ts.report.page(report)
    short = ts.evaluate(snn, (x[:8], y[:8]), timesteps=4)
    assert short.exit is None and any("fitted for T=24" in remark for remark in short.remarks)


def test_the_policy_is_saved_with_the_network(network, tmp_path):
    snn, (x, _) = network
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert loaded.exit == snn.exit
    assert torch.equal(answer_early(loaded, x[:20]).logits, answer_early(snn, x[:20]).logits)
    wrong = dataclasses.replace(snn, exit=exits.Gap())  # type: ignore[arg-type]
    with pytest.raises(FileError, match="exit has the wrong type"):
        ts.save(wrong, tmp_path / "wrong.transpike")


def test_a_changed_network_loses_its_exit(network):
    snn, (x, y) = network
    tuned = ts.finetune(snn, (x[:64], y[:64]), epochs=1, learning_rate=1e-5)
    assert tuned.exit is None and "fit it again" in tuned.remarks[-1]
    assert "exit: by confidence after" in str(snn)


def test_what_makes_no_exit_is_refused():
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(8), case.calibration)
    data = (torch.cat([case.calibration] * 3), torch.zeros(3 * len(case.calibration), dtype=torch.long))
    with pytest.raises(DataError, match=r"needs at least \d+ samples, but there are"):
        fit_exit(snn, data, drop=0.5)
    with pytest.raises(SettingError, match="no exit policy"):
        answer_early(snn, case.x)
    windows = ts.convert(case.graph, ECC(8, schedule=LayerSynchronous()), case.calibration)
    with pytest.raises(SettingError, match="gives one per window"):
        fit_exit(windows, data)
    with pytest.raises(SettingError, match="choose from"):
        fit_exit(snn, data, score="luck")
    with pytest.raises(DataError, match="targets"):
        fit_exit(snn, case.calibration)
    for wrong in ({"drop": 0.0}, {"drop": True}, {"confidence": 1.0}):
        with pytest.raises(SettingError, match="must lie between"):
            fit_exit(snn, data, **wrong)
    with pytest.raises(DataError, match="needs at least"):
        fit_exit(snn, data, drop=1e-16)
    with pytest.raises(DataError, match="selects none"):
        fit_exit(snn, (data[0][:2], data[1][:2]), drop=50)
    for score in (None, 3, exits.Gap, lambda z: z.amax(-1)):
        with pytest.raises(SettingError, match="score must be"):
            fit_exit(snn, data, score=score)
    for seed in (1.5, "x", True, 2**70):
        with pytest.raises(SettingError, match="seed must be"):
            fit_exit(snn, data, seed=seed)
    for places in (4, (1.5,), ("a",), (True,)):
        with pytest.raises(SettingError, match="checkpoints must be"):
            fit_exit(snn, data, checkpoints=places)
    with pytest.raises(SettingError, match="pass more timesteps"):
        fit_exit(snn, data, timesteps=1)
    for places in ((), (0, 3), (3, 3), (4, 2), (8,)):
        with pytest.raises(SettingError, match="checkpoint"):
            fit_exit(snn, data, checkpoints=places)
    assert (
        checkpoints_until(1) == ()
        and checkpoints_until(10) == tuple(range(2, 10, 2))
        and checkpoints_until(64) == tuple(range(8, 64, 8))
        and checkpoints_until(128) == tuple(range(8, 128, 8))
        and checkpoints_until(256) == tuple(range(16, 256, 16))
    )
    for wrong in ({"temperatures": (0.0, 1.0)}, {"temperatures": (math.nan, 1.0)}, {"thresholds": (math.nan, 1.0)}):
        with pytest.raises(SettingError, match="must be"):
            policy(**wrong)
    with pytest.raises(DataError, match="sample_ids"):
        answer_early(dataclasses.replace(snn, exit=policy()), case.x, sample_ids=torch.arange(1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: y - 1, "are -1 to"), (lambda y: y + 100, "but the network has"), (lambda y: y.float() / 2, "real targets"),
        (lambda y: y.float(), r"y\.long"), (lambda y: y > 2, "integers"), (lambda y: torch.nn.functional.one_hot(y, 10), "for one-hot labels"), (lambda y: y[:100], "targets"),
    ],
)  # fmt: skip
def test_targets_that_are_no_classes_are_refused(network, change, words):
    snn, (x, y) = network
    with pytest.raises(DataError, match=words):
        fit_exit(snn, [(x, change(y))], drop=5.0)


def test_targets_of_any_whole_kind_are_classes(network):
    snn, (x, y) = network
    wanted = fit_exit(snn, (x, y), drop=5.0).exit
    for kind in (torch.int32, torch.int8):
        assert fit_exit(snn, [(x, y.to(kind))], drop=5.0).exit == wanted


@dataclasses.dataclass(frozen=True)
class Own(ExitScore):
    broken: bool = False

    def __call__(self, logits):
        return logits.amax(-1) * (math.nan if self.broken else 1)


def test_a_score_of_ones_own_works_and_is_not_saved(network, tmp_path):
    snn, (x, y) = network
    fitted = fit_exit(snn, (x, y), score=Own(), drop=5.0)
    assert int(answer_early(fitted, x).timesteps.min()) < 24
    with pytest.raises(FileError, match=r"Own of .*, which is not registered"):
        ts.save(fitted, tmp_path / "own.transpike")
    assert not (tmp_path / "own.transpike").exists()
    with pytest.raises(DataError, match="not NaN"):
        fit_exit(snn, (x, y), score=Own(broken=True), drop=5.0)


def test_random_inputs_stop_by_their_ids_not_by_their_batch():
    data = ts.data.load("digits")
    recipe, images = ECC(24, encoder=ts.encoders.Poisson()), data.train.batch(torch.arange(100))[0]
    snn = ts.convert(stored("small-cnn"), recipe, images, preprocessing=data.preprocessing)
    fitted = fit_exit(snn, data.test.batches(64, limit=200), drop=5.0)
    x = data.test.batch(torch.arange(200, 220))[0]
    whole = answer_early(fitted, x)
    parts = [answer_early(fitted, x[k : k + 1], sample_ids=torch.tensor([k])) for k in range(20)]
    assert torch.equal(torch.cat([part.logits for part in parts]), whole.logits) and len(whole.timesteps.unique()) > 1


def test_a_policy_made_for_longer_runs_is_evaluated_in_them(network):
    snn, (x, y) = network
    fitted = fit_exit(dataclasses.replace(snn, exit=None), (x, y), drop=5.0, timesteps=32)
    assert ts.evaluate(fitted, (x[:20], y[:20])).exit.timesteps == 32


def test_the_command_fits_checks_and_saves(network, tmp_path):
    snn, _ = network
    ts.save(dataclasses.replace(snn, exit=None), tmp_path / "net.transpike")
    call = ["exit", str(tmp_path / "net.transpike"), "--output", str(tmp_path / "early.transpike")]
    shown = CliRunner().invoke(main, [*call, "--fit-samples", "300", "--drop", "2", "--score", "gap"])
    assert shown.exit_code == 0, shown.output
    assert "Early exit by gap" in shown.stdout and ts.load(tmp_path / "early.transpike").exit is not None
    shown = CliRunner().invoke(main, ["evaluate", str(tmp_path / "early.transpike"), "--limit", "40", "--json"])
    assert json.loads(shown.stdout)["exit"]["score"] == "gap"
    shown = CliRunner().invoke(main, call)
    assert shown.exit_code == 2 and "leaves none for verifying" in shown.output


def test_readouts_that_begin_late_are_not_looked_at_before():
    data = ts.data.load("digits")
    images = data.train.batch(torch.arange(100))[0]
    snn = ts.convert(stored("small-cnn"), FewSteps(8), images, preprocessing=data.preprocessing)
    assert snn.readout.delay == 2 and checkpoints_until(8) == (1, 2, 3, 4, 5, 6, 7)
    fitted = fit_exit(snn, data.test.batches(64, limit=200), drop=5.0)
    assert min(fitted.exit.checkpoints) > 2
    assert int(answer_early(fitted, data.test.batch(torch.arange(200, 240))[0]).timesteps.min()) > 2
    asked = fit_exit(snn, data.test.batches(64, limit=200), drop=5.0, checkpoints=(2, 4, 6))
    assert asked.exit.checkpoints == (2, 4, 6), "who names checkpoints gets them"


def test_compare_takes_exits_as_rows_on_the_same_samples_and_front(network, tmp_path):
    data = ts.data.load("digits")
    model = stored("small-cnn")
    images = data.train.batch(torch.arange(200))[0]
    wishes = (exits.Exit("gap", 2.0), exits.Exit("confidence", 3.0))
    settings = ts.ComparisonSettings(timesteps=(8, 24), exits=wishes)
    inputs = {
        "data": data.test.batches(64, limit=80), "preprocessing": data.preprocessing,
        "exit_data": data.test.batches(64, indices=list(range(100, 400))), "store": tmp_path,
    }  # fmt: skip
    recipes = [ECC(8), ECC(8, schedule=LayerSynchronous())]
    found = ts.compare(model, recipes, images, settings, **inputs)
    early = [row for row in found.measured if row.exit]
    assert [row.exit for row in early] == ["exit by confidence (3 points)", "exit by gap (2 points)"]
    assert [(row.recipe, row.timesteps) for row in found.measured[:2]] == [("ecc()", 8), ("ecc()", 24)]
    row = early[1]
    fixed = next(r for r in found.measured if r.recipe == "ecc()" and r.timesteps == 24)
    assert row.recipe == "ecc() + exit by gap (2 points)" and row.timesteps == 24
    assert row.total_steps < 24 and row.synaptic_operations < fixed.synaptic_operations
    snn = found.snn(row)
    again = ts.evaluate(snn, data.test.batches(64, limit=80))
    assert again.exit.accuracy == row.accuracy and again.exit.mean_steps == row.total_steps
    assert again.exit.synaptic_operations == row.synaptic_operations and again.exit.agreement == row.agreement
    assert torch.equal(again.exit_outcomes, row.outcomes)
    assert row in found.front() or any(other.total_steps <= row.total_steps for other in found.front())
    again = ts.compare(model, recipes, images, settings, **inputs)
    assert [r.to_json() for r in again.rows] == [r.to_json() for r in found.rows]
    assert json.dumps(found.to_json(), allow_nan=False) and found.pick("drop<=50 steps<=24 min=steps")
    assert "exit by gap" in ts.report.page(found) and f"{row.total_steps:.1f}" in ts.report.page(found)
    ts.report.show(found)
    with pytest.raises(SettingError, match="choose from"):
        ts.compare(model, recipes, images, dataclasses.replace(settings, exits=exits.Exit("luck", 2.0)), **inputs)
    with pytest.raises(DataError, match="needs at least"):
        ts.compare(model, recipes, images, dataclasses.replace(settings, exits=exits.Exit("gap", 0.1)), **inputs)
    with pytest.raises(DataError, match="exit_data"):
        ts.compare(model, recipes, images, settings, **inputs | {"exit_data": None})


def test_the_command_compares_with_exits_and_keeps_their_samples_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = ["compare", "--recipes", "ecc", "--timesteps", "8", "--calibration-samples", "50", "--exit", "gap:5"]
    call += ["--exit-samples", "200", "--store", "store"]
    shown = CliRunner().invoke(main, [*call, "--limit", "60", "--json"])
    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["rows"]
    assert [row["exit"] for row in rows] == [None, "exit by gap (5 points)"] and rows[1]["total_steps"] <= 8
    for wrong, words in (([], "--limit 340 or less"), (["--limit", "60", "--exit", "luck"], "choose from")):
        shown = CliRunner().invoke(main, [*call, *wrong])
        assert shown.exit_code == 2 and words in " ".join(shown.output.split())
    shown = CliRunner().invoke(main, [*call, "--limit", "60", "--report", "nowhere/x.html"])
    assert shown.exit_code == 5 and "there is no folder" in shown.output
