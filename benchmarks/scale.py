"""What a sweep over ResNet-50, and one evaluation, cost on 1, 8 and 64 nodes, by what they cost here: scale.json.

    python benchmarks/scale.py --images 4          # measures (minutes), writes the file and docs/scale.md
    python benchmarks/scale.py --page              # writes the table of docs/scale.md again

Measured on one core: conversion and evaluation of a ResNet-50 with seeded weights on seeded pictures, the bytes that its
units read and write, the start of a process, of a Ray cluster and of two processes of torchrun, and what these two
exchange. Computed: everything about more pictures and nodes.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

import transpike as ts
from transpike.results.writing import write_atomically
from transpike.workflow.shared_batches import dumped, loaded

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/scale.md"
BEGIN, END = "<!-- benchmarks/scale.py -->\n", "<!-- end -->\n"
T, SIZE, CLASSES, CALIBRATION, SEED = 8, 224, 1000, 8, 0
PICTURES, UNITS, CORES, NODES = 50_000, 200, 16, (1, 8, 64)
NETWORK = 10e9 / 8  # bytes per second between nodes
BATCH = 8  # pictures that a process evaluates before the processes exchange their results
GROUP = """
import statistics, sys, time
import torch.distributed as dist
import transpike.workflow.evaluate.run
dist.init_process_group("gloo")
mine, found, seconds = bytes(int(sys.argv[1])), [None] * dist.get_world_size(), []
for _ in range(20):
    start = time.perf_counter()
    dist.all_gather_object(found, mine)
    seconds.append(time.perf_counter() - start)
if dist.get_rank() == 0:
    print(statistics.median(seconds))
dist.destroy_process_group()
"""


class Bottleneck(nn.Module):
    def __init__(self, inner: int, before: int, stride: int) -> None:
        super().__init__()
        outer = 4 * inner
        self.body = nn.Sequential(
            *(nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer)),
        )
        short = [nn.Conv2d(before, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)]
        self.short = nn.Sequential(*short) if stride > 1 or before != outer else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.short(x))


def resnet50() -> nn.Module:
    """ResNet-50 (He et al. 2016, stride in the 3×3 convolution) with seeded weights."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    before = 64
    for inner, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inner, before, stride if block == 0 else 1))
            before = 4 * inner
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.body[-1].weight, 0.5)  # else the sums of 16 blocks grow
    return model.eval()


def pictures(count: int) -> Tensor:
    """Smooth seeded pictures, (count, 3, 224, 224) in 0..1."""
    coarse = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(SEED))
    return nn.functional.interpolate(coarse, SIZE, mode="bilinear")


def started(code: str) -> float:
    """Wall-clock seconds of a new process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def cluster_seconds() -> float | None:
    """Seconds of a comparison on a new Ray cluster, its process included; None without Ray."""
    code = (
        "import torch, transpike as ts\n"
        "m = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))\n"
        "x = torch.rand(8, 4)\n"
        "s = ts.ComparisonSettings(timesteps=(2,))\n"
        "ts.compare(m, ['ecc'], x, s, data=(x, torch.arange(8) % 2), executor={!r})"
    )
    try:
        return started(code.format("ray:local")) - started(code.format("local"))
    except subprocess.CalledProcessError as error:
        print("no Ray here:", error.stderr.decode().splitlines()[-1:], file=sys.stderr)
        return None


def result_bytes() -> int:
    """What a unit stores of PICTURES answers at one number of steps; the network does not matter."""
    model, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.rand(PICTURES, 4)
    with tempfile.TemporaryDirectory() as folder:
        settings = ts.ComparisonSettings(timesteps=(T,), calibration_samples=100)
        ts.compare(model, ["ecc"], x, settings, data=(x, torch.arange(PICTURES) % 2), store=folder)
        return next(Path(folder).glob("ecc-*.json")).stat().st_size


def group_seconds(exchanged: int) -> tuple[float, float]:
    """Of two processes of torchrun: seconds from their start to their end, and of one exchange of so many bytes."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "group.py"
        script.write_text(GROUP)
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(exchanged)]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
        return time.perf_counter() - start, float(done.stdout)


def processor_seconds(work: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of ``work``, the median of some times."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return statistics.median(found)


def one_evaluation(snn: ts.SNN, x: Tensor) -> dict[str, float]:
    """What the processes of torchrun do in addition: load the network, and exchange the results of their batches."""
    with tempfile.TemporaryDirectory() as folder:
        file = ts.save(snn, Path(folder) / "net.transpike")
        size, load = file.stat().st_size, processor_seconds(lambda: ts.load(file))
    report = ts.evaluate(snn, [(x[:1], torch.zeros(1, dtype=torch.int64))])
    result = dumped((report.activities, report.outcomes, report.ann_outcomes))
    start, gather = group_seconds(len(result))
    return {
        "file_bytes": size,
        "load_seconds": load,
        "exchange_bytes": len(result),
        "unpack_seconds": processor_seconds(lambda: loaded(result), 20),
        "group_seconds": start,
        "gather_seconds": gather,
    }


def measured(images: int) -> dict:
    from machine import description  # next to this file; the page is made without it

    torch.set_num_threads(1)
    model, x = resnet50(), pictures(max(images, CALIBRATION))
    y = torch.arange(images) % CLASSES
    begun = time.process_time()
    snn = ts.convert(model, ts.recipes.ECC(timesteps=T), x[:CALIBRATION])
    conversion = time.process_time() - begun
    snn(x[:1])  # the program is made
    begun = time.process_time()
    report = ts.evaluate(snn, [(x[i : i + 2], y[i : i + 2]) for i in range(0, images, 2)])
    seconds = (time.process_time() - begun) / images
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weights = sum(p.numel() * 4 for p in model.parameters())
    return {
        "machine": description(SEED),
        "images": images,
        "timesteps": T,
        "macs": report.ann_macs,
        "operations": report.final.synaptic_operations,
        "conversion_seconds": conversion,
        "seconds_per_image": seconds,
        "peak_bytes": peak,
        "network_bytes": weights,
        "picture_bytes": x[0].numel() * 4,
        "result_bytes": result_bytes(),
        "start_seconds": started("import transpike.workflow.compare.run"),
        "cluster_seconds": cluster_seconds(),
        "one_evaluation": one_evaluation(snn, x),
    }


def computed(found: dict, nodes: int) -> dict[str, float]:
    """Seconds of a sweep of UNITS units over all pictures, each unit on one core."""
    unit = found["conversion_seconds"] + PICTURES * found["seconds_per_image"]
    inputs = found["network_bytes"] + PICTURES * found["picture_bytes"]
    return {
        "waves": math.ceil(UNITS / (nodes * CORES)),
        "unit": unit,
        # the first node holds the inputs; they leave it one node after another
        "move": (nodes - 1) * inputs / NETWORK,
        "start": found["start_seconds"] + (found["cluster_seconds"] or 0.0),
        "results": UNITS * found["result_bytes"],
        "inputs": inputs,
    }


def computed_evaluation(found: dict, nodes: int) -> dict[str, float]:
    """Seconds of one evaluation of all pictures, one process on a core, each with every N-th batch."""
    one, processes = found["one_evaluation"], nodes * CORES
    rounds = math.ceil(math.ceil(PICTURES / BATCH) / processes)
    return {
        "pictures of a process": rounds * BATCH,
        "evaluation": rounds * BATCH * found["seconds_per_image"],
        # as bytes, from a storage that is as fast as the network of all nodes
        "pictures": PICTURES / nodes * found["picture_bytes"] / 4 / NETWORK,
        "start": one["group_seconds"] + one["load_seconds"] + one["file_bytes"] / NETWORK,
        # the results of all go round all processes, and into each of them through the network of its node
        "exchange": rounds
        * (
            (processes - 1) * one["gather_seconds"]
            + processes * one["unpack_seconds"]
            + (CORES * processes * one["exchange_bytes"] / NETWORK if nodes > 1 else 0.0)
        ),
    }


PARTS = ("evaluation", "pictures", "start", "exchange")


def evaluation_lines(found: dict) -> list[str]:
    """The table of one evaluation."""
    one = found["one_evaluation"]
    lines = [
        f"One evaluation of the {PICTURES:,} pictures on processes of torchrun. Measured, with two processes here: start "
        f"{one['group_seconds']:.1f} s, loading the network ({one['file_bytes'] / 1e6:.0f} MB) {one['load_seconds']:.1f} "
        f"s of CPU, an exchange {1e3 * one['gather_seconds']:.1f} ms, of results of {one['exchange_bytes'] / 1e3:.0f} kB, "
        f"which take {1e3 * one['unpack_seconds']:.1f} ms to unpack. Computed: {CORES} processes on a node, batches of "
        f"{BATCH}, pictures read as bytes:",
        "",
        "| nodes | processes | pictures of a process | their time | pictures read | start | exchanges | in all | faster | dominates |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    alone = sum(computed_evaluation(found, 1)[part] for part in PARTS)
    for nodes in NODES:
        row = computed_evaluation(found, nodes)
        total = sum(row[part] for part in PARTS)
        lines.append(
            f"| {nodes} | {nodes * CORES:,} | {row['pictures of a process']:,.0f} | "
            f"{' | '.join(hours(row[part]) for part in PARTS)} | {hours(total)} | {alone / total:.1f} × | "
            f"{max(PARTS, key=lambda part: row[part])} |"
        )
    return lines


def hours(seconds: float) -> str:
    return (
        f"{seconds / 3600:,.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:,.1f} min"
        if seconds >= 60
        else f"{seconds:.1f} s"
    )


def table(found: dict | None = None) -> str:
    """The tables of docs/scale.md."""
    found = json.loads((HERE / "scale.json").read_text()) if found is None else found
    cluster = found["cluster_seconds"]
    one = computed(found, 1)
    lines = [
        f"Measured ({found['images']} pictures, one thread, {found['machine']['cpu']}):",
        "",
        "| what | value |",
        "|---|---|",
        f"| multiplications of the ANN, a picture | {found['macs'] / 1e9:.2f} G |",
        f"| synaptic operations at T = {found['timesteps']}, a picture | {found['operations'] / 1e9:.2f} G |",
        f"| conversion | {found['conversion_seconds']:.0f} s of CPU |",
        f"| evaluation, a picture | {found['seconds_per_image']:.2f} s of CPU |",
        f"| largest memory of the process, batches of two | {found['peak_bytes'] / 2**30:.1f} GiB |",
        f"| start of a process | {found['start_seconds']:.1f} s |",
        f"| start of a Ray cluster and its first worker | {'not measured' if cluster is None else f'{cluster:.1f} s'} |",
        f"| a picture as float32 / a network / the results of a unit | {found['picture_bytes'] / 1e3:.0f} kB / "
        f"{found['network_bytes'] / 1e6:.0f} MB / {found['result_bytes'] / 1e3:.0f} kB |",
        "",
        f"Computed from it: a sweep of {UNITS} units (40 recipes × 5 numbers of steps) over {PICTURES:,} pictures, "
        f"{CORES} cores in a node, one unit on a core, {NETWORK * 8 / 1e9:.0f} Gbit/s:",
        "",
        "| nodes | units one after another | their time | inputs to the other nodes | start | results back | in all | faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alone = one["waves"] * one["unit"] + one["start"]
    for nodes in NODES:
        row = computed(found, nodes)
        work = row["waves"] * row["unit"]
        total = work + row["move"] + row["start"]
        lines.append(
            f"| {nodes} | {row['waves']:.0f} | {hours(work)} | {(nodes - 1) * row['inputs'] / 1e9:,.0f} GB, "
            f"{hours(row['move'])} | {hours(row['start'])} | {row['results'] / 1e6:.0f} MB | {hours(total)} | "
            f"{alone / total:.1f} × |"
        )
    if "one_evaluation" in found:
        lines += ["", *evaluation_lines(found)]
    return "\n".join((*lines, ""))


def write_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    write_atomically(PAGE, (text[:before] + table() + text[after:]).encode())


def main(words: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args([*words])
    if not given.page:
        write_atomically(HERE / "scale.json", (json.dumps(measured(given.images), indent=1) + "\n").encode())
    write_page()
    print(table())


if __name__ == "__main__":
    main(sys.argv[1:])
