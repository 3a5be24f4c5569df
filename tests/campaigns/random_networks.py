"""Random networks, random recipes: every engine must fire the spikes of the reference, however it is asked.

``python tests/campaigns/random_networks.py --count 1000 --log FOLDER/networks.jsonl``, or ``make networks``. Every seed
is one line of the log; a run that was stopped goes on where its log ends. Ends with 1 if a seed failed.

For each seed a network (``drawn.py``) and one of all recipes, with random settings. Compared bit for bit with the
reference: dense, event, auto and, where it applies, sorted; 2 to 4 threads; a sample alone; memory limits; a run in two
parts from which samples leave; float64, float16, channels last, uneven strides; after saving and loading. Refused
with a DataError: NaN, infinity, values beyond float32, no samples.
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # more threads than processors must not wait in loops

import torch
from drawn import Drawn, drawn
from torch import Tensor, nn

import transpike as ts
from transpike.core.cell import Cell
from transpike.core.graph import Graph
from transpike.core.recipe import Recipe
from transpike.encoders import DeterministicCounts, Poisson
from transpike.engines import event_status
from transpike.errors import DataError, SettingError, TranspikeError
from transpike.lowering.trace import Trace
from transpike.readouts import SpikeCount
from transpike.schedules import LayerSynchronous
from transpike.workflow.capture import capture

SOURCES: tuple[Callable[[], nn.Module] | None, ...] = (
    None,
    lambda: ts.activations.QuantisedClip(levels=8),
    lambda: ts.activations.ClampQuantise(),
    lambda: ts.activations.SlipReLU(levels=8),
)
"""Activations to convert with; a recipe gets the first that it takes."""
SETTINGS: dict[str, tuple[Any, ...]] = {
    "granularity": ("layer", "channel", "neuron"),
    "pooling": ("lateral-inhibition", "before-neuron", "gated"),
    "reset": ("soft", "hard"),
    "weight_bits": (None, 4, 8),
    "average_pooling": ("linear", "spiking"),
    "residual": ("currents", "shared"),
    "encoder": (DeterministicCounts(), Poisson(seed=5)),
    "schedule": (LayerSynchronous(), LayerSynchronous(3)),
    "readout": (SpikeCount(),),
}
STEPS = (1, 31, 32, 33, 64)
LONG, LONG_ELEMENTS = 4096, 1500
"""One network in forty runs for 4096 steps if its wires have at most this many elements."""


class FailedError(Exception):
    """A law does not hold; the message says which."""


def require(law: str, holds: bool) -> None:
    if not holds:
        raise FailedError(law)


def recipes(seed: int) -> Iterator[Recipe]:
    """Recipes in a random order with random settings, each followed by its plain form; ECC last."""
    pick = random.Random(f"recipe {seed}")
    kinds = list(ts.recipes.members)
    pick.shuffle(kinds)
    steps = LONG if pick.random() < 0.025 else pick.choice(STEPS)
    for kind in [*kinds[:4], ts.recipes.ECC]:
        names = {field.name for field in dataclasses.fields(kind)}
        chosen = {name: pick.choice(values) for name, values in SETTINGS.items() if name in names}
        chosen = {name: value for name, value in chosen.items() if pick.random() < 0.25}
        for settings in ({"timesteps": steps, **chosen}, {"timesteps": steps}, {}):
            try:
                yield kind(**settings)
                break
            except SettingError:  # a combination that the recipe does not have
                continue


def converted(seed: int, case: Drawn, refused: list[str]) -> ts.SNN:
    """The network, converted with the first recipe that takes it; ``refused`` collects the recipes that do not."""
    graphs: dict[int, Graph | TranspikeError] = {}

    def graph(source: int) -> Graph:
        if source not in graphs:
            made = SOURCES[source]
            try:
                model = case.model
                if made is not None:
                    model = ts.prepare(model, made(), calibration=case.calibration).eval()
                graphs[source] = capture(model, case.calibration)
            except TranspikeError as error:
                graphs[source] = error
        found = graphs[source]
        if isinstance(found, TranspikeError):
            raise found
        return found

    for recipe in recipes(seed):
        if recipe.timesteps == LONG and sum(math.prod(node.shape) for node in graph(0)) > LONG_ELEMENTS:
            recipe = dataclasses.replace(recipe, timesteps=64)  # type: ignore[type-var]
        for source in range(1 if recipe.training_free else len(SOURCES)):
            try:
                return ts.convert(graph(source), recipe, case.calibration)
            except TranspikeError as error:
                reason = f"{recipe.name}: {type(error).__name__}: {str(error)[:160]}"
        refused.append(reason)
    raise SettingError("no recipe takes this network")


def same_train(a: Tensor, b: Tensor) -> bool:
    """The same levels in every step; in sum where an engine has worked out a whole window at once."""
    a, b = a.double(), b.double()
    return torch.equal(a, b) if len(a) == len(b) else torch.equal(a.sum(0), b.sum(0))


def equal(what: str, trace: Trace, expected: Trace) -> None:
    """Trains, logits, the word exact and all counts of two runs, bit for bit."""
    require(f"{what}: exact is {trace.exact}, not {expected.exact}", trace.exact == expected.exact)
    for name in expected.trains:
        require(f"{what}: spikes of {name} differ", same_train(trace.trains[name], expected.trains[name]))
    require(f"{what}: logits differ", torch.equal(trace.logits.double(), expected.logits.double()))
    require(f"{what}: times differ", trace.timesteps == expected.timesteps)
    require(f"{what}: multiplications differ", trace.activity.macs == expected.activity.macs)
    for one, other in zip(trace.activity.layers, expected.activity.layers, strict=True):
        for name in ("name", "neurons", "updates", "synapses", "biases", "resets"):
            require(f"{what}: {name} of {one.name} differ", getattr(one, name) == getattr(other, name))
        for name in ("spikes", "synaptic_operations"):
            a, b = getattr(one, name).double().sum(), getattr(other, name).double().sum()
            require(f"{what}: {name} of {one.name}: {float(a)} and {float(b)}", bool(a == b))


class Campaign:
    """One seed: its network, its inputs, its reference run."""

    def __init__(self, seed: int) -> None:
        self.seed, self.pick = seed, random.Random(f"run {seed}")
        self.case, self.refused = drawn(seed), list[str]()
        self.row: dict[str, Any] = {"seed": seed, "network": self.case.text}

    def run(self, x: Tensor | None = None, engine: str = "event", **settings: Any) -> Trace:
        return ts.simulate(self.snn, self.x if x is None else x, engine=engine, sample_ids=self.ids, **settings)

    def check(self) -> dict[str, Any]:
        """The line of the log. Raises FailedError for a law that does not hold."""
        try:
            self.snn = converted(self.seed, self.case, self.refused)
        except TranspikeError as error:
            return {**self.row, "end": "refused", "why": f"{type(error).__name__}: {error}"[:300]}
        self.row |= {"recipe": str(self.snn.recipe), "T": self.snn.timesteps}
        self.x = self.case.x[: 1 if self.snn.timesteps == LONG else self.pick.choice([1, 2, 3, 7])]
        self.ids = torch.arange(len(self.x)) + self.pick.choice([0, 1000])
        self.cells = [node.name for node in self.snn.program.lowered.nodes if isinstance(node.op, Cell)]
        self.reference = self.run(engine="reference", record=self.cells)
        self.row |= {
            "batch": len(self.x),
            "exact": self.reference.exact,
            "mode": self.snn.schedule.mode,
            "rate": round(
                sum(float(t.double().abs().mean()) for t in self.reference.trains.values()) / max(1, len(self.cells)), 3
            ),
        }
        require("logits are finite", bool(torch.isfinite(self.reference.logits).all()))
        self.engines()
        if self.snn.timesteps != LONG:
            self.variants()
            self.inputs()
        self.refusals()
        return {**self.row, "end": "equal"}

    def engines(self) -> None:
        """Bit for bit on the grid; off it only where ties are reported. ``self.event`` is what the variants must give."""
        names = ["dense", "auto"] + (["event"] if event_status()[0] is not None else [])
        for name in names:
            trace = self.run(engine=name, record=self.cells)
            if self.reference.exact:
                equal(name, trace, self.reference)
            else:
                require(f"{name}: exact, the reference is not", not trace.exact and bool(trace.why))
                alphabets = self.snn.program.lowered.alphabets  # a cell of currents rounds real numbers
                spiking = [c for c in self.cells if alphabets[c].is_spiking]
                same = all(same_train(trace.trains[c], self.reference.trains[c]) for c in spiking)
                unknown = self.real or self.snn.timesteps > 64  # roundings of float32 add up in long runs
                require(f"{name}: off the grid other spikes without a tie", same or trace.ties > 0 or unknown)
                self.row |= {} if same else {f"{name} differs by ties": trace.ties}
        self.event = self.run(engine=names[-1], record=self.cells)
        self.engine = names[-1]
        self.row["kernels"] = sorted(
            {k.partition(":")[0] + k.partition(":")[2][:40] for k in self.event.kernels.values()}
        )
        if self.snn.schedule.mode == "slots":
            try:
                trace = self.run(engine="sorted")
            except SettingError as error:
                self.row["sorted"] = str(error)[:60]
            else:
                close = torch.allclose(trace.logits.double(), self.reference.logits.double(), atol=1e-4, rtol=1e-4)
                require("sorted: logits differ", close)

    @property
    def real(self) -> bool:
        """True where neurons send real numbers, which no engine rounds alike."""
        return any(isinstance(n.op, Cell) and n.op.sends_reals for n in self.snn.program.lowered.nodes)

    def variants(self) -> None:
        """Threads, memory, a sample alone, a run in parts, a file."""
        exact, threads = self.reference.exact, torch.get_num_threads()
        count, engine = self.pick.choice([2, 3, 4]), self.pick.choice([self.engine, self.engine, "dense"])
        try:
            torch.set_num_threads(count)
            trace = self.run(engine=engine, record=self.cells)
        finally:
            torch.set_num_threads(threads)
        if not exact:
            return
        equal(f"{engine}: {count} threads", trace, self.event)
        engine = self.pick.choice([self.engine, "dense"])
        equal(f"{engine}: memory of 1 byte", self.run(engine=engine, memory=1, record=self.cells), self.event)
        some = self.pick.choice([2**12, 2**16, 2**20])
        equal(f"memory of {some} bytes", self.run(engine="auto", memory=some, record=self.cells), self.event)
        alone = ts.simulate(self.snn, self.x[-1:], engine=self.engine, sample_ids=self.ids[-1:])
        require("a sample alone: logits differ", torch.equal(alone.logits[:, 0], self.event.logits[:, -1]))
        if self.snn.schedule.mode == "steps" and self.snn.timesteps > 1:
            self.in_parts()
        if self.seed % 4 == 0:
            with tempfile.TemporaryDirectory() as folder:
                loaded = ts.load(ts.save(self.snn, Path(folder) / "net.transpike"))
            trace = ts.simulate(loaded, self.x, engine=self.engine, sample_ids=self.ids, record=self.cells)
            equal("after saving and loading", trace, self.event)

    def in_parts(self) -> None:
        """Samples leave in the middle; the others go on as if nothing had happened."""
        x, steps = self.snn.prepare(self.x), self.snn.timesteps
        first = self.pick.randint(1, steps - 1)
        mask = torch.tensor([self.pick.random() < 0.5 for _ in x])
        mask[self.pick.randrange(len(x))] = True
        for name in {self.engine, "dense", "reference"}:
            with torch.no_grad():
                run = ts.engines.table[name]().start(self.snn.program, x, self.ids)
                before = run.advance(first)
                left = run.keep(mask)
                after = run.advance(steps - first)
            whole = self.event.logits.double()
            count = len(before)
            require(f"{name} in parts: the first logits differ", torch.equal(before.double(), whole[:count]))
            require(f"{name} in parts: the last logits differ", torch.equal(after.double(), whole[count:][:, left]))

    def inputs(self) -> None:
        """The same numbers in another form are the same input."""
        x, expected = self.x, self.event if self.reference.exact else None
        forms = {
            "float64": x.double(),
            "needs a gradient": x.clone().requires_grad_(),
            "strides": x.transpose(0, -1).contiguous().transpose(0, -1),
            "every second of a larger tensor": torch.stack([x, -x], -1)[..., 0],
        }
        if x.ndim == 4:
            forms["channels last"] = x.contiguous(memory_format=torch.channels_last)
        half = x.to(self.pick.choice([torch.float16, torch.bfloat16]))
        pairs = [(name, form, x) for name, form in forms.items()] + [(str(half.dtype), half, half.float())]
        for name, form, plain in pairs:
            trace = self.run(form, engine=self.engine, record=self.cells)
            if expected is not None:
                equal(name, trace, expected if plain is x else self.run(plain, engine=self.engine, record=self.cells))

    def refusals(self) -> None:
        """Neither NaN nor infinity goes in, nor a batch of nothing or of another shape."""
        spot = self.pick.randrange(self.x.numel())
        wrong = [self.x[:0], self.x[:, :0], self.x[0]]
        for dtype, value in ((torch.float32, float("nan")), (torch.float16, -float("inf")), (torch.float64, 1e200)):
            bad = self.x.to(dtype).clone()
            bad.view(-1)[spot] = value
            wrong.append(bad)
        for bad in wrong:
            for engine in (self.engine, "dense"):
                try:
                    ts.simulate(self.snn, bad, engine=engine)
                except DataError:
                    continue
                raise FailedError(f"{tuple(bad.shape)} of {bad.dtype} is not refused")


def tried(seed: int) -> dict[str, Any]:
    """The line of the log for one seed, whatever happens."""
    campaign = Campaign(seed)
    start = time.perf_counter()
    try:
        row = campaign.check()
    except Exception as error:
        how = "failed" if isinstance(error, FailedError) else "crashed"
        row = {**campaign.row, "end": how, "why": str(error) if how == "failed" else traceback.format_exc()[-1500:]}
    return {**row, "refused": campaign.refused, "seconds": round(time.perf_counter() - start, 2)}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=1000, help="number of seeds")
    parser.add_argument("--log", type=Path, default=Path("build/networks.jsonl"), help="one JSON line per seed")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given.log.parent.mkdir(parents=True, exist_ok=True)
    rows = {}
    if given.log.exists():
        for line in given.log.read_text().splitlines():
            row = json.loads(line)
            rows[row["seed"]] = row
    with given.log.open("a") as log:
        for seed in range(given.start, given.start + given.count):
            if rows.get(seed, {}).get("end") not in ("equal", "refused"):  # what failed is tried again
                rows[seed] = tried(seed)
                log.write(json.dumps(rows[seed]) + "\n")
                log.flush()
                os.fsync(log.fileno())
            if rows[seed]["end"] in ("failed", "crashed"):
                print(json.dumps(rows[seed], indent=1), flush=True)
            if (seed - given.start) % 50 == 49:
                print(f"{seed - given.start + 1} of {given.count}", flush=True)
    ends = collections.Counter(row["end"] for row in rows.values())
    exact = sum(bool(row.get("exact")) for row in rows.values())
    used = collections.Counter(row["recipe"].partition("(")[0] for row in rows.values() if "recipe" in row)
    print(f"{dict(ends)}; {exact} on the exact grid; {len(used)} recipes: {dict(used)}")
    return int(bool(ends["failed"] or ends["crashed"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
