"""Settings objects: one validator, one way to say that a call is of the old form, and flags that are their fields."""

import dataclasses
import math

import click
import pytest
import torch
from click.testing import CliRunner

import transpike as ts
from transpike.cli import main
from transpike.cli._settings import chosen, settings_options
from transpike.core.constraints import check_settings, setting, settings_given, takes_settings
from transpike.errors import SettingError


@dataclasses.dataclass(frozen=True)
class Made:
    count: int = setting(3, "How many.", low=1, unit="eggs")
    share: float = setting(0.5, "A part.", below=1)
    rate: float | None = setting(None, "At most two.", high=2)
    word: str = setting("a", "One of two.", choices=("a", "b"))
    fast: bool = setting(False, "Or not.")
    numbers: tuple[int, ...] = setting((4, 8), "Several.")
    memory: int | None = setting(None, "Bytes.", unit="bytes", flag="most-memory")

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"count": 0}, "count must be an integer number of eggs, at least 1, not 0"),
        ({"count": 2.0}, "count must be an integer number of eggs, not 2.0"),
        ({"count": True}, "count must be an integer number of eggs, not True"),
        ({"count": None}, "count must be an integer number of eggs, not None"),
        ({"share": 1}, "share must be a number of at least 0 and below 1, not 1"),
        ({"share": math.nan}, "share must be a number"),
        ({"share": -math.inf}, "share must be a number"),
        ({"rate": 2.5}, "rate must be a number from 0 to 2, not 2.5"),
        ({"rate": "x"}, "rate must be a number, not 'x'"),
        ({"word": "c"}, "word is one of 'a', 'b', not 'c'"),
        ({"word": ["a"]}, "word is one of"),
        ({"fast": 1}, "fast must be True or False, not 1"),
    ],
)
def test_a_field_holds_what_its_bounds_allow(wrong, says) -> None:
    with pytest.raises(SettingError, match=says):
        Made(**wrong)
    assert Made(count=1, share=0, rate=2, word="b", fast=True) != Made()


@takes_settings(Made, gone="kept=…")
def bake(what, settings=None, *, kept=None):
    """Bake."""
    return what, settings_given(Made, settings), kept


def test_a_call_of_the_old_form_says_how_it_is_written_now() -> None:
    with pytest.raises(SettingError, match=r"bake\(…, settings=Made\(count=5, fast=True\)\) in place of count, fast"):
        bake("egg", count=5, fast=True)
    with pytest.raises(SettingError, match="no longer takes gone: write kept=… instead"):
        bake("egg", gone=1)
    with pytest.raises(SettingError, match="settings must be a Made, like Made"):
        bake("egg", {"count": 5})
    with pytest.raises(TypeError, match="never"):
        bake("egg", never=1)
    assert bake("egg", kept=1) == ("egg", Made(), 1) and bake("egg", Made(5))[1].count == 5
    assert bake.__name__ == "bake" and bake.__doc__ == "Bake."


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ts.train(None, None, epochs=5), r"train\(…, settings=Training\(epochs=5\)\)"),
        (lambda: ts.train(None, None, spec="x"), 'write notes={"spec": …}'),
        (lambda: ts.compare(None, timesteps=(4,), data=None), r"settings=ComparisonSettings\(timesteps=\(4,\)\)"),
    ],
)
def test_the_public_functions_say_it(call, says) -> None:
    with pytest.raises(SettingError, match=says):
        call()


def read(*words: str) -> Made:
    found = []

    @click.command()
    @settings_options(Made)
    def command(**flags) -> None:
        found.append(chosen(Made, flags))
        assert not flags

    result = CliRunner().invoke(command, words)
    if not found:
        raise click.UsageError(result.output)
    return found[0]


def test_flags_are_the_fields() -> None:
    assert read() == Made()
    words = "--count 7 --share 0.25 --rate 1 --word b --fast --numbers 1,2,3 --most-memory 2KiB"
    assert read(*words.split()) == Made(7, 0.25, 1.0, "b", True, (1, 2, 3), 2048)
    for wrong in ("--count 0", "--word c", "--numbers 1,x", "--most-memory lots", "--memory 1"):
        with pytest.raises(click.UsageError):
            read(*wrong.split())


FLAGS = {
    "train": (ts.Training, ()),
    "finetune": (ts.FineTuning, ()),
    "compare": (ts.ComparisonSettings, ("calibration_samples",)),
}


@pytest.mark.parametrize("name", FLAGS)
def test_every_field_is_a_flag_with_a_help_text_and_its_default(name: str) -> None:
    kind, other = FLAGS[name]
    command = main.get_command(None, name)
    assert command is not None
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    for field in dataclasses.fields(kind):
        option = options[field.name]
        if field.name in other:  # the command draws them itself
            continue
        assert option.help == field.metadata["help"] != ""
        if name == "train":
            assert option.default == field.default or field.default is None
    hash(kind()), repr(kind())


def test_stages_are_read_and_kept_in_their_order() -> None:
    settings = ts.Training(epochs=6, stages={"quantise": 5, "clip": 3})
    assert settings.stages == (("clip", 3), ("quantise", 5)) and hash(settings) == hash(dataclasses.replace(settings))
    assert settings.to_json()["stages"] == {"clip": 3, "quantise": 5}
    with pytest.raises(SettingError, match="at increasing epochs"):
        ts.Training(epochs=6, stages={"quantise": 3, "clip": 5})


def test_settings_may_be_left_out() -> None:
    torch.manual_seed(0)
    comparison = ts.ComparisonSettings()
    assert comparison == ts.ComparisonSettings(timesteps=(64, 32, 16, 8, 4, 4)) and comparison.task is None
    assert ts.Training().to_json()["learning_rate"] == 0.1
