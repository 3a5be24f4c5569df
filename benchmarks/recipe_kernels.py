"""Which kernels the event engine uses for the layers of a small network of every recipe, and why it uses none.

python benchmarks/recipe_kernels.py
"""

import sys
import warnings
from pathlib import Path

import torch

import transpike as ts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from recipe_kernels import kernels


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| recipe | schedule | kernels: layers |\n|---|---|---|")
    for recipe in ts.recipes.members:
        found = "; ".join(f"{text}: {count}" for text, count in sorted(kernels(recipe).items()))
        print(f"| `{recipe.name}` | {recipe().schedule.mode} | {found} |")


if __name__ == "__main__":
    main()
