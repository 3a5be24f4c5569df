"""Modules of torch that mix the batch with other axes, as modules that compute the same without that.

``nn.MultiheadAttention`` adds its masks to heads of all samples at once, ``nn.EmbeddingBag`` merges the batch with the
bag. The replacements have the same parameters under the same names. Where a call asks for more than they
know, they do what the module of torch does, and the capture names what it cannot read.
"""

import torch.nn.functional as F
from torch import Tensor, nn

INFINITE = float("inf")


class BatchFirstAttention(nn.MultiheadAttention):
    """``softmax(q kᵀ / √d + mask) v`` for each head, and a linear layer after it.

    Its inputs are (batch, tokens, features), or (tokens, batch, features) where ``batch_first`` is not set.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        extra = self.bias_k is not None or self.bias_v is not None or self.add_zero_attn
        mask = attn_mask
        if query.dim() != 3 or extra or (mask is not None and mask.dim() != 2):
            options = key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            return super().forward(query, key, value, *options)
        q, k, v = (
            (one if self.batch_first else one.transpose(0, 1)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for one in self._projected(query, key, value)
        )
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        if mask is not None and mask.is_floating_point():
            hidden = mask == -INFINITE
            scores, mask = scores + mask.masked_fill(hidden, 0.0), hidden
        if mask is not None:
            scores = scores.masked_fill(mask, -INFINITE)
        if key_padding_mask is not None:
            hidden = key_padding_mask[:, None, None]
            scores = scores + hidden if hidden.is_floating_point() else scores.masked_fill(hidden, -INFINITE)
        weights = scores.softmax(-1)
        answer = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        answer = answer if self.batch_first else answer.transpose(0, 1)
        if not need_weights:
            return answer, None
        return answer, weights.mean(1) if average_attn_weights else weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        if not self._qkv_same_embed_dim:
            weights: tuple[Tensor, ...] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))


class PlainEncoder(nn.TransformerEncoder):
    """The layers one after the other; torch first looks at the values of masks, which a capture does not have."""

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        for layer in self.layers:
            src = layer(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask)
        return src if self.norm is None else self.norm(src)


class PlainDecoder(nn.TransformerDecoder):
    """The layers one after the other, as ``PlainEncoder``."""

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        padding = {"tgt_key_padding_mask": tgt_key_padding_mask, "memory_key_padding_mask": memory_key_padding_mask}
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, **padding)
        return tgt if self.norm is None else self.norm(tgt)


class BatchFirstBag(nn.EmbeddingBag):
    """The sum, mean or maximum of the rows that each sample looks up, (batch, count) → (batch, features)."""

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        extra = self.padding_idx is not None or self.max_norm is not None or per_sample_weights is not None
        if input.dim() != 2 or offsets is not None or extra:
            return super().forward(input, offsets, per_sample_weights)
        rows = F.embedding(input, self.weight)
        if self.mode == "max":
            return rows.amax(1)
        return rows.sum(1) if self.mode == "sum" else rows.mean(1)


def keep_batch_first(model: nn.Module) -> None:
    """Replace the modules in place."""
    for part in model.modules():
        if type(part) is nn.MultiheadAttention:
            part.__class__ = BatchFirstAttention
        elif type(part) is nn.TransformerEncoder:
            part.__class__ = PlainEncoder
        elif type(part) is nn.TransformerDecoder:
            part.__class__ = PlainDecoder
        elif type(part) is nn.EmbeddingBag:
            part.__class__ = BatchFirstBag
