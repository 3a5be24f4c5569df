"""Heartbeats and EEG: what the loaders make of records, and that no patient, trial or moment is on both sides."""

import contextlib
import dataclasses
import importlib.util
import io
import pickle
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import transpike as ts
from transpike import data
from transpike.data import _pickles, deap, mitbih
from transpike.data._base import balanced
from transpike.errors import DataError, MissingExtra, SettingError
from transpike.passes import FoldBatchNorm

ROOT = Path(__file__).resolve().parents[2]
RATE = 360


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Records of DS1 and DS2 of a minute, one of six: spikes a beat, every tenth S, every fifteenth V, on a slow baseline."""
    random, arrays = np.random.default_rng(0), {"fs": np.array(RATE)}
    for record in (*mitbih.DS1, *mitbih.DS2):
        length = (6 if record == "213" else 1) * 60 * RATE
        at = np.cumsum(random.integers(200, 320, 600)) + 10
        at = at[at < length - 5]
        codes = np.where(np.arange(len(at)) % 10 == 9, "A", np.where(np.arange(len(at)) % 15 == 7, "V", "N"))
        signal = 1024 + 100 * np.sin(np.arange(length) / 4000)
        signal[at] += 200
        arrays |= {
            f"{record}_signal": np.stack((np.full(length, 1024), signal)).astype(np.int16),
            f"{record}_leads": np.array(["V5", "MLII"]),
            f"{record}_ann_sample": np.append(at, length - 2),
            f"{record}_ann_symbol": np.append(codes, "~"),
        }
    folder = tmp_path_factory.mktemp("mitbih")
    np.savez(folder / "mitbih_arrhythmia.npz", **arrays)
    return folder, arrays


def test_beats_are_cut_from_the_lead_around_their_peaks(archive):
    folder, arrays = archive
    dataset = data.load("mitbih", folder, baseline=False, validation=False)
    beats = dataset.test.images
    x, _ = dataset.test.batch([0, 700])
    assert x.shape == (2, 1, 180) and dataset.image_shape == (1, 180) and x.dtype == torch.float32
    lead = arrays[f"{beats.records[0]}_signal"][1].astype(float)
    at = beats.samples[0]
    expected = (lead[at - 90 : at + 90] - lead.min()) / (lead.max() - lead.min())
    assert np.allclose(x[0, 0], expected, atol=1e-6)
    codes = dict(zip(arrays["100_ann_sample"].tolist(), arrays["100_ann_symbol"].tolist(), strict=True))
    found = ["NSV"[label] for label in dataset.test.labels[:20]]
    assert found == [codes[at].replace("A", "S") for at in beats.samples[:20]] and set(found) == set("NSV")
    assert dataset.classes == ("N", "S", "V", "F")


def test_patients_of_training_validation_and_test_do_not_mix(archive):
    dataset = data.load("mitbih", archive[0], baseline=False, balance=0.5)
    parts = (dataset.train, dataset.validation, dataset.test)
    people = [set(np.unique(getattr(s.images, "images", s.images).records).tolist()) for s in parts]
    assert people[1] == {"108", "114", "118", "124"} and people[2] == set(mitbih.DS2)
    assert people[0] | people[1] == set(mitbih.DS1) and not people[0] & people[1]
    assert len(set(mitbih.DS1) | set(mitbih.DS2)) == 44


def test_the_baseline_is_two_medians(archive):
    signal = pytest.importorskip("scipy.signal")
    lead = archive[1]["100_signal"][1][:5000].astype(np.float32)
    expected = signal.medfilt(signal.medfilt(lead, 71), 215)
    assert np.array_equal(mitbih._baseline(lead), expected)
    x, _ = data.load("mitbih", archive[0], scale="zscore").test.batch([3])
    assert float(x[0, 0, 90]) > 5 and abs(float(x[0, 0].median())) < 0.5  # the peak stays, the slow wave is gone


def test_peaks_move_to_the_largest_value_nearby():
    lead = np.zeros(1000, np.float32)
    lead[[110, 479, 481, 522]] = 1, 3, 2, 3  # 479 and 522 are 21 and 22 samples from 500
    assert mitbih._aligned(lead, np.array([100, 500, 999])).tolist() == [110, 481, 979]


def test_rhythm_is_the_interval_over_the_mean_of_those_before():
    at = np.cumsum([50, 100, 100, 50, 200, 100])  # intervals 100, 100, 50, 200, 100
    both = mitbih._rhythm(at, "both")
    assert np.allclose(both[:, 0], [0.5, 0.5, 0.5, 50 / (250 / 3) - 0.5, 1, 100 / 110 - 0.5])
    assert np.allclose(both[:, 1], [0.5, 0.5, 0.5, 1.2 - 0.5, 0, 1])  # 50 / 112.5 and 200 / 110 go beyond
    assert np.allclose(both[:, 3], [0.5, 0.5, 0, 1, 100 / 112.5 - 0.5, 0.5])
    many = mitbih._rhythm(np.cumsum([100] * 20 + [200] * 12 + [100]), "past")
    assert np.allclose(many[-1], [100 / 190 - 0.5, 200 / 190 - 0.5, 100 / (4400 / 32) - 0.5])  # of ten, of all


@pytest.mark.parametrize("kind", ["past", "both"])
def test_rhythm_hears_only_what_it_says(kind):
    at = np.cumsum(np.random.default_rng(1).integers(200, 400, 40))
    whole, reach = mitbih._rhythm(at, kind), {"past": 0, "both": 1}[kind]
    for beat in (1, 5, 20):
        assert np.array_equal(whole[: beat + 1], mitbih._rhythm(at[: beat + 1 + reach], kind)[: beat + 1])


def test_rare_classes_are_repeated():
    labels = torch.tensor([0] * 100 + [1] * 4 + [3] * 25)
    assert balanced(labels, 0).tolist() == list(range(129))
    assert labels[balanced(labels, 1)].bincount().tolist() == [100, 100, 0, 100]
    assert labels[balanced(labels, 0.5)].bincount().tolist() == [100, 20, 0, 50]
    with pytest.raises(SettingError, match="balance"):
        balanced(labels, 1.5)


def test_a_patient_is_trained_on_five_minutes_and_tested_on_the_rest(archive):
    dataset = data.load("mitbih", archive[0], baseline=False, patient="213", common=7, rhythm="past")
    train, test = dataset.train.images, dataset.test.images
    own = train.records == "213"
    assert set(test.records) == {"213"} and train.samples[own].max() < 5 * 60 * RATE <= test.samples.min()
    assert set(train.records[~own]) <= set(mitbih.DS1) and Counter(dataset.train.labels[~own].tolist()) == {
        0: 7,
        1: 7,
        2: 7,
    }
    whole = data.load("mitbih", archive[0], baseline=False, rhythm="past").test
    assert own.sum() + len(test.labels) == (whole.images.records == "213").sum()
    assert dataset.validation is None and dataset.image_shape == (4, 180)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "rhythm"}, "task is one of"),
        ({"scale": "none"}, "scale is one of"),
        ({"patient": "101"}, "one of DS2"),
        ({"balance": 2.0}, "balance"),
        ({"patient": "100", "common": -1}, "common"),
        ({"bins": 3}, "no option bins"),
    ],
)
def test_wrong_settings_are_refused(archive, options, message):
    with pytest.raises(SettingError, match=message):
        data.load("mitbih", archive[0], **{"baseline": False, **options})


def test_damaged_records_are_refused(archive, tmp_path):
    arrays = dict(archive[1])
    file = tmp_path / "mitbih_arrhythmia.npz"
    for change, message in (
        ({"100_signal": None}, "lacks 100_signal.*not wfdb"),
        ({"fs": np.array(250)}, "fs is 250"),
        ({"100_leads": np.array(["MLII"])}, "record 100.*have inconsistent sizes"),
        ({"100_ann_sample": arrays["100_ann_sample"][::-1].copy()}, "in order of time"),
        ({"100_signal": np.full_like(arrays["100_signal"], 7)}, "constant"),
    ):
        np.savez(file, **{key: value for key, value in {**arrays, **change}.items() if value is not None})
        with pytest.raises(DataError, match=message):
            data.load("mitbih", tmp_path, baseline=False)
    with pytest.raises(DataError, match=r"PhysioNet.*biosignals.md.*Set TRANSPIKE_DATA"):
        data.load("mitbih", tmp_path / "nowhere")


def test_without_scipy_the_extra_is_named(archive, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.ndimage", None)
    with pytest.raises(MissingExtra, match=r"transpike\[ecg\]"):
        data.load("mitbih", archive[0])


def test_the_published_numbers_of_beats(data_directory):
    dataset = data.load("mitbih", data_directory, keep_q=True, baseline=False, validation=False)
    assert (len(dataset.train), len(dataset.test)) == (51010, 49698)
    assert dataset.train.labels.bincount().tolist()[1:] == [944, 3788, 414, 8]
    without = data.load("mitbih", data_directory, baseline=False)
    assert len(without.test) == 49691  # as many as the published code's log has
    assert len(without.train) + len(without.validation) == 51010 - 8
    assert float(without.test.images.windows.min()) >= 0 and float(without.test.images.windows.max()) <= 1


# EEG ------------------------------------------------------------------------------------------------------------------


class PythonTwo(pickle._Pickler):
    """Writes as Python 2's cPickle did, protocol 2: bytes and texts as plain strings."""

    def save_string(self, text):
        raw = text.encode() if isinstance(text, str) else text
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_string, str: save_string}


def python_two(value) -> bytes:
    file = io.BytesIO()
    PythonTwo(file, 2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two subjects in DEAP's form; high valence has a strong rhythm in the first channels, high arousal in others."""
    pytest.importorskip("scipy")
    folder = tmp_path_factory.mktemp("deap")
    (folder / "data_preprocessed_python").mkdir()
    for number in (1, 2):
        random = np.random.default_rng(number)
        ratings = random.uniform(1, 9, (40, 4))
        x = random.standard_normal((40, 40, 8064), np.float32)
        wave = np.sin(np.arange(8064) * 2 * np.pi * 0.2)
        x[:, :8] += 3 * wave * (ratings[:, :1, None] > 5)
        x[:, 8:16] += 3 * wave * (ratings[:, 1:2, None] > 5)
        x[:, 31, 8000] = 150  # so that the scale of a trial leaves room above its power
        content = {"labels": ratings, "data": x}
        (folder / f"data_preprocessed_python/s{number:02}.dat").write_bytes(python_two(content))
    return folder


def test_a_file_of_python_two_is_read(people):
    file = people / "data_preprocessed_python/s01.dat"
    x, ratings = deap.subject(file)
    theirs = pickle.loads(
        file.read_bytes().replace(b"numpy.core.multiarray", b"numpy._core.multiarray"), encoding="latin1"
    )
    assert np.array_equal(x, theirs["data"][:, :32, 384:])
    assert np.array_equal(ratings, theirs["labels"].astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol_are_read(tmp_path, protocol):
    arrays = [np.arange(6.0).reshape(2, 3), np.arange(6, dtype=">i2").reshape(3, 2).T, np.zeros((0, 4), bool)]
    (tmp_path / "file").write_bytes(pickle.dumps({"a": arrays, "text": "x", 3: (1, 2.5, None)}, protocol))
    found = _pickles.read(tmp_path / "file")
    assert found["text"] == "x" and found[3] == (1, 2.5, None)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found["a"], arrays, strict=True))


def test_power_is_welchs(people):
    from scipy.signal import welch

    x, _ = deap.subject(people / "data_preprocessed_python/s02.dat")
    found = deap.pictures(x)
    trial = (x[7] - x[7].min()) / (x[7].max() - x[7].min())
    expected = welch(trial[5, 768 * 3 : 768 * 4], fs=1, window="hamming", nperseg=63)[1]
    assert found.shape == (40, 10, 32, 32)
    assert np.allclose(found[7, 3, 5], np.clip(3000 * expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("split", "shared"), [("segment", (True, True)), ("trial", (False, True)), ("subject", (False, False))]
)
def test_what_a_split_keeps_apart(people, monkeypatch, split, shared):
    """And the same segments are tested for every label, or a network that changes labels would know its test."""

    def marked(x):  # a picture that tells whose it is
        return np.broadcast_to(x[:, 0, ::768, None, None], (40, 10, 32, 32))

    monkeypatch.setattr(deap, "pictures", marked)
    places = {}
    for number in (1, 2):
        x, _ = deap.subject(people / f"data_preprocessed_python/s{number:02}.dat")
        for index, value in enumerate(marked(x)[:, :, 0, 0].flatten().tolist()):
            places[value] = (number, index // 10, index % 10)
    assert len(places) == 800
    sides = {}
    for label in ("valence", "arousal"):
        dataset = data.load("deap", people, split=split, label=label, equalise=False)
        sides[label] = [{places[v] for v in s.images[:, 0, 0, 0].tolist()} for s in (dataset.train, dataset.test)]
    train, test = sides["valence"]
    trials, subjects = (({key[:n] for key in train} & {key[:n] for key in test}) for n in (2, 1))
    assert (bool(trials), bool(subjects)) == shared
    assert not train & test and len(train | test) == 800 and sides["arousal"] == sides["valence"]


def test_classes_are_made_equal_and_say_high_above_the_threshold(people):
    dataset = data.load("deap", people, split="trial")
    assert all(len(set(s.labels.bincount().tolist())) == 1 for s in (dataset.train, dataset.test))
    power = dataset.train.images[:, 0, :8, 10:15].mean((1, 2))
    assert power[dataset.train.labels == 1].mean() > 2 * power[dataset.train.labels == 0].mean()


def test_a_network_goes_from_arousal_to_valence(people, monkeypatch):
    specification = importlib.util.spec_from_file_location("eeg", ROOT / "reproductions/eeg/run.py")
    run = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(run)
    trained, started = run.trained, []

    def seen(dataset, network, epochs, seed, module=None):
        before = None if module is None else {name: t.clone() for name, t in module.state_dict().items()}
        started.append((dataset.note, len(dataset.test), before))
        return trained(dataset, network, epochs, seed, module)

    monkeypatch.setattr(run, "trained", seen)
    alone, after = run.transferred(people, "valence", "trial", epochs=2, seed=0)
    tested = len(data.load("deap", people, label="valence").test)
    assert alone.samples == after.samples == tested
    assert [("arousal" in note, tests) for note, tests, _ in started] == [(False, tested), (True, 0), (False, tested)]
    assert started[0][2] is None and started[2][2] is not None  # the last one begins where arousal ended
    assert alone.final.accuracy > 0.9 and after.final.accuracy > 0.9  # the made waves are easy


def test_deap_is_refused_without_its_files_and_with_others(people, tmp_path):
    with pytest.raises(DataError, match=r"agreement.*s01\.dat to s32\.dat"):
        data.load("deap", tmp_path)
    (tmp_path / "s01.dat").write_bytes(python_two({"labels": np.zeros((40, 4)), "data": np.zeros((40, 40, 10))}))
    with pytest.raises(DataError, match="expected data"):
        data.load("deap", tmp_path)
    with pytest.raises(DataError, match="two files"):
        data.load("deap", tmp_path, split="subject")
    for options in ({"label": "mood"}, {"split": "random"}, {"test_fraction": 1.0}):
        with pytest.raises(SettingError):
            data.load("deap", people, **options)


def test_eye_state_is_split_by_time_with_a_gap(tmp_path):
    time = np.arange(2000.0)
    signals = np.stack([time**2 if c else time for c in range(14)], 1)
    np.savez(tmp_path / "eeg_eye_state.npz", signals=signals, labels=(time > 1000).astype(int))
    dataset = data.load("eeg-eye-state", tmp_path, window=32, stride=4)
    (x, y), (xt, yt) = (s.batch(range(len(s))) for s in (dataset.train, dataset.test))
    assert x.shape[1:] == (14, 32) and x.mean(2).abs().max() < 1
    # the second channel is t²: its differences tell where a window begins, and the deviation where it ends
    last = lambda windows: ((windows[:, 1, -1] - windows[:, 1, -2]) + 1) / 2  # noqa: E731
    first = lambda windows: ((windows[:, 1, 1] - windows[:, 1, 0]) - 1) / 2  # noqa: E731
    border = 1999 * 0.7
    assert last(x).max() < border - 32 + 1 and first(xt).min() >= border - 1
    assert torch.equal(y, (last(x).round() > 1000).long()) and bool(yt.all())
    for options, error in (({"stride": 0}, SettingError), ({"window": 1200}, DataError)):
        with pytest.raises(error):
            data.load("eeg-eye-state", tmp_path, **options)


def test_the_recording_of_eye_state(data_directory):
    dataset = data.load("eeg-eye-state", data_directory)
    assert dataset.image_shape == (14, 128) and set(dataset.test.labels.tolist()) == {0, 1}
    assert float(dataset.preprocessing(dataset.train.images[:]).abs().max()) < 100  # the device's spikes are gone


def test_an_epoch_is_chosen_on_the_validation_split_that_data_give():
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = torch.randn(64, 1, 16) + 2 * y[:, None, None]
    parts = [data.Split(x, labels) for labels in (y, y, 1 - y)]
    dataset = data.Dataset("made", parts[0], parts[1], ("a", "b"), ts.Preprocessing(), validation=parts[2])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    settings = {"epochs": 6, "learning_rate": 0.01, "batch_size": 8}
    result = ts.train(network, dataset, ts.Training(**settings))
    assert result.history[-1].train_accuracy > 0.9 and result.history[-1].validation_accuracy < 0.1
    worst = min(result.history, key=lambda row: (-row.validation_accuracy, row.validation_loss))
    assert result.best_epoch == worst.epoch < 6  # of the exchanged labels
    assert all(
        row.validation_accuracy is None
        for row in ts.train(network, dataset, ts.Training(validation_fraction=0.0, **settings)).history
    )
    with pytest.raises(SettingError, match="not images"):
        ts.train(network, dataset, ts.Training(augment="crop", **settings))
    with pytest.raises(DataError, match="label 1 is out of range for 1 classes"):
        data.Dataset(
            "made", parts[0].subset([0]), parts[0].subset([0]), ("a",), ts.Preprocessing(), validation=parts[2]
        )


@pytest.mark.parametrize("fault", [False, True])
def test_a_staircase_may_step_on_a_rounding_but_not_on_a_fault(fault, monkeypatch):
    """With 4095 levels a few of 384,000 values lie so near an edge that folded weights in float32 cross it."""
    torch.manual_seed(0)
    layers = torch.nn.Conv1d(1, 8, 3, padding=1), torch.nn.BatchNorm1d(8), ts.activations.QuantisedClip(4095, 2.0)
    network = torch.nn.Sequential(*layers).train()
    x = torch.randn(16, 1, 3000)
    network(x)
    network.eval()
    if fault:
        fold = FoldBatchNorm.apply

        def wrong(step, graph, context):
            folded = fold(step, graph, context)
            node = next(node for node in folded if isinstance(node.op, ts.ops.Conv))
            changed = node.op.with_tensors(weight=node.op.weight * 1.01)
            return folded.rewrite(lambda n: dataclasses.replace(n, op=changed) if n.name == node.name else None)

        monkeypatch.setattr(FoldBatchNorm, "apply", wrong)
    with pytest.raises(ts.errors.NotExact) if fault else contextlib.nullcontext():
        ts.convert(
            network, ts.recipes.QCFS(timesteps=4095, schedule=ts.schedules.LayerSynchronous()), x, exact_grid=False
        )
