"""docs/speed.md, made from results.json, floor.json and the files of other measurements of speed; ``make bench`` calls it,
a test compares.

python benchmarks/speed_page.py
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/speed.md"
OURS, PEER = "transpike", "SpikingJelly"
HEAD = """# Speed

Time, memory and exactness of runs on a CPU, next to the ANN, to the ANN in int8, and to other libraries on the same
converted graph. Every number is from a command of `make bench`; the numbers are in `benchmarks/results.json` and in the
files next to it that each part names, and this page is made from them (`benchmarks/speed_page.py`).

- **R** is time / (T × one forward pass of the ANN in torch, channels last) of the same run; for the ANN itself, time / that
  forward pass. **int8** is time / one forward pass of the ANN in int8 by ONNX Runtime (static quantisation, weights per
  channel, calibrated on the images that the conversion sees) with the same number of threads. **peer** is time / the time of the best
  mode of SpikingJelly on the same graph.
- **rate** is spikes per neuron and step; **MiB** is what a run adds at its peak, in a fresh process; **differing** is how many
  neurons sent another sum of levels than in the float64 reference engine, of those of four images.
- Samples are interleaved; those that other processes or a slow phase of the machine disturbed are dropped. † marks a group in
  which the ANN or SpikingJelly ran outside its usual range: do not quote it.
- Rows of an instruction set that was forced on a better machine (`--isa`) restrict torch too. ONNX Runtime cannot be
  restricted, and is measured only with what the machine has.
"""


def _read(name: str) -> dict:
    path = HERE / name
    return json.loads(path.read_text()) if path.exists() else {}


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.{1 if seconds < 0.1 else 0}f}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Columns without a value in any row are left out."""
    used = [i for i in range(len(head)) if any(row[i] for row in rows)]
    words = {i for i in used if any(row[i].strip("`")[:1].isalpha() for row in rows)}
    rule = "|".join("---" if i in words else "---:" for i in used)
    lines = ["| " + " | ".join(head[i] for i in used) + " |", f"|{rule}|"]
    return [*lines, *("| " + " | ".join(row[i] for i in used) + " |" for row in rows)]


def rows() -> list[str]:
    content = _read("results.json")
    machine, found = content["machine"], [row for row in content["rows"] if row["seconds"]]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"Machine: {machine['cpu']}, {machine['threads']} threads; {versions}.", ""]
    for network in dict.fromkeys(row["network"] for row in found):
        for batch in sorted({row["batch"] for row in found if row["network"] == network}, reverse=True):
            part = [row for row in found if (row["network"], row["batch"]) == (network, batch)]
            lines += [f"## {network} ({part[0]['weights']} weights), batch {batch}", "", *_rows(part), ""]
    return lines


def _rows(part: list[dict]) -> list[str]:
    head = [
        "engine",
        "recipe",
        "T",
        "instructions",
        "ms",
        "R",
        "peer",
        "int8",
        "rate, %",
        "MiB",
        "accuracy, %",
        "differing",
    ]
    cells = []
    for row in _chosen(part):
        source = row["graph"] == "source"
        accuracy = row.get("ann_accuracy") if source else row["snn_accuracy"]
        differing = row["differing_counts"]
        cells.append([
            row["engine"], "" if source else f"`{row['recipe']}`", "" if source else str(row["timesteps"]),
            row.get("instructions", row["isa"]), _milliseconds(row["seconds"]) + ("†" if "void" in row else ""),
            _number(_passes(row)), "" if source else _number(row["ratio_to_best_peer"]), _number(row.get("ratio_to_int8")),
            _percent(row["mean_spike_rate"]), _number(row["added_mib"], 0), _percent(accuracy),
            "" if differing is None else f"{differing:,} of {row['compared_counts']:,}",
        ])  # fmt: skip
    return _table(head, cells)


def _passes(row: dict) -> float | None:
    """Time by that of the ANN's forward pass, and T of them for a spiking network."""
    times = 1 if row["graph"] == "source" else row["timesteps"]
    return row["seconds"] / (times * row["ann_seconds"]) if row["ann_seconds"] else None


def _chosen(part: list[dict]) -> list[dict]:
    """The ANN once for each instruction set, then by instruction set, recipe and T: ours, and the best peer."""
    kept: list[dict] = []
    for isa in dict.fromkeys(row["isa"] for row in part):
        here = [row for row in part if row["isa"] == isa]
        source = sorted((row for row in here if row["graph"] == "source"), key=lambda row: "void" in row)
        kept += [next(r for r in source if r["engine"] == n) for n in dict.fromkeys(r["engine"] for r in source)]
        groups = dict.fromkeys((row["recipe"], row["timesteps"]) for row in here)
        for group in sorted(groups, key=lambda one: (list(dict.fromkeys(g[0] for g in groups)).index(one[0]), one[1])):
            run = [row for row in here if (row["recipe"], row["timesteps"]) == group and row["graph"] != "source"]
            kept += [row for row in run if row["engine"].startswith(OURS)]
            kept += sorted((r for r in run if r["engine"].startswith(PEER)), key=lambda row: row["seconds"])[:1]
    return kept


def curves() -> list[str]:
    content = _read("curves.json")
    if not content:
        return []
    base = ", ".join(f"{name} {value}" for name, value in content["base"].items())
    lines = ["## How time and memory grow", "", "Residual networks (16, 32, 64 channels) with seeded weights, ECC, engine auto; one setting moves, the others stay at",
             f"{base} (`benchmarks/curves.py`).", "", "![Time and memory against image size, depth, batch and time steps](../benchmarks/curves.png)", ""]  # fmt: skip
    head = ["moved", "value", "ms", "R", "MiB", "rate, %", "operations per image"]
    cells = []
    for moved, points in content["curves"].items():
        for row in points:
            seconds, ann = row["seconds"], row["ann_seconds"]
            ratio = seconds / (row["timesteps"] * ann) if seconds and ann else None
            mark = "†" if "void" in row else ""
            cells.append([
                moved, str(row[moved]), "" if seconds is None else _milliseconds(seconds) + mark, _number(ratio),
                _number(row["added_mib"], 0), _percent(row["mean_spike_rate"]), _number(row["synaptic_operations"], 0),
            ])  # fmt: skip
    return [*lines, *_table(head, cells), ""]


def floor() -> list[str]:
    content = _read("floor.json")
    if not content:
        return []
    lines = [
        "## Where the time goes", "",
        "Runs of the engine auto by part, and by layer (`benchmarks/floor.py`). The floor is what the synaptic operations would",
        "take if each were one float32 multiply-add at the rate of torch's matrix product in the same run; kernels that add 16-bit",
        "integers or read sums from tables can be faster than that. *Without spikes*: the same kernels when no input spike comes,",
        "which is the time for thresholds, constant currents and empty lists of spikes.", "",
    ]  # fmt: skip
    head = ["network", "recipe", "T", "batch", "instructions", "ms", "kernels", "without spikes", "counting and pooling",
            "dense layers, answer", "between", "10⁹ operations", "10⁹ operations/s", "peak, 10⁹/s", "floor, ms"]  # fmt: skip
    cells = []
    for row in content["rows"]:
        parts = row["parts"]
        cells.append([
            row["network"], f"`{row['recipe']}`", str(row["timesteps"]), str(row["batch"]), row["isa"],
            _milliseconds(row["seconds"]) + ("†" if "void" in row else ""), _milliseconds(parts.get("kernel", 0)),
            _milliseconds(row["without_spikes"]), _milliseconds(parts.get("count", 0) + parts.get("pool", 0)),
            _milliseconds(parts.get("dense", 0) + parts.get("answer", 0)), _milliseconds(row["between"]),
            _number(row["synaptic_operations"] / 1e9), _number(row["synaptic_operations"] / row["seconds"] / 1e9, 1),
            _number(row["peak"] / 1e9, 1), _milliseconds(row["floor_seconds"]),
        ])  # fmt: skip
    lines += [*_table(head, cells), ""]
    for row in content["rows"]:
        lines += [f"{row['network']}, `{row['recipe']}`, T={row['timesteps']}, batch {row['batch']}, {row['isa']}:", ""]
        layers = [[
            one["layer"], one["kernel"], _number(1000 * one["seconds"]),
            _number(None if one["without_spikes"] is None else 1000 * one["without_spikes"]),
            _number(one["synaptic_operations"] / 1e6, 1),
            _number(one["synaptic_operations"] / one["seconds"] / 1e9, 1) if one["seconds"] else "",
        ] for one in row["layers"]]  # fmt: skip
        lines += [
            *_table(["layer", "kernel", "ms", "without spikes, ms", "10⁶ operations", "10⁹ operations/s"], layers),
            "",
        ]
    return lines


def pictures() -> list[str]:
    content = _read("networks224.json")
    if not content:
        return []
    lines = [
        "## Networks for pictures of 224×224", "",
        "One thread, seconds of the processor (`benchmarks/networks224.py`, `networks224.json`): networks with seeded weights and",
        "calibrated normalisation, and EfficientNet-Lite0 with its ImageNet weights. *wires*: what is done between two layers of",
        "weights ([page](imagenet.md)). *dense*: layers without an event kernel. *operations*: synaptic operations / (T × the ANN's",
        "multiplications).", "",
    ]  # fmt: skip
    head = [
        "network",
        "recipe",
        "wires",
        "T",
        "batch",
        "ms",
        "R",
        "rate, %",
        "operations",
        "dense",
        "MiB",
        "exact grid",
    ]
    cells = [[
        row["network"], f"`{row['recipe'].split('(')[0].lower()}`", row["linear_wires"], str(row["T"]), str(row["batch"]),
        _number(row["ms"], 0), _number(row["R"]), _percent(row["rate"]), _number(row["operations / (T MACs)"]),
        str(row["dense"]), _number(row["mib"], 0), "yes" if row["exact"] else "no",
    ] for row in content["rows"]]  # fmt: skip
    return [*lines, *_table(head, cells), ""]


def levels() -> list[str]:
    found = _read("results.json").get("levels", [])
    if not found:
        return []
    lines = [
        "## Spikes of several levels", "",
        "Processor time of a layer of neurons that send several levels and of its reader (a 3×3 convolution), over that of binary",
        "neurons at equal events, which are the bits that are set in the levels; one thread, T=32, batch 2, the least of runs in",
        "turn (`benchmarks/speed.py --parts levels`).", "",
    ]  # fmt: skip
    names = [name for name in found[0]["ratio_to_binary"] if name != "binary"]
    cells = [[
        str(row["channels"]), str(row["size"]), str(row["groups"]), _percent(row["rate"]), _number(row["binary_ms"]),
        *(_number(row["ratio_to_binary"][name]) for name in names),
    ] for row in found]  # fmt: skip
    return [*lines, *_table(["channels", "height", "groups", "events, %", "binary, ms", *names], cells), ""]


def sigma_delta() -> list[str]:
    content = _read("sigma_delta.json")
    if not content:
        return []
    lines = [
        "## Sigma-delta networks: time against events", "",
        "One thread, T=8, seeded weights on noise, and EfficientNet-Lite0 with its ImageNet weights on pictures, as multiples of",
        "the ANN's time in the same run (`benchmarks/sigma_delta.py --events`, `sigma_delta.json`). *floor*: the additions alone,",
        "if two of them took as long as one multiplication of the ANN.", "",
    ]  # fmt: skip
    head = ["network", "batch", "ANN, ms", "all steps / ANN", "floor", "events per neuron", "additions / MACs",
            "events per neuron, by step", "time / ANN, by step"]  # fmt: skip
    cells = [[
        row["network"], str(row["batch"]), _milliseconds(row["seconds of the ANN"]), _number(row["all steps at once / ANN"]),
        _number(row["floor"]), _number(row["events per neuron"]), _number(row["additions / multiplications of the ANN"]),
        " ".join(f"{one:.2f}" for one in row["events per neuron, by step"]),
        " ".join(f"{one:.1f}" for one in row["time / ANN, by step"]),
    ] for row in content["rows"]]  # fmt: skip
    return [*lines, *_table(head, cells), ""]


def streams() -> list[str]:
    content = _read("streams.json")
    if not content:
        return []
    lines = [
        "## Live streams", "",
        "Milliseconds of one `run.step(frame)` with a batch of one, next to one forward pass of the ANN in the same turns",
        "(`benchmarks/streams.py`, `streams.json`). *held*: the input stays; *frame*: a new input in every step.", "",
    ]  # fmt: skip
    head = ["network", "step", "engine", "p50, ms", "p99, ms", "p50 / ANN", "steps", "threads"]
    cells = [[
        row["network"], row["step"], row["engine"], _number(row["p50_ms"], 3), _number(row["p99_ms"], 3),
        _number(row["of_ann"]), str(row["steps"]), str(row["threads"]),
    ] for row in content["rows"]]  # fmt: skip
    return [*lines, *_table(head, cells), ""]


def threads() -> list[str]:
    content = _read("threads.json")
    if not content:
        return []
    lines = [
        "## Two processes on the same cores", "",
        "Each process has as many threads as there are cores. *part*: the batches of the slower process over half of what one",
        f"process does alone (goal {100 * content['goal']:.0f} %). The command line sets passive waiting where nothing is set",
        "(`benchmarks/threads.py`, `threads.json`).", "",
    ]  # fmt: skip
    head = [
        "`OMP_WAIT_POLICY`",
        "processes",
        "threads",
        "batches alone",
        "part, %",
        "CPU ms of a batch alone",
        "together",
    ]
    cells = [[
        row["policy"], str(row["processes"]), str(row["threads"]), str(row["batches_alone"]), _percent(row["least_share"]),
        _milliseconds(row["cpu_seconds_alone"]), _milliseconds(row["cpu_seconds_together"]),
    ] for row in content["rows"]]  # fmt: skip
    return [*lines, *_table(head, cells), ""]


def page() -> str:
    parts = (rows, pictures, levels, sigma_delta, streams, threads, curves, floor)
    return "\n".join([HEAD, *(line for part in parts for line in part())]).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
