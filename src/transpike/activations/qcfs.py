"""The quantised clip of QCFS, and the uniform quantiser of Fast-SNN in the same form."""

from torch import Tensor

from transpike.activations.source import SourceActivation
from transpike.errors import SettingError


class QuantisedClip(SourceActivation):
    """``a = λ/L · clip(⌊z L/λ + ½⌋, 0, L)`` with a trainable λ, the parameter ``thresh``; the floor passes gradients.

    ``recipes.QCFS`` converts it. Gradients: 1 for z in [0, λ], else 0; for λ, autograd's gradient of the
    straight-through form (the published equation 17 is wrong, as its authors state). ``regulariser`` w adds
    ``w · mean((c − a)²)`` to the loss, c being z clipped to [0, λ]: this keeps values away from the steps of the
    staircase (w ≈ 0.2, from a replication of QCFS; z is our interpretation). Source: Bu et al. 2022 (QCFS, ICLR),
    equation 15; λ starts at 8.
    """

    name = "qcfs"

    shift = 0.5

    def __init__(self, levels: int = 4, threshold: float = 8.0, regulariser: float = 0.0) -> None:
        super().__init__(threshold, trainable=True, levels=levels)
        if not 0 <= regulariser < float("inf"):
            raise SettingError(f"regulariser must be a weight of at least 0, not {regulariser}")
        self.weight = regulariser

    def regulariser(self, x: Tensor, output: Tensor) -> Tensor | None:
        if not self.weight:
            return None
        return self.weight * (self.clipped(x) - output.detach()).square().mean()


class UniformQuantiser(QuantisedClip):
    """``a = λ/L · clip(round(z L/λ), 0, L)`` with ``L = 2^bits − 1`` and a trainable λ: b-bit activations.

    T = 2^b − 1 time steps represent it, with v(0) = θ/2. Source: Hu et al. 2023 (Fast-SNN), uniform activations; their
    α is ``thresh``.
    """

    name = "uniform"

    def __init__(self, bits: int = 2, threshold: float = 8.0) -> None:
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
            raise SettingError(f"bits must be an integer from 1 to 8, not {bits!r}")
        super().__init__(2**bits - 1, threshold)
        self.bits = bits

    def extra_repr(self) -> str:
        return f"bits={self.bits}, threshold={float(self.thresh.detach()):g}"
