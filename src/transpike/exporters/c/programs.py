"""``test.c``, which compares hashes of samples, and ``trace.c``, which writes every event of other samples."""

from string import Template

import numpy as np
from numpy.typing import NDArray

from transpike.exporters.c.layout import Array
from transpike.exporters.c.network import total_type, watch_signature
from transpike.exporters.c.plan import Parameter, Plan
from transpike.exporters.c.terms import comment, literal
from transpike.lowering.whole import Integers, Layer, Samples, Trains

COMPILE = "cc -std=c99 -O2 -DNET_WATCH net.c {}.c -o {}"


WORD = np.uint64(0xFFFFFFFF)


def scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """32-bit values in which every bit depends on every bit of ``values`` (Appleby's MurmurHash3, its last stage)."""
    x = values & WORD
    x = (x ^ (x >> np.uint64(16))) * np.uint64(0x85EBCA6B) & WORD
    x = (x ^ (x >> np.uint64(13))) * np.uint64(0xC2B2AE35) & WORD
    return x ^ (x >> np.uint64(16))


def _numbers(array: Array) -> NDArray[np.uint64]:
    return np.arange(1, array.size + 1, dtype=np.uint64)


def hashes(levels: Integers, array: Array) -> Integers:
    """Hash of levels (T, batch, *shape) as (batch, T): the sum of the scrambled numbers of what fired, times its level.

    A sum does not depend on the order of the events.
    """
    parts = array.stored(levels).astype(np.uint64) * scramble(_numbers(array))
    return (parts.sum(-1) & WORD).T.astype(np.int64)


def potential_hashes(values: Integers, array: Array) -> Integers:
    """Hash of potentials (batch, *shape), as (batch,)."""
    mixed = array.stored(values).astype(np.uint64) * np.uint64(0x9E3779B9) + _numbers(array)
    return (scramble(mixed).sum(1) & WORD).astype(np.int64)


TEST = Template("""/* Made by transpike. Runs the samples, and compares each layer and step, totals and potentials, with
   what transpike expects. Exit code 0: everything is equal; 4: something differs.

   $compile */
#include "net.h"
#include <stdio.h>

#define SAMPLES $samples
#define STEPS $steps
#define NEURON_LAYERS $neuron_layers
$inputs
/* [sample][step][layer]: sum of the scrambled numbers of what fired$levels, in any order */
static const uint32_t expected[SAMPLES][STEPS][NET_LAYERS] = {
$expected};
static const $total totals[SAMPLES][NET_OUTPUTS] = {
$totals};
/* [sample][layer of neurons]: sum of the scrambled potentials after the last step */
static const uint32_t potentials[SAMPLES][NEURON_LAYERS] = {
$potentials};
static const char *const names[NET_LAYERS] = {$names};

static net_state state;
static uint32_t seen[NET_LAYERS];
static unsigned long spikes;

static uint32_t scramble(uint32_t x) {
  x = (x ^ x >> 16) * UINT32_C(0x85ebca6b);
  x = (x ^ x >> 13) * UINT32_C(0xc2b2ae35);
  return x ^ x >> 16;
}

$watch {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) sum += ${times}scramble((uint32_t)events[i] + 1u);
  seen[layer] = sum;
  spikes += count;
}

/* Of potentials in 32 bits; wider ones lose their upper half. */
static uint32_t held(uint32_t layer) {
  uint32_t sum = 0;
  switch (layer) {
$held
    default: break;
  }
  return sum;
}

int main(void) {
  unsigned long wrong = 0, wrong_totals = 0, wrong_potentials = 0;
  for (uint32_t n = 0; n < SAMPLES; ++n) {
    net_start($start);
    for (uint32_t t = 0; t < STEPS; ++t) {
      (void)net_step($step);
      for (uint32_t k = 0; k < NET_LAYERS; ++k) {
        if (seen[k] == expected[n][t][k]) continue;
        if (wrong++ != 0) continue;
        printf("first difference: sample %lu, step %lu, layer %s\\n", (unsigned long)n, (unsigned long)t + 1, names[k]);
      }
    }
    for (uint32_t k = 0; k < NET_OUTPUTS; ++k) wrong_totals += net_total(&state, k) != totals[n][k];
    for (uint32_t k = 0; k < NEURON_LAYERS; ++k) wrong_potentials += held(k) != potentials[n][k];
  }
  printf("%lu samples, %lu steps, %lu spikes: %lu of %lu hashes differ, %lu totals and potentials of "
         "%lu layers differ; state %lu bytes\\n",
         (unsigned long)SAMPLES, (unsigned long)STEPS, spikes, wrong, (unsigned long)SAMPLES * STEPS * NET_LAYERS,
         wrong_totals, wrong_potentials, (unsigned long)sizeof(net_state));
  return wrong || wrong_totals || wrong_potentials ? 4 : 0;
}
""")

TRACE = Template("""/* Made by transpike. Reads samples and writes every event, for comparison on a host. All numbers
   have 32 bits in the order of bytes of this machine, totals, potentials and arguments of int64_t have 64. Input: the
   number of samples and of steps, then for each sample the arguments of net_start, and for each step those of net_step.
   Output: for each sample, step and layer the number of events and their positions$levels, then the totals, and
   the potentials of each layer of neurons.

   $compile */
#include "net.h"
#include <stdio.h>
#include <stdlib.h>

static net_state state;
$buffers
static uint32_t next(void) {
  uint32_t value;
  if (fread(&value, sizeof value, 1, stdin) != 1) exit(5);
  return value;
}

$wide
static void put(const void *value, size_t size) {
  if (fwrite(value, size, 1, stdout) != 1) exit(5);
}

$watch {
  (void)layer;
  put(&count, sizeof count);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t event = events[i];
    put(&event, sizeof event);
$put_level  }
}

int main(void) {
  const uint32_t samples = next(), steps = next();
  for (uint32_t n = 0; n < samples; ++n) {
$read_start    net_start($start);
    for (uint32_t t = 0; t < steps; ++t) {
$read_step      if (!net_step($step)) exit(3);
    }
    for (uint32_t k = 0; k < NET_OUTPUTS; ++k) {
      const int64_t total = net_total(&state, k);
      put(&total, sizeof total);
    }
$potentials  }
  return fflush(stdout) == 0 ? 0 : 5;
}
""")


WIDE = """
static int64_t next_wide(void) {
  int64_t value;
  if (fread(&value, sizeof value, 1, stdin) != 1) exit(5);
  return value;
}
"""
LEVEL = """    const int32_t level = levels == 0 ? 1 : levels[i];
    put(&level, sizeof level);
"""


def _input(parameter: Parameter, values: Integers) -> str:
    """The samples of one parameter: values (batch, size), or (batch, T, size) of spikes."""
    sizes = "".join(f"[{size}]" for size in values.shape[1:])
    return f"static const {parameter.type} {parameter.argument}[SAMPLES]{sizes} = {{\n{nested(values)}}};"


def nested(values: Integers) -> str:
    """The initialiser of an array of several dimensions, without the outermost braces."""
    return literal(values) if values.ndim == 1 else ",\n".join(f"{{{nested(one)}}}" for one in values)


def test_program(plan: Plan, samples: Samples, expected: Trains) -> str:
    """The text of ``test.c``."""
    layers = [layer for layer in plan.whole.layers if layer.kind != "readout"]
    sent = {name: plan.watched(levels) for name, levels in expected.levels.items()}
    found = np.stack([hashes(sent[one.name], plan.arrays[one.name]) for one in layers], axis=2)
    inputs = [_input(one, one.values(samples)) for one in plan.parameters]
    neurons = [layer for layer in layers if layer.integrates]
    kept = [potential_hashes(expected.potentials[one.name], plan.arrays[one.name]) for one in neurons]
    held = [
        f"    case {k}: for (uint32_t i = 0; i < {plan.size(one.name)}; ++i) "
        f"sum += scramble((uint32_t)state.v_{plan.identifier(one.name)}[i] * UINT32_C(0x9e3779b9) + i + 1u); break;"
        for k, one in enumerate(neurons)
    ]
    totals = plan.arrays[plan.whole.readout.name].stored(expected.totals)
    start = [f"{one.argument}[n]" for one in plan.at_start]
    step = [f"{one.argument}[n][t]" for one in plan.at_step]
    return TEST.substitute(
        compile=COMPILE.format("test", "test") + " && ./test",
        samples=len(expected.totals),
        steps=samples.timesteps,
        inputs="\n".join(inputs),
        watch=watch_signature(plan),
        times="(uint32_t)(levels == 0 ? 1 : levels[i]) * " if plan.level_type else "",
        levels=", times its level" if plan.level_type else "",
        expected=nested(found),
        potentials=nested(np.stack(kept, axis=1)),
        held="\n".join(held),
        neuron_layers=len(neurons),
        total=total_type(plan),
        totals=nested(totals),
        names=", ".join(f'"{comment(one.name)}"' for one in layers),
        start=", ".join(["&state", *start]),
        step=", ".join(["&state", *step]),
    )


def trace_program(plan: Plan) -> str:
    """The text of ``trace.c``."""

    def read(one: Parameter, indentation: str) -> str:
        body = f"{one.argument}[i] = {'next_wide()' if one.type == 'int64_t' else f'({one.type})next()'};"
        return f"{indentation}for (uint32_t i = 0; i < {one.array.size}; ++i) {body}\n"

    def write(layer: Layer) -> str:
        body = f"const int64_t v = state.v_{plan.identifier(layer.name)}[i]; put(&v, sizeof v);"
        return f"    for (uint32_t i = 0; i < {plan.size(layer.name)}; ++i) {{ {body} }}\n"

    return TRACE.substitute(
        compile=COMPILE.format("trace", "trace"),
        watch=watch_signature(plan),
        wide=WIDE if any(one.type == "int64_t" for one in plan.parameters) else "",
        put_level=LEVEL if plan.level_type else "",
        levels=", each with its level" if plan.level_type else "",
        buffers="".join(f"static {one.type} {one.argument}[{one.array.size}];\n" for one in plan.parameters),
        potentials="".join(write(one) for one in plan.whole.layers if one.integrates),
        read_start="".join(read(one, "    ") for one in plan.at_start),
        read_step="".join(read(one, "      ") for one in plan.at_step),
        start=", ".join(["&state", *(one.argument for one in plan.at_start)]),
        step=", ".join(["&state", *(one.argument for one in plan.at_step)]),
    )
