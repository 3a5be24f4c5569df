"""Why operators of torch cannot be converted, and what can be used instead."""

from collections.abc import Sequence

from transpike.errors import UnsupportedOperator

_DIFFERENCES = "a differential recipe (sigma-delta, burst-digits, dcgs)"
_SAMPLE = (
    "it normalises each sample by its own mean and variance, which firing rates do not compute: use "
    f"{_DIFFERENCES}, or train with nn.BatchNorm"
)
_GATE = (
    "with this recipe it is supported after the last layer only, where it is computed once on the answer; inside the "
    f"network use {_DIFFERENCES}, or train with nn.ReLU and without gates"
)
_CURVED = (
    "a firing rate represents max(x, 0), clipped, in levels or leaky, and not this function: use "
    f"{_DIFFERENCES}, whose neurons follow any function of one value, or train with nn.ReLU"
)
_RECURRENT = "a recurrent layer multiplies activations by activations; spiking networks of transpike are feed-forward"
_PRODUCT = f"it multiplies two activations, or an activation by itself: use {_DIFFERENCES}"
_ORDER = "it sorts activations, which needs all of them at once: compute it on the answer, outside the network"
_RANDOM = "it draws random numbers: remove it in eval mode"
_ATTENTION = f"attention multiplies activations by activations: use {_DIFFERENCES}"

_FAMILIES: dict[str, str] = {
    _CURVED: "elu celu selu gelu silu mish hardswish softplus softshrink hardshrink log_sigmoid glu",
    _GATE: "sigmoid hardsigmoid tanh softmax _softmax log_softmax _log_softmax",
    _SAMPLE: "layer_norm native_layer_norm group_norm native_group_norm rms_norm std var var_mean",
    _RECURRENT: "lstm gru rnn_relu rnn_tanh lstm_cell gru_cell",
    _PRODUCT: "pow square bmm baddbmm bilinear dot",
    "its length is the square root of products of activations: normalise the answer outside the network": (
        "norm linalg_vector_norm frobenius_norm"
    ),
    "dividing by activations has no spiking form: normalise the answer outside the network": "reciprocal rsqrt",
    "it is neither max(x, 0) nor linear; min(a, b) is a − relu(a − b), and min(max(x, 0), c) is clamp(x, 0, c)": (
        "minimum min amin"
    ),
    "a jump at 0 has no firing rate: train with nn.ReLU": "sign sgn heaviside round floor ceil trunc bernoulli",
    "it is neither max(x, 0) nor linear": "exp log log1p sqrt sin cos erf",
    _ORDER: "sort argsort topk argmax argmin median kthvalue",
    _RANDOM: "rand randn rand_like randn_like randint normal uniform",
    _ATTENTION: "scaled_dot_product_attention _native_multi_head_attention _transformer_encoder_layer_fwd",
    "it looks values up by integers that are not an input: pass them as an input of int64, and use nn.Embedding": (
        "embedding embedding_bag one_hot"
    ),
    "it adds up along the axis step by step; multiply by a triangular matrix of ones (x @ torch.triu(ones))": "cumsum",
}
_REASONS = {name: reason for reason, names in _FAMILIES.items() for name in names.split()}


def reason(operator: str) -> str:
    """The reason why no layer represents this operator ("silu.default"), and the remedy if there is one."""
    name = operator.split(".")[0]
    if operator in ("mean.default", "sum.default", "max.default"):
        return "it works across the batch; name the other axes (dim=…)"
    return _REASONS.get(name, _REASONS.get(name.rstrip("_"), "transpike has no layer for it"))


def refusal(places: Sequence[tuple[str, str, str, str]]) -> UnsupportedOperator:
    """The error that names every place: operator, module path, source line and reason."""
    rows = [f"  {name} in {path or 'the model itself'} ({line}): {reason}" for name, path, line, reason in places]
    return UnsupportedOperator(
        f"{len(rows)} place{'s' * (len(rows) > 1)} cannot be converted:\n"
        + "\n".join(rows)
        + '\nReplace them, or keep them analogue with on_unsupported="keep" (--on-unsupported keep). '
        "Analogue operators compute with real numbers: they send no spikes, and the layers after them multiply in "
        "every time step.",
        tuple((name, path, line) for name, path, line, _ in places),
    )
