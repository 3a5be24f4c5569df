"""A custom model, a custom loader, and a layer that has no spiking form."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import transpike as ts


class Network(nn.Module):
    """Functional and in-place activations, a residual addition and a strided shortcut are supported."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.smooth, self.last = nn.SiLU(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.relu_(self.second(x) + x[:, :, ::2, ::2])
        return self.last(self.smooth(x.mean((2, 3)) - 0.2))


torch.manual_seed(0)
inputs = torch.rand(64, 3, 16, 16)
model = Network().eval()
loader = DataLoader(TensorDataset(inputs, model(inputs).argmax(1)), batch_size=16)

try:
    ts.convert(model, ts.recipes.ECC(timesteps=16), loader)
except ts.TranspikeError as error:
    print(error)  # names the operator, the module and the source line

snn = ts.convert(model, ts.recipes.ECC(timesteps=16), loader, on_unsupported="keep")
print(snn)
print(ts.report.text(ts.evaluate(snn, loader)))
