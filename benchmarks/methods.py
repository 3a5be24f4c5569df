"""Every recipe, and SpikingJelly's, on one network: accuracy against total steps and synaptic operations.

    python benchmarks/methods.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA --jobs 2
    python benchmarks/methods.py --weights … --data-dir DATA --only shown peers --output benchmarks/methods_shown.json \
        --peers "99.9% per channel" "99% per channel"

Finished parts lie in --store; a rerun resumes an interrupted run. Writes benchmarks/methods.json and methods.png;
``benchmarks/methods_page.py`` makes docs/methods.md of them. The second call measures the rows of
docs/results.md alone, with the two of SpikingJelly that were best on fewer images.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from peers import converted, network, steps
from torch import Tensor

import transpike as ts
from transpike import recipes as r
from transpike import report
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
WINDOWS = ts.schedules.LayerSynchronous()
SIGNED = {"rule": "fast-snn", "granularity": "channel", "percentile": 99.9, "beta": 0.5}
SHOWN = {  # in docs/results.md: one group a row
    "few-steps": ((8, 16, 32, 64), [r.FewSteps()]),
    "signed": ((8, 16), [r.FewSteps(neuron="signed")]),
    "burst": ((8, 16), [r.FewSteps(neuron="burst")]),
    "ecc": ((8, 16, 32, 64), [r.ECC()]),
    "calibration advanced": ((8, 16, 32, 64), [r.SNNCalibration(calibrate="advanced")]),
    "calibration": ((8, 16, 32, 64), [r.SNNCalibration()]),
    "rueckauer": ((8, 16, 32, 64), [r.Rueckauer()]),
}  # fmt: skip
# recipes, and the steps that they are asked for: what is stepped densely takes minutes, and is asked for less
GROUPS = {
    "binary": ((8, 16, 32, 64), [
        r.FewSteps(), r.ECC(), r.ECC(granularity="layer"), r.ECC.paper(), r.OPI(calibrate=True, percentile=100.0), r.Rueckauer(),
        r.WeightNormalisation(), r.ThresholdBalancing(), r.DengGu(), r.LTB(), r.LTB(updates=50, batch_size=20),
        r.SNNCalibration(calibrate="none"), r.SNNCalibration(), r.SNNCalibration(calibrate="advanced"),
        r.SpikeNorm(encoder=ts.encoders.ConstantCurrent()), r.RMP(encoder=ts.encoders.ConstantCurrent()),
    ]),
    "layer-synchronous": ((2, 4, 8, 16), [r.ECC(schedule=WINDOWS), r.FewSteps(schedule=WINDOWS, readout=ts.readouts.AccumulatedMembrane())]),
    "phase": ((2, 3, 4, 5, 6), [r.BSNN()]),
    "signed and burst": ((8, 16), [r.SNM(), r.SNM(**SIGNED), r.FewSteps(neuron="signed"), r.BurstLIP(), r.FewSteps(neuron="burst")]),
    "few": ((4, 8), [
        r.HMT(), r.HMT(threshold_count=8), r.FewSteps(neuron="burst", gamma=4), r.AdaFire(),
    ]),
    "differences": ((8,), [r.DCGS()]),
    "classics": ((16,), [
        r.DiehlModel(), r.DattaBeerel(), r.TSC(), r.ECC.paper(schedule=WINDOWS)]),
    "ablation": ((8, 32), [
        r.FewSteps(), r.FewSteps(readout=ts.readouts.AccumulatedMembrane()), r.FewSteps(calibrate="bias"),
        r.FewSteps(calibrate="potential"), r.FewSteps(calibrate="none"), r.FewSteps(granularity="layer"),
    ]),
    "long": ((64, 96, 128, 192, 256), [r.Rueckauer()]),
}  # fmt: skip
PEERS = ("max", "99.9%", "99.9% per channel", "99% per channel", "local threshold balancing")
PEER_TIMES = (8, 16, 32, 64)


def theirs(peer_copy: torch.nn.Module, preprocessing, calibration: list[Tensor], data, samples: int, kind: str) -> dict:
    """SpikingJelly's conversion of the same weights: outcomes of every image at each of PEER_TIMES."""
    from spikingjelly.activation_based.ann2snn import estimate_delay_start

    batches = [preprocessing(x) for x in calibration]
    if "balancing" in kind:  # one update a batch: four would be too few
        batches = [part for batch in batches for part in batch.split(20)]
    snn = converted(peer_copy, kind, batches)
    horizon = max(PEER_TIMES)
    delay = estimate_delay_start(snn, batches[:1], "cpu", horizon) if "balancing" in kind else 0
    right: dict[int, list[Tensor]] = {t: [] for t in PEER_TIMES}
    ann: list[Tensor] = []
    with torch.no_grad():
        for x, y in data.test.batches(32, limit=samples):
            x = preprocessing(x)
            ann.append(peer_copy(x).argmax(1) == y)
            early = None
            for t, total in enumerate(steps(snn, x, horizon), 1):
                early = total.clone() if t == delay else early
                if t in right:
                    read = total if early is None else total - early
                    right[t].append((read if t != delay else total).argmax(1) == y)
    return {"delay": delay, "ann": packed(torch.cat(ann)), "right": {t: packed(torch.cat(o)) for t, o in right.items()}}


def packed(outcomes: Tensor) -> str:
    return "".join("01"[int(o)] for o in outcomes)


def row_of(row) -> dict:
    content = json.loads(json.dumps(row.to_json()))
    return {key: value for key, value in content.items() if key not in ("settings", "remarks")} | {
        "right": packed(row.outcomes),
        "drop": row.drop,
        "drop_low": row.drop_low,
        "drop_high": row.drop_high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=10_000, help="Test images.")
    parser.add_argument("--calibration-samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="Groups to run, shown, or peers; other stored rows stay.")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS, help="Conversions of SpikingJelly.")
    parser.add_argument("--store", type=Path, default=Path("runs/methods"))
    parser.add_argument("--output", type=Path, default=HERE / "methods.json")
    arguments = parser.parse_args()
    data = ts.data.load("cifar10", arguments.data_dir)
    zoo, peer_copy, preprocessing = network(arguments.weights)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(arguments.seed))
    order = order[: arguments.calibration_samples]
    settings = {"weights": arguments.weights.name, "data": data.note, "samples": arguments.samples,
                "calibration_samples": arguments.calibration_samples, "seed": arguments.seed}  # fmt: skip
    stored = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    rows = stored.get("rows", {}) if stored.get("settings") == settings else {}
    peers = stored.get("peers", {}) if stored.get("settings") == settings else {}
    made_with = stored.get("made_with", dict.fromkeys([*rows, *peers], stored.get("versions")))
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}

    def save() -> None:
        content = {"settings": settings, "made_with": made_with, "rows": rows, "peers": peers}
        write_atomically(arguments.output, json.dumps(content, indent=1).encode())

    only = [group for one in arguments.only or () for group in (SHOWN if one == "shown" else [one])]
    for group, (timesteps, recipes) in (GROUPS | SHOWN if only else GROUPS).items():
        if only and group not in only:
            continue
        comparison = ts.compare(
            zoo,
            recipes,
            data.train.batches(250, indices=order),
            ts.ComparisonSettings(
                timesteps=timesteps, limit=arguments.samples, seed=arguments.seed, jobs=arguments.jobs
            ),
            data=data.test.batches(32),
            preprocessing=preprocessing,
            store=arguments.store,
        )
        report.show(comparison)
        rows[group] = [row_of(row) for row in comparison.measured]
        made_with[group] = versions
        rows[group] += [{"recipe": e.recipe, "timesteps": e.timesteps, "refused": e.reason} for e in comparison.refused]
        save()
        if group == "binary":
            report.save(comparison, HERE / "methods.png")
    for kind in arguments.peers:
        if kind in peers or (only and "peers" not in only):
            continue
        images = [x for x, _ in data.train.batches(250, indices=order)]
        made_with[kind] = versions
        peers[kind] = theirs(peer_copy, preprocessing, images, data, arguments.samples, kind)
        save()
        print(kind, {t: f"{100 * o.count('1') / len(o):.2f}" for t, o in peers[kind]["right"].items()}, flush=True)


if __name__ == "__main__":
    main()
