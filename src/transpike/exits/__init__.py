"""Scores of early exits, by their names on the command line."""

from collections.abc import Mapping

from transpike.core.exit import Exit as Exit
from transpike.core.exit import ExitPolicy as ExitPolicy
from transpike.core.exit import ExitScore
from transpike.core.registry import family
from transpike.exits.confidence import Confidence
from transpike.exits.conformal import Conformal
from transpike.exits.entropy import Entropy
from transpike.exits.gap import Gap

members: tuple[type[ExitScore], ...] = family("exit", ExitScore, in_files=True).own(globals())
table: Mapping[str, type[ExitScore]] = family("exit").table
