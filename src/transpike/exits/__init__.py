"""How sure an answer is, by the name that the command line uses."""

from transpike.core.exit import Exit as Exit
from transpike.core.exit import ExitPolicy as ExitPolicy
from transpike.core.exit import ExitScore
from transpike.exits.confidence import Confidence
from transpike.exits.conformal import Conformal
from transpike.exits.entropy import Entropy
from transpike.exits.gap import Gap

table: dict[str, type[ExitScore]] = {
    "confidence": Confidence,
    "conformal": Conformal,
    "entropy": Entropy,
    "gap": Gap,
}
members: tuple[type[ExitScore], ...] = tuple(table.values())
