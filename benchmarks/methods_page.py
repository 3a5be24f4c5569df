"""docs/methods.md: properties of every recipe, and measurements.

    python benchmarks/methods_page.py

Properties are read from the recipes and from small networks that they convert; numbers come from benchmarks/methods.json.
"""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import torch
from torch import Tensor, nn

import transpike as ts
from transpike import passes
from transpike.activations import QuantisedClip, TimeToFirstSpike
from transpike.core.cell import Neuron
from transpike.core.recipe import Recipe, source_of
from transpike.errors import TranspikeError
from transpike.lowering.scaling import own_scale
from transpike.neurons import ExactReLU, FirstSpike, IntegrateAndFire, Retimed, Synchronous
from transpike.recipes import BSNN, CAT, COS, PASCAL, S4NN, AdaFire, Cao, ExactMapping
from transpike.results.statistics import paired_difference

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "methods.md"
CONTENT, LEARNED = HERE / "methods.json", HERE / "learned.json"
TIMESTEPS = 8
LEFT_OUT = tomllib.loads((HERE / "methods_left_out.toml").read_text(encoding="utf-8"))
INGREDIENTS = {
    "HR": "hard reset", "SR": "soft reset (subtraction)", "WN": "weights scaled so that every threshold is 1",
    "TB": "weights as trained, thresholds to match", "TS": "thresholds scaled by a further factor",
    "ECC": "one threshold κ in every layer, residual elimination", "BN": "batch normalisation", "MP": "maximum pooling",
    "AP": "average pooling", "bias": "biases",
}  # fmt: skip


def network(recipe: Recipe, *extra: nn.Module) -> tuple[nn.Module, Tensor]:
    """A small network that the recipe can convert, ``extra`` layers after its first neurons, and inputs for it."""
    torch.manual_seed(0)

    def activation(threshold: float) -> nn.Module:
        if isinstance(recipe, CAT):
            return TimeToFirstSpike(recipe.timesteps, recipe.tau, threshold)
        # a network of S4NN is trained in time; its weights come with ReLUs in the neurons' places
        levels = recipe.timesteps if isinstance(recipe, PASCAL) else 4
        return nn.ReLU() if recipe.training_free or isinstance(recipe, S4NN) else QuantisedClip(levels, threshold)

    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), activation(1.5), *extra, nn.Conv2d(4, 4, 3, bias=False), activation(0.5),
        nn.Flatten(), nn.LazyLinear(3, bias=not isinstance(recipe, Cao)),
    )  # fmt: skip
    x = torch.rand(32, 1, 8, 8)
    model(x)
    return model.eval(), x


def works(recipe: Recipe, *extra: nn.Module) -> bool:
    try:
        model, x = network(recipe, *extra)
        ts.simulate(ts.convert(model, recipe, x), x[:2], recipe.timesteps)
    except TranspikeError:
        return False
    return True


def ingredients(recipe: Recipe) -> dict[str, str]:
    """● what the recipe does by default, ○ what it does as a setting."""
    model, x = network(recipe)
    snn = ts.convert(model, recipe, x)
    neuron = next(node.op for node in snn.graph if isinstance(node.op, Neuron))
    found = dict.fromkeys(INGREDIENTS, "")
    if isinstance(neuron, IntegrateAndFire):
        found["HR" if neuron.reset == "hard" else "SR"] = "●"
        if hasattr(recipe, "reset"):
            found["SR" if neuron.reset == "hard" else "HR"] = "○"
    elif neuron.unit is not None and neuron.unit.code is None:
        found["SR"] = "●"
    kappa = set(own_scale(recipe.threshold_scale, snn.program.lowered).values())
    if kappa:  # neurons whose threshold is not theirs to choose have none
        found["WN" if kappa == {1.0} else "ECC" if len(kappa) == 1 else "TB"] = "●"
    if hasattr(recipe, "scale"):
        found["TS"] = "●" if recipe.scale != 1 else "○"
    norm = nn.BatchNorm2d(4)
    extras = {"BN": (nn.Conv2d(4, 4, 3, padding=1), norm, network(recipe)[0][1]), "MP": (nn.MaxPool2d(2),),
              "AP": (nn.AvgPool2d(2),), "bias": (nn.Conv2d(4, 4, 1), network(recipe)[0][1])}  # fmt: skip
    for name, extra in extras.items():
        found[name] = "●" if works(recipe, *extra) else ""
    return found


def named(recipe: Recipe, cell: Neuron) -> str:
    """The description of the neuron, without the T of this page and values measured on its small networks."""
    if isinstance(cell, FirstSpike):  # the recipe's code, for T2FSNN has trained the cell's
        return f"first spike, {recipe.code}".replace(f"{TIMESTEPS} slots", "T slots")  # type: ignore[attr-defined]
    if isinstance(recipe, AdaFire):  # whose search is by layers
        return f"burst IF, up to Γ of each layer, {recipe.gamma} at most"
    return cell.describe().split(", window")[0] if isinstance(cell, ExactReLU) else cell.describe()


def total(recipe: Recipe) -> str:
    """Steps from the input to the answer."""
    if isinstance(recipe, ExactMapping):
        return "n + 1 windows of continuous time"
    if recipe.schedule.mode == "slots":
        held = recipe.schedule.lag(TIMESTEPS)
        return {TIMESTEPS: "(n + 1) T", 0: "T"}.get(held) or f"n T/{TIMESTEPS // held} + T"
    if isinstance(recipe, COS):
        return f"n · {recipe.pre_simulation_steps} + T, T from {recipe.pre_simulation_steps} on"
    if isinstance(recipe, PASCAL):
        return "n (2 T − 1) + T"
    return {"steps": "T", "differences": "T", "windows": "(n + 1) T", "cycles": "(n + 1) K + 2 (T − K)"}[
        recipe.schedule.mode
    ]


def sums(recipe: Recipe) -> str:
    if isinstance(recipe, BSNN):
        return "delayed by a cycle"
    retimed = any(isinstance(one, passes.MatchDelays) for one in recipe.passes)
    return getattr(recipe, "residual", "currents") + (", re-timed" if retimed else "")


def properties(recipe: Recipe) -> list[str]:
    model, x = network(recipe)
    snn = ts.convert(model, recipe, x)
    is_delay = (Synchronous, Retimed)
    cells = [node.op for node in snn.graph if isinstance(node.op, Neuron) and not isinstance(node.op, is_delay)]
    alphabet = ", ".join(sorted({str(cell.output_alphabet(recipe.encoder.alphabet)) for cell in cells}))
    # an input of spikes with a given scale needs no range
    asks, thresholds, corrections = {"input range"} if recipe.encoder.largest is None else set(), [], []
    for one in recipe.passes:
        asks.add(one.asks)
        (thresholds if one.sets_thresholds else corrections).append(one.describe())
    needs = (
        [name for name in ("activations", "spikes", "spikes of each input") if name in asks]
        or sorted(asks - {""})
        or ["nothing"]
    )
    if any(isinstance(one, passes.SpikeNorm) for one in recipe.passes):
        thresholds = thresholds[-1:]
    if isinstance(recipe, CAT):  # whose φ does not learn it
        thresholds = ["φ's ceiling, as trained"]
    if recipe.schedule.mode == "cycles":
        corrections = [c.replace("θ", "θ/2^K") for c in corrections]
    pooling = getattr(recipe, "pooling", "lateral-inhibition")
    schedule = re.sub(r"(?<!^)([A-Z])", r"-\1", type(recipe.schedule).__name__).lower()
    if isinstance(recipe, AdaFire):
        alphabet = f"1 to {recipe.gamma} levels"
    return [
        "no" if recipe.training_free else "yes", " and ".join(needs), "; ".join(t for t in thresholds if t),
        "; ".join(c for c in corrections if c), named(recipe, cells[0]), alphabet, pooling, sums(recipe),
        f"{schedule}: {total(recipe)}", type(recipe.readout).__name__,
    ]  # fmt: skip


def table(head: list[str], rows: list[list[str]], right: int | None = None) -> list[str]:
    """``right``: the first column that is aligned to the right."""
    rule = ["---" if right is None or i < right else "---:" for i in range(len(head))]
    return ["", *(f"| {' | '.join(row)} |" for row in (head, rule, *rows)), ""]


def percent(row: dict) -> str:
    """Accuracy, and in brackets the points lost with their interval."""
    lost, low, high = (f"{100 * row[key]:.2f}".replace("-", "−") for key in ("drop", "drop_low", "drop_high"))
    return f"{100 * row['accuracy']:.2f} ({lost} [{low}, {high}])"


def measured(content: dict) -> list[str]:
    settings, peers = content["settings"], content["peers"]
    rows = {
        group: [row | {"recipe": row["recipe"].removesuffix("()")} for row in found]
        for group, found in content["rows"].items()
    }
    ann = next(row for row in rows["binary"] if "accuracy" in row)["ann_accuracy"]
    lines = [
        f"ResNet-20 (16-32-64), {settings['data']}, first {settings['samples']:,} test images, ANN {100 * ann:.2f} %, "
        f"{settings['calibration_samples']:,} calibration images, seed {settings['seed']}, {torches(content['made_with'])};",
        "made by `benchmarks/methods.py`. Accuracy in % after T steps; in brackets the accuracy drop against the ANN on the same",
        "images, in percentage points with a paired 95 % interval. M: synaptic operations per sample in millions. The first images",
        "are easier than the others ([results](results.md)): compare rows with each other.",
        "",
        "### Binary spikes, streaming: total steps = T",
    ]
    times = sorted({row["timesteps"] for row in rows["binary"]})
    body = []
    for name in dict.fromkeys(row["recipe"] for row in rows["binary"]):
        of = {row["timesteps"]: row for row in rows["binary"] if row["recipe"] == name}
        cells = [percent(of[t]) if "accuracy" in of.get(t, {}) else "refused" for t in times]
        operations = of[32].get("synaptic_operations")
        body.append([f"`{name}`", *cells, f"{operations / 1e6:.0f}" if operations else ""])
    body.sort(key=lambda row: -float(row[3].split()[0]) if row[3] != "refused" else 0)
    for kind, peer in peers.items():
        cells = [f"{100 * share(peer['right'][str(t)]):.2f}" for t in times]
        body.append(
            [
                f"SpikingJelly 2.0, {kind}" + (f", read from step {peer['delay']} on" if peer["delay"] else ""),
                *cells,
                "",
            ]
        )
    lines += table(["recipe", *(f"T={t}" for t in times), "M at T=32"], body, 1)
    lines += ["SpikingJelly's rows are its own converter on the same weights and calibration images.", ""]
    lines += ["![Accuracy against total steps and synaptic operations](../benchmarks/methods.png)", ""]
    lines += ["### Against SpikingJelly's best at each T", ""]
    lines += table(
        ["T", "best of ours", "best of theirs", "difference in points, 95 %"], duel(rows["binary"], peers), 3
    )
    lines += ["### Windows, phase cycles, signed and burst spikes", ""]
    others = [
        row for group in ("layer-synchronous", "phase", "signed and burst") for row in rows[group] if "accuracy" in row
    ]
    body = [[f"`{row['recipe']}`", ", ".join(row["alphabets"]), row["schedule"], str(row["timesteps"]), str(row["total_steps"]),
             percent(row), f"{row['synaptic_operations'] / 1e6:.0f}"] for row in others]  # fmt: skip
    lines += table(["recipe", "alphabet", "schedule", "T", "total steps", "accuracy", "M"], body, 3)
    lines += many_levels(rows.get("few", []) + rows.get("differences", []))
    lines += ["### Before 2020, and thresholds by expectation", ""]
    body = [[f"`{row['recipe']}`", str(row["timesteps"]), str(row["total_steps"]), percent(row),
             f"{row['synaptic_operations'] / 1e6:.0f}"] for row in rows.get("classics", []) if "accuracy" in row]  # fmt: skip
    lines += table(["recipe", "T", "total steps", "accuracy", "M"], body, 1)
    lines += ["### Contribution of each part of `few-steps`", ""]
    few = sorted({row["timesteps"] for row in rows["ablation"]})
    body = []
    for name in dict.fromkeys(row["recipe"] for row in rows["ablation"]):
        of = {row["timesteps"]: row for row in rows["ablation"] if row["recipe"] == name}
        body.append([f"`{name}`", *(percent(of[t]) for t in few)])
    lines += table(["recipe", *(f"T={t}" for t in few)], body, 1)
    lines += ["### Rueckauer, longer", ""]
    body = [[str(row["timesteps"]), percent(row), f"{row['synaptic_operations'] / 1e6:.0f}"] for row in rows["long"]]
    return lines + table(["T", "accuracy", "M"], body, 1)


def many_levels(rows: list[dict]) -> list[str]:
    """Several levels per step: accuracy drop at 8 and 4 total steps."""
    lines = [
        "### Several levels per step, signed spikes: few steps", "",
        "Levels are those of one step; T steps represent T times as many. Compare with binary spikes at equal numbers of levels.",
    ]  # fmt: skip
    body = [[f"`{row['recipe']}`", ", ".join(row["alphabets"]), str(row["timesteps"]), str(row["total_steps"]), percent(row),
             f"{row['synaptic_operations'] / 1e6:.0f}"] for row in rows if "accuracy" in row]  # fmt: skip
    lines += table(["recipe", "alphabet", "T", "total steps", "accuracy", "M"], body, 2)
    for steps, bound in ((8, 1.0), (4, 2.0)):
        names = [row["recipe"] for row in rows if row.get("total_steps") == steps and 100 * row.get("drop", 1) <= bound]
        lines.append(
            f"Within {bound:g} point{'s' if bound > 1 else ''} at {steps} total steps: {listed(names) if names else 'none'}."
        )
    return [*lines, ""]


def learned(content: dict) -> list[str]:
    """Recipes for trained networks, by total steps."""
    settings, rows = content["settings"], content["rows"]
    lines = [
        "### Networks trained to be converted", "",
        f"ResNet-20 of quantised clips (L = {settings['levels']}), trained by `reproductions/trained`; first {settings['samples']:,} test",
        f"images, or {settings['held_samples']:,} (*) for windows that are simulated step by step; made by `benchmarks/learned.py`.",
    ]  # fmt: skip
    body = []
    for label, row in rows.items():
        lost, low, high = (f"{row[key]:.2f}".replace("-", "−") for key in ("lost", "low", "high"))
        wrong = f"{row['levels_that_differ']:,} of {row['levels']:,}" if "levels" in row else ""
        star = "" if row["samples"] == settings["samples"] else " *"
        body.append([f"`{label.removesuffix('()')}`{star}", str(row["timesteps"]), str(row["total_steps"]), ", ".join(row["alphabets"]),
                     f"{100 * row['accuracy']:.2f} ({lost} [{low}, {high}])", f"{row['synaptic_operations'] / 1e6:.0f}", wrong])  # fmt: skip
    head = ["recipe", "T", "total steps", "alphabet", "accuracy", "M", "levels that differ from the source"]
    return lines + table(head, body, 1) + order(rows)


def order(rows: dict[str, dict]) -> list[str]:
    """Where the ranking differs from the literature, and the rows that explain it."""

    def of(name: str, total: int) -> str:
        found = [
            r
            for r in rows.values()
            if (r["recipe"], r["total_steps"]) == (name, total) and r["alphabets"] != ["graded"]
        ]
        return f"{100 * found[0]['accuracy']:.2f}" if found else "not measured"

    return [
        "#### Differences from the ranking in the literature", "",
        "- **SRP is not above signed neurons.** Tables that omit the pre-simulation list SRP at 4 steps above signed spikes at 4 (VGG-16,",
        f"  95.43 against 94.54 in reruns by others). With the pre-simulation counted, 4 + 4 steps give {of('srp', 8)}; signed neurons (`fast-snn`) give {of('fast-snn', 4)} at 4",
        f"  and {of('fast-snn', 8)} at 8. In detail: the 4 steps that are read give {of('qcfs', 4)} without a gate, all 8 read as one run {of('qcfs', 8)}.",
        f"  The gate causes the difference, and its errors remain: at 12 steps the accuracy is {of('srp', 12)}.",
        "- **COS is not above QCFS at its own latency.** Its tables count T, or ρ + T; each layer needs a pre-simulation before it sends, so that n",
        f"  layers cost n ρ. At ρ = T = 4 that is 80 steps, {of('cos', 80)} (* images), and those are the steps of plain windows of 4, which are the",
        f"  quantised network itself ({of('qcfs', 80)}). Windows with 2 wait steps give {of('qcfs', 42)} (*) in 42.",
        "- **Group neurons at T = 1 are the quantised network**: m = L members send in one step what binary neurons send in L",
        f"  ({of('group-neuron', 1)}). Compared at equal levels, T m, they are no faster.", "",
    ]  # fmt: skip


def share(outcomes: str) -> float:
    return outcomes.count("1") / len(outcomes)


def right(outcomes: str) -> Tensor:
    return torch.tensor([o == "1" for o in outcomes])


def duel(rows: list[dict], peers: dict) -> list[list[str]]:
    body = []
    for t in sorted({row["timesteps"] for row in rows}):
        ours = max((r for r in rows if r["timesteps"] == t and "right" in r), key=lambda r: r["accuracy"])
        kind = max(peers, key=lambda k: share(peers[k]["right"][str(t)]))
        theirs = peers[kind]["right"][str(t)]
        points, low, high = (100 * x for x in paired_difference(right(ours["right"]), right(theirs)))
        body.append([str(t), f"`{ours['recipe']}` {100 * ours['accuracy']:.2f}", f"{kind} {100 * share(theirs):.2f}",
                     f"{points:+.2f} [{low:+.2f}, {high:+.2f}]"])  # fmt: skip
    return body


def torches(made_with: dict[str, dict]) -> str:
    """Which PyTorch the groups of rows were measured with."""
    groups: dict[str, list[str]] = {}
    for group, versions in made_with.items():
        groups.setdefault(versions["torch"], []).append(group)
    first, *others = sorted(groups, key=lambda version: -len(groups[version]))
    return f"torch {first}" + "".join(f" ({version}: {', '.join(groups[version])})" for version in others)


def listed(names: list[str]) -> str:
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def page() -> str:
    # an exact mapping has continuous time: windows, but no number of time steps
    made = [recipe() if recipe is ExactMapping else recipe(timesteps=TIMESTEPS) for recipe in ts.recipes.members]
    settings = {r.name: {f.name for f in dataclasses.fields(r)} for r in made}  # type: ignore[arg-type]
    whole = [name for name, has in settings.items() if "weight_bits" not in has]
    logarithmic = [name for name, has in settings.items() if "weight_scale" in has]
    lines = [
        "# Methods", "",
        "Every recipe of `transpike.recipes` with its default settings. Made by `benchmarks/methods_page.py`, which reads the",
        "properties from the recipes and from small networks that they convert, and the numbers from `benchmarks/methods.json`.",
        "The docstring of a recipe states differences from its paper. `bsnn` is **reconstructed**: the full paper was not",
        "available and there is no public code. `yoso` is reconstructed, too: its optimisation of thresholds is unpublished",
        "and replaced by ours. For `cat`, only the abstract was available: base and slots of its φ are **unverified**.", "", "## Properties", "",
        "n is the number of neuron layers on the longest path, K the steps of a phase cycle. For first spikes T is the",
        "number of slots in a window; `exact-mapping` has continuous time and no T.",
    ]  # fmt: skip
    head = ["recipe", "source", "needs training", "calibration on", "threshold", "corrections", "neuron", "alphabet",
            "maximum pooling", "residual sums", "schedule: total steps", "readout"]  # fmt: skip
    lines += table(head, [[f"`{r.name}`", source_of(type(r)), *properties(r)] for r in made])
    lines += [
        "Pooling, residual sums, granularity, weight bits, encoder, schedule and readout are settings of rate-coded recipes",
        "(`transpike convert --help`). A setting that a method prescribes cannot be changed and is refused with the reason (the",
        "layers of `adafire` and `datta-beerel`, the differences of `dcgs`, the windows of `cos`, `pascal` and `tsc`, the streaming",
        "of `srp`). Every recipe accepts weights of 2 to 16 bits (`--weight-bits`), except for",
        f"{listed(whole)}; weights of {listed(logarithmic)} are",
        "logarithmic, of 3 to 12 bits, unless `--weight-scale uniform` is given.", "",
        "## Ingredients", "", "; ".join(f"**{name}**: {text}" for name, text in INGREDIENTS.items()) + ".",
        "● by default, ○ as a setting. The columns are those of Wu et al. 2021, as we interpret them. WN, TB and ECC are the",
        "same network at different scales, with the same spikes ([decision 2](adr/0002-lowered-form-scaled-to-one.md)).",
        "The first-spike neurons are not reset; where no scale is marked, thresholds are not scaled.",
    ]  # fmt: skip
    lines += table(["recipe", *INGREDIENTS], [[f"`{r.name}`", *ingredients(r).values()] for r in made])
    lines += [
        "## Left out",
        "",
        "Methods that the reference does not define well enough to be checked, or that are out of scope:",
        "",
    ]
    lines += [f"- **{name}**: {why}" for name, why in LEFT_OUT.items()]
    lines += [""]
    if CONTENT.exists():
        content = json.loads(CONTENT.read_text())
        lines += ["## Measured", "", *measured(content)]
        if LEARNED.exists():
            lines += ["", *learned(json.loads(LEARNED.read_text()))]
        run = {row["recipe"].split("(")[0] for rows in content["rows"].values() for row in rows if "accuracy" in row}
        if LEARNED.exists():
            run |= {row["recipe"] for row in json.loads(LEARNED.read_text())["rows"].values()}
        lines += ["", f"In none of these tables: {listed([r.name for r in made if r.name not in run])}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
