"""A converted network in code that was written for ``nn.Module``."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import transpike as ts
from stored import stored
from transpike.core import like_module
from transpike.engines import Dense
from transpike.errors import SettingError
from waiting import HANGS

IMAGES = ts.data.load("digits").train.images[:96]
RECIPES = {
    "streaming": ts.recipes.ECC(timesteps=16),
    "windows": ts.recipes.ECC(timesteps=16, schedule=ts.schedules.LayerSynchronous()),
    "random input": ts.recipes.ECC(timesteps=16, encoder=ts.encoders.Poisson()),
    "first spikes": ts.recipes.T2FSNN(timesteps=16),
}


@pytest.fixture(scope="module", params=RECIPES)
def snn(request) -> ts.SNN:
    """A network that has run on every engine that runs it, so that nothing is left to be prepared."""
    made = ts.convert(stored("three-neuron-layers"), RECIPES[request.param], IMAGES)
    for engine in ("auto", "dense", "reference", "event"):
        ts.simulate(made, IMAGES[:8], engine=engine)
    return made


def saved(snn: ts.SNN) -> ts.SNN:
    place = io.BytesIO()
    torch.save(snn, place)
    place.seek(0)
    return torch.load(place, weights_only=False)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda snn: pickle.loads(pickle.dumps(snn)),
    "torch.save": saved,
    "to": lambda snn: snn.to("cpu").eval(),
}


def equal(first: ts.Trace, second: ts.Trace) -> bool:
    trains = all(torch.equal(first.trains[name], second.trains[name]) for name in first.trains)
    return trains and first.trains.keys() == second.trains.keys() and torch.equal(first.logits, second.logits)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_a_network_that_has_run_gives_the_same_spikes(snn, kind):
    cells = [node.name for node in snn.graph.cells]
    found = COPIES[kind](snn)
    assert equal(ts.simulate(found, IMAGES[:16], record=cells), ts.simulate(snn, IMAGES[:16], record=cells))
    assert found.ranges.keys() == snn.ranges.keys() and str(found) == str(snn)


def test_a_pickle_holds_the_network_and_nothing_prepared(snn):
    fresh = ts.convert(snn.source, snn.recipe, IMAGES)
    before = len(pickle.dumps(fresh))
    snn(IMAGES[:4])
    assert {"program", "lowered"} <= snn.__dict__.keys()
    assert {"program", "lowered"}.isdisjoint(pickle.loads(pickle.dumps(snn)).__dict__)
    assert len(pickle.dumps(snn)) < 1.2 * before


def test_a_deep_copy_shares_no_tensor(snn):
    other = copy.deepcopy(snn)
    places = {value.data_ptr() for value in snn.graph.parameters().values() if value.numel()}
    assert places.isdisjoint(value.data_ptr() for value in other.graph.parameters().values())


def answer(snn: ts.SNN, images: torch.Tensor) -> list[list[float]]:
    torch.set_num_threads(1)
    return snn(images).tolist()


def test_another_process_gives_the_same_answer():
    snn = ts.convert(stored("two-layers"), RECIPES["streaming"], IMAGES)
    expected = snn(IMAGES[:8]).tolist()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(answer, (snn, IMAGES[:8])).get(HANGS) == expected


class Answers:
    """Collates images to the answers of a network."""

    def __init__(self, snn: ts.SNN) -> None:
        self.snn = snn

    def __call__(self, images: list[torch.Tensor]) -> torch.Tensor:
        return self.snn(torch.stack(images))


def test_workers_of_a_loader_run_a_network_that_has_run_before():
    snn = ts.convert(stored("two-layers"), RECIPES["streaming"], IMAGES)
    expected = snn(IMAGES[:8])
    loader = DataLoader(
        IMAGES[:8], batch_size=4, num_workers=1, collate_fn=Answers(snn), multiprocessing_context="fork", timeout=HANGS
    )
    assert torch.equal(torch.cat(list(loader)), expected)


@pytest.fixture(scope="module")
def small() -> ts.SNN:
    return ts.convert(stored("two-layers"), RECIPES["streaming"], IMAGES)


def test_what_changes_nothing_returns_the_network(small):
    for found in (
        small.eval(), small.train(False), small.cpu(), small.float(), small.to("cpu"), small.to(torch.device("cpu")),
        small.to("cpu", torch.float32, non_blocking=True), small.to(device="cpu", dtype=torch.float32),
        small.to(torch.zeros(1)), small.requires_grad_(False), small.share_memory(),
    ):  # fmt: skip
        assert found is small
    assert small.training is False and small.zero_grad() is None
    assert torch.equal(small.forward(IMAGES[:4]), small(IMAGES[:4]))


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda snn: snn.train(), r"transpike\.finetune\(snn, data\) trains it"),
        (lambda snn: snn.half(), "float32, not float16: potentials need the 24 bits"),
        (lambda snn: snn.bfloat16(), "float32, not bfloat16"),
        (lambda snn: snn.double(), "float32, not float64.*engine='reference'\\) computes in float64"),
        (lambda snn: snn.to(torch.int8), "float32, not int8"),
        (lambda snn: snn.to("cpu", torch.float16), "float32, not float16"),
        (lambda snn: snn.to(torch.zeros(1, dtype=torch.float16)), "float32, not float16"),
        (lambda snn: snn.to("abacus"), "no device 'abacus' here"),
        (lambda snn: snn.requires_grad_(), "spikes have no gradient"),
    ],
)
def test_what_cannot_be_done_says_why(small, use, text):
    with pytest.raises(SettingError, match=text):
        use(small)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_here_is_refused(small):
    with pytest.raises(SettingError, match="no device 'cuda' here"):
        small.cuda()


def test_parameters_are_copies_under_the_names_of_the_source_model(small):
    model = stored("two-layers")
    state, own = small.state_dict(), dict(small.named_parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value)
    # two layers of weights and biases, and what the neurons between them hold
    assert state.keys() > model.state_dict().keys() and own.keys() == state.keys() and not list(small.buffers())
    assert sum(p.numel() for p in small.parameters()) >= sum(p.numel() for p in model.parameters())
    before = small(IMAGES[:8])
    for value in [*small.parameters(), *state.values()]:
        assert not value.requires_grad
        value.zero_()
    assert torch.equal(small(IMAGES[:8]), before) and torch.equal(copy.copy(small)(IMAGES[:8]), before)


def test_a_network_takes_its_own_state_and_no_other(small):
    state = small.state_dict()
    assert str(small.load_state_dict(state)) == "<All keys matched successfully>"
    with pytest.raises(SettingError, match=r"missing 1\.weight; unexpected other"):
        small.load_state_dict({("other" if name == "1.weight" else name): value for name, value in state.items()})
    assert small.load_state_dict({}, strict=False).missing_keys == sorted(state)
    for other in (state["1.weight"] + 1, state["1.weight"][:3]):
        with pytest.raises(SettingError, match=r"1\.weight differs.*convert it again"):
            small.load_state_dict({**state, "1.weight": other})


def test_containers_take_the_network_as_a_module(small):
    model = nn.Sequential(small.to_module(), nn.Softmax(1)).train()
    assert torch.equal(model(IMAGES[:4]), small(IMAGES[:4]).softmax(1))
    assert not list(model.parameters()) and not model[0].training
    assert torch.equal(copy.deepcopy(model)(IMAGES[:4]), model(IMAGES[:4]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("save", r"transpike\.save\(snn, …\)"),
        ("evaluate", r"transpike\.evaluate\(snn, …\)"),
        ("modules", r"iterate over snn\.graph"),
        ("register_forward_hook", "record="),
        ("device", "runs on the device of its input"),
        ("reset", "nothing to reset"),
        ("nonsense", "a converted network has no 'nonsense'$"),
    ],
)
def test_other_names_say_what_to_write(small, name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(small, name)
    assert not hasattr(small, name)


def test_functions_that_errors_name_exist():
    for name, text in like_module._ELSEWHERE.items():
        for function in ts.__all__:
            if f"transpike.{function}(" in text:
                assert callable(getattr(ts, function)), name
        if "it is the function" in text:
            assert name in ts.__all__


def test_an_engine_may_be_named(small):
    expected = small.run(IMAGES[:4]).logits
    for engine in ("auto", "dense", "reference", "event", Dense(), None):
        assert torch.equal(small.run(IMAGES[:4], engine=engine).logits, expected)
    with pytest.raises(SettingError, match="the engine 'fused' has been renamed to 'dense'"):
        small.run(IMAGES[:4], engine="fused")
    with pytest.raises(SettingError, match="there is no engine named 'warp'; choose from auto"):
        small.run(IMAGES[:4], engine="warp")


def test_a_network_shows_itself_in_a_few_lines(small):
    assert repr(small) == str(small) and "tensor" not in repr(small)
    assert len(repr(small).splitlines()) < 12
