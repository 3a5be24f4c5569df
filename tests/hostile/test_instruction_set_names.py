"""TRANSPIKE_ISA: a set that is there is used, and every other name is refused, by engines and in ``transpike doctor``."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

import transpike as ts
from networks import small_cnn
from transpike import engines
from transpike.cli import doctor
from transpike.engines.native import instructions
from transpike.engines.native import library as _native
from transpike.errors import SettingError

LIBRARY, WHY = _native.load()
needs_library = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")
HERE = () if LIBRARY is None else instructions.available(LIBRARY)


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    before = None if LIBRARY is None else LIBRARY.tp_instructions()
    yield
    assert before is None or LIBRARY.tp_force(before)


@pytest.mark.parametrize(
    ("given", "name"),
    [("avx2", "AVX2"), ("AVX512", "AVX-512"), ("avx-512 ", "AVX-512"), ("Baseline", "baseline"), ("neon", "NEON")],
)
def test_names_are_accepted_in_any_case_and_without_hyphen(monkeypatch, given, name):
    monkeypatch.setenv("TRANSPIKE_ISA", given)
    assert instructions.wanted() == name


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_name_is_none(monkeypatch, given):
    monkeypatch.setenv("TRANSPIKE_ISA", given)
    assert instructions.wanted() is None


@needs_library
@pytest.mark.parametrize("name", HERE)
def test_the_named_set_is_used(monkeypatch, name):
    monkeypatch.setenv("TRANSPIKE_ISA", name.lower())
    library, status = _native.load.__wrapped__()
    assert library.tp_instructions().decode() == status.split(",")[0]
    assert library.tp_instructions().decode() == ("NEON" if name == "baseline" and "NEON" in HERE else name)


@needs_library
def test_the_widest_set_is_the_default():
    assert LIBRARY.tp_instructions().decode() == HERE[-1]
    assert set(HERE) <= set(instructions.compiled(LIBRARY))


class Lacks:
    """A library with a baseline only, and AVX2 for another processor."""

    def tp_force(self, name: bytes) -> int:
        return name == b"baseline"

    def tp_compiled(self, name: bytes) -> int:
        return name in (b"baseline", b"AVX2")

    def tp_instructions(self) -> bytes:
        return b"baseline"


@pytest.mark.parametrize(
    ("name", "why"), [("AVX2", "this processor lacks it"), ("NEON", "the native library was built without it")]
)
def test_a_set_that_is_not_there_is_refused(name, why):
    with pytest.raises(SettingError, match=f"TRANSPIKE_ISA names {name}, but {why}; available: baseline"):
        instructions.choose(Lacks(), name)  # type: ignore[arg-type]


def test_an_unknown_set_is_refused_by_engines_and_shown_by_doctor(monkeypatch):
    monkeypatch.setenv("TRANSPIKE_ISA", "sse9")
    monkeypatch.setattr(_native, "load", _native.load.__wrapped__)
    monkeypatch.setattr(engines, "event_status", _native.load)
    case = small_cnn()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=4), case.calibration)
    for engine in ("auto", "event"):
        with pytest.raises(
            SettingError, match="TRANSPIKE_ISA='sse9' is not an instruction set; it can be baseline, NEON"
        ):
            ts.simulate(snn, case.x, engine=engine)
    shown = CliRunner().invoke(doctor.command)
    assert shown.exit_code == 0
    assert (
        "native library of the event engine: not used: TRANSPIKE_ISA='sse9' is not an instruction set" in shown.output
    )


@needs_library
def test_doctor_shows_the_sets():
    shown = CliRunner().invoke(doctor.command)
    assert f"{', '.join(HERE)} available; TRANSPIKE_ISA chooses one" in shown.output
