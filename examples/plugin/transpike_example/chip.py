"""A chip: limits, each with its source."""

import transpike as ts
from transpike.chips import Chip, Source

URL = "https://example.org/toy-chip"

ts.register(
    Chip(
        "toy-chip",
        "Toy chip",
        max_layers=8,
        alphabets=("binary",),
        sources=(
            Source("max_layers", "eight cores, one layer each", URL, "example", "stated"),
            Source("alphabets", "a spike has no value", URL, "example", "stated"),
        ),
    )
)
