"""From a trained network to a spiking one."""

import dataclasses
import platform
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.digest import digest
from transpike.core.graph import Graph, Node
from transpike.core.input_statistics import InputStatistics
from transpike.core.naming import qualified
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.precision import without_autocast
from transpike.core.recipe import Recipe
from transpike.core.stand_in import NOTHING_SPIKES, check_ceilings, check_stand_ins, has_neurons
from transpike.data.batches import calibration_batches, without_targets
from transpike.engines import Dense
from transpike.engines.event.one_layer import compiled
from transpike.errors import NotExact, SettingError, UnsupportedModel
from transpike.ops.analogue import AnalogueOp
from transpike.ops.pack import structure_of
from transpike.recipes import recipe_given
from transpike.results.writing import check_writable
from transpike.snn import SNN
from transpike.training.ranks import Ranks
from transpike.workflow.capture import OnUnsupported, capture
from transpike.workflow.conversion_progress import ConversionProgress, Notify
from transpike.workflow.cut import Cut, Selection, parts
from transpike.workflow.distributed import check_alike, processes
from transpike.workflow.entrance import Entrance, PreprocessingGiven
from transpike.workflow.shared_batches import Batch, shared
from transpike.workflow.sharing import current

TOLERANCE = 1e-4  # of the largest output: allowed rounding of weights that are multiplied out and kept in float32

RATED, RATED_SAMPLES, RATED_STEPS = 2**24, (4, 16), 32
"""Neurons of all samples on which the firing rates of a new network are measured; the fewest and the most samples; the
most steps."""
RATES = "firing rates"
CHECKED = "is exact"
BYTES = (
    "the calibration inputs are bytes and there is no preprocessing, so the network receives 0..255: if it was "
    "trained on 0..1, pass preprocessing=transpike.Preprocessing()"
)


@without_autocast
def convert(
    model: nn.Module | Graph,
    recipe: Recipe | str | None = None,
    calibration: Any = None,
    *,
    preprocessing: PreprocessingGiven = None,
    spiking: str | Sequence[str] | None = None,
    output: str | int | None = None,
    on_unsupported: OnUnsupported = "error",
    allow_no_neurons: bool = False,
    exact_grid: bool = True,
    input_bits: int | None = None,
    calibration_samples: int | None = None,
    seed: int = 0,
    progress: Notify | None = None,
    checkpoint: str | Path | None = None,
) -> SNN:
    """Convert ``model`` to a spiking network by ``recipe``: one of ``transpike.recipes``, or its name (default: ECC).

    ``calibration``: training inputs as a tensor (samples, *shape), an iterable of tensors or of (input, target) pairs,
    or a loader; ``preprocessing`` is applied to them and to every later input. ``calibration_samples``: only the first
    N. Recordings (samples, frames, *shape) need an encoder with frames; the source network receives their mean.
    A batch of several inputs is ((first, second), target) or ({"name": first, …}, target), and ``preprocessing`` a
    dictionary by their names; integers are looked up. Several outputs are converted together and come back in the
    model's own structure, unless ``output`` selects one. ``spiking``: patterns of module paths or layer names, like
    "backbone.*", of a hybrid network: these layers spike, those before and after them run as in the model, once for
    each answer (docs/hybrid.md); by default all spike. ``on_unsupported="keep"`` keeps unknown operators analogue:
    they compute with real numbers, and the layers after them multiply in every time step. A network in which nothing
    can spike is refused, unless ``allow_no_neurons``.
    ``exact_grid`` rounds weights and thresholds to a power-of-two grid, so that all engines give the same spikes.
    ``input_bits`` rounds inputs to integers with this number of bits: pixels of 8 bits are unchanged, other inputs
    become multiples of a power of two; an exported network then takes them (docs/export.md).
    ``progress(name, done, total)`` is called in stages that take long: the work of the whole conversion that is done,
    in about as many forward passes of a sample through the source network, which never falls. Inside of
    ``distributed_samples`` the processes of torchrun share the calibration data for thresholds from activations;
    corrections that simulate spikes run whole in each of them. ``checkpoint``: the file that a reconstruction updates
    repeatedly, and from which it resumes, with the same network as without an interruption; of several
    processes the first one writes it.

    Raises UnsupportedModel, DataError, SettingError and NotExact; a message names the place and the remedy.
    """
    recipe = recipe_given(recipe)
    for name, value in (("seed", seed), ("calibration_samples", calibration_samples or 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise SettingError(f"{name} must be an integer of at least 0, not {value!r}")
    ranks = processes()
    ranks.in_first(lambda: check_writable(checkpoint, make_folder=True, read_again=True))
    selection = Selection.of(spiking)
    entrance = Entrance(model, recipe, calibration, preprocessing)
    batches = calibration_batches(calibration, entrance, limit=calibration_samples, names=entrance.names)
    batches = tuple(batch.cpu() for batch in batches)
    with torch.inference_mode(False), torch.no_grad():
        remarks: list[str] = []
        on_unsupported = "keep" if recipe.keeps_operators else on_unsupported
        example = batches[0] if entrance.example is None else entrance.example
        how: dict[str, Any] = {"on_unsupported": on_unsupported, "spikes": selection.spikes}
        source = capture(model, example, output=output, remarks=remarks, **how)
        if source.input_shape != tuple(batches[0].shape[1:]):  # a captured Graph knows its own input
            calibration_batches(without_targets(batches), lambda x: x, source.input_shape)
        if input_bits is not None:
            source, batches = entrance.made_whole(input_bits, source, batches)
        source, largest = entrance.described(source, batches)
        given = {"recipe": recipe, "spiking": selection.patterns, "seed": seed, "exact grid": exact_grid}
        check_alike(ranks, source, calibration={str(i): batch for i, batch in enumerate(batches)}, **given)
        split = parts(source, selection)
        layers, before, entering = split.layers, split.before if isinstance(split, Cut) else None, batches
        if before is not None:
            entering, largest = _behind(before, entrance, batches, input_bits)
        if structure_of(layers.output.op) is not None and recipe.readout.spiking_output:
            raise SettingError(
                f"{recipe.readout} counts spikes of the last layer, and several outputs are integrated: choose another "
                "readout, like transpike.readouts.AccumulatedMembrane(), or one output with output=… (--output-name)"
            )
        remarks += split.remarks
        remarks += [BYTES] if entrance.bytes and not recipe.encoder.has_frames else []
        encoder = recipe.encoder.suited(layers).calibrated(largest)
        frames = entrance.recorded if encoder.has_frames else None
        context = Context(
            layers, entering, recipe.timesteps, seed, encoder, recipe.schedule, frames, remarks, kernels=compiled,
            each=lambda run, parts: shared(ranks, map(Batch.of, parts), lambda batch: run(batch.content)),
            checkpoint=None if checkpoint is None else Path(checkpoint), writes=ranks.first,
        )  # fmt: skip
        passes = recipe.passes
        rating = (RATED_SAMPLES[1] + 1) * min(recipe.timesteps, RATED_STEPS)
        told = ConversionProgress(progress, sum(one.work(context) for one in passes) + rating)
        graph = _converted(layers, passes, context, told)
        told.stage(RATES, rating)
        check_stand_ins(graph)
        check_ceilings(graph, context)
        readout = recipe.readout.calibrated(graph, context)
    if not has_neurons(graph):
        if not allow_no_neurons:
            raise UnsupportedModel(_without_neurons(layers, selection))
        remarks.append(NOTHING_SPIKES)
    provenance = {
        "source_sha256": digest(source.parameters()),
        "calibration_sha256": digest({str(i): batch for i, batch in enumerate(batches)}),
        "calibration_samples": sum(len(batch) for batch in batches),
        "seed": seed,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    snn = SNN(
        graph,
        source,
        recipe,
        encoder,
        entrance.preprocessing,
        exact_grid,
        context.ranges,
        {},
        tuple(remarks),
        provenance,
        split.readout(readout),
        inputs=InputStatistics.of(batches) if entrance.example is None else None,
        before=before,
        spiking=selection.patterns if isinstance(split, Cut) else (),
    )
    snn.rates.update(spike_rates(snn, entrance.recorded))
    told.finish(RATES)
    return _of_all(ranks, snn)


def _of_all(ranks: Ranks, snn: SNN) -> SNN:
    """The network of the first process, where another kind of processor has rounded another one differently."""
    if ranks.count == 1:
        return snn
    found = ranks.gather((digest({**snn.graph.parameters(), **snn.ranges}), snn.rates))
    return snn if all(one == found[0] for one in found) else ranks.gather(snn if ranks.first else None)[0]


def _behind(
    before: Graph, entrance: Entrance, batches: tuple[Tensor, ...], input_bits: int | None
) -> tuple[tuple[Tensor, ...], float]:
    """The output of an analogue part before the spiking part for the calibration inputs, and its largest |value|."""
    if entrance.encoder.has_frames or input_bits is not None:
        what = f"input_bits={input_bits}" if input_bits is not None else str(entrance.encoder)
        raise SettingError(
            f"{what} is about the input of the spiking part, but {before.output.name} before it is analogue: it would "
            "be computed in every time step. Let spiking= begin at the input"
        )
    found = tuple(before.run(batch.double()).float() for batch in batches)
    return found, max(float(batch.abs().max()) for batch in found)


def _without_neurons(layers: Graph, selection: Selection) -> str:
    """The reason of the refusal, with the operators that stay analogue."""
    if selection.patterns:
        return (
            f"nothing would spike: spiking={str(selection)!r} selects no activation that a neuron can represent, only "
            f"{', '.join(node.name for node in layers.nodes[1:9])}"
        )
    kept = [node for node in layers if isinstance(node.op, AnalogueOp)]
    listed = ", ".join(f"{node.name} ({node.op.describe()})" for node in kept)
    why = f"without a neuron in place of {listed}" if kept else "because the network has no activation"
    return (
        f"nothing would spike in the converted network, {why}: every layer would compute with real numbers, and most "
        "of them multiply in every time step. Use activations that neurons can represent, like nn.ReLU; "
        "allow_no_neurons=True (--allow-no-neurons) converts it nevertheless"
    )


def _converted(graph: Graph, passes: tuple[Pass, ...], context: Context, progress: ConversionProgress) -> Graph:
    """The graph after all passes; each pass with ``exact`` is checked on calibration data."""
    probe, answer = context.batches[0][:16].double(), None
    found, place = current(), ""
    if found is not None:  # the key: the graph, the data, and all passes up to this one
        place = digest(graph.parameters()) + digest({str(i): x for i, x in enumerate(context.batches)}) + str(graph)
    for one in passes:
        kept = {} if found is None else found.of_pass(place)
        place += f"\n{qualified(type(one))} {one}"
        told = progress.stage(type(one).__name__, one.work(context))
        context = dataclasses.replace(context, shared=kept, progress=told)
        changed = one.apply(graph, context)
        told(1, 1)
        if one.exact and changed is not graph and CHECKED in kept:
            answer = None
        elif one.exact and changed is not graph:
            before = _answer(graph, probe) if answer is None else answer
            if not bool(torch.isfinite(before).all()):
                graph.to(dtype=torch.float64).check_finite(probe, "the calibration data")
            answer = _answer(changed, probe)
            scale = float(before.abs().max()) or 1.0
            error = float((before - answer).abs().max()) / scale
            if not error <= TOLERANCE:
                raise NotExact(
                    f"{type(one).__name__} must keep the same function, and changed it by {error:.2g} of the largest "
                    "output; this is an error in the pass, please report it with the network"
                )
            kept[CHECKED] = True
        elif changed is not graph:
            answer = None
        graph = changed
    if found is not None:
        found.forget()
    return graph


def _answer(graph: Graph, probe: Tensor) -> Tensor:
    """Output in float64, without quantisation, which would amplify rounding errors to integer levels."""

    def smooth(node: Node) -> Node | None:
        op = node.op.without_quantisation() if isinstance(node.op, Op) else node.op
        return None if op is node.op else dataclasses.replace(node, op=op, origin=())

    return graph.rewrite(smooth).to(dtype=torch.float64).run(probe)


def spike_rates(snn: SNN, batch: Tensor) -> dict[str, float]:
    """Spikes per neuron and time step on a few calibration samples, already preprocessed."""
    steps = (
        snn.timesteps if snn.schedule.mode == "slots" else min(snn.timesteps, RATED_STEPS)
    )  # a shorter window would be another code
    neurons = sum(prod(node.shape) for node in snn.graph.cells) or 1
    fewest, most = RATED_SAMPLES
    few = min(max(RATED // neurons, fewest), most)
    activity = snn.run_prepared(batch[:few], steps, Dense(), None, (), True).activity
    return {
        layer.name: float(layer.spikes.sum()) / (layer.neurons * steps * activity.samples) for layer in activity.layers
    }
