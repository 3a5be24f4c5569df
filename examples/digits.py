"""Quick start on the embedded digits: train, convert, print, evaluate, save, load, run."""

import sys
import tempfile
from pathlib import Path

import torch

import transpike as ts

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
torch.manual_seed(0)
data = ts.data.load("digits")
model, spec = ts.models.build("zoo:small-cnn", input_shape=data.image_shape)  # or any other nn.Module
ts.train(model, data, ts.Training(epochs=epochs, learning_rate=0.05, batch_size=64), preprocessing=spec.preprocessing)

snn = ts.convert(model, ts.recipes.ECC(timesteps=32), data.train.batches(250), preprocessing=spec.preprocessing)
print(snn)
report = ts.evaluate(snn, data.test.batches(64))
ts.report.show(report)

with tempfile.TemporaryDirectory() as folder:
    path = ts.save(snn, Path(folder) / "digits.transpike")
    again = ts.load(path)
images, labels = data.test.batch([0, 1, 2])
print(
    "labels", labels.tolist(), "answers at T=1, 4, 32:", again(images, return_all=True)[[0, 3, 31]].argmax(-1).tolist()
)
