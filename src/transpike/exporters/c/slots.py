"""The C text of a first-spike network: a step is a time slot, in which each neuron fires once or never."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np

from transpike.exporters.c.front import front_lines
from transpike.exporters.c.layers import Layers
from transpike.exporters.c.layout import BYTES, Array, narrowest_type, unsigned_type
from transpike.exporters.c.network import Network
from transpike.exporters.c.plan import Field, Plan
from transpike.exporters.c.ranges import Range, in_one_run
from transpike.exporters.c.terms import Events, Target
from transpike.lowering.whole import Entrance, Integers, Layer, Slots


class SlotPlan(Plan):
    """The plan of a first-spike network."""

    @cached_property
    def ranges(self) -> dict[str, Range]:
        return {layer.name: in_one_run(self.whole, layer) for layer in self.whole.layers if self._sums(layer)}

    @staticmethod
    def _sums(layer: Layer) -> bool:
        return layer.integrates or layer.kind == "readout"

    def is_graded(self, name: str) -> bool:
        """False: the level of a spike is that of its slot."""
        return False

    def watched(self, levels: Integers) -> Integers:
        return (levels != 0).astype(np.int64)

    @property
    def step_type(self) -> str:
        """C type of the number of a step."""
        return unsigned_type(self.whole.timesteps)

    @cached_property
    def state(self) -> list[Field]:
        fields = [Field("step", "uint32_t", 1)]
        length = max((self.lists[name] + self.size(name) for name in self.senders), default=0)
        if length:
            fields.append(Field("list", self.index_type, length))
        for layer in self.whole.layers:
            name, size = self.identifier(layer.name), self.size(layer.name)
            if self._sums(layer):
                fields.append(Field(f"v_{name}", self.potential_type(layer), size))
            if layer.kind == "delay":
                fields.append(Field(f"at_{name}", self.step_type, size))
            elif layer.kind != "readout":
                fields.append(Field(f"fired_{name}", "uint8_t", size))
        return sorted(fields, key=lambda one: -BYTES[one.kind])


class SlotLayers(Layers):
    """Writes layers of first spikes: all spikes of a layer in one step have one level."""

    plan: SlotPlan

    def events(self, name: str) -> Events:
        plain, slots = self.plan.identifier(name), self.plan.whole.table[name].slots
        assert slots is not None
        head = self.each(name)
        if (slots.levels == 1).all():
            return Events(head, False)
        return Events(f"{head}\nconst int32_t level = {self._of_slot(f'level_{plain}', slots.levels, slots)};", True)

    def _of_slot(self, name: str, values: Integers, slots: Slots) -> str:
        """An expression for the one of ``values`` that is that of the slot of this step."""
        if len(values) == 1:
            return str(values[0])
        return f"{self.constants.add(name, values, str(len(slots.levels)))}[s->step - {slots.before + 1}]"

    def step(self, layer: Layer) -> list[str]:
        return self._delay(layer) if layer.kind == "delay" else super().step(layer)

    def neurons(self, layer: Layer) -> list[str]:
        plan, array, name = self.plan, self.plan.arrays[layer.name], self.plan.identifier(layer.name)
        lines = self.charges(layer, Target(f"s->v_{name}", plan.potential_type(layer), array), from_values=False)
        if layer.kind == "readout":
            return lines
        slots = layer.slots
        assert slots is not None
        declared, limit = self._thresholds(name, slots, array)
        return [
            *lines,
            *self._in_slots(name, slots),
            declared,
            *self.loops(array, [limit]),
            f"if (s->fired_{name}[i] == 0 && s->v_{name}[i] >= {limit}) {{",
            f"s->fired_{name}[i] = 1;",
            f"list_{name}[n_{name}++] = (net_index)i;",
            "}",
            *self.ends(array, [limit]),
            "}",
        ]

    @staticmethod
    def _in_slots(name: str, slots: Slots) -> list[str]:
        """Lines that begin what a layer does in the steps in which it fires."""
        last = slots.before + len(slots.levels)
        begin = f"s->step > {slots.before} && " if slots.before else ""
        return [f"uint32_t n_{name} = 0;", f"if ({begin}s->step <= {last}) {{"]

    def _thresholds(self, name: str, slots: Slots, array: Array) -> tuple[str, str]:
        """The line that declares the threshold of this slot, and the expression for that of a neuron."""
        table = np.stack([array.spread(one) for one in slots.thresholds])
        each = table.reshape(len(table), -1, array.memory_shape[-1])
        if (table == table[:, :1]).all():
            kind = narrowest_type(int(table.min()), int(table.max()))
            return f"const {kind} limit = {self._of_slot(f'threshold_{name}', table[:, 0], slots)};", "limit"
        index = "i"
        if each.shape[1] > 1 and (each == each[:, :1]).all():
            table, index = each[:, 0], "c"
        known = self.constants.add(f"threshold_{name}", table, f"{len(table)} * {table.shape[1]}")
        kind = self.constants.types[known]
        row = f"(s->step - {slots.before + 1}) * {table.shape[1]}"
        return f"const {kind} *const limit = {known} + {row};", f"limit[{index}]"

    def winner(self, name: str) -> tuple[list[str], list[str]]:
        """The first spike of a window is its largest: levels never rise."""
        return [], [f"if (s->fired_{name}[o] == 0) {{", f"s->fired_{name}[o] = 1;"]

    def _delay(self, layer: Layer) -> list[str]:
        plan, name, slots = self.plan, self.plan.identifier(layer.name), layer.slots
        assert slots is not None
        source, array = plan.arrays[layer.source], plan.arrays[layer.name]
        order = np.empty(source.size, np.int64)
        order[source.positions] = array.positions
        place = "e"
        if not np.array_equal(order, np.arange(source.size)):
            place = f"{self.constants.add(f'order_{name}', order, str(source.size))}[e]"
        return [
            self.each(layer.source),
            f"s->at_{name}[{place}] = ({plan.step_type})s->step;",
            "}",
            *self._in_slots(name, slots),
            f"for (int32_t i = 0; i < {array.size}; ++i) {{",
            f"if (s->at_{name}[i] != 0 && s->at_{name}[i] + {slots.wait}u == s->step) {{",
            f"list_{name}[n_{name}++] = (net_index)i;",
            "}",
            "}",
            "}",
        ]


class SlotNetwork(Network):
    """Writes a plan of first spikes; what enters at the start is added to the potentials there."""

    usage: ClassVar[str] = """net_start begins a run.
   net_step runs one step, which is a time slot. It returns 1, or 0 without doing anything after NET_STEPS steps, with
   the last of which the answer is complete. All spikes of a layer in one step have one level.
   net_total is the charge of output k so far, in one unit for all; net_answer is the output with the largest."""
    coded: ClassVar[bool] = True
    writer: ClassVar[type[Layers]] = SlotLayers
    meanings: ClassVar[Mapping[str, str]] = {
        "charge": "charge before the first step",
        "input": "integers, which give the charge before the first step",
        "spikes": "levels of one step",
    }
    plan: SlotPlan

    def _proof(self, layer: Layer) -> tuple[str, str]:
        name = self.plan.identifier(layer.name)
        if layer.kind == "maximum":
            return f"fired_{name}", "UINT8_MAX >= 1"
        if layer.kind == "delay":
            return f"at_{name}", f"NET_STEPS <= {self.plan.step_type.removesuffix('_t').upper()}_MAX"
        return super()._proof(layer)

    def _start(self) -> list[str]:
        plan, lines = self.plan, ["memset(s, 0, sizeof *s);"]
        for layer in plan.whole.layers:
            if layer.name not in plan.ranges:
                continue
            array, name, kind = plan.arrays[layer.name], plan.identifier(layer.name), plan.potential_type(layer)
            added, values = [f"s->v_{name}[i]"], []
            for current in layer.currents:
                entrance = plan.whole.table[current]
                assert isinstance(entrance, Entrance)
                if entrance.front is None:
                    added.append(f"{plan.parameter(current).argument}[i]")
                    continue
                assert current == layer.currents[0], "the charge of integers is written, not added"
                given, plain = plan.parameter(entrance.front.name), plan.identifier(current)
                lines += front_lines(self.terms, entrance.front, plain, given, array, f"s->v_{name}", kind)
            constant = array.spread(layer.bias + layer.initial)
            if constant.any():
                values.append(self.terms.value(f"bias_{name}", constant, array, "i", "c"))
                added += values
            if len(added) > 1:
                body = f"s->v_{name}[i] = ({kind})({' + '.join(added)});"
                lines += [*self.layers.loops(array, values), body, *self.layers.ends(array, values)]
        return lines

    def _entering(self, entrance: Entrance) -> list[str]:
        assert entrance.slots is not None
        declared, *scan = super()._entering(entrance)
        return [declared, f"if (s->step <= {len(entrance.slots.levels)}) {{", *scan, "}"]
