"""Which torchvision and timm networks convert: writes docs/coverage.md (``make coverage``).

Every network of the first table has seeded random weights and statistics calibrated on seeded smooth images, so that its
outputs differ from sample to sample; nothing is downloaded. With ``--models-dir`` a second table has the networks whose
trained weights are there. What is measured is told in the tables' headers.

Each row is kept in ``--folder`` when it is done, and a run that was stopped goes on there. Rows of other operators or
other versions are made again.
"""

import argparse
import collections
import ctypes
import dataclasses
import functools
import hashlib
import importlib.util
import json
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike.errors import UnsupportedModel, UnsupportedOperator

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "coverage.md"
SEED, TIMESTEPS = 0, 1024
STREAMING, THRESHOLDS = 16, 12  # of sigma-delta, for the networks that rates cannot represent
CALIBRATION, TEST = 64, 16  # images
LIMIT = 600  # seconds of the processor for one network
SHIFT = 0.75  # mean of the random β: with it random weights do not amplify small errors from layer to layer
LARGEST_ERROR, LEAST_COSINE = 5e-5, 0.99


@dataclass(frozen=True)
class Network:
    source: str
    name: str
    size: int = 32
    output: str | None = None
    options: tuple[tuple[str, object], ...] = ()

    def build(self) -> nn.Module:
        options = dict(self.options)
        if self.source == "timm":
            torchvision()  # which it imports
            import timm

            return timm.create_model(self.name, pretrained=False, num_classes=100, **options)
        return torchvision().models.get_model(self.name, weights=None, **options)


def torchvision() -> Any:
    """The package, also where its compiled operators belong to another build of torch (with CUDA, and torch without).

    Then it cannot be imported, because it registers shapes of two operators that do not exist. No network of the table
    has them, so that a declaration is enough.
    """
    if "torchvision" not in sys.modules:
        spec = importlib.util.find_spec("torchvision")
        if spec is None or spec.origin is None:
            raise SystemExit("torchvision is needed: pip install -e '.[vision]', or make coverage")
        try:
            ctypes.CDLL(str(Path(spec.origin).with_name("_C.so")))
        except OSError:
            for name in ("nms", "qnms"):
                torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou) -> Tensor")
    import torchvision

    return torchvision


def _torchvision(names: str, size: int = 32, **options: object) -> list[Network]:
    return [
        Network("torchvision", name, size, None, (("num_classes", 100), *options.items())) for name in names.split()
    ]


def _timm(names: str, size: int = 32, **options: object) -> list[Network]:
    return [Network("timm", name, size, None, tuple(options.items())) for name in names.split()]


NETWORKS = (
    *_torchvision("alexnet", 64),
    *_torchvision("vgg11_bn vgg16"),
    *_torchvision("resnet18 resnet50 wide_resnet50_2 resnext50_32x4d densenet121"),
    *_torchvision("mobilenet_v2 mnasnet1_0 shufflenet_v2_x1_0 squeezenet1_1"),
    *_torchvision("googlenet", 32, aux_logits=False, init_weights=False),
    *_torchvision("inception_v3", 75, aux_logits=False, init_weights=False),
    *_torchvision("regnet_x_400mf"),
    *(Network("torchvision", name, 32, "out", (("weights_backbone", None),)) for name in ("fcn_resnet50", "deeplabv3_resnet50")),
    *_timm("resnet26 resnet26d resnetaa50 resnetblur18 resnetv2_50 resnetv2_34d nf_resnet26"),
    *_timm("repvgg_a0 hrnet_w18_small dla34 vovnet39a selecsls42b gernet_s res2net50_26w_4s dpn68"),
    *_timm("xception41", 64),
    *_timm("inception_v4", 75),
    *_timm("tf_efficientnet_lite0 mobilenetv1_100 fbnetc_100 spnasnet_100 hgnet_tiny"),
    *_timm("cspresnet50 darknet53 ese_vovnet19b_dw ghostnet_100 skresnet18"),
    *_torchvision("regnet_y_400mf efficientnet_b0 mobilenet_v3_small convnext_tiny"),
    *_torchvision("vit_b_32", 32, image_size=32),
    *_torchvision("swin_t swin_v2_t"),
    *_timm("convnext_atto"),
    *_timm("swin_tiny_patch4_window7_224 eva02_tiny_patch14_224", 56, img_size=56),
    *_timm("vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 maxvit_rmlp_pico_rw_256", 64, img_size=64),
)  # fmt: skip


def operators_digest() -> str:
    """SHA-256 over the operators that capture accepts and the op class for each; another set makes the table outdated.

    It is over names and not over source text: moving, renaming or rewording code changes no row.
    """
    known = [f"{operator} {kind.role}" for kind in (*ts.ops.members, *ts.activations.members) for operator in kind.aten]
    return hashlib.sha256("\n".join(sorted(known)).encode()).hexdigest()


def images(count: int, size: int, seed: int) -> Tensor:
    """Smooth random images (count, 3, size, size) of unit variance, each with different colours."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, max(2, size // 8), max(2, size // 8), generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    colour = torch.randn(count, 3, 1, 1, generator=generator)
    smooth = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    mixed = smooth + 0.5 * colour + 0.2 * fine
    return (mixed - mixed.mean()) / mixed.std()


@torch.no_grad()
def randomise(model: nn.Module, x: Tensor, seed: int) -> nn.Module:
    """Random affine parameters of every BatchNorm, statistics calibrated on ``x``; in eval mode afterwards.

    Networks without BatchNorm get the same from weights and biases: every layer's channels have mean near 0 and
    variance near 1 over the batch, in the order in which the layers run.
    """
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
        norm.weight.copy_(0.5 + torch.rand(norm.weight.shape, generator=generator))
        norm.bias.copy_(SHIFT + 0.3 * torch.randn(norm.bias.shape, generator=generator))
        norm.train()
    handles = [m.register_forward_hook(_standardise(generator)) for m in _layers(model) if not norms]
    for batch in (x,) if handles else x.chunk(3):
        model(batch)
    for handle in handles:
        handle.remove()
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def _layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def _standardise(generator: torch.Generator) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not bool(module.weight.any()):  # a head that begins with zeros answers the same to every image
            module.weight.normal_(generator=generator)
            output = module.forward(*inputs)
        axes = (0, 2, 3) if isinstance(module, nn.Conv2d) else tuple(range(output.ndim - 1))
        spread = output.var(axes).clamp(min=1e-12).mean().sqrt()
        module.weight.div_(spread)
        if module.bias is not None:
            module.bias.zero_()
            mean = module.forward(*inputs).mean(axes)
            module.bias.copy_(SHIFT + 0.3 * torch.randn(mean.shape, generator=generator) - mean)
        return module.forward(*inputs)

    return hook


@dataclass(frozen=True)
class Row:
    network: Network
    parameters: int
    layers: int = 0
    neurons: int = 0
    steps: int = 0
    error: float = float("nan")
    recipe: str = ""
    cosine: float = float("nan")
    centred: float = float("nan")
    exact: str = ""
    refused: str = ""
    seconds: float = 0.0

    @property
    def converts(self) -> bool:
        return not self.refused and self.error <= LARGEST_ERROR and min(self.cosine, self.centred) >= LEAST_COSINE


@torch.no_grad()
def measure(network: Network) -> Row:
    """One row of the table."""
    start = time.process_time()
    torch.manual_seed(SEED)
    calibration, test = images(CALIBRATION, network.size, SEED + 1), images(TEST, network.size, SEED + 2)
    model = network.build()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    try:
        randomise(model, calibration, SEED + 3)
        answer = model(test)
        answer = answer[network.output] if network.output else answer
        snn = converted(model, calibration, network.output)
        captured = snn.source.run(test)
        error = float((captured - answer).abs().max() / answer.double().std(0).square().mean().sqrt())
        free = dataclasses.replace(snn, exact_grid=False).run(test)
        neurons = sum(layer.neurons for layer in free.activity.layers if layer.role == "neuron")
        cosines = _cosines(free.logits[-1], answer)
        return Row(network, parameters, len(snn.source.nodes), neurons, snn.total_steps(), error, snn.recipe.name,
                   *cosines, exact=_exact(snn, test, answer), seconds=time.process_time() - start)  # fmt: skip
    except UnsupportedOperator as problem:
        reason = ", ".join(_names(problem))
    except ts.TranspikeError as problem:
        reason = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
    return Row(network, parameters, refused=reason, seconds=time.process_time() - start)


def converted(model: nn.Module, calibration: Tensor, output: str | None = None) -> ts.SNN:
    """By rates if they represent every layer, else by sigma-delta. Raises UnsupportedModel if neither does."""
    recipe = ts.recipes.ECC.paper(timesteps=TIMESTEPS, schedule=ts.schedules.LayerSynchronous())
    try:
        return ts.convert(ts.capture(model, calibration[:8], output=output), recipe, calibration)
    except UnsupportedOperator as problem:
        names = ", ".join(_names(problem))
    streaming = ts.recipes.StreamingSigmaDelta(timesteps=STREAMING, threshold_count=THRESHOLDS, percentile=100.0)
    try:
        return ts.convert(model, streaming, calibration, output=output)
    except UnsupportedOperator:
        raise
    except UnsupportedModel as problem:
        raise UnsupportedModel(f"{names}; by sigma-delta: {str(problem).splitlines()[0]}") from problem


def _names(problem: UnsupportedOperator) -> list[str]:
    """Each operator that stops a network, and how often it occurs."""
    counts = collections.Counter(operator.split(".")[0].rstrip("_") for operator, _, _ in problem.places)
    return [f"{name} ({count})" for name, count in counts.most_common()]


def _cosines(logits: Tensor, answer: Tensor) -> tuple[float, float]:
    """Mean over the images; the second with the answer's mean over the images subtracted from both."""
    a, b = logits.double().flatten(1), answer.double().flatten(1)
    mean = b.mean(0)
    return float(F.cosine_similarity(a, b, 1).mean()), float(F.cosine_similarity(a - mean, b - mean, 1).mean())


def _exact(snn: ts.SNN, test: Tensor, answer: Tensor) -> str:
    """Whether the power-of-two grid carries the run, and what it costs."""
    exactness = snn.exactness
    if exactness is None or not exactness.timesteps:
        return "no: " + ("not on the grid" if exactness is None else exactness.reason.split(" steps: ")[-1])
    trace = snn.run(test, count=False)
    if not trace.exact:
        return f"no: {trace.why.split(': ')[-1]}"
    centred = _cosines(trace.logits[-1], answer)[1]
    return f"yes; weights change by up to {exactness.rounding:.1%} of the largest, centred cosine {centred:.3f}"


def _out_of_time(signum: int, frame: object) -> None:
    raise TimeoutError


def limited(network: Network) -> Row:
    signal.signal(signal.SIGPROF, _out_of_time)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)  # seconds of the processor, on a busy machine too
    try:
        return measure(network)
    except TimeoutError:
        return Row(network, 0, refused=f"took longer than {LIMIT} s", seconds=LIMIT)
    except Exception as problem:  # a defect of ours, told as one
        return Row(network, 0, refused=f"**crash**, {type(problem).__name__}: {str(problem).splitlines()[0]}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def versions() -> str:
    installed = torchvision()
    import timm

    return (
        f"transpike {ts.__version__}, torch {torch.__version__}, torchvision {installed.__version__}, "
        f"timm {timm.__version__}, Python {platform.python_version()}"
    )


def kept(folder: Path, name: str, make: Callable[[], Any]) -> dict[str, Any]:
    """The fields of a row, from an earlier run with the same operators and versions if there is one."""
    file, now = folder / f"{name}.json", {"operators": operators_digest(), "versions": versions()}
    if file.exists() and (found := json.loads(file.read_text()))["of"] == now:
        return found["row"]
    row = {key: value for key, value in vars(make()).items() if key != "network"}
    file.write_text(json.dumps({"of": now, "row": row}, indent=1))
    return json.loads(file.read_text())["row"]


def _line(row: Row) -> str:
    network = row.network
    name = f"{network.name}, output={network.output!r}" if network.output else network.name
    head = f"| {name} | {network.source} | {row.parameters / 1e6:.1f} | {network.size}×{network.size} |"
    if row.refused:
        return f"{head} | | | | | | refused: {row.refused} | | {row.seconds:.0f} |"
    verdict = "converts" if row.converts else "**converts badly**"
    return (f"{head} {row.layers} | {row.neurons:,} | {row.steps:,} | {row.error:.1e} | {row.recipe} | {row.cosine:.4f} / {row.centred:.4f} |"
            f" {verdict} | {row.exact} | {row.seconds:.0f} |")  # fmt: skip


def table(rows: list[Row], digest: str) -> list[str]:
    good = sum(row.converts for row in rows)
    refused = sum(bool(row.refused) for row in rows)
    return [
        "# Supported networks", "",
        f"**{good} of {len(rows)} networks convert; {refused} are refused with the operators that stop them.**",
        "Generated by `make coverage` (`python benchmarks/coverage.py`); do not edit.", "",
        f"- {versions()}; seed {SEED}; CPU, {torch.get_num_threads()} thread; {sum(row.seconds for row in rows):.0f} s in all.",
        f"- operators: `{digest}` (SHA-256 over the torch operators that capture accepts, and the role of each).",
        "- Weights are random, not trained. BatchNorm has random γ and β and statistics calibrated on smooth random images;",
        f"  networks without it have each layer standardised in the same way. The mean of β is {SHIFT}: where it is 0, random",
        "  weights amplify the rounding of rates to 1/T from layer to layer. Pictures are small. So the table says that a",
        "  network's operators convert, not how accurate a trained one is at few steps.",
        f"- *Error*: the captured graph against the model in float32, the largest difference over {TEST} new images,",
        "  relative to the standard deviation of the outputs over them (root mean square over the outputs).",
        "- *Recipe*: ecc where rates represent every layer of the network, else sigma-delta.",
        f"- *Cosine*: logits of `ECC.paper(timesteps={TIMESTEPS}, schedule=LayerSynchronous())` (thresholds: each layer's maximum",
        f"  over {CALIBRATION} images) or of `StreamingSigmaDelta(timesteps={STREAMING}, threshold_count={THRESHOLDS}, percentile=100)`,",
        "  both with `exact_grid=False`, against the model's on the new images, mean over the images; first as",
        "  they are, then after subtracting from both the model's mean over the images, so that a common offset counts for nothing.",
        f"- *Converts*: error ≤ {LARGEST_ERROR:g} and both cosines ≥ {LEAST_COSINE}. *Refused*: the operators that stop the network and how",
        "  often each occurs.",
        "- *Exact*: whether the power-of-two grid, on which every engine gives the same spikes, carries the steps in float32,",
        "  and what it costs; a conversion falls back to floating point where it does not. *Steps* to the answer: one window a layer on the longest path. *Seconds*: of the processor, everything in the row.",
        "",
        "| network | from | million parameters | input | layers | neurons | steps | error | recipe | cosine, centred | result | exact | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_line, rows), "",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these networks; the tables are printed, not written")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models-dir", type=Path, help="trained weights")
    parser.add_argument("--data-dir", type=Path, help="pictures for networks with trained weights")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "coverage", help="where rows are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    import coverage_trained as trained

    chosen = [network for network in NETWORKS if not arguments.names or network.name in arguments.names]
    rows = []
    for index, network in enumerate(chosen):
        fields = kept(arguments.folder, f"{network.source}-{network.name}", lambda one=network: limited(one))
        rows.append(Row(network, **fields))
        print(f"{time.strftime('%H:%M:%S')} {index + 1}/{len(chosen)} {_line(rows[-1])}", flush=True)
    own = []
    for file, recipe in [] if arguments.models_dir is None else trained.names(arguments.models_dir):
        if not arguments.names or Path(file).stem in arguments.names:
            make = functools.partial(trained.measure, file, recipe, arguments.models_dir, arguments.data_dir)
            own.append(trained.TrainedRow(**kept(arguments.folder, f"{Path(file).stem}-{recipe}", make)))
            print(f"{time.strftime('%H:%M:%S')} {trained.line(own[-1])}", flush=True)
    lines = [*table(rows, operators_digest()), *(trained.table(own) if own else [])]
    if arguments.names:
        print("\n".join(lines))
        return 0
    TABLE.write_text("\n".join(lines), encoding="utf-8")
    print(f"{sum(row.converts for row in rows)} of {len(rows)} convert; wrote {TABLE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
