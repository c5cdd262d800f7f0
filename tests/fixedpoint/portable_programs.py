"""Small hand-built integer programs in portable arithmetic, one for each variant of an operation."""

import numpy as np
import torch
from moves import MOVES, SHUFFLED
from programs import HARDTANH, RELU, RELU6, conv

from fixedpoint.program import (
    INPUT,
    PORTABLE,
    Add,
    Clamp,
    Concat,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Op,
    Pad,
    Program,
)

CLASSES = 5
SHIFTS = (5, 1, 0, 2, 8, -2, 3, 15, 4, 6, 7, 9, 10, 12)
LOGIT_SHIFTS = (6, 1, 0, 2, 9)


def build(
    input_shape, *ops: Op, kernels=None, exponents=None, shifts=SHIFTS, logit_shifts=LOGIT_SHIFTS, conv_head=False
) -> Program:
    """A portable program of `ops` and a last layer, with random weights and biases.

    Args:
        kernels: Kernel sizes of convolutions by name; what is missing is 3x3.
        exponents: Exponents of the results of conv and linear by name, 4 if missing; others are as their operand's.
        shifts: Right shifts of the accumulators of each conv and linear, from channel to channel.
        logit_shifts: Those of the last layer.
        conv_head: The last layer is a global mean and a 1x1 convolution instead of a linear layer.
    """
    rng = np.random.default_rng(0)
    kernels = {"logits": (1, 1)} | (kernels or {})
    shapes, known, constants = {INPUT: input_shape}, {INPUT: 7} | (exponents or {}), {}
    ops = (*ops, *_head(ops[-1].name, ops[-1].shape, conv_head))
    for op in ops:
        shapes[op.name] = op.shape
        if isinstance(op, Conv | Linear) and not (isinstance(op, Conv) and op.fixed):
            known.setdefault(op.name, 4)
            shape = (op.shape[0], shapes[op.inputs[0]][0])
            if isinstance(op, Conv):
                shape = (shape[0], shape[1] // op.groups, *kernels.get(op.name, (3, 3)))
            shift = np.resize(logit_shifts if op.name == "logits" else shifts, shape[0])
            values = _constants(rng, shape, shift)
            values["weight_exponent"] = shift + known[op.name] - known[op.inputs[0]]
            constants |= {f"{op.name}.{key}": value for key, value in values.items()}
        known.setdefault(op.name, known[op.inputs[0]])
        if isinstance(op, Conv) and op.fixed:
            constants |= _mean(op, kernels.get(op.name, shapes[op.inputs[0]][1:]))
    logit_exponent = known.pop("logits")
    known.pop("classes", None)
    types = {"weight": np.int8, "bias": np.int32, "weight_exponent": np.int32}
    tensors = {key: torch.from_numpy(value.astype(types[key.rpartition(".")[2]])) for key, value in constants.items()}
    return Program(input_shape, ops, tensors, known, 126, PORTABLE, logit_exponent)


def _constants(rng, shape: tuple[int, ...], shift: np.ndarray) -> dict[str, np.ndarray]:
    """Even weights whose accumulators fill int8 after the shift, as far as they can; biases by the shift."""
    terms = int(np.prod(shape[1:]))
    size = 2.0 ** (shift + 6) / (74 * terms**0.5)  # 74 is the standard deviation of random int8 values
    weight = 2 * np.rint(rng.normal(size=(shape[0], terms)) * size[:, None] / 2).clip(-63, 63).astype(int)
    weight[:, 0] = np.where(weight.any(axis=1), weight[:, 0], 2)
    bias = (rng.normal(size=shape[0]) * 2.0 ** (shift + 5)).astype(int)
    bias = np.where(shift >= 2, bias | 1, np.where(shift == 1, bias & ~1, bias))
    return {"weight": weight.reshape(shape), "bias": bias}


def mean(name: str, source: str, shape: tuple[int, int, int], stride=(1, 1)) -> Conv:
    """The mean of windows, as wide as the map unless the builder sets it."""
    return Conv(name, (source,), shape, stride, (0, 0), (1, 1), shape[0], fixed=True)


def _mean(op: Conv, kernel: tuple[int, int]) -> dict[str, np.ndarray]:
    """The best even weight up to 126 for one divided by the window's size."""
    terms, channels = kernel[0] * kernel[1], op.shape[0]
    exponent = next(e for e in range(20, -1, -1) if 2 * round(2**e / terms / 2) <= 126)
    while 2 ** (exponent - 1) % (2 * terms) == 0:
        exponent -= 1
    return {
        f"{op.name}.weight": np.full((channels, 1, *kernel), 2 * round(2**exponent / terms / 2)),
        f"{op.name}.bias": np.ones(channels),
        f"{op.name}.weight_exponent": np.full(channels, exponent),
    }


def _head(source: str, shape: tuple[int, ...], conv_head: bool) -> list[Op]:
    if conv_head:  # a layer with the name of the output, and not the last operation
        return [
            mean("global", source, (shape[0], 1, 1)),
            conv("logits", "global", (CLASSES, 1, 1), padding=(0, 0)),
            Flatten("classes", ("logits",), (CLASSES,)),
        ]
    return [Flatten("flat", (source,), (int(np.prod(shape)),)), Linear("logits", ("flat",), (CLASSES,))]


def one_conv(input_shape, shape, kernel=(3, 3), exponent=4, **arguments) -> Program:
    layer = conv("x", INPUT, shape, **arguments)
    return build(input_shape, layer, kernels={"x": kernel}, exponents={"x": exponent})


def clamped(clamp, exponent=4) -> Program:
    return one_conv((3, 6, 6), (14, 6, 6), exponent=exponent, clamp=clamp)


def two_branches(*ops: Op, exponent=4) -> Program:
    branches = conv("a", INPUT, (14, 6, 6), clamp=RELU), conv("b", INPUT, (14, 6, 6))
    return build((3, 6, 6), *branches, *ops, exponents={"a": exponent, "b": exponent})


def near_the_limit() -> Program:
    """Accumulators beyond 2**23 on both sides, up to 2**24 - 1 at a saturated image, shifted by 15 bits."""
    program = build((128, 3, 3), conv("x", INPUT, (2, 3, 3)), shifts=(15, 15))
    weight = torch.full((2, 128, 3, 3), -112, dtype=torch.int8)
    weight[1] = 112
    bias = torch.tensor([2**24 - 1 - 112 * 128 * 9 * 128, 1], dtype=torch.int32)
    return program.with_constants(**{"x.weight": weight, "x.bias": bias})


def extreme_shifts() -> Program:
    """Right shifts by which nothing is left, and more; left shifts as large as XNNPACK's multiplier allows."""
    shifts = (-7, -6, -5, 16, 17, 18, 20, 22, 24, 25, 30, 31, 32, 45)
    program = build((3, 8, 8), conv("x", INPUT, (14, 8, 8)), shifts=shifts)
    bias = program.constants["x.bias"].numpy()
    return program.with_constants(**{"x.bias": torch.from_numpy(bias.clip(-(2**23) // 2, 2**23 // 2 - 1) | (bias % 2))})


def network() -> Program:
    """All of it together, because runtimes fuse neighbours."""
    size, half = (16, 16, 16), (16, 8, 8)
    return build(
        (3, 33, 33),
        Pad("border", (INPUT,), (3, 34, 34), (0, 1, 0, 1), (0.0,)),
        conv("stem", "border", size, stride=(2, 2), padding=(0, 0), clamp=RELU),
        conv("left", "stem", size, groups=4, clamp=RELU6),
        conv("right", "left", size, groups=16),
        Add("sum", ("stem", "right"), size, clamp=RELU),
        MaxPool("max", ("sum",), half, (3, 3), (2, 2), (1, 1)),
        mean("mean", "sum", half, stride=(2, 2)),
        Concat("both", ("max", "mean", "max"), (48, 8, 8)),
        conv("mix", "both", (20, 8, 8), padding=(0, 0)),
        Clamp("bounded", ("mix",), (20, 8, 8), clamp=HARDTANH),
        conv("last", "bounded", (20, 4, 4), stride=(2, 2), groups=20, clamp=RELU),
        kernels={"stem": (4, 4), "mean": (2, 2), "mix": (1, 1)},
        exponents={"stem": 4, "left": 3, "right": 4, "mix": 5, "last": 6},
        conv_head=True,
    )


def network_vectors() -> Program:
    """Vectors between the layers of a network: clamped, added, joined, read twice."""
    return build(
        (3, 8, 8),
        conv("stem", INPUT, (4, 8, 8)),
        MaxPool("max", ("stem",), (4, 4, 2), (2, 3), (2, 3), (0, 0)),
        Flatten("f", ("max",), (32,)),
        Clamp("c", ("f",), (32,), clamp=(-1.0, 4.0)),
        Concat("both", ("f", "c"), (64,)),
        Linear("one", ("both",), (28,), clamp=RELU),
        Linear("two", ("f",), (28,)),
        Add("sum", ("one", "two"), (28,)),
        Linear("three", ("sum",), (14,), clamp=RELU6),
    )


PROGRAMS: dict[str, Program] = {
    "conv": one_conv((3, 8, 8), (14, 8, 8)),
    "conv_many_terms": one_conv((64, 6, 6), (16, 6, 6), clamp=RELU),
    "conv_1x1": one_conv((16, 7, 7), (14, 7, 7), (1, 1), padding=(0, 0)),
    "conv_1x1_stride": one_conv((16, 8, 8), (14, 4, 4), (1, 1), stride=(2, 2), padding=(0, 0)),
    "conv_stride_same": one_conv((3, 9, 9), (14, 5, 5), stride=(2, 2)),
    "conv_stride_pad": one_conv((3, 8, 8), (14, 4, 4), stride=(2, 2)),  # SAME has no line above, and one below
    "conv_size_pad": one_conv((3, 8, 8), (14, 7, 7), (4, 4), padding=(1, 1)),  # SAME has one line more below
    "conv_one_axis": one_conv((3, 8, 8), (14, 8, 6), padding=(1, 0)),
    "conv_5x3_stride": one_conv((3, 9, 9), (14, 5, 4), (5, 3), stride=(2, 3), padding=(2, 2)),
    "conv_dilation": one_conv((4, 9, 9), (14, 7, 7), dilation=(2, 2)),
    "conv_dilation_same": one_conv((4, 9, 9), (14, 9, 9), dilation=(2, 3), padding=(2, 3)),
    "conv_groups": one_conv((16, 8, 8), (28, 8, 8), groups=2, clamp=RELU),
    "conv_groups_pad": one_conv((8, 8, 8), (16, 4, 4), groups=4, stride=(2, 2)),
    "conv_depthwise": one_conv((14, 8, 8), (14, 8, 8), groups=14),
    "conv_depthwise_5x5": one_conv((14, 8, 8), (14, 4, 4), (5, 5), stride=(2, 2), padding=(2, 2), groups=14),
    "conv_depthwise_dilation": one_conv((14, 8, 8), (14, 8, 8), groups=14, dilation=(2, 2), padding=(2, 2)),
    "conv_depthwise_1x1": one_conv((14, 8, 8), (14, 8, 8), (1, 1), padding=(0, 0), groups=14, clamp=RELU),
    "conv_depthwise_twice": one_conv((8, 8, 8), (16, 8, 8), groups=8),
    "conv_relu": clamped(RELU),
    "conv_relu6": clamped(RELU6),
    "conv_relu6_fine": clamped(RELU6, exponent=6),
    "conv_relu6_coarse": clamped(RELU6, exponent=-3),  # 0.75 is 1
    "conv_hardtanh": clamped(HARDTANH, exponent=5),
    "conv_hardtanh_coarse": clamped((-0.4, 1.7), exponent=-1),  # -0.2 is 0, 0.85 is 1
    "conv_odd_bounds": clamped((-0.3, 3.7)),
    "conv_upper_bound": clamped((None, 2.0)),
    "conv_lower_bound": clamped((-1.0, None)),
    "conv_extreme_shifts": extreme_shifts(),
    "conv_near_the_limit": near_the_limit(),
    "conv_logits": build((4, 8, 8), conv("x", INPUT, (14, 8, 8)), conv_head=True),
    "logits_all_rounded": build((4, 8, 8), conv("x", INPUT, (14, 8, 8)), logit_shifts=(7, 10, 9, 12, 8)),
    "linear": build(
        (40, 1, 1),
        Flatten("f", (INPUT,), (40,)),
        Linear("x", ("f",), (14,), clamp=RELU),
        Linear("y", ("x",), (14,)),
    ),
    "linear_map": build((3, 4, 5), Flatten("f", (INPUT,), (60,)), Linear("x", ("f",), (14,))),
    "clamp": build((3, 8, 8), Clamp("x", (INPUT,), (3, 8, 8), clamp=RELU)),
    "clamp_relu6": build((3, 8, 8), conv("a", INPUT, (14, 8, 8)), Clamp("x", ("a",), (14, 8, 8), clamp=RELU6)),
    "clamp_both_sides": build((3, 8, 8), Clamp("x", (INPUT,), (3, 8, 8), clamp=(-0.25, 0.6))),
    "clamp_nothing": build((3, 8, 8), Clamp("x", (INPUT,), (3, 8, 8), clamp=(-2.0, None))),
    "add": two_branches(Add("x", ("a", "b"), (14, 6, 6))),
    "add_relu": two_branches(Add("x", ("a", "b"), (14, 6, 6), clamp=RELU), exponent=-3),
    "add_odd_bounds": two_branches(Add("x", ("a", "b"), (14, 6, 6), clamp=(-1.3, 5.0))),
    "add_to_itself": build((3, 8, 8), Add("x", (INPUT, INPUT), (3, 8, 8))),
    "concat": two_branches(Concat("x", ("a", "b"), (28, 6, 6))),
    "concat_input": build(
        (3, 6, 6), conv("a", INPUT, (14, 6, 6)), Concat("x", (INPUT, "a", INPUT), (20, 6, 6)), exponents={"a": 7}
    ),
    "concat_many": two_branches(Concat("x", tuple("abbabaabbab"), (154, 6, 6))),
    "concat_relu": two_branches(Concat("x", ("b", "b"), (28, 6, 6), clamp=RELU)),
    "concat_rows": two_branches(Concat("x", ("b", "a", "b"), (14, 18, 6), axis=1)),
    "concat_columns": two_branches(Concat("x", tuple("abbabaa"), (14, 6, 42), clamp=RELU, axis=2)),
    "concat_odd_bounds": two_branches(Concat("x", ("a", "b"), (28, 6, 6), clamp=(-1.3, 5.0))),
    "flatten": build(
        (12, 2, 3),
        Flatten("f", (INPUT,), (72,)),
        Clamp("x", ("f",), (72,), clamp=(-0.5, 0.25)),
    ),
    "flatten_column": build((12, 1, 1), Flatten("f", (INPUT,), (12,)), Clamp("x", ("f",), (12,), clamp=RELU)),
    "flatten_channel": build((1, 4, 3), Flatten("f", (INPUT,), (12,)), Clamp("x", ("f",), (12,), clamp=RELU)),
    "pad": build((3, 8, 8), Pad("x", (INPUT,), (3, 10, 12), (2, 0, 1, 3), (0.0,))),
    "pad_value": build((3, 8, 8), Pad("x", (INPUT,), (3, 9, 8), (0, 1, 0, 0), (-0.2,))),
    "pad_least": build((3, 8, 8), Pad("x", (INPUT,), (3, 9, 9), (1, 0, 0, 1), (None,))),
    "pad_values": build((3, 8, 8), Pad("x", (INPUT,), (3, 11, 11), (1, 2, 0, 3), (0.30078125, -7.0, None))),
    "pad_between": build((3, 5, 4), Pad("x", (INPUT,), (3, 12, 7), (2, 1, 0, 3), (0.0,), between=(1, 0))),
    "pad_between_columns": build((3, 5, 4), Pad("x", (INPUT,), (3, 6, 11), (1, 0, 0, 1), (0.0,), between=(0, 2))),
    "pad_between_alone": build((3, 4, 4), Pad("x", (INPUT,), (3, 10, 7), (0, 0, 0, 0), (0.0,), between=(2, 1))),
    "pad_between_value": build((3, 4, 4), Pad("x", (INPUT,), (3, 10, 8), (0, 0, 1, 0), (-0.2,), between=(2, 1))),
    "pad_between_values": build(
        (3, 4, 3), Pad("x", (INPUT,), (3, 8, 8), (1, 0, 0, 1), (0.30078125, None, 0.74609375), between=(1, 2))
    ),
    "transposed_conv": build(  # a transposed convolution of stride 2, with a kernel of 3 and a padding of 1
        (6, 4, 5),
        Pad("p", (INPUT,), (6, 9, 11), (1, 1, 1, 1), (0.0,), between=(1, 1)),
        conv("x", "p", (14, 7, 9), padding=(0, 0), groups=2, clamp=RELU),
    ),
    "pad_values_columns": build((3, 8, 8), Pad("x", (INPUT,), (3, 8, 10), (0, 0, 1, 1), (0.3, -0.9, 0.0))),
    "pad_values_conv": build(  # what a BatchNorm before a padded convolution becomes
        (3, 8, 8),
        Pad("p", (INPUT,), (3, 10, 10), (1, 1, 1, 1), (0.3, -2.0, 0.0)),
        conv("x", "p", (14, 8, 8), padding=(0, 0)),
    ),
    "pad_max_pool": build(
        (3, 7, 7),
        Pad("p", (INPUT,), (3, 9, 8), (1, 1, 0, 1), (None,)),
        MaxPool("x", ("p",), (3, 4, 3), (3, 3), (2, 2), (0, 0)),
    ),
    "max_pool": build((3, 8, 8), MaxPool("x", (INPUT,), (3, 4, 4), (2, 2), (2, 2), (0, 0))),
    "max_pool_same": build((3, 9, 9), MaxPool("x", (INPUT,), (3, 5, 5), (3, 3), (2, 2), (1, 1))),
    "max_pool_pad": build((3, 8, 8), MaxPool("x", (INPUT,), (3, 4, 4), (3, 3), (2, 2), (1, 1))),
    "max_pool_relu_pad": build(
        (3, 8, 8), conv("a", INPUT, (14, 8, 8), clamp=RELU), MaxPool("x", ("a",), (14, 4, 4), (3, 3), (2, 2), (1, 1))
    ),
    "mean_2x2": build((3, 8, 8), mean("x", INPUT, (3, 4, 4), (2, 2)), kernels={"x": (2, 2)}),
    "mean_3x3": build((3, 9, 9), mean("x", INPUT, (3, 4, 4), (2, 2)), kernels={"x": (3, 3)}),
    "mean_7x7": build((3, 7, 7), mean("x", INPUT, (3, 1, 1))),
    "mean_1x56": build((1, 1, 56), mean("x", INPUT, (1, 1, 1))),
    "network": network(),
    "network_vectors": network_vectors(),
    "network_shuffled": build((3, 8, 8), *SHUFFLED, conv_head=True),
    **{name: build(shape, *ops) for name, (shape, ops) in MOVES.items()},
}
