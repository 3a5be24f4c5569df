"""Names that nobody knows: every look-up suggests the nearest one."""

import dataclasses
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.core import registry
from transpike.core.preprocessing import Preprocessing
from transpike.core.spelling import nearest, unknown
from transpike.errors import DataError, SettingError
from transpike.workflow.early_exit import fit_exit


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(20, 4)


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("eccc", ["ecc", "bsnn"], "ecc"),
        ("ECC", ["ecc", "bsnn"], "ecc"),
        ("few_steps", ["few-steps", "ecc"], "few-steps"),
        ("resnet18", ["densenet", "resnet20-16-32-64"], "resnet20-16-32-64"),
        ("mnst", ["mnist", "fashion-mnist"], "mnist"),
        (3, ["mnist"], None),
        ("", ["mnist"], None),
        ("quantum", ["mnist", "ecc"], None),
    ],
)
def test_the_nearest_name(name, known, found):
    assert nearest(name, known) == (f" (did you mean {found!r}?)" if found else "")
    assert unknown("thing", name, known).startswith(f"there is no thing named {name!r}")


def test_every_family_suggests():
    """Also those of plug-ins: the look-up is one."""
    for one in registry.families.values():
        for name in one.table if one.named else ():
            if len(name) > 3:
                with pytest.raises(SettingError, match=r"\(did you mean '.*'\?\); choose from"):
                    one.get(name + "q")


SMALL, X = small()
LOOKUPS = {
    "recipe": (lambda: ts.convert(SMALL, "eccc", X), "'ecc'"),
    "recipe to compare": (lambda: ts.compare(SMALL, ["bsn"], X, data=X), "'bsnn'"),
    "engine": (lambda: ts.convert(SMALL, "ecc", X).run(X, engine="dens"), "'dense'"),
    "simulate": (lambda: ts.simulate(ts.convert(SMALL, "ecc", X), X, engine="evnt"), "'event'"),
    "data set": (lambda: ts.data.load("mnst"), "'mnist'"),
    "option of a data set": (lambda: ts.data.load("imagefolder:x", resise=3), "'resize'"),
    "network": (lambda: ts.models.build("vgg_16"), "'vgg16'"),
    "kind of network": (lambda: ts.models.build("zoi:vgg16"), "'zoo'"),
    "chip": (lambda: ts.chips.load("loihi3"), "'loihi"),
    "preset": (lambda: ts.finetune(ts.convert(SMALL, "ecc", X), [(X, X)], "diet-sn"), "'diet-snn'"),
    "exit score": (lambda: ts.ComparisonSettings(exits=[ts.exits.Exit("gapp", 1)]), "'gap'"),
    "score to fit": (lambda: fit_exit(ts.convert(SMALL, "ecc", X), [(X, X)], score="gapp"), "'gap'"),
    "setting of a recipe": (lambda: ts.recipes.ECC(time_steps=3), "'timesteps'"),
    "replaced setting": (lambda: dataclasses.replace(ts.recipes.ECC(), percentle=99.0), "'percentile'"),
    "training": (lambda: ts.Training(epoch=3), "'epochs'"),
    "fine-tuning": (lambda: ts.FineTuning(epoch=3), "'epochs'"),
    "comparison": (lambda: ts.ComparisonSettings(timestep=(4,)), "'timesteps'"),
    "exit": (lambda: ts.exits.Exit("gap", dropp=1), "'drop'"),
    "preprocessing": (lambda: Preprocessing(means=(0.5,)), "'mean'"),
    "task": (lambda: ts.tasks.TopK(kk=3), "'k'"),
    "encoder": (lambda: ts.encoders.Poisson(sed=3), "'seed'"),
    "energy model": (lambda: ts.energy.table["movement"](nonsense=1), "has no setting 'nonsense'"),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_a_wrong_name_is_answered_with_the_right_one(name):
    call, says = LOOKUPS[name]
    with pytest.raises((SettingError, DataError)) as error:
        call()
    assert says in str(error.value)
    assert "did you mean" in str(error.value) or name == "energy model"


def test_a_custom_class_with_its_own_arguments_is_made():
    @dataclass(frozen=True)
    class Mine(ts.recipes.ECC):
        def __init__(self, level: int, **more):
            super().__init__(timesteps=level, **more)

    @dataclass(frozen=True)
    class Strict(ts.recipes.ECC):
        def __init__(self, level: int):
            super().__init__(timesteps=level)

    assert Mine(level=3, percentile=99.0).timesteps == 3
    assert Strict(level=3).timesteps == 3
    with pytest.raises(SettingError, match=r"Strict has no setting 'levl' \(did you mean 'level'\?\)"):
        Strict(levl=3)


def test_settings_are_copied_as_before():
    made = ts.recipes.ECC(timesteps=7)
    assert pickle.loads(pickle.dumps(made)) == made
    assert dataclasses.replace(made, timesteps=8).timesteps == 8
    with pytest.raises(TypeError):
        ts.recipes.ECC(7, timesteps=8)


def test_recipes_are_given_by_name_or_as_objects():
    model, x = small()
    assert ts.convert(model, "few-steps", x).recipe == ts.recipes.FewSteps()
    assert ts.convert(model, None, x).recipe == ts.recipes.ECC()
    y = torch.randint(0, 3, (20,))
    settings = ts.ComparisonSettings(timesteps=(4, 8))
    by_name = ts.compare(model, ["ecc", "few-steps", ts.recipes.BSNN()], x, settings, data=(x, y))
    objects = [ts.recipes.ECC(), ts.recipes.FewSteps(), ts.recipes.BSNN()]
    assert [row.recipe for row in by_name.rows] == [
        row.recipe for row in ts.compare(model, objects, x, settings, data=(x, y)).rows
    ]
    with pytest.raises(SettingError, match=r"ECC is a class: write ECC\(\)"):
        ts.convert(model, ts.recipes.ECC, x)
    with pytest.raises(SettingError, match=r"write \['ecc'\]"):
        ts.compare(model, "ecc", x, data=(x, y))
    with pytest.raises(SettingError, match="is given twice"):
        ts.compare(model, ["ecc", ts.recipes.ECC()], x, data=(x, y))


def test_an_engine_is_given_by_name_or_as_an_object():
    model, x = small()
    snn = ts.convert(model, "ecc", x)
    expected = snn.run(x, engine=ts.engines.Reference()).logits
    for engine in ("auto", "dense", "event", "reference", None, ts.engines.Dense()):
        assert torch.equal(snn.run(x, engine=engine).logits, expected)
    with pytest.raises(SettingError, match="the engine 'fused' has been renamed to 'dense'"):
        snn.run(x, engine="fused")
