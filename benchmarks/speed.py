"""Speed and memory of transpike's engines, other libraries and the ANN, all on one converted graph.

    python benchmarks/speed.py --weights resnet20-cifar10-jpeg.safetensors [--vgg-weights VGG.safetensors] --data-dir DATA

Medians of interleaved repeats in one process; samples that other processes disturbed are dropped and counted. Added
memory is measured in fresh processes. Rows are merged into benchmarks/results.json after every group, so a run that was
broken off loses little. A row with ``void`` says why it must not be quoted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import int8
import kernels
import safetensors.torch
import torch
from cases import ANN, CHOSEN, ECC, NETWORKS, RECIPES, case, restrict
from facts import OURS, Facts, facts, ours
from machine import added_memory, description, interleaved, smoke
from results import KEY, Results, judge
from spiking_peers import CONVERTER, FASTEST, SHARED, missing
from torch import Tensor

import transpike as ts
from transpike.engines import event_status

HERE = Path(__file__).parent
ONNX = (int8.FLOAT, int8.INT8)
SOURCE = (ANN, *ONNX)
"""Rows of the network before its conversion."""
LAYOUT = {ANN: "channels_last", "transpike dense": "channels_last"} | dict.fromkeys(list(OURS)[:2], "packed spikes")
LONG = 128  # steps from which on slow peers need --all
PLAIN = (ECC, "few-steps")
"""Recipes of the neurons that other libraries have."""


def group(known: Facts, batch: int, isa: str, arguments: argparse.Namespace) -> tuple[list[dict], float]:
    """The rows of one network, recipe, T and batch, and the ANN's fastest sample."""
    case, snn, timesteps = known.case, known.snn, known.timesteps
    images = case.images(batch)
    prepared = case.preprocessing(images).contiguous()
    x = prepared.contiguous(memory_format=torch.channels_last)
    source: dict[str, Callable[[Tensor], Tensor]] = {ANN: torch.inference_mode()(case.ann)}
    sessions = (
        {}
        if known.onnx is None
        else {int8.FLOAT: known.onnx[int8.FLOAT], int8.INT8: int8.fastest(known.onnx, prepared)}
    )
    source |= sessions
    functions: dict[str, Callable[[], object]] = {n: partial(f, x if n == ANN else prepared) for n, f in source.items()}
    functions |= {name: partial(ours, name, snn, images, timesteps) for name in known.ours}
    functions |= {name: partial(peer.run, x, timesteps) for name, peer in known.peers.items()}
    timings = interleaved(functions, arguments.budget, arguments.sample_seconds, reference=ANN)
    in_children = [name for name in functions if name in OURS or (arguments.all and name in SHARED)]
    added = memory(snn, images, in_children, arguments.memory_repeats)
    ann = timings[ANN].median
    integer = timings[int8.INT8].median if int8.INT8 in timings else None
    best = min((t.median for n, t in timings.items() if n.startswith("SpikingJelly") and t.median), default=None)
    rows = []
    for name, timing in timings.items():
        peer, seconds = known.peers.get(name), timing.median
        about = known.by_engine.get(name, {})
        rows.append({
            "network": case.name, "weights": case.weights, "recipe": known.recipe, "timesteps": timesteps, "batch": batch,
            "engine": name, "isa": isa, "seconds": seconds, "ann_seconds": ann, "peer_seconds": best, "int8_seconds": integer,
            "ratio_to_ann": seconds / ((1 if name in SOURCE else timesteps) * ann) if seconds and ann else None,
            "ratio_to_best_peer": seconds / best if seconds and best else None,
            "ratio_to_int8": seconds / integer if seconds and integer else None,
            "added_mib": added.get(name),
            **{fact: about.get(fact) for fact in ("mean_spike_rate", "differing_counts", "compared_counts")},
            "snn_accuracy": known.accuracy if name in OURS else None,
            "ann_accuracy": case.accuracy(name, source[name], arguments.accuracy_images) if name in SOURCE else None,
            "samples": len(timing.seconds), "dropped": timing.dropped, "threads": torch.get_num_threads(),
            "memory_format": peer.layout if peer else sessions[name].form if name in sessions else LAYOUT[name],
            "instructions": int8.instructions() if name == int8.INT8 else isa,
            "reset": peer.reset if peer else None if name in SOURCE else "soft",
            "graph": "source" if name in SOURCE else "its own conversion" if name in CONVERTER else "shared",
        })  # fmt: skip
    return rows, min(timings[ANN].seconds, default=float("inf"))


def memory(snn: ts.SNN, images: Tensor, names: list[str], repeats: int) -> dict[str, float]:
    """MiB that one run adds to the resident set, for each engine: the median of fresh processes."""
    if not repeats:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        ts.save(snn, Path(folder) / "net.transpike")
        (Path(folder) / "images").write_bytes(safetensors.torch.save({"images": images}))

        def one(name: str) -> float:
            command = [sys.executable, __file__, "--child", folder, name]
            return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])

        return {name: statistics.median(one(name) for _ in range(repeats)) for name in names}


def child(folder: Path, name: str) -> None:
    snn, images = ts.load(folder / "net.transpike"), safetensors.torch.load((folder / "images").read_bytes())["images"]
    if name in OURS:
        run = partial(ours, name, snn)
    else:
        peer, images = SHARED[name](snn.lowered), snn.prepare(images)
        run = peer.run
    for _ in range(2):  # what is made once for a network does not count; auto makes some of it at the second run
        run(images[:1], 1)
    print(added_memory(lambda: run(images, snn.timesteps)))


def wanted(arguments: argparse.Namespace) -> list[tuple[str, int, list[int]]]:
    """(recipe, T, batches); others than ECC at their own T and at the first batch only."""
    for_ecc = [(ECC, t, arguments.batches) for t in arguments.timesteps] if ECC in arguments.recipes else []
    others = [name for name in arguments.recipes if name != ECC]
    return for_ecc + [(name, t, arguments.batches[:1]) for name in others for t in arguments.other_timesteps]


def measure(arguments: argparse.Namespace, results: Results, dataset: ts.data.Dataset, isa: str) -> None:
    peers = (*SHARED, *CONVERTER)
    absent = {name: why for name in peers if (why := missing(name))}
    # ONNX Runtime chooses its instructions itself, and is therefore no row of a run with fewer
    why = int8.missing() or (f"it cannot be told to use {isa}" if CHOSEN in os.environ else "")
    absent |= dict.fromkeys(ONNX, why) if why else {}
    if event_status()[0] is None:
        absent["transpike event, counting"] = event_status()[1]
    results.content.setdefault("absent", {})[isa] = absent
    named = [n for n in (*ONNX, *OURS, *peers) if not arguments.engines or any(part in n for part in arguments.engines)]
    present = [n for n in named if n not in absent]
    measured: list[dict] = []
    fastest: dict[tuple[str, int], float] = {}
    for name in arguments.networks:
        one = case(name, arguments, dataset)
        onnx = one.onnx if set(ONNX) & set(present) else None
        if one.weights == "trained":
            results.keep("rows", lambda row, name=name: (row["network"], row["weights"]) != (name, "seeded"))
        for recipe, timesteps, batches in wanted(arguments):
            usual = peers if recipe == ECC else (FASTEST,) if recipe in PLAIN else ()
            slow = [n for n in present if n in usual and n != FASTEST and timesteps >= LONG and not arguments.all]
            names = [n for n in present if (n in usual or n not in peers) and n not in slow]
            known = facts(one, recipe, timesteps, names, arguments)
            known.onnx = onnx
            for batch in batches:
                start = time.perf_counter()
                rows, best = group(known, batch, isa, arguments)
                fastest[name, batch] = min(best, fastest.get((name, batch), best))
                measured += rows
                judge(measured, fastest, smoke(arguments))
                results.merge("rows", measured)
                why = {"reason": "slow at this T; --all runs it"}
                keys = [(name, recipe, timesteps, batch, n, isa) for n in slow]
                results.skip([dict(zip(KEY, values, strict=True)) | why for values in keys])
                results.write()
                progress(rows, time.perf_counter() - start)


def measure_memory(arguments: argparse.Namespace, results: Results, dataset: ts.data.Dataset, isa: str) -> None:
    """Measure the added memory of the rows that are there again."""
    for name in arguments.networks:
        one = case(name, arguments, dataset)
        for recipe, timesteps, batches in wanted(arguments):
            snn = one.convert(timesteps, recipe)
            for batch in batches:
                added = memory(snn, one.images(batch), list(OURS), arguments.memory_repeats)
                for row in results.content.get("rows", []):
                    if tuple(row[part] for part in KEY if part != "engine") == (name, recipe, timesteps, batch, isa):
                        row["added_mib"] = added.get(row["engine"], row["added_mib"])
                results.write()
                print(name, recipe, timesteps, batch, added, file=sys.stderr, flush=True)


def progress(rows: list[dict], seconds: float) -> None:
    first = rows[0]
    cells = [
        f"{r['engine']} {1000 * r['seconds']:.1f} ms (R {r['ratio_to_ann']:.2f})" for r in rows if r["ratio_to_ann"]
    ]
    dropped, void = sum(r["dropped"] for r in rows), first.get("void")
    print(f"{first['network']} {first['recipe']} {first['isa']} T={first['timesteps']} batch {first['batch']}: {'; '.join(cells)}; {dropped} dropped"
          f"{f'; VOID: {void}' if void else ''} [{seconds:.0f} s]", file=sys.stderr, flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="of the ResNet-20")
    parser.add_argument("--vgg-weights", type=Path, help="without: seeded weights with calibrated BatchNorm")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--timesteps", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 1])
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--other-timesteps", type=int, nargs="+", default=[8], help="of the recipes other than ecc")
    parser.add_argument(
        "--isa", help="AVX2 or baseline: these vector instructions at most, also in torch; rows of their own"
    )
    parser.add_argument(
        "--parts",
        default="rows,rates,levels,shapes",
        help="some of rows,rates,levels,shapes; memory: only that of rows that are there",
    )
    parser.add_argument("--engines", nargs="+", help="only what has one of these in its name")
    parser.add_argument("--all", action="store_true", help="slow peers at T=128 too, and the peers' memory")
    parser.add_argument("--budget", type=float, default=20, help="seconds a function and group")
    parser.add_argument("--sample-seconds", type=float, default=0.5, help="least length of a sample")
    parser.add_argument(
        "--smoke", action="store_true", help="does everything run? in minutes, on a busy machine; all rows are void"
    )
    parser.add_argument("--accuracy-images", type=int, default=1000)
    parser.add_argument("--calibration-samples", type=int, default=1000)
    parser.add_argument("--memory-repeats", type=int, default=3, help="fresh processes an engine; 0: no memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module=r"norse|sinabs|snntorch|spikingjelly|torch\.jit")  # peers' imports
    if arguments.child:
        restrict(None)
        child(Path(arguments.child[0]), arguments.child[1])
        return
    isa = restrict(arguments.isa)
    smoke(arguments)
    parts = set(arguments.parts.split(","))
    if parts - {"rows", "rates", "levels", "shapes", "memory"}:
        parser.error("--parts takes rows, rates, levels, shapes and memory")
    if arguments.weights is None and parts & {"rows", "memory"} and NETWORKS[0] in arguments.networks:
        parser.error("the ResNet-20 needs --weights")
    results = Results(arguments.output, description(arguments.seed))
    if parts & {"rows", "shapes", "memory"}:
        dataset = ts.data.load("cifar10", arguments.data_dir)
    if "rows" in parts:
        measure(arguments, results, dataset, isa)
    if "memory" in parts:
        measure_memory(arguments, results, dataset, isa)
    if "rates" in parts:
        for row in kernels.rates(arguments):
            results.merge("rates", [row], ("channels", "size", "rate"))
            results.write()
            print(row, file=sys.stderr, flush=True)
        kernels.picture(results.content["rates"], arguments.output.with_name("rates.png"))
    if "levels" in parts and event_status()[0] is not None:
        for row in kernels.levels(1 if arguments.smoke else 10):
            results.merge("levels", [row], ("channels", "size", "groups", "rate"))
            results.write()
            print(row, file=sys.stderr, flush=True)
    if "shapes" in parts:
        for row in kernels.shapes(arguments, dataset):
            results.merge("shapes", [row], ("network",))
            results.write()
            print({k: v for k, v in row.items() if k != "kernels"}, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
