"""Small hand-built integer programs, one for each variant of an operation, and inputs that are hard for them."""

from dataclasses import replace

import numpy as np
import torch
from moves import IN_EXACT8, MOVES, SHUFFLED

from fixedpoint.program import (
    INPUT,
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv,
    Flatten,
    Linear,
    Lookup,
    MaxPool,
    Mul,
    Op,
    Pad,
    Program,
)
from fixedpoint.program.functions import table

CLASSES = 5
RELU, RELU6, HARDTANH = (0.0, None), (0.0, 6.0), (-1.0, 1.0)


def build(
    input_shape,
    *ops: Op,
    exponents=None,
    kernels=None,
    random_tables=False,
    conv_head=False,
    weights=127,
    weight_shift=0,
) -> Program:
    """An integer program of `ops` and a last layer, with random weights and biases.

    Args:
        exponents: Exponents by tensor; a missing one is that of the first operand.
        kernels: Kernel sizes of convolutions by name; what is missing is 3x3.
        random_tables: Look-ups have random tables instead of their functions'.
        conv_head: The last layer is a global average pool and a 1x1 convolution instead of a linear layer.
        weights: Greatest weight, lower where the accumulators might reach 2**24.
        weight_shift: Added to the weight exponents, which vary from channel to channel.
    """
    rng = np.random.default_rng(0)
    kernels = {"logits": (1, 1)} | (kernels or {})
    shapes, known, constants = {INPUT: input_shape}, {INPUT: 7} | (exponents or {}), {}
    ops = [*ops, *_head(ops[-1].name, ops[-1].shape, conv_head)]
    for op in ops:
        if isinstance(op, Conv | Linear):
            shape = (op.shape[0], shapes[op.inputs[0]][0])
            if isinstance(op, Conv):
                shape = (shape[0], shape[1] // op.groups, *kernels.get(op.name, (3, 3)))
            limit = min(weights, (2**24 - 2**21) // (128 * int(np.prod(shape[1:]))))
            values = {
                "weight": rng.integers(-limit, limit + 1, shape, np.int8),
                "bias": rng.integers(-64 * limit, 64 * limit, shape[0], np.int32),
                "weight_exponent": (rng.integers(6, 12, shape[0]) + weight_shift).astype(np.int32),
            }
            constants |= {f"{op.name}.{key}": torch.from_numpy(value) for key, value in values.items()}
        if op.name not in ("logits", "classes"):
            known.setdefault(op.name, known[op.inputs[0]])
        shapes[op.name] = op.shape
    program = Program(input_shape, tuple(ops), constants, known)
    random_table = torch.from_numpy(rng.integers(-128, 128, 256, np.int8))
    lookups = [op for op in ops if isinstance(op, Lookup)]
    return program.with_constants(
        **{f"{op.name}.table": random_table if random_tables else table(program, op) for op in lookups}
    )


def _head(source: str, shape: tuple[int, ...], conv_head: bool) -> list[Op]:
    if conv_head:  # a layer with the name of the ONNX output, and not the last operation
        return [
            AvgPool("global", (source,), (shape[0], 1, 1), shape[1:], shape[1:]),
            Conv("logits", ("global",), (CLASSES, 1, 1), (1, 1), (0, 0), (1, 1), 1),
            Flatten("classes", ("logits",), (CLASSES,)),
        ]
    return [Flatten("flat", (source,), (int(np.prod(shape)),)), Linear("logits", ("flat",), (CLASSES,))]


def conv(name, source, shape, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, clamp=(None, None)) -> Conv:
    return Conv(name, (source,), shape, stride, padding, dilation, groups, clamp=clamp)


def avg_pool(kernel, stride, side, shift) -> Program:
    rows, columns = ((side - k) // s + 1 for k, s in zip(kernel, stride, strict=True))
    pool = AvgPool("pool", (INPUT,), (3, rows, columns), kernel, stride)
    return build((3, side, side), pool, exponents={"pool": 7 - shift})


def two_branches(*ops: Op, kernels=None, **exponents: int) -> Program:
    branches = conv("a", INPUT, (4, 8, 8), clamp=RELU), conv("b", INPUT, (4, 8, 8))
    return build((3, 8, 8), *branches, *ops, exponents=exponents, kernels=kernels)


def gated(*inputs: str, exponent: int) -> Program:
    """The map INPUT times one "factor" for each of its channels."""
    factor = AvgPool("factor", (INPUT,), (3, 1, 1), (8, 8), (8, 8))
    product = Mul("x", inputs, (3, 8, 8))
    return build((3, 8, 8), factor, product, exponents={"factor": 9, "x": exponent})


def squeeze_and_excite(source: str, shape: tuple[int, int, int], function: str, *product: str) -> list[Op]:
    """The operations from the map `source` to its product with the gate, `product` the operands of that."""
    channels, *size = shape
    return [
        AvgPool("squeeze", (source,), (channels, 1, 1), tuple(size), tuple(size)),
        conv("reduce", "squeeze", (4, 1, 1), padding=(0, 0), clamp=RELU),
        conv("expand", "reduce", (channels, 1, 1), padding=(0, 0)),
        Lookup("gate", ("expand",), (channels, 1, 1), function, ()),
        Mul("scaled", product, shape),
    ]


SQUEEZE_KERNELS = {"reduce": (1, 1), "expand": (1, 1)}
SQUEEZE_EXPONENTS = {"squeeze": 5, "reduce": 4, "expand": 4, "gate": 7, "scaled": 5}


def block(function: str, *product: str) -> Program:
    return build(
        (3, 8, 8),
        conv("stem", INPUT, (8, 8, 8), clamp=RELU),
        *squeeze_and_excite("stem", (8, 8, 8), function, *product),
        exponents={"stem": 4} | SQUEEZE_EXPONENTS,
        kernels=SQUEEZE_KERNELS,
    )


def network() -> Program:
    """All of it together, because ONNX Runtime fuses neighbours."""
    size, half = (8, 16, 16), (8, 8, 8)
    return build(
        (3, 32, 32),
        conv("stem", INPUT, size, stride=(2, 2), clamp=RELU),
        conv("left", "stem", size, groups=2, clamp=RELU6),
        conv("right", "left", size, groups=8),
        Add("sum", ("stem", "right"), size, clamp=RELU),
        MaxPool("max", ("sum",), half, (3, 3), (2, 2), (1, 1)),
        AvgPool("mean", ("sum",), half, (2, 2), (2, 2)),
        Concat("both", ("max", "mean", "max"), (24, 8, 8)),
        conv("mix", "both", (16, 8, 8), padding=(0, 0)),
        Clamp("bounded", ("mix",), (16, 8, 8), clamp=HARDTANH),
        exponents={"stem": 5, "left": 4, "right": 6, "sum": 4, "mean": 5, "both": 3, "mix": 4, "bounded": 4},
        kernels={"mix": (1, 1)},
        conv_head=True,
    )


def network_se() -> Program:
    """What mobile networks add to it: padding on one side, activations as tables, squeeze-and-excitation."""
    size, half = (8, 16, 16), (8, 8, 8)
    return build(
        (3, 32, 32),
        Pad("border", (INPUT,), (3, 33, 33), (0, 1, 0, 1), (0.0,)),
        conv("stem", "border", size, stride=(2, 2), padding=(0, 0)),
        Lookup("active", ("stem",), size, "hardswish", ()),
        *squeeze_and_excite("active", size, "hardsigmoid", "active", "gate"),
        conv("right", "scaled", size, groups=8),
        Add("sum", ("active", "right"), size),
        Pad("rim", ("sum",), (8, 17, 17), (1, 0, 1, 0), (None,)),
        MaxPool("max", ("rim",), half, (3, 3), (2, 2), (0, 0)),
        AvgPool("mean", ("sum",), half, (2, 2), (2, 2)),
        Concat("both", ("max", "mean"), (16, 8, 8)),
        conv("norm", "both", (16, 8, 8), padding=(0, 0), groups=16, clamp=RELU),
        Mul("square", ("norm", "norm"), (16, 8, 8)),
        exponents={"stem": 4, "active": 4, "right": 4, "sum": 3, "mean": 4, "both": 3, "norm": 4, "square": 2}
        | SQUEEZE_EXPONENTS,
        kernels={"norm": (1, 1)} | SQUEEZE_KERNELS,
        conv_head=True,
    )


def near_the_limit() -> Program:
    """Accumulators from -(2**24 - 2**18) to 2**24 - 1, at a saturated image of one sign or the other."""
    program = build((128, 3, 3), conv("x", INPUT, (2, 3, 3)), exponents={"x": -3})
    weight = torch.full((2, 128, 3, 3), -113, dtype=torch.int8)
    weight[1] = 113
    bias = torch.tensor([2**24 - 1 - 113 * 128 * 9 * 128, 0], dtype=torch.int32)
    exponent = torch.tensor([7, 6], dtype=torch.int32)
    return program.with_constants(**{"x.weight": weight, "x.bias": bias, "x.weight_exponent": exponent})


SIX, FOUR = (6, 8, 8), (4, 8, 8)
PROGRAMS: dict[str, Program] = {
    "conv": build((3, 8, 8), conv("x", INPUT, SIX), exponents={"x": 6}),
    "conv_many_terms": build((64, 6, 6), conv("x", INPUT, (16, 6, 6), clamp=RELU), exponents={"x": 3}),
    "conv_1x1": build(
        (16, 7, 7), conv("x", INPUT, (8, 7, 7), padding=(0, 0)), exponents={"x": 4}, kernels={"x": (1, 1)}
    ),
    "conv_5x3_stride": build(
        (3, 9, 9), conv("x", INPUT, (4, 5, 4), (2, 3), (2, 2)), exponents={"x": 6}, kernels={"x": (5, 3)}
    ),
    "conv_dilation": build((4, 9, 9), conv("x", INPUT, (4, 7, 7), dilation=(2, 2)), exponents={"x": 4}),
    "conv_groups": build((16, 8, 8), conv("x", INPUT, (24, 8, 8), groups=2, clamp=RELU), exponents={"x": 4}),
    "conv_depthwise": build((8, 8, 8), conv("x", INPUT, (8, 8, 8), groups=8), exponents={"x": 5}),
    "conv_depthwise_5x5": build(
        (8, 8, 8), conv("x", INPUT, (16, 4, 4), (2, 2), (2, 2), groups=8), exponents={"x": 5}, kernels={"x": (5, 5)}
    ),
    "conv_relu6": build((3, 8, 8), conv("x", INPUT, SIX, clamp=RELU6), exponents={"x": 4}),
    "conv_hardtanh": build((3, 8, 8), conv("x", INPUT, SIX, clamp=HARDTANH), exponents={"x": 5}),
    "conv_negative_shifts": build((3, 8, 8), conv("x", INPUT, SIX), exponents={"x": 8}, weights=2, weight_shift=-8),
    "conv_large_exponents": build((3, 8, 8), conv("x", INPUT, SIX), exponents={"x": 18}, weight_shift=12),
    "conv_near_the_limit": near_the_limit(),
    "conv_logits": build((4, 8, 8), conv("x", INPUT, SIX), exponents={"x": 4}, conv_head=True),
    "linear": build(
        (40, 1, 1),
        Flatten("f", (INPUT,), (40,)),
        Linear("x", ("f",), (16,), clamp=RELU),
        Linear("y", ("x",), (8,)),
        exponents={"x": 4, "y": 3},
        weights=3,
        weight_shift=-5,
    ),
    "clamp": build((3, 8, 8), Clamp("x", (INPUT,), (3, 8, 8), clamp=RELU)),
    "clamp_both_sides": build((3, 8, 8), Clamp("x", (INPUT,), (3, 8, 8), clamp=(-0.25, 0.6))),
    "add": two_branches(Add("x", ("a", "b"), FOUR, clamp=RELU), a=4, b=6, x=4),
    "add_finer_result": two_branches(Add("x", ("a", "b"), FOUR), a=3, b=2, x=5),
    "add_three": two_branches(Add("x", ("a", "b", "a"), FOUR), Add("y", ("x", "b"), FOUR), a=7, b=4, x=3, y=2),
    "add_to_itself": build((3, 8, 8), Add("x", (INPUT, INPUT), (3, 8, 8)), exponents={"x": 5}),
    "concat": two_branches(Concat("x", ("a", INPUT, "b"), (11, 8, 8)), a=3, b=6, x=5),
    "concat_rows": two_branches(Concat("x", ("b", "a", "b"), (4, 24, 8), axis=1), a=3, b=6, x=5),
    "concat_columns": two_branches(Concat("x", ("a", "b"), (4, 8, 16), clamp=RELU6, axis=2), a=2, b=7, x=4),
    "concat_clamp": two_branches(Concat("x", ("a", "b"), (8, 8, 8), clamp=RELU6), a=2, b=7, x=4),
    "concat_depthwise_1x1": two_branches(  # what a BatchNorm between a concatenation and a ReLU becomes
        Concat("both", ("a", "b"), (8, 8, 8)),
        conv("x", "both", (8, 8, 8), padding=(0, 0), groups=8, clamp=RELU),
        kernels={"x": (1, 1)},
        a=4,
        b=5,
        both=4,
        x=3,
    ),
    "mul": two_branches(Mul("x", ("a", "b"), FOUR), a=4, b=6, x=4),
    "mul_relu6": two_branches(Mul("x", ("a", "b"), FOUR, clamp=RELU6), a=3, b=3, x=4),
    "mul_finer_result": two_branches(Mul("x", ("a", "b"), FOUR), a=2, b=1, x=5),
    "mul_by_itself": build((3, 8, 8), Mul("x", (INPUT, INPUT), (3, 8, 8)), exponents={"x": 7}),
    "mul_gate_left": gated("factor", INPUT, exponent=7),
    "mul_gate_right": gated(INPUT, "factor", exponent=9),
    "mul_features": build(
        (12, 1, 1), Flatten("f", (INPUT,), (12,)), Mul("x", ("f", "f"), (12,), clamp=(0.25, None)), exponents={"x": 6}
    ),
    "lookup": build((3, 8, 8), Lookup("x", (INPUT,), (3, 8, 8), "tanh", ()), exponents={"x": 2}, random_tables=True),
    "lookup_sigmoid": build(
        (3, 8, 8), conv("c", INPUT, SIX), Lookup("x", ("c",), SIX, "sigmoid", ()), exponents={"c": 4, "x": 7}
    ),
    "lookup_clamped": build(
        (3, 8, 8),
        conv("c", INPUT, SIX),
        Lookup("x", ("c",), SIX, "elu", (1.5,), clamp=(-0.4, 6.0)),
        exponents={"c": 3, "x": 4},
    ),
    "lookup_features": build(
        (12, 2, 1),
        Flatten("f", (INPUT,), (24,)),
        Lookup("x", ("f",), (24,), "tanh", ()),
        exponents={"x": 3},
        random_tables=True,
    ),
    "pad": build((3, 8, 8), Pad("x", (INPUT,), (3, 10, 12), (2, 0, 1, 3), (0.0,))),
    "pad_value": build((3, 8, 8), Pad("x", (INPUT,), (3, 9, 8), (0, 1, 0, 0), (-0.2,))),
    "pad_values": build((3, 8, 8), Pad("x", (INPUT,), (3, 10, 10), (1, 1, 1, 1), (0.30078125, -7.0, 0.74609375))),
    "pad_between": build((3, 5, 4), Pad("x", (INPUT,), (3, 12, 7), (2, 1, 0, 3), (0.0,), between=(1, 0))),
    "pad_between_value": build((3, 4, 4), Pad("x", (INPUT,), (3, 10, 7), (0, 0, 0, 0), (-0.2,), between=(2, 1))),
    "pad_between_values": build(
        (3, 4, 3), Pad("x", (INPUT,), (3, 8, 8), (1, 0, 0, 1), (0.30078125, -7.0, 0.74609375), between=(1, 2))
    ),
    "transposed_conv": build(  # a transposed convolution of stride 2, with a kernel of 3 and a padding of 1
        (6, 4, 5),
        Pad("p", (INPUT,), (6, 9, 11), (1, 1, 1, 1), (0.0,), between=(1, 1)),
        conv("x", "p", (4, 7, 9), padding=(0, 0), groups=2, clamp=RELU),
        exponents={"x": 4},
    ),
    "pad_conv": build(
        (3, 8, 8),
        Pad("p", (INPUT,), (3, 9, 9), (0, 1, 0, 1), (0.0,)),
        conv("x", "p", (6, 4, 4), (2, 2), (0, 0)),
        exponents={"x": 5},
    ),
    "pad_values_conv": build(  # what a BatchNorm before a padded convolution becomes
        (3, 8, 8),
        Pad("p", (INPUT,), (3, 10, 10), (1, 1, 1, 1), (0.3, -2.0, 0.0)),
        conv("x", "p", SIX, padding=(0, 0)),
        exponents={"x": 5},
    ),
    "pad_max_pool": build(
        (3, 7, 7),
        Pad("p", (INPUT,), (3, 9, 8), (1, 1, 0, 1), (None,)),
        MaxPool("x", ("p",), (3, 4, 3), (3, 3), (2, 2), (0, 0)),
    ),
    "squeeze_and_excite": block("sigmoid", "stem", "gate"),
    "squeeze_and_excite_hard": block("hardsigmoid", "gate", "stem"),
    "max_pool": build((3, 8, 8), MaxPool("x", (INPUT,), (3, 4, 4), (2, 2), (2, 2), (0, 0))),
    "max_pool_padding": build((3, 9, 9), MaxPool("x", (INPUT,), (3, 5, 5), (3, 3), (2, 2), (1, 1))),
    "avg_pool_2x2": avg_pool((2, 2), (2, 2), 8, shift=0),
    "avg_pool_3x3": avg_pool((3, 3), (2, 2), 9, shift=1),
    "avg_pool_3x3_finer": avg_pool((3, 3), (1, 1), 5, shift=-2),
    "avg_pool_7x7": avg_pool((7, 7), (7, 7), 7, shift=1),
    "avg_pool_7x7_windows": avg_pool((7, 7), (7, 7), 14, shift=2),
    # the float32 reciprocals of 7, 14 and 121 are rounded so that a product with them moves ties
    "avg_pool_1x7": avg_pool((1, 7), (1, 7), 7, shift=1),
    "avg_pool_2x7": avg_pool((2, 7), (2, 7), 14, shift=0),
    "avg_pool_11x11": avg_pool((11, 11), (11, 11), 11, shift=1),
    "avg_pool_56x56": avg_pool((56, 56), (56, 56), 56, shift=4),  # divides by 2**15.6 and 2**16.6
    "avg_pool_56x56_coarse": avg_pool((56, 56), (56, 56), 56, shift=5),
    "network": network(),
    "network_se": network_se(),
    "network_shuffled": build(
        (3, 8, 8),
        *SHUFFLED,
        exponents={"stem": 4, "changed": 4, "both": 4, "mix": 3, "last": 2},
        conv_head=True,
    ),
    **{name: build(MOVES[name][0], *MOVES[name][1]) for name in IN_EXACT8},
}


def hard_inputs(program: Program, count: int = 12, seed: int = 1) -> np.ndarray:
    """Random, saturated and tie-making int8 images [6 * count, channels, height, width]."""
    rng = np.random.default_rng(seed)
    shape = (count, *program.input_shape)
    zeros = rng.integers(0, 7, (count, shape[1], 1, 1))  # at the end of the constants below
    constant = np.broadcast_to((rng.integers(-128, 128, zeros.shape) >> zeros | 1) << zeros, shape)
    return np.concatenate(
        [
            rng.integers(-128, 128, shape),
            rng.choice([-128, 127], shape),
            np.broadcast_to(np.resize([-128, 127], (count, 1, 1, 1)), shape),
            constant,  # an average of numbers with k zeros at the end is a tie when divided by 2**(k + 1)
            constant // 2 + rng.integers(0, 2, shape),
            rng.integers(-2, 3, shape),
        ]
    ).astype(np.int8)


def numpy_constants(program: Program) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in program.constants.items()}


def int8_tensors(program: Program) -> list[str]:
    return [op.name for op in program.ops if op.name not in program.raw]


def in_real_numbers(program: Program) -> Program:
    """The calibrated program with float constants that an integer program is the rounding of."""
    constants = dict(program.constants)
    for op in program.ops:
        if op.kind in ("conv", "linear"):
            exponent = constants[f"{op.name}.weight_exponent"].numpy()
            weight, bias = (constants[f"{op.name}.{name}"].numpy().astype(np.float64) for name in ("weight", "bias"))
            along_channels = exponent.reshape(-1, *[1] * (weight.ndim - 1))
            values = {"weight": np.ldexp(weight, -along_channels)}
            values["bias"] = np.ldexp(bias, -exponent - program.exponents[op.inputs[0]])
            constants |= {f"{op.name}.{k}": torch.from_numpy(v.astype(np.float32)) for k, v in values.items()}
    return replace(program, constants=constants)
