"""A decoder of characters as a spiking network: perplexity over time steps, and what a generated character costs.

    python benchmarks/characters.py [--train]

The text are the help topics of Python itself (``pydoc_data.topics``, PSF licence): the first nine tenths for training and
calibration, the rest for the test. Without ``--train`` the weights are those of tests/weights/nanogpt.safetensors, which
``--train`` writes (seed 0, on one thread). Writes benchmarks/characters.json and the table in docs/decoders.md.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

import transpike as ts
from transpike.models.nanogpt import CONTEXT, VOCABULARY
from transpike.recipes import BurstDigits, StreamingSigmaDelta
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "tests/weights/nanogpt.safetensors"
PAGE = HERE.parent / "docs/decoders.md"
BEGIN, END = "<!-- characters -->\n", "\n<!-- end of characters -->"
STEPS, BATCH, RATE = 1500, 32, 3e-3
SEEDS, CALIBRATION, TESTS, LONGEST = (0, 1, 2), 64, 128, 8
PROMPTS, PROMPT, NEW = 8, 16, 32


def text() -> Tensor:
    """The numbers of the characters: 0 for a line feed, then the printable ones of ASCII in their order."""
    whole = "\n".join(topics[name] for name in sorted(topics))
    return torch.tensor([0 if c == "\n" else ord(c) - 31 for c in whole if c == "\n" or " " <= c <= "~"])


def passages(of: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random pieces (count, context), and the character that follows each of theirs."""
    starts = torch.randint(0, len(of) - CONTEXT - 1, (count,), generator=torch.Generator().manual_seed(seed))
    places = starts[:, None] + torch.arange(CONTEXT + 1)
    return of[places[:, :-1]], of[places[:, 1:]]


def train(model: nn.Module, of: Tensor) -> None:
    """Adam with a rate that rises for 100 steps and then falls as a cosine."""
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.07)
    start, loss = time.process_time(), torch.zeros(())
    for step in range(STEPS):
        x, y = passages(of, BATCH, step + 1000)
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}, {time.process_time() - start:.0f} s", flush=True)


def network(of: Tensor, trains: bool) -> nn.Module:
    torch.manual_seed(0)
    model, _ = ts.models.build("zoo:nanogpt")
    if trains:
        train(model.train(), of)
        kept = {name: value.half() for name, value in model.state_dict().items() if name != "head.weight"}
        write_atomically(WEIGHTS, save(kept))
    stored = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    model.load_state_dict({**stored, "head.weight": stored["tokens.weight"]})
    return model.eval()


def measured(model: nn.Module, recipe: ts.recipes.Recipe, train_text: Tensor, test: tuple[Tensor, Tensor]) -> dict:
    """Perplexities of every T for every draw of calibration texts, and the counts of the first."""
    found: dict[str, object] = {"recipe": str(recipe)}
    curves, operations = [], []
    for seed in SEEDS:
        snn = ts.convert(model, recipe, passages(train_text, CALIBRATION, seed)[0])
        report = ts.evaluate(snn, ((test[0],), test[1]), task=ts.tasks.Sequence())
        curves.append([answer.metrics["perplexity"].value for answer in report.curve])
        operations.append([answer.synaptic_operations / CONTEXT for answer in report.curve])
        if seed == SEEDS[0]:
            found["ann"] = report.ann["perplexity"].value
            shares = [row.active_positions for row in report.layers if row.active_positions]
            found["active"] = [sum(share[t] for share in shares) / len(shares) for t in range(report.timesteps)]
            found["macs"] = report.ann_macs / CONTEXT
        print(recipe, seed, [round(p, 3) for p in curves[-1]], flush=True)
    found["perplexity"] = [list(now) for now in zip(*curves, strict=True)]
    found["operations"] = operations[0]
    return found


def generated(model: nn.Module, recipe: ts.recipes.Recipe, train_text: Tensor, prompts: Tensor) -> dict:
    """Additions of a new character, the mean over prompts and characters after the first."""
    made = ts.generate(ts.convert(model, recipe, passages(train_text, CALIBRATION, 0)[0]), prompts, NEW)
    print(made, flush=True)
    ids = prompts
    for _ in range(NEW):  # what the source network writes
        padded = nn.functional.pad(ids, (0, CONTEXT - ids.shape[1]))
        ids = torch.cat([ids, model(padded)[:, ids.shape[1] - 1].argmax(-1, keepdim=True)], 1)
    same = (ids[:, PROMPT:] == made.ids[:, PROMPT:]).long().cumprod(1).sum(1).float()
    names = ("operations", "product_operations", "repeated", "macs", "macs_recomputed")
    return {
        "recipe": str(recipe), **{name: float(getattr(made, name)[1:].mean()) for name in names},
        "characters_as_ann": float(same.mean()),
    }  # fmt: skip


def page(rows: list[dict], costs: list[dict]) -> str:
    lines = ["| recipe | T | perplexity | of the source network | additions / multiplication | active tokens |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        for t, (now, spent, active) in enumerate(zip(row["perplexity"], row["operations"], row["active"], strict=True)):
            if t + 1 in (1, 2, 3, 4, 6, 8):
                mean = sum(now) / len(now)
                lines.append(
                    f"| {row['recipe']} | {t + 1} | {mean:.3f} ({min(now):.3f} to {max(now):.3f}) | "
                    f"{100 * (mean / row['ann'] - 1):+.2f} % | {spent / row['macs']:.2f} | {100 * active:.0f} % |"
                )
    lines += ["", "| generated with | additions per character | of states | of earlier positions | multiplications with a cache | without | equal characters |"]  # fmt: skip
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {row['recipe']} | {row['operations']:,.0f} | {row['product_operations']:,.0f} | {row['repeated']:,.0f} | "
        f"{row['macs']:,.0f} | {row['macs_recomputed']:,.0f} | {row['characters_as_ann']:.1f} of {NEW} |"
        for row in costs
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true", help="train and store the weights first")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    numbers = text()
    cut = 9 * len(numbers) // 10
    model = network(numbers[:cut], chosen.train)
    test = passages(numbers[cut:], TESTS, 7)
    recipes = (
        StreamingSigmaDelta(timesteps=LONGEST),
        StreamingSigmaDelta(timesteps=LONGEST, threshold_count=6),
        BurstDigits(),
    )
    rows = [measured(model, recipe, numbers[:cut], test) for recipe in recipes]
    prompts = passages(numbers[cut:], PROMPTS, 8)[0][:, :PROMPT]
    costs = [
        generated(model, recipe, numbers[:cut], prompts)
        for recipe in (StreamingSigmaDelta(timesteps=4), StreamingSigmaDelta(timesteps=LONGEST), BurstDigits())
    ]
    result = {
        "characters": len(numbers), "sha256": hashlib.sha256(bytes(numbers.tolist())).hexdigest(),
        "tested": test[1].numel(), "vocabulary": VOCABULARY, "python": sys.version.split()[0],
        "torch": torch.__version__, "seeds": list(SEEDS), "perplexity": rows, "generation": costs,
    }  # fmt: skip
    write_atomically(HERE / "characters.json", json.dumps(result, indent=1).encode())
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    write_atomically(PAGE, (before + BEGIN + page(rows, costs) + END + after).encode())


if __name__ == "__main__":
    main()
