"""transpike demo."""

import json
from pathlib import Path

import click
import torch

import transpike as ts
from transpike import chips, report
from transpike.cli import _base, _processes
from transpike.errors import MissingExtra
from transpike.report import decision
from transpike.results.writing import check_folder, write_atomically
from transpike.workflow.train import Progress, Row

EXPLAINED = 128


@click.command("demo")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/demo"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True, help="Training epochs.")
@click.option("--timesteps", type=click.IntRange(1), default=64, show_default=True, help="Time steps.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@_base.json_option
@_base.threads_option
@_processes.in_one_process
def command(output_dir: Path, epochs: int, timesteps: int, seed: int, as_json: bool, threads: int | None) -> None:
    """Quick demo: train a small CNN on digits, convert it with ECC, evaluate it, and write a report."""
    _base.with_threads(threads)
    say = (lambda text: None) if as_json else click.echo
    check_folder(output_dir)
    dataset = ts.data.load("digits")
    torch.manual_seed(seed)
    module, spec = ts.models.build("zoo:small-cnn", input_shape=dataset.image_shape)
    say(
        f"1. train zoo:small-cnn (batch norm, a residual add, a max-pool) on {len(dataset.train)} digits, "
        f"{epochs} epochs"
    )
    with _base.progress_bar("training") as bar:

        def progress(where: Progress | Row) -> None:
            if isinstance(where, Progress):
                bar((where.epoch - 1) * where.steps + where.step, where.epochs * where.steps)

        trained = ts.train(
            module,
            dataset,
            ts.Training(epochs=epochs, learning_rate=0.05, batch_size=64, seed=seed, validation_fraction=0.0),
            preprocessing=spec.preprocessing,
            progress=progress,
        )
    say(f"   test accuracy of the ANN: {trained.test_accuracy:.2%} on {trained.test_images} digits")
    say(f"2. convert with ECC, streaming, T={timesteps}")
    images = dataset.train.images[:]  # type: ignore[index]
    snn = ts.convert(module, ts.recipes.ECC(timesteps=timesteps), images, preprocessing=spec.preprocessing)
    say(str(snn))
    synchronous = ts.recipes.ECC(timesteps=min(32, timesteps), schedule=ts.schedules.LayerSynchronous())
    snn_synchronous = ts.convert(module, synchronous, images, preprocessing=spec.preprocessing)
    _base.note_origin(snn, "zoo:small-cnn", None, dataset)
    say("3. evaluate on the test digits")
    with _base.progress_bar("evaluating") as bar:
        result = ts.evaluate(snn, dataset.test.batches(64), progress=lambda done, _: bar(done, len(dataset.test)))
        result_synchronous = ts.evaluate(snn_synchronous, dataset.test.batches(64))
    both = {"streaming": result, "layer synchronous": result_synchronous}
    content = result.to_json() | {"layer_synchronous": result_synchronous.to_json()}
    write_atomically(output_dir / "report.json", json.dumps(content, indent=1).encode())
    ts.save(snn, output_dir / "digits.transpike")
    say("4. compare energy with the quantised ANN, explain every layer, write the report")
    with _base.progress_bar("networks") as bar:
        cost = ts.cost(snn, dataset.test.batches(64), activation_bits=(2, 3, 4), progress=bar)
    with _base.progress_bar("simulations") as bar:
        why = ts.explain(snn, dataset.test.batches(64), samples=EXPLAINED, progress=bar)
    spikes = ts.record(snn, dataset.test.batches(64), classes=dataset.classes)
    fits = [ts.chip_fit(snn, chip) for chip in chips.names()]
    written = ["report.json", "digits.transpike"]
    try:
        report.draw(both, output_dir / "accuracy.png")
        for name, dark in (("overview.png", False), ("overview-dark.png", True)):
            report.overview(cost, output_dir / name, dark=dark)
        everything: list[report.Result] = [result, result_synchronous, cost, why, spikes, *fits]
        subject = report.Subject(snn, output_dir / "digits.transpike", "--data digits")
        report.save(everything, output_dir / "report.html", command=_base.typed(), subject=subject)
        written += ["accuracy.png", "overview.png", "overview-dark.png", "report.html"]
    except MissingExtra as error:
        click.echo(f"no figure and no HTML report: {error}", err=True)
    if as_json:
        _base.print_json(content)
        return
    report.show(result)
    say("\n".join(decision.sentences(result, cost)))
    last = result_synchronous.final
    say(
        f"Layer-synchronous schedule, as computed by the authors of ECC: {last.accuracy:.2%} at T={last.timesteps} "
        f"({last.total_steps} total steps)."
    )
    say(f"Wrote {', '.join(written)} to {output_dir}/.")
