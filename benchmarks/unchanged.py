"""Do two versions of transpike make and run the same spiking networks? Spikes, logits and counts, bit for bit.

    python benchmarks/unchanged.py write FOLDER   # with the version before: converts, saves, notes what each file gives
    python benchmarks/unchanged.py files FOLDER   # with the version after: loads the same files and compares
    python benchmarks/unchanged.py convert FOLDER # with the version after, on the same machine: converts and compares

Thirty seeded networks (tests/networks.py) × every recipe. A recipe that needs a network trained for it gets the first
of the source activations below with which it converts. Files on the exact grid must agree on every machine; what
leaves the grid, and conversion itself, is compared on one machine, with one thread.
"""

import argparse
import copy
import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch

import transpike as ts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from networks import network

NETWORKS, STEPS = 30, 8
SOURCES = (
    None,
    lambda: ts.activations.QuantisedClip(levels=8),
    lambda: ts.activations.ClampQuantise(),
    lambda: ts.activations.SlipReLU(levels=8),
)


def digest(value: torch.Tensor) -> str:
    value = value.detach().cpu().double().contiguous()
    return hashlib.sha256(str(tuple(value.shape)).encode() + value.numpy().tobytes()).hexdigest()[:16]


def outcome(snn: ts.SNN, x: torch.Tensor) -> dict:
    """What a network gives: a digest of each spike train and of the logits, and its counts."""
    names = [layer.name for layer in ts.simulate(snn, x, count=True).activity.layers if layer.role != "input"]
    trace = ts.simulate(snn, x, record=names)
    layers = {
        layer.name: [
            float(layer.spikes.sum()),
            float(layer.synaptic_operations.sum()),
            layer.updates,
            layer.synapses,
            layer.biases,
            layer.resets,
            layer.payload_bits,
            layer.neurons,
            layer.role,
        ]
        for layer in trace.activity.layers
    }
    trains = {name: digest(train) for name, train in trace.trains.items()}
    return {
        "exact": trace.exact,
        "logits": digest(trace.logits),
        "trains": trains,
        "layers": layers,
        "macs": trace.activity.macs,
        "total_steps": list(trace.timesteps),
    }


def conversions(networks: int) -> Iterator[tuple[str, ts.SNN | str, torch.Tensor, str]]:
    """(name, network or the class of its refusal, inputs, the first refusal's text) of every seed and recipe."""
    for seed in range(networks):
        case = network(seed)
        for recipe in ts.recipes.members:
            result: ts.SNN | str = ""
            refusal = ""
            for source in SOURCES:
                try:
                    model = copy.deepcopy(case.model)
                    if source is not None:
                        model = ts.prepare(model, source(), calibration=case.calibration)
                    steps = {"timesteps": 7} if recipe.name == "pascal" else {"timesteps": STEPS}
                    made = recipe(**(steps if recipe().schedule.mode != "slots" else {}))
                    result = ts.convert(model.eval(), made, case.calibration)
                    break
                except ts.TranspikeError as error:
                    result, refusal = result or type(error).__name__, refusal or str(error)
            yield f"{seed:02d}-{recipe.name}", result, case.x, refusal


def write(folder: Path, networks: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict | str] = {}
    for name, result, x, _ in conversions(networks):
        if isinstance(result, str):
            found[name] = result
            continue
        ts.save(result, folder / f"{name}.transpike")
        found[name] = outcome(result, x)
        print(name, "exact" if found[name]["exact"] else "off the grid", flush=True)
    safetensors.torch.save_file({f"{seed:02d}": network(seed).x for seed in range(networks)}, folder / "inputs.st")
    (folder / "outcomes.json").write_text(json.dumps(found, indent=0))
    rows = [row for row in found.values() if not isinstance(row, str)]
    print(
        f"{len(rows)} networks written, {sum(row['exact'] for row in rows)} on the exact grid; "
        f"{len(found) - len(rows)} refused"
    )


def report(differences: list[str], compared: int) -> None:
    print(f"{compared} compared, {len(differences)} differ")
    for line in differences[:40]:
        print(" ", line)
    sys.exit(bool(differences))


def what_differs(before: dict | str, after: dict | str) -> str:
    if isinstance(before, str) or isinstance(after, str):
        return (
            ""
            if before == after
            else f"{before if isinstance(before, str) else 'converted'} → "
            + (after if isinstance(after, str) else "converted")
        )
    after = json.loads(json.dumps(after))
    return ", ".join(key for key in before if before[key] != after[key])


def files(folder: Path, networks: int) -> None:
    before, inputs = (
        json.loads((folder / "outcomes.json").read_text()),
        safetensors.torch.load_file(folder / "inputs.st"),
    )
    differences, compared = [], 0
    for name, row in before.items():
        if isinstance(row, str) or int(name[:2]) >= networks:
            continue
        compared += 1
        difference = what_differs(row, outcome(ts.load(folder / f"{name}.transpike"), inputs[name[:2]]))
        if difference:
            differences.append(f"{name}: {difference}")
    report(differences, compared)


def convert(folder: Path, networks: int) -> None:
    before = json.loads((folder / "outcomes.json").read_text())
    differences, compared = [], 0
    for name, result, x, refusal in conversions(networks):
        compared += 1
        difference = what_differs(before[name], result if isinstance(result, str) else outcome(result, x))
        if difference:  # a network that is refused today is tried with another activation
            differences.append(f"{name}: {difference}" + (f" (as it is: {refusal})" if refusal else ""))
            print(differences[-1], flush=True)
    report(differences, compared)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "files", "convert"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", type=int, default=NETWORKS, help="only the first of them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    {"write": write, "files": files, "convert": convert}[arguments.what](arguments.folder, arguments.networks)
