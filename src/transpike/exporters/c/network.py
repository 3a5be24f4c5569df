"""The text of ``net.h`` and ``net.c``."""

import textwrap
from functools import cached_property
from typing import Literal

import numpy as np

from transpike.exporters.c.front import ROUNDED, front_lines
from transpike.exporters.c.layout import Array, narrowest_type
from transpike.exporters.c.plan import Plan
from transpike.exporters.c.rules import HELPERS, Numbers, level_lines
from transpike.exporters.c.terms import WINDOWS, Constants, Events, Span, Target, Terms, comment, coordinates
from transpike.lowering.whole import Entrance, Integers, Layer, Window
from transpike.lowering.whole_rules import ENDLESS


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

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.constants = Constants()
        self.terms = Terms(self.constants)

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
        return f"""/* Made by transpike: a spiking network in whole numbers, without allocation or libraries.

{self._description()}

{paragraph(costs)}

   net_start begins a run; arrays of charges must exist until its end.
   net_step runs one step. It returns 1, or 0 without doing anything after NET_STEPS steps: potentials and partial
   sums are proven to stay within their types for NET_STEPS steps.
   net_total is the charge of output k so far, in one unit for all; net_answer is the output with the largest.
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
        meanings = {
            "charge": "charge of every step",
            "input": "whole numbers, which give the charge of every step",
            "values": "levels that stay the same during a run",
            "spikes": "levels of one step",
        }
        for one in self.plan.parameters:
            lines.append(f"{one.argument}: {meanings[one.kind]}, {one.low} to {one.high}, {order(one.array)}")
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
        for layer in plan.whole.layers:
            name = plan.identifier(layer.name)
            if layer.kind == "maximum" and plan.is_graded(layer.name):
                largest = max(map(abs, plan.whole.ends(layer.name)))
                kind = plan.sum_type(layer.name).removesuffix("_t").upper()
                conditions.append((f"sum_{name}", f"NET_STEPS * INT64_C({largest}) <= {kind}_MAX"))
                continue
            if layer.kind == "maximum":
                conditions.append((f"count_{name}", f"NET_STEPS <= {plan.count_type.removesuffix('_t').upper()}_MAX"))
                continue
            found, kind = plan.ranges[layer.name], plan.potential_type(layer).removesuffix("_t").upper()
            low = f"{found.low}" if found.low > -(2**63) else "INT64_MIN"
            conditions.append((f"v_{name}", f"{low} >= {kind}_MIN && {found.high} <= {kind}_MAX"))
        return [f"typedef char net_check_{name}[({condition}) ? 1 : -1];" for name, condition in conditions]

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
                lines += self._charges(layer, target, from_values=True)
        return lines

    def _fill(self, expression: str, name: str, values: Integers, array: Array) -> list[str]:
        value = self.terms.value(name, array.spread(values), array, "i", "c")
        return [*self._loops(array, [value]), f"{expression}[i] = {value};", *self._ends(array, [value])]

    def _loops(self, array: Array, values: list[str]) -> list[str]:
        """Over all neurons i, and their features c if a value needs them."""
        features = array.memory_shape[-1]
        if any(value.endswith("[c]") for value in values):
            return [
                f"for (int32_t i = 0; i < {array.size};) {{",
                f"for (int32_t c = 0; c < {features}; ++c, ++i) {{",
            ]
        return [f"for (int32_t i = 0; i < {array.size}; ++i) {{"]

    def _ends(self, array: Array, values: list[str]) -> list[str]:
        return ["}"] * len(self._loops(array, values))

    def _charges(self, layer: Layer, target: Target, *, from_values: bool) -> list[str]:
        """The terms of ``layer`` whose sources are constant levels, or events."""
        lines = []
        for k, term in enumerate(layer.terms):
            source = self.plan.whole.table[term.source]
            values = isinstance(source, Entrance) and source.kind == "values"
            if values == from_values:
                lines += self.terms.write(
                    term,
                    self.plan.terms[layer.name, k],
                    self.plan.arrays[term.source],
                    self._events(term.source),
                    target,
                )
        return lines

    def _events(self, name: str) -> Events:
        source = self.plan.whole.table[name]
        if isinstance(source, Entrance) and source.kind == "values":
            level = f"const int32_t e = i, level = {self.plan.parameter(name).argument}[i];\nif (level == 0) continue;"
            return Events(f"for (int32_t i = 0; i < {self.plan.size(name)}; ++i) {{\n{level}", True)
        plain = self.plan.identifier(name)
        graded = self.plan.is_graded(name)
        head = f"for (uint32_t i = 0; i < n_{plain}; ++i) {{\nconst int32_t e = (int32_t)list_{plain}[i];"
        if graded:
            levels = f"{self.plan.parameter(name).argument}[e]" if isinstance(source, Entrance) else f"level_{plain}[i]"
            head += f"\nconst int32_t level = {levels};"
        return Events(head, graded)

    def _step(self) -> list[str]:
        plan, lines = self.plan, ["if (s->step >= NET_STEPS) return 0;", "++s->step;"]
        for name in plan.senders:
            place = f" + {plan.lists[name]}" if plan.lists[name] else ""
            lines.append(f"net_index *const list_{plan.identifier(name)} = s->list{place};")
            if plan.is_graded(name) and not isinstance(plan.whole.table[name], Entrance):
                lines.append(f"net_level *const level_{plan.identifier(name)} = s->level{place};")
        for entrance in plan.entrances("spikes"):
            plain = plan.identifier(entrance.name)
            lines += [
                f"/* {comment(entrance.name)}: what is not zero in this step */",
                f"uint32_t n_{plain} = 0;",
                f"for (int32_t i = 0; i < {plan.size(entrance.name)}; ++i) {{",
                f"if ({plan.parameter(entrance.name).argument}[i] != 0) list_{plain}[n_{plain}++] = (net_index)i;",
                "}",
            ]
        number = 0
        for layer in plan.whole.layers:
            lines += ["", f"/* {comment(layer.name)}: {layer.kind}, {order(plan.arrays[layer.name])} */"]
            if layer.start:
                lines.append(f"if (s->step <= {layer.start}) return 1;")
            lines += self._maximum(layer) if layer.kind == "maximum" else self._neurons(layer)
            if layer.kind != "readout":
                plain = plan.identifier(layer.name)
                levels = (f", level_{plain}" if plan.is_graded(layer.name) else ", 0") if plan.level_type else ""
                lines += ["#ifdef NET_WATCH", f"net_watch({number}, list_{plain}{levels}, n_{plain});", "#endif"]
                number += 1
        return [*lines, "return 1;"]

    def _neurons(self, layer: Layer) -> list[str]:
        plan, array, name = self.plan, self.plan.arrays[layer.name], self.plan.identifier(layer.name)
        kind = plan.potential_type(layer)
        wide = "int64_t" if kind == "int64_t" else "int32_t"
        lines = self._charges(layer, Target(f"s->v_{name}", kind, array), from_values=False)
        added, values = [], []
        if plan.current_type(layer):
            added.append(f"s->current_{name}[i]")
        elif layer.bias.any():
            values.append(self.terms.value(f"bias_{name}", array.spread(layer.bias), array, "i", "c"))
            added.append(self._when(layer, "bias", values[-1]))
        added += [self._when(layer, "currents", f"s->{plan.charge(one)}[i]") for one in layer.currents]
        potential = " + ".join([f"s->v_{name}[i]", *added])
        if layer.kind == "readout":
            if not added:
                return lines
            body = [f"s->v_{name}[i] = ({kind})({potential});"]
            return [*lines, *self._loops(array, values), *body, *self._ends(array, values)]
        numbers = self._numbers(layer, array, name)
        values += [value for value in vars(numbers).values() if value]
        waits = [] if self._when(layer, "fires", "") == "" else [
            f"if (!({self._condition(layer, 'fires')})) {{", f"s->v_{name}[i] = ({kind})u;", "continue;", "}"
        ]  # fmt: skip
        fire = self._spike if layer.rule.is_plain else self._levels
        return [
            *lines,
            f"uint32_t n_{name} = 0;",
            *self._loops(array, values),
            f"const {wide} u = {potential};",
            *waits,
            *fire(layer, name, kind, numbers, bool(added)),
            *self._ends(array, values),
        ]

    def _numbers(self, layer: Layer, array: Array, name: str) -> Numbers:
        """The numbers of a rule, as expressions."""
        given = {"threshold": layer.threshold}
        given |= {"below": layer.rule.below} if layer.rule.kind == "signed" else {}
        if layer.rule.follow is not None:
            given |= {key: value for key, value in vars(layer.rule.follow).items() if (abs(value) < ENDLESS).any()}
        found = {
            key: self.terms.value(f"{key}_{name}", array.spread(value), array, "i", "c") for key, value in given.items()
        }
        return Numbers(**found)

    def _condition(self, layer: Layer, what: Literal["bias", "currents", "fires"]) -> str:
        """Whether the current step is one of those that the layer's timing calls so."""
        assert layer.timing is not None
        begin, end = getattr(layer.timing, what)
        return f"s->step > {begin} && s->step <= {end}" if begin else f"s->step <= {end}"

    def _when(self, layer: Layer, what: Literal["bias", "currents", "fires"], value: str) -> str:
        """``value`` in the steps of the timing, else 0."""
        always = layer.timing is None or getattr(layer.timing, what) == (0, self.plan.whole.timesteps)
        return value if always else f"({self._condition(layer, what)} ? {value} : 0)"

    @staticmethod
    def _spike(layer: Layer, name: str, kind: str, numbers: Numbers, added: bool) -> list[str]:
        """One spike where u reaches the threshold."""
        after = "0" if layer.reset == "zero" else f"({kind})(u - {numbers.threshold})"
        otherwise = [f"s->v_{name}[i] = ({kind})u;"] if added else []
        return [
            f"if (u >= {numbers.threshold}) {{",
            f"s->v_{name}[i] = {after};",
            f"list_{name}[n_{name}++] = (net_index)i;",
            *(["} else {", *otherwise] if otherwise else []),
            "}",
        ]

    def _levels(self, layer: Layer, name: str, kind: str, numbers: Numbers, added: bool) -> list[str]:
        """The level of the layer's rule, and what it leaves."""
        sent = f"s->sent_{name}[i]"
        lines = level_lines(layer, numbers, sent)
        if layer.rule.follow is not None:
            lines += [f"s->v_{name}[i] = ({kind})u;"] if added else []
        elif layer.reset == "zero":
            lines.append(f"s->v_{name}[i] = level != 0 ? 0 : ({kind})u;")
        else:
            lines.append(f"s->v_{name}[i] = ({kind})(u - level * {numbers.threshold});")
        lines.append("if (level != 0) {")
        if layer.rule.remembers:
            lines.append(f"{sent} = ({self.plan.sum_type(layer.name)})({sent} + level);")
        return [*lines, f"level_{name}[n_{name}] = (net_level)level;", f"list_{name}[n_{name}++] = (net_index)i;", "}"]

    def _maximum(self, layer: Layer) -> list[str]:
        """An output fires when an input of its window has fired more often than any of them before."""
        if self.plan.is_graded(layer.name):
            return self._maximum_of_sums(layer)
        plan, name = self.plan, self.plan.identifier(layer.name)
        source, array = plan.arrays[layer.source], plan.arrays[layer.name]
        assert layer.pool is not None
        channels, inner = source.shape[0], source.shape[1:]
        x = Array("", source.shape, source.shape, True)
        order_of_source = np.empty(source.size, np.int64)
        order_of_source[source.positions] = x.positions
        lines = [f"uint32_t n_{name} = 0;", self._events(layer.source).head]
        if np.array_equal(order_of_source, np.arange(source.size)):
            lines.append("const int32_t p = e;")
        else:
            lines.append(f"const int32_t p = (int32_t){self.constants.add(f'order_{name}', order_of_source)}[e];")
        lines += [f"const {plan.count_type} now = ++s->count_{name}[e];", *coordinates(inner, channels)]
        offset, loops = "", 0
        for axis, size in enumerate(array.shape[1:]):
            span = self._span(layer.pool, axis, size)
            opening, _ = span.loop()
            lines += opening
            loops += len([line for line in opening if line.startswith("for")])
            offset = f"({offset} * {size} + {span.output})" if offset else span.output
        return [
            *lines,
            f"const int32_t o = {offset} * {channels} + c;",
            f"if (now > s->top_{name}[o]) {{",
            f"s->top_{name}[o] = now;",
            f"list_{name}[n_{name}++] = (net_index)o;",
            "}",
            *["}"] * loops,
            "}",
        ]

    def _maximum_of_sums(self, layer: Layer) -> list[str]:
        """An output sends the change of the largest sum of levels in its window."""
        plan, name = self.plan, self.plan.identifier(layer.name)
        source, array = plan.arrays[layer.source], plan.arrays[layer.name]
        assert layer.pool is not None
        channels, inner = source.shape[0], source.shape[1:]
        places = np.empty(source.size, np.int64)  # in memory, for each position with features last
        places[Array("", source.shape, source.shape, True).positions] = source.positions
        place = "p"
        if not np.array_equal(places, np.arange(source.size)):
            place = f"{self.constants.add(f'order_{name}', places)}[p]"
        kind, pool = plan.sum_type(layer.name), layer.pool
        lines = [
            self._events(layer.source).head, f"s->sum_{name}[e] = ({kind})(s->sum_{name}[e] + level);", "}",
            f"uint32_t n_{name} = 0;", f"for (int32_t o = 0; o < {array.size}; ++o) {{",
            "int32_t best = INT32_MIN;", *coordinates(array.shape[1:], channels, "o"),
        ]  # fmt: skip
        position = ""
        for axis, size in enumerate(inner):
            start = f"q{axis} * {pool.stride[axis]} - {pool.padding[axis]}"
            lines += [
                f"for (int32_t k{axis} = 0; k{axis} < {pool.kernel[axis]}; ++k{axis}) {{",
                f"const int32_t x{axis} = {start} + k{axis};",
                f"if (x{axis} < 0 || x{axis} >= {size}) continue;",
            ]
            position = f"({position} * {size} + x{axis})" if position else f"x{axis}"
        return [
            *lines,
            f"const int32_t p = {position} * {channels} + c;",
            f"if (s->sum_{name}[{place}] > best) best = s->sum_{name}[{place}];",
            *["}"] * len(inner),
            f"if (best == s->top_{name}[o]) continue;",
            f"level_{name}[n_{name}] = (net_level)(best - s->top_{name}[o]);",
            f"s->top_{name}[o] = ({kind})best;",
            f"list_{name}[n_{name}++] = (net_index)o;",
            "}",
        ]

    @staticmethod
    def _span(pool: Window, axis: int, size: int) -> Span:
        return Span(pool.kernel[axis], pool.stride[axis], pool.padding[axis], 1, size, axis)


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
