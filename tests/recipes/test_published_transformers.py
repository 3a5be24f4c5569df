"""Transformers of the library ``transformers`` convert, in a small form with random weights.

Skipped where the library is not installed: ``pip install transformers``.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.core.recipe import Recipe
from transpike.recipes import BurstDigits, StreamingSigmaDelta

hf = pytest.importorskip("transformers", reason="the library transformers is not installed")
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT = {**SIZES, "intermediate_size": 32, "max_position_embeddings": 16}


def sentences(count: int = 16, tokens: int = 7) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, tokens + 1, (count, 1), generator=random)
    lengths[0] = tokens
    return torch.randint(1, 40, (count, tokens), generator=random), (torch.arange(tokens)[None] < lengths).long()


class Answer(nn.Module):
    """One entry of what a model of the library gives for token ids."""

    def __init__(self, model: nn.Module, key: str = "last_hidden_state") -> None:
        super().__init__()
        self.model, self.key = model, key

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids)[self.key]


class Mean(Answer):
    """The mean of the last features over the tokens that a sentence has, as in sentence encoders."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        h = self.model(input_ids=ids, attention_mask=mask)[self.key]
        m = mask.unsqueeze(-1).to(h.dtype)
        return (h * m).sum(1) / m.sum(1).clamp(min=1e-9)


def gpt2() -> nn.Module:
    sizes = {"vocab_size": 40, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "use_cache": False}
    return Answer(hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)), "logits")


def qwen2() -> nn.Module:
    config = hf.Qwen2Config(**BERT, num_key_value_heads=1, use_cache=False)
    return Answer(hf.Qwen2ForCausalLM(config), "logits")


MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: Answer(hf.BertModel(hf.BertConfig(**BERT))),
    "bert, pooled": lambda: Answer(hf.BertModel(hf.BertConfig(**BERT)), "pooler_output"),
    "bert, eager": lambda: Answer(hf.BertModel(hf.BertConfig(**BERT, attn_implementation="eager"))),
    "bert, mean": lambda: Mean(hf.BertModel(hf.BertConfig(**BERT), add_pooling_layer=False)),
    "bert, mean, eager": lambda: Mean(hf.BertModel(hf.BertConfig(**BERT, attn_implementation="eager"), add_pooling_layer=False)),
    "distilbert": lambda: Mean(hf.DistilBertModel(hf.DistilBertConfig(vocab_size=40, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=16))),
    "roberta": lambda: Mean(hf.RobertaModel(hf.RobertaConfig(**BERT | {"max_position_embeddings": 20}, pad_token_id=0), add_pooling_layer=False)),
    "gpt2": gpt2, "qwen2": qwen2,
}  # fmt: skip


@pytest.mark.parametrize("recipe", [StreamingSigmaDelta(12, threshold_count=12, percentile=100.0), BurstDigits(2, threshold_count=12, percentile=100.0)], ids=["stream", "burst"])  # fmt: skip
@pytest.mark.parametrize("label", MODELS)
def test_a_small_form_converts(label: str, recipe: Recipe) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[label]().eval()
    ids, mask = sentences()
    inputs = (ids, mask) if isinstance(model, Mean) else (ids,)
    snn = ts.convert(model, recipe, [(inputs, torch.zeros(len(ids)))])
    expected = model(*inputs).detach()
    assert float((snn(*inputs) - expected).norm()) <= 0.03 * float(expected.norm())
    assert not any("attention" in node.op.describe() or "rsqrt" in node.op.describe() for node in snn.graph)
