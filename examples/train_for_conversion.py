"""Two time steps on the embedded digits, three ways.

A ReLU network converted, a network trained for conversion, and fine-tuning.
"""

import copy
import sys
from dataclasses import replace

import torch

import transpike as ts

TIMESTEPS = 2
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
data = ts.data.load("digits")
torch.manual_seed(0)
relu, spec = ts.models.build("zoo:small-cnn", input_shape=data.image_shape)  # or any other nn.Module
calibration = list(data.train.batches(250, limit=500))
settings = ts.Training(epochs=epochs, learning_rate=0.05, batch_size=64)


def accuracy(snn: ts.SNN) -> str:
    report = ts.evaluate(snn, data.test.batches(64), answers=(TIMESTEPS,))
    return f"{report.final.accuracy:.2%} of {report.ann_accuracy:.2%} in {report.final.total_steps} total steps"


# 1. Train with ReLUs, convert afterwards.
ts.train(relu, data, settings, preprocessing=spec.preprocessing)
few = ts.convert(relu, ts.recipes.FewSteps(timesteps=TIMESTEPS), calibration, preprocessing=spec.preprocessing)
print("converted after training:", accuracy(few))

# 2. Replace the ReLUs by activations with as many levels as time steps, and continue the training.
images = spec.preprocessing(data.train.batch(range(500))[0])
prepared = ts.prepare(copy.deepcopy(relu), ts.activations.QuantisedClip(levels=TIMESTEPS), images, percentile=99.0)
shorter = replace(settings, epochs=max(1, epochs // 2))
ts.train(prepared, data, shorter, preprocessing=spec.preprocessing)
for name, schedule in {
    "streaming": ts.schedules.Streaming(),
    "layer-synchronous": ts.schedules.LayerSynchronous(),
}.items():
    recipe = ts.recipes.QCFS(timesteps=TIMESTEPS, schedule=schedule)
    snn = ts.convert(prepared, recipe, calibration, preprocessing=spec.preprocessing)
    print(f"trained for conversion, {name}:", accuracy(snn))

# 3. Train the spiking network itself.
tuned = ts.finetune(few, data.train, epochs=max(1, epochs // 4), learning_rate=1e-3, normalise=True, loss="distil")
print("fine-tuned:", accuracy(tuned))
