"""The event engine's native library, loaded with ctypes: its path, version check and functions."""

import ctypes
import functools
import importlib.metadata
import os
import struct
import sys
from ctypes import POINTER, c_char_p, c_double, c_int64, c_void_p
from pathlib import Path

from transpike.engines.native import instructions

ABI = 5
UNIT = 16  # channels that are always computed together
DELTA_STEPS, DELTA_BLOCK = 16, 64  # of layers of sigma-delta neurons: time steps of one call, channels of a block
DELTA_TOTALS = 4
STEPS = 32  # time steps of one call at most
NAME = {"win32": "transpike_events.dll", "darwin": "libtranspike_events.dylib"}.get(
    sys.platform, "libtranspike_events.so"
)
HOW = "install a C compiler (gcc or clang), then install transpike again"


class Source(ctypes.Structure):
    """native/transpike.h: tp_source."""

    _fields_ = [
        ("planes", c_void_p),
        ("weights", c_void_p),
        ("units", c_void_p),
        ("factors", c_void_p),
        ("block_weights", c_void_p),
        *((name, c_int64) for name in ("kind", "plane_count", "sample_words", "row_words", "column_words")),
        *((name, c_int64) for name in ("height", "width", "channels", "groups")),
        *((f"{name}_{axis}", c_int64) for name in ("kernel", "stride", "padding", "dilation") for axis in "yx"),
    ]


class Layer(ctypes.Structure):
    """native/transpike.h: tp_layer."""

    _fields_ = [
        *((name, c_void_p) for name in ("sources", "constant", "threshold", "room", "edge", "factors")),
        *((name, c_void_p) for name in ("initial", "potential", "sent", "words", "block_start", "block_units")),
        *((name, c_int64) for name in ("source_count", "blocks", "batch", "height", "width", "channels", "steps")),
        *((name, c_int64) for name in ("constant_sample", "constant_position")),
        *((name, c_int64) for name in ("threshold_position", "room_position", "initial_position")),
        *((name, c_int64) for name in ("first_step", "hard_reset")),
        *((name, c_int64) for name in ("count_ties", "range_check_every", "threads")),
        *((name, c_int64) for name in ("rule", "factor_count", "remembers")),
        ("leak", c_double),
        *((name, c_int64) for name in ("ties", "beyond")),
    ]


class Scan(ctypes.Structure):
    """native/transpike.h: tp_scan."""

    _fields_ = [
        *((name, c_void_p) for name in ("wide", "narrow", "value", "threshold", "initial")),
        *((name, c_void_p) for name in ("estimate", "sent", "levels")),
        *((name, c_int64) for name in ("neurons", "period", "steps", "source", "all_digits", "threads")),
        *((name, c_double) for name in ("ceiling", "fine", "off_grid", "near", "top")),
        *((name, c_int64) for name in ("unclear", "broken")),
    ]


class Part(ctypes.Structure):
    """native/transpike.h: tp_part."""

    _fields_ = [
        *((name, c_void_p) for name in ("layer", "source", "to", "taps", "runs", "counts", "largest")),
        *((name, c_void_p) for name in ("fan_out", "boundary", "totals")),
        *((name, c_int64) for name in ("kind", "source_sample", "inputs", "outputs", "window", "channels", "neurons")),
        *((name, c_int64) for name in ("run_count", "work")),
    ]


class Section(ctypes.Structure):
    """native/transpike.h: tp_section."""

    _fields_ = [
        ("parts", c_void_p),
        *((name, c_int64) for name in ("part_count", "batch", "steps", "first_step", "threads", "count_ties")),
        *((name, c_int64) for name in ("ties", "left")),
    ]


class Delta(ctypes.Structure):
    """native/transpike.h: tp_delta."""

    _fields_ = [
        *((name, c_void_p) for name in ("levels", "heard", "weights", "units", "wide", "narrow", "first")),
        *((name, c_void_p) for name in ("passed", "factors", "currents")),
        *(
            (name, c_void_p)
            for name in (
                "threshold",
                "initial",
                "inverse",
                "shift",
                "estimate",
                "sent",
                "out",
                "fan",
                "reads",
                "totals",
                "events",
            )
        ),
        *((name, c_int64) for name in ("steps", "all_steps", "added_steps", "batch", "height", "width", "channels")),
        *((name, c_int64) for name in ("height_in", "width_in", "channels_in")),
        *((f"{name}_{axis}", c_int64) for name in ("kernel", "stride", "padding", "dilation") for axis in "yx"),
        *((name, c_int64) for name in ("first_position", "neuron_position", "fan_position", "reads_position")),
        *((name, c_int64) for name in ("depthwise", "whole", "source", "all_digits", "fresh", "threads")),
        *((name, c_double) for name in ("ceiling", "fine", "off_grid", "top")),
        ("broken", c_int64),
    ]


class Entrance(ctypes.Structure):
    """native/transpike.h: tp_entrance."""

    _fields_ = [
        *((name, c_void_p) for name in ("x", "weights", "grid", "bias", "currents")),
        *((name, c_int64) for name in ("batch", "height", "width", "channels")),
        *((name, c_int64) for name in ("height_in", "width_in", "channels_in")),
        *((f"{name}_{axis}", c_int64) for name in ("kernel", "stride", "padding", "dilation") for axis in "yx"),
        *((name, c_int64) for name in ("bias_position", "threads")),
        ("factor", c_double),
    ]


class Staircase(ctypes.Structure):
    """native/transpike.h: tp_staircase."""

    _fields_ = [
        *((name, c_void_p) for name in ("wide", "narrow", "offset", "threshold", "levels")),
        *((name, c_int64) for name in ("rows", "columns", "period", "shared", "threads")),
        ("most", c_double),
    ]


class Rounding(ctypes.Structure):
    """native/transpike.h: tp_rounding."""

    _fields_ = [
        *((name, c_void_p) for name in ("value", "values", "changes")),
        *((name, c_int64) for name in ("count", "threads")),
        *((name, c_double) for name in ("grid", "room", "near")),
        ("unclear", c_int64),
    ]


_SIGNATURES = {  # name → (argument types, result type), as in native/transpike.h
    "tp_abi": ([], c_int64),
    "tp_struct_bytes": ([c_int64], c_int64),
    "tp_instructions": ([], c_char_p),
    "tp_has_threads": ([], c_int64),
    "tp_compiled": ([c_char_p], c_int64),
    "tp_force": ([c_char_p], c_int64),
    "tp_scratch_bytes": ([POINTER(Layer)], c_int64),
    "tp_run": ([POINTER(Layer), c_void_p], c_int64),
    "tp_run_section": ([POINTER(Section), c_void_p], c_int64),
    "tp_pack_wire": ([c_void_p] + [c_int64] * 8 + [c_void_p], c_int64),
    "tp_count": ([c_void_p] * 2 + [c_int64] * 4 + [c_void_p] * 2, None),
    "tp_unpack": ([c_void_p] + [c_int64] * 4 + [c_void_p], None),
    "tp_sum_positions": ([c_void_p] + [c_int64] * 5 + [c_void_p], None),
    "tp_first_spikes": ([c_void_p, c_int64] + [c_void_p] * 2 + [c_int64, c_void_p] + [c_int64] * 4 + [c_void_p], None),
    "tp_sigma_delta": ([POINTER(Scan)], None),
    "tp_run_staircase": ([POINTER(Staircase)], None),
    "tp_entrance_scratch": ([POINTER(Entrance)], c_int64),
    "tp_run_entrance": ([POINTER(Entrance), c_void_p], c_int64),
    "tp_round": ([POINTER(Rounding)], None),
    "tp_delta_scratch": ([POINTER(Delta)], c_int64),
    "tp_run_delta": ([POINTER(Delta), c_void_p], c_int64),
    "tp_pool_max": ([c_void_p] * 2 + [c_int64] * 7 + [c_void_p] * 3, None),
}


def path() -> Path | None:
    """The library file: TRANSPIKE_NATIVE if set, else next to the engines, else in the installed package."""
    if chosen := os.environ.get("TRANSPIKE_NATIVE"):
        return Path(chosen)
    places = [Path(__file__).parents[1] / NAME]
    try:
        installed = importlib.metadata.distribution("transpike").locate_file(f"transpike/engines/{NAME}")
        places.append(Path(str(installed)))
    except importlib.metadata.PackageNotFoundError:
        pass
    return next((place for place in places if place.exists()), None)


def _is_cut_off(file: Path) -> bool:
    """True for an ELF file that ends before its section headers: loading it would kill the process."""
    with file.open("rb") as stream:
        head = stream.read(64)
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":  # 64 bits only; loading others raises an error
        return head[:4] == b"\x7fELF"
    (offset,), (size, count) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
    return file.stat().st_size < offset + size * count


@functools.cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """(the library or None, one line that describes it or states why it is missing).

    Raises SettingError if TRANSPIKE_ISA names no instruction set, or one that cannot be used here.
    """
    wanted, file = instructions.wanted(), path()
    if file is None:
        return None, f"not built, the dense engine is used instead: {HOW}"
    if str(file) in ("off", ""):
        return None, "switched off by TRANSPIKE_NATIVE, the dense engine is used instead"
    try:
        if _is_cut_off(file):
            return None, f"cannot be loaded ({file} is truncated), the dense engine is used instead: {HOW}"
        library = ctypes.CDLL(str(file))
        for name, (arguments, answer) in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, answer
    except (OSError, AttributeError) as error:
        return None, f"cannot be loaded ({error}), the dense engine is used instead: {HOW}"
    kinds = (Source, Layer, Scan, Part, Section, Delta, Entrance, Staircase, Rounding)
    sizes = [ctypes.sizeof(one) for one in kinds]
    if library.tp_abi() != ABI or sizes != [library.tp_struct_bytes(i) for i in range(len(sizes))]:
        return None, f"{file} has another version than the Python files, the dense engine is used instead: {HOW}"
    if wanted is not None:
        instructions.choose(library, wanted)
    threads = "OpenMP" if library.tp_has_threads() else "one thread"
    return library, f"{library.tp_instructions().decode()}, {threads}"
