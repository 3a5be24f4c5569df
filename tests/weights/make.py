"""Train the networks of tests/stored.py anew: ``python tests/weights/make.py [name ...]``, about a minute for all.

The weights in this folder were made with torch 2.13.0 on one thread of a CPU with AVX-512. Another machine ends with
other weights, of about the same accuracy: then every number that the tests expect of them is to be looked at again.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import transpike as ts
from stored import FOLDER, NETWORKS, narrowed, stored


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    data = ts.data.load("digits")
    x, y = data.test.batch(torch.arange(len(data.test)))
    for name in names or list(NETWORKS):
        torch.manual_seed(0)
        model = NETWORKS[name].build()
        ts.train(model, data, settings=ts.Training(seed=0, **NETWORKS[name].training))
        save_file(narrowed(model), FOLDER / f"{name}.safetensors")
        with torch.no_grad():
            right = (stored(name)(data.preprocessing(x)).argmax(1) == y).sum()
        size = (FOLDER / f"{name}.safetensors").stat().st_size
        print(f"{name}: {right} of {len(y)} test digits, {size / 1000:.1f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
