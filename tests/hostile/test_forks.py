"""A process that has computed with several threads forks, as with multiprocessing's start method "fork"."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys, torch
from torch import nn
import transpike as ts

torch.manual_seed(0)
torch.set_num_threads(2)
layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 10)).eval()
x = torch.rand(8, 1, 8, 8)
snn = ts.convert(model, ts.recipes.ECC(timesteps=8), [x])
before = ts.simulate(snn, x, engine=sys.argv[1]).logits
child = os.fork()
if child == 0:
    same = torch.equal(before, ts.simulate(snn, x, engine=sys.argv[1]).logits)
    os._exit(0 if same and torch.get_num_threads() == 1 else 1)
status = os.waitpid(child, 0)[1]
assert torch.get_num_threads() == 2  # the parent's remain
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("engine", ["event", "dense"])
def test_a_forked_child_computes_with_one_thread_instead_of_waiting_forever(engine: str) -> None:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    with subprocess.Popen([sys.executable, "-c", CODE, engine], env=environment, start_new_session=True) as process:
        try:
            assert process.wait(timeout=120) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
