"""A task: an answer counts only where it is sure."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import transpike as ts
from transpike.core.constraints import check_settings, setting
from transpike.tasks import Classification


@ts.register
@dataclass(frozen=True)
class Margin(Classification):
    """Right is where the logit of the target exceeds every other one by ``margin``."""

    name: ClassVar[str] = "margin"
    margin: float = setting(0.1, "By which the right logit must lead.", low=0.0)

    def __post_init__(self) -> None:
        check_settings(self)

    def outcomes(self, output: Tensor, target: Tensor) -> Tensor:
        index = target.expand(output.shape[:-1])[..., None]
        others = output.scatter(-1, index, float("-inf")).amax(-1)
        return output.gather(-1, index)[..., 0] > others + self.margin

    def agrees(self, output: Tensor, reference: Tensor) -> Tensor:
        return self.answers(output) == self.answers(reference)
