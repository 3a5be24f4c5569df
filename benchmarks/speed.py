"""Speed and memory of the fused engine beside SpikingJelly and the ANN, in one process, on the shared ResNet-20.

    python benchmarks/speed.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Medians of interleaved repeats; a sample during which other processes took more than 0.12 cores is dropped and counted.
Added memory is measured in fresh processes. Writes benchmarks/speed.json.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from peers import converted, network, steps

import transpike as ts
from transpike.files import write_atomically

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")


def busy_of_others() -> float:
    """CPU seconds that other processes have used so far."""
    fields = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    own = resource.getrusage(resource.RUSAGE_SELF)
    return (sum(fields[:3]) + sum(fields[5:7])) / TICKS - own.ru_utime - own.ru_stime


def sample(function: Callable[[], object]) -> tuple[float, bool]:
    """(seconds, undisturbed)."""
    others, start = busy_of_others(), time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    return seconds, (busy_of_others() - others) / seconds < 0.12


def prepare(arguments, timesteps: int) -> dict[str, Callable[[], object]]:
    dataset = ts.data.load("cifar10", arguments.data_dir)
    zoo, twin, preprocessing = network(arguments.weights)
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[:1000]
    calibration = dataset.train.batches(250, indices=order)
    images = dataset.test.batch(torch.arange(arguments.batch))[0]
    x = preprocessing(images).contiguous(memory_format=torch.channels_last)
    snn = ts.convert(zoo, ts.recipes.ECC(timesteps=timesteps), calibration, preprocessing=preprocessing)
    ann = twin.to(memory_format=torch.channels_last)
    peer = converted(twin, "99.9% per channel", [preprocessing(x) for x, _ in calibration])
    peer = peer.to(memory_format=torch.channels_last)

    def peer_single() -> None:
        for _ in steps(peer, x, timesteps):
            pass

    def peer_multi() -> None:
        from spikingjelly.activation_based import functional

        functional.set_step_mode(multi, "m")
        functional.reset_net(multi)
        multi(x.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1))

    multi = hand_built(twin, snn)
    single = hand_built(twin, snn)

    def hand_single() -> None:
        for _ in steps(single, x, timesteps):
            pass

    return {
        "ann": lambda: ann(x),
        "transpike fused": lambda: snn.run(images, timesteps, count=False),
        "transpike fused, counting": lambda: snn.run(images, timesteps),
        "SpikingJelly converter, single-step": peer_single,
        "SpikingJelly hand-built, single-step": hand_single,
        "SpikingJelly hand-built, multi-step": peer_multi,
    }


def hand_built(twin, snn):
    """The same network with SpikingJelly's own layers and IF nodes, weights folded and normalised: its fastest form."""
    from spikingjelly.activation_based import layer, neuron

    class Node(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = torch.nn.ModuleDict()
            self.table, self.plan = snn.lowered.nodes, []
            for index, node in enumerate(self.table):
                self.plan.append((node.name, f"n{index}", node.inputs, node.shape))
                if hasattr(node.op, "unit") and node.op.unit is not None:
                    self.cells[f"n{index}"] = neuron.IFNode(v_reset=None, v_threshold=1.0)
                elif type(node.op).__name__ == "Conv":
                    op = node.op
                    conv = layer.Conv2d(op.weight.shape[1], op.weight.shape[0], 3, op.stride, op.padding)
                    conv.weight.data = op.weight.float().contiguous(memory_format=torch.channels_last)
                    self.cells[f"n{index}"] = conv
            for index, node in enumerate(self.table):
                if f"n{index}" in self.cells and node.name in snn.lowered.biases:
                    source = next(i for i, n in enumerate(self.table) if n.name == node.inputs[0])
                    while f"n{source}" not in self.cells:
                        source = next(i for i, n in enumerate(self.table) if n.name == self.table[source].inputs[0])
                    self.cells[f"n{source}"].bias.data = snn.lowered.biases[node.name][0].flatten().float()

        def forward(self, x):
            values = {}
            for (name, key, inputs, _), node in zip(self.plan, self.table, strict=True):
                lead = x.shape[: x.ndim - 3]
                if not inputs:
                    values[name] = x
                elif key in self.cells:
                    values[name] = self.cells[key](values[inputs[0]])
                else:
                    flat = [values[i].flatten(0, len(lead) - 1) for i in inputs]
                    values[name] = node.op.to(dtype=torch.float32).run(*flat).unflatten(0, lead)
            return values[name]

    return Node().eval().to(memory_format=torch.channels_last)


def memory(arguments, timesteps: int) -> float:
    """MiB that one run adds to the resident set: the median of five fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = ts.data.load("cifar10", arguments.data_dir)
        zoo, _, preprocessing = network(arguments.weights)
        calibration = dataset.train.batches(250, indices=torch.arange(1000))
        recipe = ts.recipes.ECC(timesteps=timesteps)
        ts.save(ts.convert(zoo, recipe, calibration, preprocessing=preprocessing), Path(folder) / "net.transpike")
        images = {"images": dataset.test.batch(torch.arange(arguments.batch))[0]}
        (Path(folder) / "images").write_bytes(safetensors.torch.save(images))
        command = [sys.executable, __file__, "--child", folder, "--weights", str(arguments.weights)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(5)]
        return statistics.median(float(out.split()[-1]) for out in runs)


def child(folder: Path) -> None:
    snn, images = ts.load(folder / "net.transpike"), safetensors.torch.load((folder / "images").read_bytes())["images"]
    snn.run(images[:1], 1, count=False)  # what is made once for a network does not count
    before = _resident("VmRSS")
    snn.run(images, count=False)
    print(_resident("VmHWM") - before)


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if field in line).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "speed.json")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    rows = []
    for timesteps in arguments.timesteps:
        functions = prepare(arguments, timesteps)
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        dropped = dict.fromkeys(functions, 0)
        with torch.no_grad():
            for repeat in range(arguments.repeats + 1):
                for name, function in functions.items():
                    for _ in range(5 if name == "ann" else 1):
                        value, quiet = sample(function)
                        if repeat:  # the first round warms up
                            seconds[name].append(value) if quiet else dropped.__setitem__(name, dropped[name] + 1)
        medians = {name: statistics.median(values) if values else None for name, values in seconds.items()}
        peers = [value for name, value in medians.items() if name.startswith("SpikingJelly") and value]
        for name, value in medians.items():
            if name == "ann" or value is None:
                continue
            row = {"network": "resnet20-16-32-64", "timesteps": timesteps, "batch": arguments.batch, "engine": name,
                   "seconds": value, "ann_seconds": medians["ann"], "ratio_to_ann": value / (timesteps * medians["ann"]),
                   "ratio_to_best_peer": value / min(peers), "dropped": dropped[name], "threads": torch.get_num_threads()}  # fmt: skip
            rows.append(row)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    added = {t: memory(arguments, t) for t in (8, 32, 128)}
    print("added MiB", added, "T=128 / T=32:", added[128] / added[32])
    versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    content = {"rows": rows, "added_mib": added, "memory_ratio_128_to_32": added[128] / added[32], "versions": versions}
    write_atomically(arguments.output, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
