"""The terms of a page, explained on it."""

import re
from collections.abc import Mapping

TERMS: Mapping[str, tuple[str, str]] = {
    "ANN": ("ANN", "The source network before the conversion, which computes with real numbers."),
    "SNN": ("SNN", "The spiking network: neurons receive weighted spikes over several time steps and send spikes."),
    "T, time steps": (r"T ?= ?\d", "The number of steps for which the input is presented."),
    "total steps": (
        "total (time )?steps",
        "The step at which the answer is ready; larger than T if layers fire one after another.",
    ),
    "recommended T": (
        r"[Rr]ecommended:? T|: recommended",
        "The first T with spikes whose answers are nearly as good as those of the last one.",
    ),
    "accuracy change": (
        "accuracy change",
        "Accuracy of the SNN minus that of the ANN on the same samples, in points; below 0 the SNN is worse.",
    ),
    "point": (r"(?<!even )\bpoints?\b", "A percentage point: the difference between 90 % and 91 %."),
    "95 % interval": (
        "95 % interval",
        "The range of values that agree with the measured samples; it shrinks with the root of their number. "
        "Paired: computed from the differences on the same samples.",
    ),
    "agreement": ("agreement", "Share of samples on which both networks give the same answer."),
    "stable correct": ("stable correct", "Correct at this time step and at all later ones."),
    "spike rate": ("spike rate", "Spikes per neuron and time step."),
    "synaptic operation (SynOp)": (
        "SynOps?|synaptic operation",
        "One spike that arrives at one connection: the addition of one weight.",
    ),
    "MAC": (r"\bMACs?\b", "A multiplication and addition, the unit of work of an ANN."),
    "remaining MACs": (
        "emaining MACs",
        "Multiplications of the spiking network, for example of the first layer, whose input is not spikes.",
    ),
    "quantised ANN": (
        "quantised ANN",
        "The source network with activations of a few bits: the fair competitor of an SNN, which sends few levels too.",
    ),
    "zero skipping": (
        "zero skipping|skip zeros|skips zeros",
        "Hardware that does not compute products with a zero, as an SNN does nothing without a spike.",
    ),
    "energy model": (
        "energy model",
        "Published joules for each operation and memory access of one kind of hardware. Compare ratios of different "
        "models, not their joules.",
    ),
    "break-even spike rate": (
        "break-even",
        "The spike rate at which both networks cost the same; below it the SNN is cheaper.",
    ),
    "Pareto front": ("Pareto front", "The results that no other result beats in both numbers."),
    "early exit": ("[Ee]arly exit", "A sample stops as soon as its answer is certain enough."),
    "threshold": (r"\bthresholds?\b", "The potential at which a neuron sends a spike."),
    "carried": (r"\bcarried\b", "Error of a layer that comes from the layers before it."),
    "clipping": (r"\bclipping\b", "Error because the activation is larger than what a neuron can send in each step."),
    "flooring": (r"\bflooring\b", "Error because the number of spikes is an integer."),
    "unevenness": (r"\bunevenness\b", "Error because spikes do not arrive evenly over time."),
    "dead": (r"\bdead\b", "Neurons that never send a spike although the ANN has an activation there."),
    "saturated": (r"\bsaturated\b", "Neurons that send a spike in every step."),
    "reconverted": ("econverted", "Converted again by the recipe, calibrated on these samples."),
    "rate map": ("[Rr]ate maps?", "A picture of the mean output at each place of a layer."),
    "raster": (r"\b[Rr]asters?\b", "A picture of single spikes: neurons from top to bottom, time from left to right."),
    "exact": (
        r"\bExact\b|Not exact",
        "All engines give the same spikes, because weights and thresholds lie on a grid on which sums do not round.",
    ),
    "hybrid network": ("[Hh]ybrid", "A network of which one part spikes; the other part is computed as in the ANN."),
}
"""Term → pattern of its use, and its meaning."""


def used(text: str) -> tuple[tuple[str, str], ...]:
    """The terms that ``text`` uses, with their meanings, in alphabetical order."""
    found = [(term, meaning) for term, (pattern, meaning) in TERMS.items() if re.search(pattern, text)]
    return tuple(sorted(found, key=lambda pair: pair[0].lower()))
