"""Results of units: the file of each in the store, and its rows."""

import base64
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike.core.task import Metric
from transpike.errors import FileError, TranspikeError
from transpike.workflow.compare.inputs import sha256
from transpike.workflow.compare.rows import MeasuredRow, Refusal, Row, Scored, check_rows
from transpike.workflow.compare.store import Entry, Store, store_at
from transpike.workflow.compare.units import Unit, Work
from transpike.workflow.evaluate.measurement import Estimate


def file_name(work: Work, unit: Unit) -> str:
    """The name of the file of this unit, by everything that its results depend on."""
    return f"{unit.recipe.name}-{sha256(_text(work.key(unit)).encode())[:24]}.json"


def checkpoint_of(work: Work, unit: Unit) -> Entry | None:
    """The file in the store from which this unit continues; None without a store, and where nothing is kept."""
    if not work.store or not unit.kept:
        return None
    return Entry(store_at(work.store), file_name(work, unit).removesuffix(".json") + ".checkpoint.safetensors")


def keep(store: Store, work: Work, unit: Unit, content: dict[str, Any]) -> None:
    """Write the results of a unit, whole or not at all; those of another writer are the same."""
    body = {"key": work.key(unit), **content}
    text = json.dumps({"sha256": sha256(_text(body).encode()), **body}, indent=1)
    store.write(file_name(work, unit), text.encode())


def kept(store: Store, work: Work, unit: Unit) -> dict[str, Any] | None:
    """Results of an earlier run; None where there are none, FileError where the file is damaged."""
    name = file_name(work, unit)
    data = store.read(name)
    if data is None:
        return None
    try:
        content = json.loads(data)
        checksum = content.pop("sha256")
        if checksum != sha256(_text(content).encode()):
            raise FileError("its checksum does not match")
        check_rows(rows("", unit, content), unit.answers)
    except Exception as error:  # the content may be of any form
        text = str(error) if isinstance(error, TranspikeError) else type(error).__name__
        raise FileError(f"{name} is damaged ({text[:200]})") from error
    return content


def rows(recipe: str, unit: Unit, content: dict[str, Any]) -> list[Scored | Refusal]:
    """Results of a unit, as rows; ``failed`` is an error that may not recur, ``refused`` one that does."""
    for word in ("refused", "failed"):
        if word in content:
            reason, failed = content[word], word == "failed"
            return [Refusal(recipe, t, unit.recipe, reason, failed, series=recipe) for t in unit.answers]
    samples, common = content["samples"], content["common"]
    common = common | {"alphabets": tuple(common["alphabets"]), "remarks": tuple(common["remarks"])}
    shared = {"made_by": unit.recipe, "seconds": content["seconds"], "series": recipe}
    if "measured" in common:
        common |= {"measured": tuple(Metric(**one) for one in common["measured"]), "ann": _estimates(common["ann"])}
        return [MeasuredRow(recipe, **shared, **common, **_cell(cell, samples)) for cell in content["cells"]]
    return [
        Row(
            f"{recipe} + {cell['exit']}" if cell.get("exit") else recipe,
            **shared,
            **common,
            **(cell | {"outcomes": _unpacked(cell["outcomes"], samples)}),
        )
        for cell in content["cells"]
    ]


def _cell(cell: dict[str, Any], samples: int) -> dict[str, Any]:
    """The fields of a row with metrics."""
    shape, data = cell["statistics"]["shape"], base64.b64decode(cell["statistics"]["data"])
    statistics = torch.from_numpy(np.frombuffer(data).reshape(shape).copy())
    if len(statistics) != samples:
        raise FileError(f"{samples} samples have no statistics of {len(statistics)}")
    estimates = {name: _estimates(cell[name]) for name in ("metrics", "changes")}
    return cell | estimates | {"worse": Estimate(**cell["worse"]), "statistics": statistics}


def _estimates(found: dict[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**one) for name, one in found.items()}


def packed(outcomes: Tensor) -> str:
    """Eight samples per byte, the first in the highest bit, in base64."""
    return base64.b64encode(np.packbits(outcomes.numpy()).tobytes()).decode()


def _unpacked(text: str, samples: int) -> Tensor:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    if len(packed) != -(-samples // 8):
        raise FileError(f"{samples} samples have no outcomes of {len(packed)} bytes")
    bits = np.unpackbits(packed, count=samples)
    return torch.from_numpy(bits.astype(bool))


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
