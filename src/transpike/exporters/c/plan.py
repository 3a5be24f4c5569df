"""Everything that is decided before the C text is written: names, types, and where lists of events lie."""

from dataclasses import dataclass
from functools import cached_property

from transpike.exporters.c.layout import BYTES, Array, arrays, identifiers, narrowest_type, signed_type, unsigned_type
from transpike.exporters.c.ranges import Range, range_of
from transpike.lowering.whole import Entrance, Integers, Layer, Samples, Whole


@dataclass(frozen=True)
class Field:
    """A member of the state: ``count`` values of ``kind`` (a pointer to them if ``pointer``)."""

    name: str
    kind: str
    count: int
    pointer: bool = False

    @property
    def bytes(self) -> int:
        """On a 32-bit core."""
        return 4 if self.pointer else self.count * BYTES[self.kind]


@dataclass(frozen=True, eq=False)
class Parameter:
    """An argument of ``net_start`` or, for "spikes", of ``net_step``.

    ``kind``: that of an entrance, or "input" for the integers that charges are made of, ``Samples.raw[name]``.
    """

    name: str
    kind: str
    argument: str
    low: int
    high: int
    array: Array

    @property
    def type(self) -> str:
        return narrowest_type(self.low, self.high)

    def values(self, samples: Samples) -> Integers:
        """Those of samples in the order of memory: (batch, size), of spikes (batch, T, size)."""
        values = (samples.raw if self.kind == "input" else samples.entering)[self.name]
        stored = self.array.stored(values)
        return stored.swapaxes(0, 1) if self.kind == "spikes" else stored


@dataclass(frozen=True, eq=False)
class Plan:
    """What the writers of ``net.c``, ``net.h``, ``test.c`` and ``trace.c`` share."""

    whole: Whole

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """Name of an entrance or layer → its array."""
        return arrays(self.whole)

    @cached_property
    def terms(self) -> dict[tuple[str, int], str]:
        """(layer, number of the term) → its identifier."""
        keys = [(layer, k) for layer in self.whole.layers for k in range(len(layer.terms))]
        names = identifiers(layer.terms[k].name for layer, k in keys)
        return {(layer.name, k): name for (layer, k), name in zip(keys, names, strict=True)}

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """Layer → the proven range of its potentials."""
        return {layer.name: range_of(self.whole, layer) for layer in self.whole.layers if layer.kind != "maximum"}

    def entrances(self, *kinds: str) -> list[Entrance]:
        return [one for one in self.whole.entrances if one.kind in kinds]

    def identifier(self, name: str) -> str:
        return self.arrays[name].identifier

    def charge(self, name: str) -> str:
        """The member of the state that holds the charges of an entrance, or points to them."""
        return f"charge_{self.identifier(name)}"

    def size(self, name: str) -> int:
        return self.arrays[name].size

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What ``net_start`` and ``net_step`` take: integers of inputs, and what enters in other ways."""
        fronts = {one.front.name: one.front for one in self.whole.entrances if one.front}
        others = [one for one in self.whole.entrances if one.front is None]
        names = identifiers([*fronts, *(one.name for one in others)])
        found = []
        for name, (key, front) in zip(names, fronts.items(), strict=False):
            last = front.term.kind == "conv" and front.term.index is None
            array = Array(name, front.shape, front.shape, last and len(front.shape) > 1)
            found.append(Parameter(key, "input", f"in_{name}", front.low, front.high, array))
        for name, one in zip(names[len(fronts) :], others, strict=True):
            found.append(Parameter(one.name, one.kind, f"in_{name}", one.low, one.high, self.arrays[one.name]))
        return tuple(found)

    @property
    def at_start(self) -> list[Parameter]:
        return [one for one in self.parameters if one.kind != "spikes"]

    @property
    def at_step(self) -> list[Parameter]:
        return [one for one in self.parameters if one.kind == "spikes"]

    def parameter(self, name: str) -> Parameter:
        """That of the entrance, or of the input of integers, ``name``."""
        return next(one for one in self.parameters if one.name == name)

    def potential_type(self, layer: Layer) -> str:
        found = self.ranges[layer.name]
        return signed_type(found.low, found.high)

    def current_type(self, layer: Layer) -> str:
        """The type of what ``net_start`` computes from constant levels; "" if there are none."""
        sources = [self.whole.table[term.source] for term in layer.terms]
        if not any(isinstance(one, Entrance) and one.kind == "values" for one in sources):
            return ""
        found = self.ranges[layer.name]
        return signed_type(found.current_low, found.current_high)

    def watched(self, levels: Integers) -> Integers:
        """The levels of a layer as ``net_watch`` receives them."""
        return levels

    def is_graded(self, name: str) -> bool:
        """True for senders whose levels are not only 0 and 1."""
        low, high = self.whole.ends(name)
        return low < 0 or high > 1

    @cached_property
    def level_type(self) -> str:
        """C type of the levels of all layers; "" if they are 0 and 1."""
        graded = [layer.name for layer in self.whole.layers[:-1] if self.is_graded(layer.name)]
        ends = [self.whole.ends(name) for name in graded]
        return signed_type(min(low for low, _ in ends), max(high for _, high in ends)) if ends else ""

    def sum_type(self, name: str) -> str:
        """C type of the sum of a sender's levels in a run."""
        low, high = (self.whole.timesteps * end for end in self.whole.ends(name))
        return signed_type(low, high)

    @property
    def count_type(self) -> str:
        """C type of the number of spikes of one neuron in a run."""
        return unsigned_type(self.whole.timesteps)

    @cached_property
    def senders(self) -> list[str]:
        """Entrances and layers whose events are listed."""
        layers = [layer.name for layer in self.whole.layers if layer.kind != "readout"]
        return [entrance.name for entrance in self.entrances("spikes")] + layers

    @property
    def index_type(self) -> str:
        return unsigned_type(max((self.size(name) for name in self.senders), default=1))

    @cached_property
    def lists(self) -> dict[str, int]:
        """Sender → where its list begins in the array that all lists share.

        Two lists may lie in one place if one is read for the last time before the other is written. A neuron layer
        and a delay write their list after they have read those of their sources, pooling while it reads.
        """
        layers = {layer.name: k for k, layer in enumerate(self.whole.layers, 1)}
        life = {}
        for name in self.senders:
            born = 0 if name not in layers else 2 * layers[name] + (self._layer(name).kind != "maximum")
            readers = [2 * k for other, k in layers.items() if name in self._sources(self._layer(other))]
            life[name] = born, max(readers, default=born)
        placed: dict[str, int] = {}
        for name in sorted(self.senders, key=lambda one: (-self.size(one), one)):
            busy = sorted(
                (placed[other], placed[other] + self.size(other))
                for other in placed
                if life[other][0] <= life[name][1] and life[name][0] <= life[other][1]
            )
            start = 0
            for begin, end in busy:
                if start + self.size(name) <= begin:
                    break
                start = max(start, end)
            placed[name] = start
        return placed

    def _layer(self, name: str) -> Layer:
        found = self.whole.table[name]
        assert isinstance(found, Layer)
        return found

    @staticmethod
    def _sources(layer: Layer) -> set[str]:
        return {term.source for term in layer.terms} | ({layer.source} if layer.source else set())

    @cached_property
    def state(self) -> list[Field]:
        """The members of ``net_state``, the widest first, so that there are no gaps."""
        fields = [Field("step", "uint32_t", 1)]
        length = max((self.lists[name] + self.size(name) for name in self.senders), default=0)
        if length:
            fields.append(Field("list", self.index_type, length))
        if self.level_type:
            fields.append(Field("level", self.level_type, length))
        for entrance in self.entrances("charge"):
            kind, pointer = narrowest_type(entrance.low, entrance.high), entrance.front is None
            fields.append(Field(self.charge(entrance.name), kind, self.size(entrance.name), pointer))
        for layer in self.whole.layers:
            name, size = self.identifier(layer.name), self.size(layer.name)
            if layer.kind == "maximum" and self.is_graded(layer.name):
                kind = self.sum_type(layer.name)
                fields += [Field(f"sum_{name}", kind, self.size(layer.source)), Field(f"top_{name}", kind, size)]
                continue
            if layer.rule.remembers:
                fields.append(Field(f"sent_{name}", self.sum_type(layer.name), size))
            if layer.kind == "maximum":
                fields.append(Field(f"count_{name}", self.count_type, self.size(layer.source)))
                fields.append(Field(f"top_{name}", self.count_type, size))
                continue
            fields.append(Field(f"v_{name}", self.potential_type(layer), size))
            if kind := self.current_type(layer):
                fields.append(Field(f"current_{name}", kind, size))
        return sorted(fields, key=lambda one: -8 if one.pointer else -BYTES[one.kind])

    @property
    def ram(self) -> int:
        """Bytes of the state on a 32-bit core, without the gap at its end."""
        return sum(one.bytes for one in self.state)
