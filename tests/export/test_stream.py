"""Steps of a stream give the answers of a whole run, whatever the engine."""

import pytest
import torch
from torch import nn

import transpike as ts
from exported import STEPS, coarse, digits
from networks import ENGINES, small_cnn
from transpike.encoders import EventFrames, Poisson
from transpike.errors import DataError, SettingError
from transpike.recipes import ECC
from transpike.schedules import LayerSynchronous


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_of_one_input_is_a_run(engine: str) -> None:
    case = small_cnn()
    for encoder in (None, Poisson(seed=2)):
        recipe = ECC(timesteps=STEPS) if encoder is None else ECC(timesteps=STEPS, encoder=encoder)
        snn = ts.convert(case.graph, recipe, case.calibration)
        whole = snn.run(case.x, STEPS, engine=engine)
        stream = snn.start(case.x, engine=engine, count=True)
        found = torch.stack([stream.step() for _ in range(STEPS)])
        assert torch.equal(found, whole.logits) and stream.t == STEPS
        assert [one.spikes.tolist() for one in stream.finish().activity.layers] == [
            one.spikes.tolist() for one in whole.activity.layers
        ]
        again = snn.start(len(case.x), engine=engine)
        assert torch.equal(torch.stack([again.step(case.x) for _ in range(STEPS)]), whole.logits)


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_of_recordings_are_a_run(engine: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(100, 3)).eval()
    x = (torch.rand(16, STEPS, 2, 5, 5) < 0.3).float()
    snn = ts.convert(model, ECC(timesteps=STEPS, encoder=EventFrames()), x)
    whole = snn.run(x[:3], STEPS, engine=engine)
    stream = snn.start(3, engine=engine)
    assert torch.equal(torch.stack([stream.step(x[:3, t]) for t in range(STEPS)]), whole.logits)
    with pytest.raises(SettingError, match="pass step"):
        stream.step()
    with pytest.raises(SettingError, match="number of samples"):
        snn.start(x[:3, 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_another_frame_is_another_current(engine: str) -> None:
    snn, x = coarse(), digits(6)
    stream = snn.start(x[:3], engine=engine)
    answers = [stream.step() for _ in range(3)] + [stream.step(x[3:]), stream.step()]
    reference = snn.start(x[:3], engine="reference")
    assert torch.equal(
        torch.stack(answers),
        torch.stack([reference.step() for _ in range(3)] + [reference.step(x[3:]), reference.step()]),
    )
    assert not torch.equal(answers[3], snn.run(x[:3], 4).logits[3])


def test_what_does_not_stream_is_refused() -> None:
    snn = coarse()
    with pytest.raises(DataError, match="3 samples, but the frame has 2"):
        snn.start(digits(3)).step(digits(2))
    with pytest.raises(SettingError, match="no input yet"):
        snn.start(2).step()
    case = small_cnn()
    windows = ts.convert(case.graph, ECC(timesteps=STEPS, schedule=LayerSynchronous()), case.calibration)
    with pytest.raises(SettingError, match="LayerSynchronous"):
        windows.start(case.x)
