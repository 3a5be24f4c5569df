"""A ResNet-20 with two time steps: converted without training, then fine-tuned as it runs, from four starts.

    python reproductions/finetune/run.py --weights resnet20-cifar10-jpeg.safetensors [--data-dir DATA] [--work FOLDER] \
      [--start layer-synchronous --start streaming …]

Needs the JPEG copy of CIFAR-10 in DATA or TRANSPIKE_DATA. The recipe is chosen on 1,000 training images; the epoch on
1,000 others; the ANN is trained on for as many epochs. Checkpoints lie in FOLDER: a run that is stopped goes on from the
last epoch, and a finished one only measures; a start that is not asked for keeps what result.json says of it. An epoch
takes five to ten minutes of one core with bfloat16 instructions. Writes result.json and tables.md next to this file.

Starts: the best recipe with binary spikes, streaming and layer-synchronous, and the same with bursts of up to 2 spikes
in a step (five values in two steps in place of three), which is more than one wire of a binary network carries.
"""

import argparse
import copy
import json
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

import transpike as ts
from transpike.results.writing import write_atomically
from transpike.training import FineTuning
from transpike.training.spiking.losses import Distillation
from transpike.training.spiking.surrogates import Rectangular
from transpike.workflow.train import Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, claims, lost, rows

HERE = Path(__file__).parent
TIMESTEPS, CALIBRATION, CHOOSING = 2, 500, 1000
AGAINST = {"source": 0, "tuned": 1}  # of the accuracies
WINDOWS, READ = ts.schedules.LayerSynchronous(), ts.readouts.AccumulatedMembrane()
RECIPES = {
    "streaming": {
        "few-steps": ts.recipes.FewSteps(timesteps=TIMESTEPS),
        "snn-calibration, light": ts.recipes.SNNCalibration(timesteps=TIMESTEPS),
        "snn-calibration, advanced": ts.recipes.SNNCalibration(timesteps=TIMESTEPS, calibrate="advanced"),
        "ltb": ts.recipes.LTB(timesteps=TIMESTEPS),
    },
    "layer-synchronous": {
        "few-steps": ts.recipes.FewSteps(timesteps=TIMESTEPS, schedule=WINDOWS, readout=READ),
        "snn-calibration, advanced": ts.recipes.SNNCalibration(
            timesteps=TIMESTEPS, calibrate="advanced", schedule=WINDOWS
        ),
        "ecc": ts.recipes.ECC(timesteps=TIMESTEPS, schedule=WINDOWS, percentile=99.0),
    },
    "layer-synchronous, bursts": {
        "few-steps, bursts of 2": ts.recipes.FewSteps(
            timesteps=TIMESTEPS, schedule=WINDOWS, readout=READ, neuron="burst", gamma=2
        ),
    },
    "streaming, bursts": {
        "few-steps, bursts of 2": ts.recipes.FewSteps(timesteps=TIMESTEPS, neuron="burst", gamma=2),
    },
}
SETTINGS = FineTuning(
    train=("weights", "thresholds", "initial"),
    surrogate=Rectangular(0.5),
    loss=Distillation(temperature=2.0, weight=0.7),
    optimiser="adam",
    learning_rate=2e-4,
    threshold_rate=3e-3,
    initial_rate=3e-3,
    batch_size=64,
    normalise=True,
    augment="crop-flip",
    validation_fraction=0.02,
    precision="bfloat16",
)
# Chosen on held-out training images: binary spikes reach 83.7 % so, and 82.6 % at 1e-3 with 3e-3 for the others; bursts at
# these fall from 89.0 to 83.2 % in two epochs. The source network was trained on those images, which misleads: on test
# images binary spikes reach 81.5 % so, and 82.3 % at 1e-3.
FROM_AFAR = {"learning_rate": 4e-4, "threshold_rate": 1e-3, "initial_rate": 1e-3}
CHANGES = {"layer-synchronous": FROM_AFAR, "streaming": FROM_AFAR}


def name_of(start: str) -> str:
    """For files."""
    return start.replace(", ", "-")


def told(name: str):
    def progress(news) -> None:
        if isinstance(news, Row):
            accuracy = news.validation_accuracy
            print(f"{name}: epoch {news.epoch}, loss {news.train_loss:.4f}, training {news.train_accuracy:.2%}, "
                  f"validation {accuracy:.2%}, {news.seconds:.0f} s", flush=True)  # fmt: skip
        elif news.step % 100 == 0:
            print(f"{name}: epoch {news.epoch}, step {news.step} of {news.steps}, loss {news.loss:.3f}", flush=True)

    return progress


def converted(module, preprocessing, dataset, work: Path, seed: int, start: str):
    """The best of the training-free recipes on training images that calibration has not seen, and all accuracies."""
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(seed))
    calibration = dataset.train.batches(250, indices=order[:CALIBRATION])
    held_out = dataset.train.batches(100, indices=order[CALIBRATION : CALIBRATION + CHOOSING])
    tried, best = {}, None
    for name, recipe in RECIPES[start].items():
        path = work / f"{name_of(start)}-{recipe.name}-{getattr(recipe, 'calibrate', '')}.transpike"
        snn = ts.load(path) if path.exists() else ts.convert(module, recipe, calibration, preprocessing=preprocessing)
        ts.save(snn, path)
        tried[name] = ts.evaluate(snn, held_out, answers=(TIMESTEPS,)).final.accuracy
        print(f"{name}: {tried[name]:.2%} of {CHOOSING} training images", flush=True)
        if tried[name] == max(tried.values()):
            best = snn
    return best, tried


def values(starts: dict) -> dict[str, Measured]:
    """Claim → what was measured for it."""
    return {
        claim["id"]: lost(
            list(part["accuracies"].values())[AGAINST[claim["against"]]]["accuracy"],
            part["accuracies"][f"fine-tuned, T={TIMESTEPS}"]["accuracy"],
            part["samples"]["test"],
        )
        for claim in claims(HERE)
        if (part := starts.get(claim["start"])) is not None
    }


def tables(content: dict) -> str:
    parts = ["# Fine-tuning at T=2: what was measured", "",
             "Made by `python reproductions/finetune/run.py`; numbers are in result.json. ResNet-20 on the JPEG copy of CIFAR-10.", "",
             "| claim | measured | n | |", "|---|---:|---:|---|"]  # fmt: skip
    parts += [f"| {r['claim']} | {'' if r['measured'] is None else format(r['measured'], '.2f')} | "
              f"{'' if r['n'] is None else format(r['n'], ',')} | {r['status']}{': ' if r['reason'] else ''}{r['reason']} |"
              for r in content["rows"]]  # fmt: skip
    for start, part in content["starts"].items():
        parts += ["", f"## {start}, {part['total_steps']} total steps", "",
                  f"{part['samples']['test']:,} test images, {part['samples']['train']:,} training images.", "",
                  "| network | accuracy | 95 % |", "|---|---:|---:|"]  # fmt: skip
        parts += [
            f"| {name} | {r['accuracy']:.2%} | {r['low']:.2%} to {r['high']:.2%} |"
            for name, r in part["accuracies"].items()
        ]
        parts += ["", "Choosing the recipe, on training images:", "", "| recipe | accuracy at T=2 |", "|---|---:|"]
        parts += [f"| {name} | {accuracy:.2%} |" for name, accuracy in part["recipes"].items()]
        parts += ["", "| epoch | SNN: loss | SNN: validation | ANN: validation |", "|---:|---:|---:|---:|"]
        parts += [
            f"| {a['epoch']} | {a['train_loss']:.4f} | {a['validation_accuracy']:.2%} | {b['validation_accuracy']:.2%} |"
            for a, b in zip(part["history"], part["ann_history"], strict=False)
        ]
        grid = part["grid"]
        parts += ["", f"The exact grid moved logits by at most {grid['largest_logit_change']:.2g} and accuracy from "
                  f"{grid['accuracy_off']:.2%} to {grid['accuracy_on']:.2%} on {grid['samples']} held-out images."]  # fmt: skip
    return "\n".join([*parts, ""])


def tuned_from(start: str, module, spec, dataset, trained, ann, arguments) -> dict:
    """What fine-tuning gave."""
    work, seed, epochs = arguments.work, arguments.seed, arguments.epochs
    snn, tried = converted(module, spec.preprocessing, dataset, work, seed, start)
    settings = replace(SETTINGS, **CHANGES.get(start, {}))
    tuned = ts.finetune(snn, dataset.train, settings, epochs=epochs, seed=seed, progress=told(start),
                        checkpoint=work / f"{name_of(start)}.safetensors")  # fmt: skip
    ts.save(tuned, work / f"{name_of(start)}-tuned.transpike")
    images = dataset.test.batches(100, limit=arguments.test_images)
    before, after = (ts.evaluate(s, images, answers=(TIMESTEPS,)) for s in (snn, tuned))
    longer = ts.evaluate(ts.convert(trained, ts.recipes.ECC(), dataset.train.batches(100, limit=100),
                                    preprocessing=spec.preprocessing), images, timesteps=1)  # fmt: skip
    accuracies = {
        "source ANN": (after.ann_accuracy, after.ann_low, after.ann_high),
        f"ANN, {len(ann.history)} epochs more": (longer.ann_accuracy, longer.ann_low, longer.ann_high),
        f"{snn.recipe.name}, T={TIMESTEPS}": (before.final.accuracy, before.final.low, before.final.high),
        f"fine-tuned, T={TIMESTEPS}": (after.final.accuracy, after.final.low, after.final.high),
    }
    facts = tuned.provenance["fine_tuning"][-1]
    return {
        "points": {
            "source": 100 * (after.ann_accuracy - after.final.accuracy),
            "tuned": 100 * (longer.ann_accuracy - after.final.accuracy),
        },
        "total_steps": after.final.total_steps,
        "samples": {"train": len(dataset.train), "test": after.samples},
        "accuracies": {n: dict(zip(("accuracy", "low", "high"), v, strict=True)) for n, v in accuracies.items()},
        "recipes": tried,
        "settings": facts["settings"],
        "best_epoch": facts["best_epoch"],
        "before": facts["before"],
        "history": facts["history"],
        "ann_history": [asdict(row) for row in ann.history],
        "grid": facts["grid"],
        "exact": after.exact,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path, default=Path("finetune-checkpoints"))
    parser.add_argument("--start", action="append", choices=list(RECIPES), help="Default: all.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--test-images", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="Measure nothing; judge what result.json holds.")
    arguments = parser.parse_args()
    path = HERE / "result.json"
    stored = json.loads(path.read_text()) if path.exists() else {"starts": {}}
    if arguments.judge:
        write(stored["starts"], stored["rows"][0]["versions"], arguments.seed)
        return
    if arguments.weights is None:
        parser.error("give --weights, or --judge")
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    dataset = ts.data.load("cifar10", arguments.data_dir)
    module, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    trained = copy.deepcopy(module)
    ann = ts.train(
        trained,
        dataset,
        ts.Training(
            epochs=arguments.epochs,
            learning_rate=0.01,
            batch_size=64,
            seed=arguments.seed,
            precision="bfloat16",
            validation_fraction=SETTINGS.validation_fraction,
        ),
        progress=told("ANN"),
        preprocessing=spec.preprocessing,
        checkpoint=arguments.work / "ann.safetensors",
    )
    starts = stored["starts"]
    for start in arguments.start or RECIPES:
        starts[start] = tuned_from(start, module, spec, dataset, trained, ann, arguments)
        versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
        write(starts, versions, arguments.seed)
    print((HERE / "tables.md").read_text())


def write(starts: dict, versions: dict, seed: int) -> None:
    """result.json and tables.md, with the starts in the order of RECIPES."""
    starts = {name: starts[name] for name in RECIPES if name in starts}
    content = {"rows": rows(HERE, values(starts), {"seed": seed, "versions": versions}), "starts": starts}
    write_atomically(HERE / "result.json", json.dumps(content, indent=1).encode())
    write_atomically(HERE / "tables.md", tables(content).encode())


if __name__ == "__main__":
    main()
