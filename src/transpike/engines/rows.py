"""Rows that are collected during a run."""

import torch
from torch import Tensor


class Rows:
    """Rows of one shape in one tensor, which doubles when it is full.

    As separate tensors they would live on between the large ones of a step. An allocator cannot use such places again
    for large tensors, so that each step of a long run would take more memory.
    """

    def __init__(self) -> None:
        self.count, self.buffer = 0, torch.empty(0)

    def __len__(self) -> int:
        return self.count

    def add(self, rows: Tensor) -> None:
        """Copies ``rows`` (n, …) after those before."""
        end = self.count + len(rows)
        if end > len(self.buffer):
            larger = rows.new_empty((max(end, 2 * len(self.buffer)), *rows.shape[1:]))
            if self.count:
                larger[: self.count] = self.buffer[: self.count]
            self.buffer = larger
        self.buffer[self.count : end] = rows
        self.count = end

    def since(self, first: int = 0) -> Tensor:
        """The rows from number ``first`` on, as a new tensor."""
        return self.buffer[first : self.count].clone()
