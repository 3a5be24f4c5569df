"""Event data from files to a report: folders as they are distributed, and the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import transpike as ts
from commands import run
from event_files import write_aedat2, write_aedat3, write_bin
from transpike import data
from transpike.core.preprocessing import Preprocessing
from transpike.data import Split
from transpike.encoders import EventFrames
from transpike.errors import DataError, SettingError

random = np.random.default_rng(0)


def some(n: int, side: int, longest: int = 300_000) -> tuple[np.ndarray, ...]:
    t = np.sort(random.integers(0, longest, n))
    return t, random.integers(0, side, n), random.integers(0, side, n), random.integers(0, 2, n)


def archive(path: Path, train: int = 48, test: int = 12, side: int = 16, **changes: object) -> Path:
    """Two classes: the upper and the lower half of the sensor have events."""
    arrays: dict[str, object] = {"sensor_size": np.array([side, side, 2])}
    for split, count in (("train", train), ("test", test)):
        labels, parts = np.arange(count) % 2, []
        for label in labels:
            t, x, y, p = some(150, side)
            parts.append((t, x, y // 2 + label * (side // 2), p))
        t, x, y, p = (np.concatenate(v) for v in zip(*parts, strict=True))
        arrays |= {f"{split}_t": t.astype(np.int32), f"{split}_x": x.astype(np.uint8), f"{split}_y": y.astype(np.uint8)}
        arrays |= {
            f"{split}_p": p.astype(np.uint8),
            f"{split}_offsets": np.arange(count + 1) * 150,
            f"{split}_labels": labels,
        }
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    return path


def test_nmnist_folders(tmp_path: Path) -> None:
    written = {}
    for which, count in (("Train", 3), ("Test", 1)):
        for label in range(10):
            for number in range(count):
                events = some(40, 34)
                written[which, label, number] = events
                write_bin(tmp_path / which / str(label) / f"{number:05}.bin", *events)
    found = data.load(f"events:{tmp_path}", bins=4)
    assert (len(found.train), len(found.test), found.image_shape, len(found.classes)) == (30, 10, (2, 34, 34), 10)
    assert found.train.labels.tolist() == [label for label in range(10) for _ in range(3)]
    events = found.train.images.source[7]
    for mine, theirs in zip((events.t, events.x, events.y, events.p), written["Train", 2, 1], strict=True):
        assert mine.tolist() == theirs.tolist()


def test_the_23_bits_of_time_in_a_bin_file(tmp_path: Path) -> None:
    times = [0, 1, 255, 256, 65_535, 65_536, 2**23 - 1]
    write_bin(tmp_path / "Train/0/a.bin", times, [0] * 7, [33] * 7, [1, 0] * 3 + [1])
    events = data.load(f"events:{tmp_path}").train.images.source[0]
    assert events.t.tolist() == times and events.p.tolist() == [1, 0, 1, 0, 1, 0, 1] and set(events.y.tolist()) == {33}


def test_cifar10_dvs_folders(tmp_path: Path) -> None:
    for label in ("airplane", "cat"):
        for number in range(10):
            write_aedat2(tmp_path / label / f"cifar10_{label}_{number}.aedat", *some(30, 128))
    t, x, y, bit = [700, 500, 900], [0, 127, 5], [1, 127, 100], [0, 1, 0]
    mark = (1 << 15).to_bytes(4, "big") + (100).to_bytes(4, "big")  # of synchronisation: no pixel
    write_aedat2(tmp_path / "cat" / "cifar10_cat_0.aedat", t, x, y, bit, extra=mark)
    found = data.load(f"events:{tmp_path}", test_fraction=0.2, split_seed=3)
    assert (len(found.train), len(found.test), found.classes) == (16, 4, ("airplane", "cat"))
    assert found.test.labels.tolist() == [0, 0, 1, 1] and "no official split" in found.note and "seed 3" in found.note
    again = data.load(f"events:{tmp_path}", test_fraction=0.2, split_seed=3)
    other = data.load(f"events:{tmp_path}", test_fraction=0.2, split_seed=4)
    assert again.test.images.source.paths == found.test.images.source.paths != other.test.images.source.paths
    both = {*found.train.images.source.paths, *found.test.images.source.paths}
    assert len(both) == 20
    source = next(
        s
        for s in (found.train.images.source, found.test.images.source)
        if tmp_path / "cat/cifar10_cat_0.aedat" in s.paths
    )
    events = source[source.paths.index(tmp_path / "cat/cifar10_cat_0.aedat")]
    assert events.t.tolist() == [200, 0, 400] and events.p.tolist() == [1, 0, 1]  # bit 0 is brighter
    assert events.x.tolist() == [126, 0, 27] and events.y.tolist() == [127, 0, 122]  # the camera lay on its side


def gestures(root: Path) -> tuple[np.ndarray, ...]:
    t, x, y, p = some(200, 128, 10_000)
    t = t + 2**31 - 5_000  # across an overflow of the 31 bits
    write_aedat3(root / "user01_lab.aedat", t, x, y, p)
    start = int(t[0])
    rows = f"class,startTime_usec,endTime_usec\n3,{start + 1000},{start + 4000}\n11,{start + 4000},{start + 9000}\n"
    (root / "user01_lab_labels.csv").write_text(rows)
    (root / "trials_to_train.txt").write_text("user01_lab.aedat\n\n")
    (root / "trials_to_test.txt").write_text("user01_lab.aedat\n")
    return t, x, y, p


@pytest.mark.parametrize("folder", ["", "DvsGesture"])
def test_dvs128_gestures(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    root.mkdir(exist_ok=True)
    t, x, y, p = gestures(root)
    found = data.load(f"events:{tmp_path}", bins=5)
    assert len(found.train) == len(found.test) == 2 and len(found.classes) == 11 and found.image_shape == (2, 128, 128)
    assert found.train.labels.tolist() == [2, 10] and found.classes[2] == "left hand wave"
    inside = (t >= t[0] + 4000) & (t < t[0] + 9000)
    events = found.train.images.source[1]
    assert 20 < inside.sum() == len(events)
    assert events.t.tolist() == (t[inside] - t[0] - 4000).tolist()
    assert events.x.tolist() == x[inside].tolist() and events.y.tolist() == y[inside].tolist()
    assert events.p.tolist() == p[inside].tolist()


def test_an_archive_without_a_sensor_size_is_as_large_as_its_events(tmp_path: Path) -> None:
    found = data.load(archive(tmp_path / "a.npz", sensor_size=None))
    assert found.image_shape == (2, 16, 16) and found.frames == 20 and found.classes == ("0", "1")
    assert data.load(f"events:{tmp_path / 'a.npz'}", bins=3, frames="signed").image_shape == (1, 16, 16)
    assert "48 images of 20 frames of 2x16x16" in repr(found.train)


def test_a_split_of_recordings_is_lazy_and_can_be_accumulated(tmp_path: Path) -> None:
    found = data.load(archive(tmp_path / "a.npz"), bins=6)
    part = found.train.subset([5, 3]).accumulated()
    assert part.frames is None and torch.equal(part.images[torch.tensor([1])], found.train.batch([3])[0].mean(1))
    images = Split(torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    assert images.accumulated() is images


def test_training_takes_the_accumulated_frames(tmp_path: Path) -> None:
    found = data.load(archive(tmp_path / "a.npz"), bins=6)
    module, seen = ts.models.build("zoo:small-cnn", input_shape=found.image_shape)[0], []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ts.train(module, found, ts.Training(epochs=1, batch_size=48, augment="none", validation_fraction=0.0))
    everything = found.train.batches(48)
    expected = next(iter(everything))[0].mean(1)
    assert torch.equal(seen[0].sort(0).values, expected.sort(0).values)  # in another order
    with pytest.raises(SettingError, match="silent pixels must stay 0"):
        ts.train(module, found, ts.Training(epochs=1), preprocessing=Preprocessing((0.5,), (1.0,)))


def test_recordings_are_not_mirrored(tmp_path: Path) -> None:
    result = ts.train(
        ts.models.build("zoo:small-cnn", in_channels=2)[0],
        data.load(archive(tmp_path / "a.npz")),
        ts.Training(epochs=1),
    )
    assert result.settings["augment"] == "crop"


def convert(found: ts.data.Dataset, recipe: ts.recipes.ECC, **settings: object) -> ts.SNN:
    module = ts.models.build("zoo:small-cnn", input_shape=found.image_shape)[0]
    return ts.convert(module, recipe, found.train.batches(16), **settings)


def test_what_cannot_be_converted_says_why(tmp_path: Path) -> None:
    found = data.load(archive(tmp_path / "a.npz"), bins=6)
    with pytest.raises(SettingError, match=r"recordings of 6 frames; the recipe needs an encoder .*EventFrames\(\)"):
        convert(found, ts.recipes.ECC(timesteps=6))
    with pytest.raises(SettingError, match=r"one step uses one frame. Use timesteps=6"):
        convert(found, ts.recipes.ECC(encoder=EventFrames()))
    with pytest.raises(SettingError, match="41 time steps of an input with 40 frames"):
        convert(data.load(tmp_path / "a.npz", bins=40), ts.recipes.ECC(timesteps=41, encoder=EventFrames()))
    with pytest.raises(SettingError, match="silent pixels of recordings nonzero"):
        convert(found, ts.recipes.ECC(timesteps=6, encoder=EventFrames()), preprocessing=Preprocessing((0.1,), (1.0,)))
    with pytest.raises(DataError, match="must be 0 and 1; this batch has values from -1 to 1"):
        signed = data.load(tmp_path / "a.npz", bins=6, frames="signed")
        convert(signed, ts.recipes.ECC(timesteps=6, encoder=EventFrames()))
    with pytest.raises(DataError, match=r"recordings are .batch, frames"):
        ts.convert(torch.nn.Linear(4, 2), ts.recipes.ECC(timesteps=6, encoder=EventFrames()), torch.rand(20, 4).round())
    with pytest.raises(SettingError, match="scale 1"):
        EventFrames(largest=2.0)


def test_a_network_for_recordings_takes_nothing_else(tmp_path: Path) -> None:
    found = data.load(archive(tmp_path / "a.npz"), bins=6)
    snn = convert(found, ts.recipes.ECC(timesteps=6, encoder=EventFrames()), preprocessing=Preprocessing())
    assert snn.preprocessing is None
    x, y = found.test.batch(range(12))
    assert torch.equal(snn(x.byte()), snn(x))
    with pytest.raises(DataError, match=r"takes \(batch, frames, 2, 16, 16\), not \(12, 2, 16, 16\)"):
        snn(x[:, 0])
    with pytest.raises(DataError, match="must be 0 and 1"):
        snn(x / 2)
    with pytest.raises(SettingError, match="7 time steps of an input with 6 frames"):
        ts.evaluate(snn, (x, y), timesteps=7)
    with pytest.raises(SettingError, match="7 time steps"):  # before any engine begins
        snn.run_prepared(x, 7, None, None, (), False)
    for engine in ("reference", "dense"):
        with pytest.raises(SettingError, match="6 time steps of an input with 5 frames"):
            ts.simulate(snn, x[:, :5], engine=engine)


def test_the_commands_need_no_settings_for_recordings(tmp_path: Path) -> None:
    name, weights, net = f"npz:{archive(tmp_path / 'a.npz')}", tmp_path / "cnn.safetensors", tmp_path / "net.transpike"
    common = ("--data", name, "--bins", 8)
    run("train", *common, "--frames", "signed", "--epochs", 4, "--batch-size", 16, "--output", weights)
    wired = run("inspect", *common, "--frames", "signed", "--weights", weights).output
    assert "1×16×16" in wired
    made = json.loads(
        run("convert", *common, "--frames", "signed", "--weights", weights, "--output", net, "--json").output
    )
    assert made["timesteps"] == 8 and "SignedEventFrames" in made["recipe"]
    report = json.loads(run("evaluate", net, "--data", name, "--json").output)  # bins and frames are the network's
    assert report["snn"]["timesteps"] == 8 and report["encoder"] == "signed event frames" and report["samples"] == 12
    assert report["layers"][0]["name"] == "input" and report["layers"][0]["synaptic_operations"] > 0
    assert "layers equal" in run("verify", net, "--data", name).output
    wrong = run("evaluate", net, *common, "--timesteps", 9, code=2)
    assert "9 time steps of an input with 8 frames" in wrong.output


def test_recordings_are_refused_preprocessing_on_the_command_line(tmp_path: Path) -> None:
    name = f"npz:{archive(tmp_path / 'a.npz')}"
    result = run("convert", "--data", name, "--mean", "0.5", "--output", tmp_path / "n.transpike", code=2)
    assert "silent pixels" in result.output
    assert (
        "digits has no option bins" in run("train", "--bins", 3, "--output", tmp_path / "w.safetensors", code=2).output
    )


def test_recipes_are_compared_on_recordings(tmp_path: Path) -> None:
    name, net = f"events:{archive(tmp_path / 'a.npz')}", tmp_path / "n.transpike"
    words = ("compare", "--data", name, "--bins", 6, "--recipes", "ecc,ecc:percentile=100", "--timesteps", "3,6",
             "--store", tmp_path / "store", "--pick", "max=accuracy", "--output", net)  # fmt: skip
    found = json.loads(run(*words, "--json").stdout)
    assert [row["timesteps"] for row in found["rows"]] == [3, 6, 3, 6] and not any(
        "reason" in row for row in found["rows"]
    )
    report = json.loads(run("evaluate", net, "--data", name, "--json").stdout)
    assert report["snn"]["accuracy"] == found["picked"]["accuracy"]
    run(*words, "--timesteps", "12", code=2)  # more steps than frames
