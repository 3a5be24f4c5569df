"""The text of ``net.h`` and ``net.c``."""

import textwrap
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from transpike.exporters.c.front import ROUNDED, front_lines
from transpike.exporters.c.layers import Layers
from transpike.exporters.c.layout import Array, narrowest_type
from transpike.exporters.c.plan import Plan
from transpike.exporters.c.rules import HELPERS
from transpike.exporters.c.terms import WINDOWS, Constants, Target, Terms, comment
from transpike.lowering.whole import Entrance, Integers, Layer


def indented(lines: list[str]) -> str:
    """``lines`` with the indentation that their braces give."""
    depth, found = 1, []
    for line in "\n".join(lines).split("\n"):
        depth -= line.startswith("}")
        found.append(line if line.startswith("#") or not line else "  " * depth + line)
        depth += line.endswith("{")
    return "\n".join(found)


class Network:
    """Writes a plan as C99: integers only, no allocation, no function of another library but memset."""

    usage: ClassVar[str] = """net_start begins a run; arrays of charges must exist until its end.
   net_step runs one step. It returns 1, or 0 without doing anything after NET_STEPS steps: potentials and partial
   sums are proven to stay within their types for NET_STEPS steps.
   net_total is the charge of output k so far, in one unit for all; net_answer is the output with the largest."""
    meanings: ClassVar[Mapping[str, str]] = {
        "charge": "charge of every step",
        "input": "integers, which give the charge of every step",
        "values": "levels that stay the same during a run",
        "spikes": "levels of one step",
    }
    coded: ClassVar[bool] = False
    writer: ClassVar[type[Layers]] = Layers

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.constants = Constants()
        self.terms = Terms(self.constants, self.coded)
        self.layers = self.writer(plan, self.constants, self.terms)

    @cached_property
    def source(self) -> str:
        """``net.c``."""
        start, step = indented(self._start()), indented(self._step())  # these fill the constants
        readout = self.plan.whole.readout
        name, kind = self.plan.identifier(readout.name), total_type(self.plan)
        windows = [WINDOWS] if "_window(" in start + step else []
        windows += [ROUNDED] if "rounded(" in start else []
        windows += [text for call, text in HELPERS.items() if call in step]
        parts = [
            '/* Made by transpike: see net.h. */\n#include "net.h"\n#include <limits.h>\n#include <string.h>',
            "\n".join(self.constants.declarations),
            "/* Lengths and proven bounds: the compiler refuses an array of negative length. */\n"
            + "\n".join(self._checks()),
            *windows,
            "\n".join(self.terms.adders.values()),
            f"void net_start({', '.join(start_parameters(self.plan))}) {{\n{start}\n}}",
            f"int net_step({', '.join(step_parameters(self.plan))}) {{\n{step}\n}}",
            f"{kind} net_total(const net_state *s, uint32_t k) {{ return s->v_{name}[k]; }}",
            "uint32_t net_answer(const net_state *s) {\n  uint32_t best = 0;\n"
            "  for (uint32_t k = 1; k < NET_OUTPUTS; ++k) if (net_total(s, k) > net_total(s, best)) best = k;\n"
            "  return best;\n}",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def header(self, costs: str) -> str:
        """``net.h``; ``costs`` says what the network needs."""
        plan = self.plan
        members = [
            f"  const {one.kind} *{one.name};"
            if one.pointer
            else f"  {one.kind} {one.name}{'' if one.name == 'step' else f'[{one.count}]'};"
            for one in plan.state
        ]
        readout = plan.whole.readout
        layers = [layer.name for layer in plan.whole.layers if layer.kind != "readout"]
        level_type = f"typedef {plan.level_type} net_level;\n" if plan.level_type else ""
        levels = ", and their\n   levels, or 0 where all are 1" if plan.level_type else ""
        return f"""/* Made by transpike: a spiking network in integers, without allocation or libraries.

{self._description()}

{paragraph(costs)}

   {self.usage}
   With NET_WATCH defined, net_watch receives the events of each layer in each step{levels}. */
#ifndef NET_H
#define NET_H
#include <stdint.h>

#define NET_STEPS {plan.whole.timesteps}
#define NET_OUTPUTS {plan.size(readout.name)}
#define NET_LAYERS {len(layers)}

typedef {plan.index_type} net_index;
{level_type}
typedef struct {{
{chr(10).join(members)}
}} net_state;

void net_start({", ".join(start_parameters(plan))});
int net_step({", ".join(step_parameters(plan))});
{total_type(plan)} net_total(const net_state *s, uint32_t k);
uint32_t net_answer(const net_state *s);
#ifdef NET_WATCH
{watch_signature(plan)};
#endif
#endif
"""

    def _description(self) -> str:
        """The order of the inputs and outputs."""
        lines = []
        for one in self.plan.parameters:
            lines.append(f"{one.argument}: {self.meanings[one.kind]}, {one.low} to {one.high}, {order(one.array)}")
        lines.append(f"outputs: {order(self.plan.arrays[self.plan.whole.readout.name])}")
        return "\n".join(paragraph(line, "     ") for line in lines)

    def _checks(self) -> list[str]:
        """Conditions that stop the compiler: an array of negative length."""
        plan = self.plan
        conditions = [
            ("char", "CHAR_BIT == 8"),
            ("steps", f"NET_STEPS <= {plan.whole.timesteps}"),
            *self.constants.checks,
        ]
        largest = max((plan.size(name) for name in plan.senders), default=1)
        conditions.append(("index", f"{largest - 1}u <= (net_index)-1"))
        conditions += map(self._proof, plan.whole.layers)
        return [f"typedef char net_check_{name}[({condition}) ? 1 : -1];" for name, condition in conditions]

    def _proof(self, layer: Layer) -> tuple[str, str]:
        """Name and condition of what the type of a layer's state must hold."""
        plan, name = self.plan, self.plan.identifier(layer.name)
        if layer.kind == "maximum" and plan.is_graded(layer.name):
            largest = max(map(abs, plan.whole.ends(layer.name)))
            kind = plan.sum_type(layer.name).removesuffix("_t").upper()
            return f"sum_{name}", f"NET_STEPS * INT64_C({largest}) <= {kind}_MAX"
        if layer.kind == "maximum":
            return f"count_{name}", f"NET_STEPS <= {plan.count_type.removesuffix('_t').upper()}_MAX"
        found, kind = plan.ranges[layer.name], plan.potential_type(layer).removesuffix("_t").upper()
        low = f"{found.low}" if found.low > -(2**63) else "INT64_MIN"
        return f"v_{name}", f"{low} >= {kind}_MIN && {found.high} <= {kind}_MAX"

    def _start(self) -> list[str]:
        lines = ["memset(s, 0, sizeof *s);"]
        for entrance in self.plan.entrances("charge"):
            charge = f"s->{self.plan.charge(entrance.name)}"
            if entrance.front is None:
                lines.append(f"{charge} = {self.plan.parameter(entrance.name).argument};")
                continue
            name, given = self.plan.identifier(entrance.name), self.plan.parameter(entrance.front.name)
            order_of_layer, kind = self.plan.arrays[entrance.name], narrowest_type(entrance.low, entrance.high)
            lines += front_lines(self.terms, entrance.front, name, given, order_of_layer, charge, kind)
        for layer in self.plan.whole.layers:
            if layer.kind == "maximum":
                continue
            array, name = self.plan.arrays[layer.name], self.plan.identifier(layer.name)
            if layer.initial.any():
                lines += self._fill(f"s->v_{name}", f"initial_{name}", layer.initial, array)
            if kind := self.plan.current_type(layer):
                if layer.bias.any():
                    lines += self._fill(f"s->current_{name}", f"bias_{name}", layer.bias, array)
                target = Target(f"s->current_{name}", kind, array)
                lines += self.layers.charges(layer, target, from_values=True)
        return lines

    def _fill(self, expression: str, name: str, values: Integers, array: Array) -> list[str]:
        value = self.terms.value(name, array.spread(values), array, "i", "c")
        return [*self.layers.loops(array, [value]), f"{expression}[i] = {value};", *self.layers.ends(array, [value])]

    def _step(self) -> list[str]:
        plan, lines = self.plan, ["if (s->step >= NET_STEPS) return 0;", "++s->step;"]
        for name in plan.senders:
            place = f" + {plan.lists[name]}" if plan.lists[name] else ""
            lines.append(f"net_index *const list_{plan.identifier(name)} = s->list{place};")
            if plan.is_graded(name) and not isinstance(plan.whole.table[name], Entrance):
                lines.append(f"net_level *const level_{plan.identifier(name)} = s->level{place};")
        for entrance in plan.entrances("spikes"):
            lines += [f"/* {comment(entrance.name)}: what is not zero in this step */", *self._entering(entrance)]
        number = 0
        for layer in plan.whole.layers:
            lines += ["", f"/* {comment(layer.name)}: {layer.kind}, {order(plan.arrays[layer.name])} */"]
            if layer.start:
                lines.append(f"if (s->step <= {layer.start}) return 1;")
            lines += self.layers.step(layer)
            if layer.kind != "readout":
                plain = plan.identifier(layer.name)
                levels = (f", level_{plain}" if plan.is_graded(layer.name) else ", 0") if plan.level_type else ""
                lines += ["#ifdef NET_WATCH", f"net_watch({number}, list_{plain}{levels}, n_{plain});", "#endif"]
                number += 1
        return [*lines, "return 1;"]

    def _entering(self, entrance: Entrance) -> list[str]:
        """Lines that list the events of an entrance of spikes."""
        plain = self.plan.identifier(entrance.name)
        return [
            f"uint32_t n_{plain} = 0;",
            f"for (int32_t i = 0; i < {self.plan.size(entrance.name)}; ++i) {{",
            f"if ({self.plan.parameter(entrance.name).argument}[i] != 0) list_{plain}[n_{plain}++] = (net_index)i;",
            "}",
        ]


def watch_signature(plan: Plan) -> str:
    """The head of ``net_watch``."""
    levels = "const net_level *levels, " if plan.level_type else ""
    return f"void net_watch(uint32_t layer, const net_index *events, {levels}uint32_t count)"


def paragraph(text: str, later: str = "   ") -> str:
    """``text`` in lines of a comment."""
    return textwrap.fill(text, 116, initial_indent="   ", subsequent_indent=later)


def total_type(plan: Plan) -> str:
    """The type of the totals."""
    return "int64_t" if plan.potential_type(plan.whole.readout) == "int64_t" else "int32_t"


def start_parameters(plan: Plan) -> list[str]:
    """The parameters of ``net_start``."""
    return ["net_state *s", *(f"const {one.type} *{one.argument}" for one in plan.at_start)]


def step_parameters(plan: Plan) -> list[str]:
    """The parameters of ``net_step``."""
    return ["net_state *s", *(f"const {one.type} *{one.argument}" for one in plan.at_step)]


def order(array: Array) -> str:
    """The order in memory, in words: "8 x 8 x 16, features last"."""
    words = " x ".join(map(str, array.memory_shape))
    return f"{words}, features last" if array.features_last else words
