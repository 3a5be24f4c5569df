"""The type of --weights."""

from typing import Any

import click

from transpike import models


class Weights(click.Path):
    """A file; "pretrained" is the file that comes with the network of --model, which is read before."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value != models.PRETRAINED or ctx is None or ctx.resilient_parsing:
            return super().convert(value, param, ctx)
        return models.trained(ctx.params["model_name"]).weights_path()
