"""Speed and memory of transpike's engines, other libraries and the ANN, all on one converted graph.

    python benchmarks/speed.py --weights resnet20-cifar10-jpeg.safetensors [--vgg-weights VGG.safetensors] --data-dir DATA

Medians of interleaved repeats in one process; samples that other processes disturbed are dropped and counted. Added
memory is measured in fresh processes. Rows are merged into benchmarks/results.json after every group, so a run that was
broken off loses little. A row with ``void`` says why it must not be quoted.
"""

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import kernels
import safetensors.torch
import torch
from machine import added_memory, description, interleaved
from peers import network
from results import KEY, Results, judge
from spiking_peers import CONVERTER, FASTEST, SHARED, Peer, missing
from torch import Tensor, nn

import transpike as ts
from transpike.core.cell import Neuron
from transpike.engines import event_status
from transpike.workflow.simulate import engine_named

HERE = Path(__file__).parent
NETWORKS = ("resnet20-16-32-64", "vgg16-average")
ANN = "ANN, channels_last"
OURS = {
    "transpike auto": ("auto", False),
    "transpike event, counting": ("event", True),
    "transpike dense": ("dense", False),
}
"""Name → engine, and whether it counts."""
LAYOUT = {ANN: "channels_last", "transpike dense": "channels_last"} | dict.fromkeys(list(OURS)[:2], "packed spikes")
COMPARED = 4  # images whose spike counts are compared with the reference engine's
LONG = 128  # steps from which on slow peers need --all


@dataclass(frozen=True)
class Case:
    """A network in evaluation mode, its copy for SpikingJelly's converter, and the calibration data."""

    name: str
    model: nn.Module
    peer_copy: nn.Module
    weights: str
    preprocessing: ts.Preprocessing
    dataset: ts.data.Dataset
    calibration: Iterable

    @cached_property
    def ann(self) -> nn.Module:
        return self.model.to(memory_format=torch.channels_last)

    @cached_property
    def peer_batches(self) -> list[Tensor]:
        return [self.preprocessing(x) for x, _ in self.calibration]

    def convert(self, timesteps: int) -> ts.SNN:
        recipe = ts.recipes.ECC(timesteps=timesteps)
        return ts.convert(self.model, recipe, self.calibration, preprocessing=self.preprocessing)

    def images(self, count: int) -> Tensor:
        return self.dataset.test.batch(torch.arange(count))[0]


def case(name: str, arguments: argparse.Namespace, dataset: ts.data.Dataset) -> Case:
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(arguments.seed))
    calibration = dataset.train.batches(250, indices=order[: arguments.calibration_samples])
    if name == NETWORKS[0]:
        zoo, peer_copy, preprocessing = network(arguments.weights)
        return Case(name, zoo, peer_copy, "trained", preprocessing, dataset, calibration)
    torch.manual_seed(arguments.seed)
    model, spec = ts.models.build(f"zoo:{name}", weights=arguments.vgg_weights)
    if arguments.vgg_weights is None:
        batches = dataset.train.batches(128, indices=order[:512])
        kernels.calibrate(model, [spec.preprocessing(x) for x, _ in batches])
    weights = "seeded" if arguments.vgg_weights is None else "trained"
    return Case(name, model.eval(), model, weights, spec.preprocessing, dataset, calibration)


def ours(name: str, snn: ts.SNN, images: Tensor, timesteps: int) -> ts.Trace:
    engine, count = OURS[name]
    return ts.simulate(snn, images, timesteps, engine=engine, count=count)


def spike_counts(snn: ts.SNN, engine: str, images: Tensor, timesteps: int) -> dict[str, Tensor]:
    """Spikes of every neuron over the run, (batch, *shape), by layer."""
    names = [node.name for node in snn.program.lowered.nodes if isinstance(node.op, Neuron)]
    counts: dict[str, Tensor] = {}
    with torch.no_grad():
        run = engine_named(engine).start(snn.program, snn.prepare(images), torch.arange(len(images)), names, False)
        for begin in range(0, timesteps, 32):  # the trains of a part of the time are enough at once
            run.advance(min(32, timesteps - begin))
            for name, parts in run.counter.trains.items():
                now = torch.cat(parts).sum(0)
                counts[name] = counts[name] + now if name in counts else now
                parts.clear()
    return counts


@dataclass
class Facts:
    """What does not depend on the batch: accuracy, and for each engine its rate and how its counts differ."""

    case: Case
    snn: ts.SNN
    timesteps: int
    accuracy: float | None
    ours: tuple[str, ...]
    peers: dict[str, Peer]

    @cached_property
    def free(self) -> ts.SNN:
        """What peers run: the same graph before the exact grid."""
        return dataclasses.replace(self.snn, exact_grid=False)

    @cached_property
    def by_engine(self) -> dict[str, dict]:
        images = self.case.images(COMPARED)
        x = self.case.preprocessing(images)
        reference = {snn: spike_counts(snn, "reference", images, self.timesteps) for snn in (self.snn, self.free)}
        found = {}
        for name in self.ours:
            counts = spike_counts(self.snn, OURS[name][0], images, self.timesteps)
            found[name] = self._compared(counts, reference[self.snn])
        for name, peer in self.peers.items():
            if name in SHARED:
                found[name] = self._compared(peer.counts(x, self.timesteps), reference[self.free])
        return found

    def _compared(self, counts: dict[str, Tensor], reference: dict[str, Tensor]) -> dict:
        neurons = sum(value.numel() for value in reference.values())
        return {
            "mean_spike_rate": sum(float(value.sum()) for value in counts.values()) / neurons / self.timesteps,
            "differing_counts": sum(int((counts[n].cpu() != value).sum()) for n, value in reference.items()),
            "compared_counts": neurons,
        }


def facts(case: Case, timesteps: int, names: list[str], arguments: argparse.Namespace) -> Facts:
    snn, accuracy = case.convert(timesteps), None
    if case.weights == "trained" and arguments.accuracy_images:
        data = case.dataset.test.batches(32, limit=arguments.accuracy_images)
        accuracy = ts.evaluate(snn, data, answers=(timesteps,), engine="auto").final.accuracy
    peers = {name: SHARED[name](snn.lowered) for name in names if name in SHARED}
    peers |= {name: CONVERTER[name](case.peer_copy, case.peer_batches) for name in names if name in CONVERTER}
    return Facts(case, snn, timesteps, accuracy, tuple(name for name in names if name in OURS), peers)


def group(known: Facts, batch: int, arguments: argparse.Namespace) -> tuple[list[dict], float]:
    """The rows of one network, T and batch, and the ANN's fastest sample."""
    case, snn, timesteps = known.case, known.snn, known.timesteps
    images = case.images(batch)
    x = case.preprocessing(images).contiguous(memory_format=torch.channels_last)
    functions: dict[str, Callable[[], object]] = {ANN: torch.inference_mode()(partial(case.ann, x))}
    functions |= {name: partial(ours, name, snn, images, timesteps) for name in known.ours}
    functions |= {name: partial(peer.run, x, timesteps) for name, peer in known.peers.items()}
    timings = interleaved(functions, arguments.budget, arguments.sample_seconds, reference=ANN)
    in_children = [name for name in functions if name in OURS or (arguments.all and name in SHARED)]
    added = memory(snn, images, in_children, arguments.memory_repeats)
    ann = timings[ANN].median
    best = min((t.median for n, t in timings.items() if n.startswith("SpikingJelly") and t.median), default=None)
    rows = []
    for name, timing in timings.items():
        peer, seconds = known.peers.get(name), timing.median
        about = known.by_engine.get(name, {})
        rows.append({
            "network": case.name, "weights": case.weights, "timesteps": timesteps, "batch": batch, "engine": name,
            "seconds": seconds, "ann_seconds": ann, "peer_seconds": best,
            "ratio_to_ann": seconds / (timesteps * ann) if seconds and ann else None,
            "ratio_to_best_peer": seconds / best if seconds and best else None,
            "added_mib": added.get(name),
            **{fact: about.get(fact) for fact in ("mean_spike_rate", "differing_counts", "compared_counts")},
            "snn_accuracy": known.accuracy if name in OURS else None,
            "samples": len(timing.seconds), "dropped": timing.dropped, "threads": torch.get_num_threads(),
            "memory_format": peer.layout if peer else LAYOUT[name],
            "reset": peer.reset if peer else None if name == ANN else "soft",
            "graph": "source" if name == ANN else "its own conversion" if name in CONVERTER else "shared",
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


def measure(arguments: argparse.Namespace, results: Results, dataset: ts.data.Dataset) -> None:
    peers = (*SHARED, *CONVERTER)
    absent = {name: why for name in peers if (why := missing(name))}
    if event_status()[0] is None:
        absent["transpike event, counting"] = event_status()[1]
    results.content["absent"] = absent
    chosen = [n for n in (*OURS, *peers) if not arguments.engines or any(part in n for part in arguments.engines)]
    present = [n for n in chosen if n not in absent]
    measured: list[dict] = []
    fastest: dict[tuple[str, int], float] = {}
    for name in arguments.networks:
        one = case(name, arguments, dataset)
        if one.weights == "trained":
            results.keep("rows", lambda row, name=name: (row["network"], row["weights"]) != (name, "seeded"))
        for timesteps in arguments.timesteps:
            slow = [n for n in present if n in peers and n != FASTEST and timesteps >= LONG and not arguments.all]
            known = facts(one, timesteps, [n for n in present if n not in slow], arguments)
            for batch in arguments.batches:
                start = time.perf_counter()
                rows, best = group(known, batch, arguments)
                fastest[name, batch] = min(best, fastest.get((name, batch), best))
                measured += rows
                judge(measured, fastest)
                results.merge("rows", measured)
                why = {"reason": "slow at this T; --all runs it"}
                results.skip([dict(zip(KEY, (name, timesteps, batch, n), strict=True)) | why for n in slow])
                results.write()
                progress(rows, time.perf_counter() - start)


def measure_memory(arguments: argparse.Namespace, results: Results, dataset: ts.data.Dataset) -> None:
    """Measure the added memory of the rows that are there again."""
    for name in arguments.networks:
        one = case(name, arguments, dataset)
        for timesteps in arguments.timesteps:
            snn = one.convert(timesteps)
            for batch in arguments.batches:
                added = memory(snn, one.images(batch), list(OURS), arguments.memory_repeats)
                for row in results.content.get("rows", []):
                    if (row["network"], row["timesteps"], row["batch"]) == (name, timesteps, batch):
                        row["added_mib"] = added.get(row["engine"], row["added_mib"])
                results.write()
                print(name, timesteps, batch, added, file=sys.stderr, flush=True)


def progress(rows: list[dict], seconds: float) -> None:
    first = rows[0]
    cells = [
        f"{r['engine']} {1000 * r['seconds']:.1f} ms (R {r['ratio_to_ann']:.2f})" for r in rows if r["ratio_to_ann"]
    ]
    dropped, void = sum(r["dropped"] for r in rows), first.get("void")
    print(f"{first['network']} T={first['timesteps']} batch {first['batch']}: {'; '.join(cells)}; {dropped} dropped"
          f"{f'; VOID: {void}' if void else ''} [{seconds:.0f} s]", file=sys.stderr, flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="of the ResNet-20")
    parser.add_argument("--vgg-weights", type=Path, help="without: seeded weights with calibrated BatchNorm")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--timesteps", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 1])
    parser.add_argument(
        "--parts",
        default="rows,rates,shapes",
        help="some of rows,rates,shapes; memory: only that of rows that are there",
    )
    parser.add_argument("--engines", nargs="+", help="only what has one of these in its name")
    parser.add_argument("--all", action="store_true", help="slow peers at T=128 too, and the peers' memory")
    parser.add_argument("--budget", type=float, default=20, help="seconds a function and group")
    parser.add_argument("--sample-seconds", type=float, default=0.5, help="least length of a sample")
    parser.add_argument("--accuracy-images", type=int, default=1000)
    parser.add_argument("--calibration-samples", type=int, default=1000)
    parser.add_argument("--memory-repeats", type=int, default=3, help="fresh processes an engine; 0: no memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module=r"norse|sinabs|snntorch|spikingjelly|torch\.jit")  # peers' imports
    if arguments.child:
        child(Path(arguments.child[0]), arguments.child[1])
        return
    parts = set(arguments.parts.split(","))
    if parts - {"rows", "rates", "shapes", "memory"}:
        parser.error("--parts takes rows, rates, shapes and memory")
    if arguments.weights is None and parts & {"rows", "memory"} and NETWORKS[0] in arguments.networks:
        parser.error("the ResNet-20 needs --weights")
    results = Results(arguments.output, description(arguments.seed))
    if parts & {"rows", "shapes", "memory"}:
        dataset = ts.data.load("cifar10", arguments.data_dir)
    if "rows" in parts:
        measure(arguments, results, dataset)
    if "memory" in parts:
        measure_memory(arguments, results, dataset)
    if "rates" in parts:
        for row in kernels.rates(arguments):
            results.merge("rates", [row], ("channels", "size", "rate"))
            results.write()
            print(row, file=sys.stderr, flush=True)
        kernels.picture(results.content["rates"], arguments.output.with_name("rates.png"))
    if "shapes" in parts:
        for row in kernels.shapes(arguments, dataset):
            results.merge("shapes", [row], ("network",))
            results.write()
            print({k: v for k, v in row.items() if k != "kernels"}, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
