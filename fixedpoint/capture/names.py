"""ATen operations by name: those that only move entries, those that change nothing, why others are refused."""

from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

# Applied to the positions of entries by PyTorch itself.
MOVES = frozenset({
    "_unsafe_index", "_unsafe_view", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "adjoint",
    "atleast_2d", "atleast_3d", "broadcast_to", "channel_shuffle", "chunk", "diagonal", "dsplit", "expand",
    "expand_as", "expand_copy", "flatten", "flip", "fliplr", "flipud", "gather", "hsplit", "index", "index_select",
    "mT", "matrix_H", "moveaxis", "movedim", "narrow", "native_channel_shuffle", "numpy_T", "permute",
    "permute_copy", "pixel_shuffle", "pixel_unshuffle", "ravel", "reflection_pad1d", "reflection_pad2d",
    "reflection_pad3d", "repeat", "repeat_interleave", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "reshape", "reshape_as", "roll", "rot90", "select", "select_copy", "slice", "slice_copy",
    "split", "split_copy", "split_with_sizes", "split_with_sizes_copy", "squeeze", "squeeze_copy", "swapaxes",
    "swapdims", "t", "take", "take_along_dim", "tensor_split", "tile", "transpose", "transpose_copy", "unbind",
    "unbind_copy", "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "unsqueeze",
    "unsqueeze_copy", "upsample_nearest1d", "upsample_nearest2d", "view", "view_as", "view_copy", "vsplit",
})  # fmt: skip
# The same, of entries of several values; tensors of numbers among their operands are constants.
JOINS = frozenset({
    "column_stack", "copy", "diagonal_scatter", "dstack", "hstack", "row_stack", "select_scatter", "slice_scatter",
    "stack", "vstack",
})  # fmt: skip
# Their value is their first operand, if they are not in training.
SAME = frozenset({
    "_to_copy", "alias", "alpha_dropout", "clone", "contiguous", "data", "detach", "double", "dropout",
    "feature_alpha_dropout", "feature_dropout", "float", "lift_fresh", "lift_fresh_copy", "native_dropout",
    "positive", "to", "type_as",
})  # fmt: skip
# They read nothing but the shape of their operand.
LIKE = frozenset({
    "empty_like", "fill", "full_like", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like",
})  # fmt: skip
# What is left out if it is the last operation of a network.
ENDINGS = frozenset({
    "_log_softmax", "_softmax", "argmax", "argsort", "log_sigmoid", "log_softmax", "sigmoid", "softmax", "topk",
})  # fmt: skip

_STATISTICS = "it divides by statistics of each image, which has no exact integer form: use BatchNorm"
_ATTENTION = "attention and softmax inside a network have no exact integer form: use convolutions"
_UNKNOWN = "it is not supported (docs/networks.md lists what is)"
# Why the ATen operations without a method are refused, and what to do.
REASONS = {
    **dict.fromkeys(
        [
            *("group_norm", "instance_norm", "layer_norm", "native_group_norm", "native_layer_norm", "rms_norm"),
            *("_fused_rms_norm", "var", "var_mean", "std", "std_mean", "linalg_vector_norm", "norm"),
            *("cosine_similarity", "local_response_norm"),
        ],
        _STATISTICS,
    ),
    **dict.fromkeys(
        [
            *("softmax", "log_softmax", "_softmax", "_log_softmax", "softmin", "scaled_dot_product_attention", "bmm"),
            *("baddbmm", "_native_multi_head_attention"),
        ],
        _ATTENTION,
    ),
    **{
        name: f"{_UNKNOWN}: {advice}"
        for names, advice in {
            ("hardshrink",): "use a clamp, a leaky ReLU or tanhshrink",
            ("softshrink",): "write x - x.clamp(-lambd, lambd)",
            ("log_sigmoid", "log_sigmoid_forward"): "write -F.softplus(-x)",
            ("bilinear", "_trilinear"): "write a product of two linear layers",
            ("triu", "tril"): "multiply by a constant mask, torch.ones_like(x).triu()",
            ("addcdiv", "reciprocal"): "divide by constants alone, or multiply by a sigmoid",
            ("exp", "exp2", "expm1"): "use sigmoid, softplus, elu or silu, which are tables",
            ("log", "log2", "log10", "log1p"): "use softplus, which is a table",
            ("sqrt", "rsqrt"): "use powers of 2 to 4, or BatchNorm in the place of a norm",
            ("sin", "cos", "erf", "atan", "sinh", "cosh"): "use tanh or gelu, which are tables",
            ("floor", "ceil", "round", "trunc"): "leave it out, as quantization rounds",
            ("cumsum", "cumprod", "logcumsumexp"): "write a product with a constant triangular matrix",
            (
                "sort",
                "topk",
                "argmax",
                "argmin",
                "argsort",
                "median",
                "mode",
            ): "use max pools, or the logits",
            ("conv3d", "avg_pool3d", "max_pool3d"): "use operations of two dimensions",
            ("lstm", "gru", "rnn_tanh", "rnn_relu"): "use convolutions",
        }.items()
        for name in names
    },
}


def reason(name: str) -> str:
    """Why the ATen operation `name` is refused, and what to do."""
    return REASONS.get(name, f"{_UNKNOWN}: write it with those")


def operation(node: Node) -> str:
    """The name of the node's ATen operation, that of `add_` being `add`."""
    name = (
        str(node.target) if isinstance(node.target, OpOverload) else getattr(node.target, "__name__", str(node.target))
    )
    return name.removeprefix("aten.").rsplit(".", 1)[0].rstrip("_")


def arguments(target: OpOverload, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an ATen call by name, defaults included, in the order of its signature."""
    schema = target._schema.arguments
    given = dict(zip((a.name for a in schema), args, strict=False)) | kwargs
    return {a.name: given.get(a.name, a.default_value) for a in schema}
