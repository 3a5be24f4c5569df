"""The page that helps to choose a recipe, from the measurements of benchmarks/."""

from sitepages import measurements
from sitepages.measurements import COMPARED, TRAINED, Row, table
from sitepages.staging import Site

KINDS = {
    "one binary spike or none": lambda row: row.binary,
    "binary, also negative": lambda row: set(row.alphabets) <= {"binary", "ternary"},
    "several levels per step": lambda row: True,
}
"""What the target can send → whether a row needs no more."""
STEPS = (4, 8, 16, 32, 64)
ROOM = 1.0


def add(site: Site) -> str:
    site.add("choose.md", page())
    return "choose.md"


def page() -> str:
    rows = measurements.rows()
    free = [row for row in rows if row.network == COMPARED and row.training_free and not row.is_part]
    trained = [row for row in rows if row.network == TRAINED]
    return f"""# Choose a recipe

Three questions decide: may the network be trained again, which spikes can the target send, and how many time steps may an answer
take? The tables below are made from stored measurements (`benchmarks/methods.json`, `benchmarks/learned.json`). They are about one
network, a ResNet-20 on CIFAR-10; on yours [`transpike compare`](commands/compare.md) makes the same table in minutes, and its
`--pick` selects the row.

## In short

{_short(free, trained)}

## The network is trained already

No weight is trained again; calibration takes some hundred training images. Each cell is the most accurate training-free recipe
whose answer is ready within this number of total steps: accuracy in %, and the change against the source network in percentage
points. A recipe that needs fewer steps than the column allows may win it.

{_grid(free)}

{_samples(free)}

Total steps count everything until the answer is ready: windows of each layer, delays, pre-simulation. In one
step, several levels per spike are a quantised ANN in all but name.

## The network may be trained for the conversion

Training with quantised activations ([how](training.md)) lets few binary spikes represent the network. Total steps differ widely
between recipes with the same T:

{_grid(trained)}

{_samples(trained)}

## Special cases

| you have | start with | read |
|---|---|---|
| GELU, SiLU, layer norms, attention, products of branches | `sigma-delta`, or `burst-digits` for one step | [any activation](any-activation.md), [transformers](transformers.md) |
| recordings of an event camera | `ecc` with `--schedule layer-synchronous`, or signed neurons | [inputs](inputs.md) |
| a detector or a segmentation network | `sigma-delta`; a hybrid network keeps its head analogue | [detector](detector.md), [segmentation](segmentation.md), [hybrid networks](hybrid.md) |
| one spike per neuron, latency of windows allowed | `cat` (trained for it), `yoso` (training-free) | [first spikes](first-spikes.md) |
| a chip with limits | `transpike inspect FILE --fit CHIP` before you choose | [export](export.md) |
| very few binary spikes, minutes of computation allowed | `few-steps` with `reconstruct="network"` | [few steps](few-steps.md) |

All recipes with their properties and settings: [methods](methods.md).
"""


def best(rows: list[Row], steps: int, kind: str) -> Row | None:
    """The most accurate row within ``steps`` whose spikes the target can send; of equal ones the cheapest."""
    found = [row for row in rows if row.total_steps <= steps and KINDS[kind](row)]
    return max(found, key=lambda row: (row.accuracy, -row.operations), default=None)


def _cell(row: Row | None) -> str:
    if row is None:
        return "not measured"
    accuracy, change, _ = row.cells()
    return f"{_link(row)} {accuracy} ({change.partition(' ')[0]})"


def _link(row: Row) -> str:
    return f"[`{row.recipe}`](methods/{row.name}.md)"


def _grid(rows: list[Row]) -> str:
    body = [[kind, *(_cell(best(rows, steps, kind)) for steps in STEPS)] for kind in KINDS]
    return table(["a neuron sends", *(f"≤ {steps} total steps" for steps in STEPS)], body)


def _samples(rows: list[Row]) -> str:
    counts = sorted({row.samples for row in rows})
    return f"The first {' or '.join(f'{n:,}' for n in counts)} test images; rows that differ by less than a point may be equal."


def _short(free: list[Row], trained: list[Row]) -> str:
    """The least steps at which something is within ``ROOM`` points, for each kind of spikes."""
    lines = []
    for training, rows in (("no training", free), ("trained for the conversion", trained)):
        for kind in KINDS:
            near = [row for row in rows if KINDS[kind](row) and row.drop <= ROOM]
            if near:
                row = min(near, key=lambda row: (row.total_steps, row.drop))
                lines.append(
                    f"- **{kind.capitalize()}, {training}**: {_link(row)} is within {ROOM:g} point of the source network at "
                    f"{row.total_steps} total step{'s' * (row.total_steps != 1)}."
                )
    lines.append(
        "- **Unsure?** Start with `few-steps` at T = 16 and look at the report; it needs neither training nor settings."
    )
    return "\n".join(lines)
