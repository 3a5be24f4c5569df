"""Your own network, trained with PyTorch: converted, measured, saved for the command line.

python examples/own_cnn.py [epochs] [file to write]
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import transpike as ts


class Network(nn.Module):
    """Nothing here belongs to transpike."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.last = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(nn.functional.avg_pool2d(x, 2)))
        return self.last(x.flatten(1))


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp()) / "own.transpike"
torch.manual_seed(0)
data = ts.data.load("digits")  # 8 × 8 pictures that come with transpike; your own loader works as well
model = Network()
optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
for _ in range(epochs):
    for images, labels in data.train.batches(64):
        loss = nn.functional.cross_entropy(model(data.preprocessing(images)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
model.eval()

snn = ts.convert(model, ts.recipes.FewSteps(timesteps=16), data.train.batches(64), preprocessing=data.preprocessing)
print(snn)
print(ts.report.text(ts.evaluate(snn, data.test.batches(64))))
print("wrote", ts.save(snn, output))
