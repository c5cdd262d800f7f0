"""The .tflite file: LiteRT's kernels give the oracle's bits, and its contents are as LiteRT's converter writes them."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
from ai_edge_litert import schema_py_generated as schema
from moves import select
from portable_programs import PROGRAMS, build, one_conv
from programs import RELU, conv, hard_inputs, int8_tensors, numpy_constants

from fixedpoint.litert import writer as litert
from fixedpoint.litert.graph import OUTPUT
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.litert.writer import litert_model, tensor_names
from fixedpoint.program import EXACT8, INPUT, Add, AvgPool, BatchNorm, Clamp, Flatten, Linear, Lookup, Mul, Program

CODES = {value: name for name, value in vars(schema.BuiltinOperator).items()}
ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items()}
PADDINGS = {value: name for name, value in vars(schema.Padding).items()}


def expected(program: Program, x: np.ndarray) -> dict[str, np.ndarray]:
    """All tensors by the oracle, and the int8 logits as OUTPUT."""
    constants = numpy_constants(program)
    tensors = oracle.run(program.to_json(), constants, x)
    accumulators = tensors[program.last_layer.name].reshape(len(x), -1)
    return tensors | {OUTPUT: oracle.int8_logits(program.to_json(), constants, accumulators)}


def parsed(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def tensors_of(model: schema.ModelT) -> dict[str, schema.TensorT]:
    return {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}


def value_of(model: schema.ModelT, tensor: schema.TensorT, dtype: str) -> np.ndarray:
    return np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(dtype).reshape(tensor.shape)


def operators(program: Program, logits: str = "int8") -> list[str]:
    """The operators of the file, each with its version, its padding and its activation."""
    model = parsed(litert_model(program, {}, logits))
    found = []
    for operator in model.subgraphs[0].operators:
        code, options = model.operatorCodes[operator.opcodeIndex], vars(operator.builtinOptions or object)
        assert code.builtinCode == code.deprecatedBuiltinCode
        words = [f"{CODES[code.builtinCode]}/{code.version}"]
        words += [PADDINGS[options["padding"]]] if "padding" in options else []
        activation = ACTIVATIONS[options.get("fusedActivationFunction", 0)]
        found.append(" ".join(words + [activation] * (activation != "NONE")))
    return found


def strides(program: Program) -> list[tuple[int, int]]:
    """The strides of convolutions and pools in the file: down, right."""
    found = [
        vars(operator.builtinOptions or object) for operator in parsed(litert_model(program, {})).subgraphs[0].operators
    ]
    return [(options["strideH"], options["strideW"]) for options in found if "strideH" in options]


def test_windows_as_long_as_the_map_have_no_stride():
    """Compilers for NPUs refuse a stride of 7, as that of a mean over the map, although it has no effect."""
    whole = one_conv((3, 7, 7), (14, 1, 1), (7, 7), stride=(7, 7), padding=(0, 0))
    assert strides(whole) == [(1, 1), (1, 1)]
    across = one_conv((3, 7, 9), (14, 1, 3), (5, 3), stride=(4, 3), padding=(0, 0))  # 7 lines, and not 5
    assert strides(across)[0] == (4, 3)
    padded = one_conv((4, 5, 9), (14, 1, 5), (7, 3), stride=(5, 2), padding=(1, 1))
    assert strides(padded)[0] == (1, 2)


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_kernels_give_the_oracles_bits(name):
    program = PROGRAMS[name]
    x = hard_inputs(program, 4)
    values, content = expected(program, x), litert_model(program, {})
    for kernels in KERNELS:
        assert np.array_equal(LitertModel(content, kernels)(x), values[OUTPUT]), kernels
    for kernels in ("optimized", "reference"):
        tensors = LitertModel(content, kernels, tensors=True).tensors(x)
        assert list(tensors) == tensor_names(program)
        for tensor, value in tensors.items():
            assert value.shape == values[tensor].shape, (kernels, tensor)
            assert np.array_equal(value, values[tensor]), (kernels, tensor)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_shape_in_the_file_is_the_one_that_litert_computes(name):
    """LiteRT computes them anew, but microcontrollers use what is written."""
    content = litert_model(PROGRAMS[name], {})
    written = {n: [*tensor.shape] for n, tensor in tensors_of(parsed(content)).items()}
    model = LitertModel(content, "reference", tensors=True)
    model(np.zeros((1, *PROGRAMS[name].input_shape), np.int8))
    computed = {d["name"]: d["shape"].tolist() for d in model._interpreter.get_tensor_details()}
    assert {name: computed[name] for name in written} == written


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("conv_logits", []),
        ("conv", ["flat"]),  # read by a linear layer, whose kernel is as large as the map
        ("linear", ["f", "flat"]),
        ("flatten", ["flat"]),
        ("flatten_column", ["f", "flat"]),
        ("flatten_channel", ["flat"]),
        ("select_all", ["x", "flat"]),
        ("rearrange_column_to_row", ["flat"]),
        ("moves_in_a_row", ["b", "g", "flat"]),  # of features, a map of one pixel
        ("network", []),
        ("network_vectors", ["flat"]),
    ],
)
def test_the_file_has_all_tensors_but_those_that_move_nothing(name, missing):
    names = int8_tensors(PROGRAMS[name])
    assert tensor_names(PROGRAMS[name]) == [tensor for tensor in names if tensor not in missing]


def test_rows_are_repeated_only_where_float32_numbers_give_the_same_ones():
    """41 times 1 / 41, both float32, is less than 1: a resize would give the first row once more."""
    for count, expected in ((2, "RESIZE_NEAREST_NEIGHBOR/2"), (40, "RESIZE_NEAREST_NEIGHBOR/2"), (41, "GATHER/2")):
        repeat = select("x", INPUT, range(2), [i // count for i in range(2 * count)], range(3))
        program = build((2, 2, 3), repeat)
        assert operators(program) == [expected, *HEAD]
        x = hard_inputs(program, 1)
        assert set(differing(litert_model(program, {}), program, x).values()) == {0}


def differing(content: bytes, program: Program, x: np.ndarray) -> dict[str, int]:
    """The number of logits that are not the oracle's, by kernels."""
    right = expected(program, x)[OUTPUT]
    return {kernels: int((LitertModel(content, kernels)(x) != right).sum()) for kernels in KERNELS}


SENSITIVE = build((4, 8, 8), conv("x", INPUT, (14, 8, 8)), shifts=(2, 3, 4), logit_shifts=(2, 3, 4))


@pytest.mark.parametrize("name", ["conv", "conv_depthwise", "network"])
def test_exact_powers_of_two_as_filter_scales_would_round_twice(name, monkeypatch):
    program = PROGRAMS[name]
    x = hard_inputs(program, 12)
    monkeypatch.setattr(litert, "filter_scale", litert.power_of_two)
    wrong = differing(litert_model(program, {}), program, x)
    assert wrong["xnnpack"] == 0 and wrong["optimized"] > 0 and wrong["reference"] > 0


@pytest.mark.parametrize("constant", ["logits.bias", "logits.weight", "x.bias", "x.weight"])
def test_another_parity_would_make_ties_that_the_kernels_round_differently(constant, monkeypatch):
    program = SENSITIVE.with_constants(**{constant: SENSITIVE.constants[constant] ^ 1})
    x = hard_inputs(program, 12)
    with pytest.raises(ValueError, match="channel 0 has"):
        litert_model(program, {})
    monkeypatch.setattr(litert, "check_portable", lambda program: None)
    assert max(differing(litert_model(program, {}), program, x).values()) > 0


def test_an_odd_bias_would_make_ties_of_a_shift_by_one(monkeypatch):
    program = build((4, 8, 8), conv("x", INPUT, (14, 8, 8)), logit_shifts=(1,))
    program = program.with_constants(**{"logits.bias": program.constants["logits.bias"] ^ 1})
    monkeypatch.setattr(litert, "check_portable", lambda program: None)
    assert max(differing(litert_model(program, {}), program, hard_inputs(program, 12)).values()) > 0


@pytest.mark.parametrize("name", ["conv_stride_pad", "max_pool_pad"])
def test_padding_same_would_put_lines_elsewhere(name, monkeypatch):
    program = PROGRAMS[name]
    x = hard_inputs(program, 4)
    content = litert_model(program, {})
    assert not any("SAME" in operator for operator in operators(program))
    monkeypatch.setattr(litert, "_is_same", lambda *axis: True)
    changed = litert_model(program, {})
    assert changed != content and differing(changed, program, x)["reference"] > 0


CONV, HEAD = "CONV_2D/3 VALID", ["CONV_2D/3 VALID", "RESHAPE/1"]
OPERATORS = {
    "conv": ["CONV_2D/3 SAME"],
    "conv_1x1": [CONV],
    "conv_stride_same": ["CONV_2D/3 SAME"],
    "conv_stride_pad": ["PAD/2", CONV],
    "conv_size_pad": ["PAD/2", CONV],
    "conv_one_axis": ["PAD/2", CONV],
    "conv_dilation": ["PAD/2", CONV],
    "conv_dilation_same": ["CONV_2D/3 SAME"],
    "conv_groups": ["CONV_2D/6 SAME RELU"],
    "conv_groups_pad": ["PAD/2", "CONV_2D/6 VALID"],
    "conv_depthwise": ["DEPTHWISE_CONV_2D/3 SAME"],
    "conv_depthwise_twice": ["CONV_2D/6 SAME"],
    "conv_relu": ["CONV_2D/3 SAME RELU"],
    "conv_relu6": ["CONV_2D/3 SAME RELU6"],
    "conv_relu6_fine": ["CONV_2D/3 SAME RELU"],  # 6 is beyond what it holds
    "conv_relu6_coarse": ["CONV_2D/3 SAME", "MAXIMUM/2", "MINIMUM/2"],
    "conv_hardtanh": ["CONV_2D/3 SAME RELU_N1_TO_1"],
    "conv_upper_bound": ["CONV_2D/3 SAME", "MINIMUM/2"],
    "conv_lower_bound": ["CONV_2D/3 SAME", "MAXIMUM/2"],
    "linear": ["CONV_2D/3 VALID RELU", CONV],
    "linear_map": [CONV],
    "clamp": ["RELU/2"],
    "clamp_relu6": ["CONV_2D/3 SAME", "RELU6/2"],
    "clamp_both_sides": ["MAXIMUM/2", "MINIMUM/2"],
    "add_relu": ["CONV_2D/3 SAME RELU", "CONV_2D/3 SAME", "ADD/2 RELU"],
    "concat_many": ["CONV_2D/3 SAME RELU", "CONV_2D/3 SAME", *["CONCATENATION/2"] * 3],  # 5, 5 and then these and one
    "concat_relu": ["CONV_2D/3 SAME RELU", "CONV_2D/3 SAME", "CONCATENATION/2", "RELU/2"],
    "flatten": ["TRANSPOSE/2", "RESHAPE/1", "MAXIMUM/2", "MINIMUM/2"],
    "flatten_column": ["RELU/2"],
    "flatten_channel": ["RESHAPE/1", "RELU/2"],
    "pad": ["PAD/2"],
    "pad_least": ["PADV2/2"],
    "pad_values": ["PAD/2", "ADD/2", "PAD/2", "ADD/2"],
    "max_pool": ["MAX_POOL_2D/2 VALID"],
    "max_pool_same": ["MAX_POOL_2D/2 SAME"],
    "max_pool_pad": ["PADV2/2", "MAX_POOL_2D/2 VALID"],
    "max_pool_relu_pad": ["CONV_2D/3 SAME RELU", "PAD/2", "MAX_POOL_2D/2 VALID"],
    "select_channels": ["STRIDED_SLICE/2"],
    "select_steps": ["STRIDED_SLICE/2"],
    "select_flip": ["GATHER/2"],
    "select_reflect": ["GATHER/2", "GATHER/2"],
    "select_repeat": ["RESIZE_NEAREST_NEIGHBOR/2"],
    "select_cut_and_repeat": ["STRIDED_SLICE/2", "GATHER/2", "RESIZE_NEAREST_NEIGHBOR/2"],
    "select_repeat_some": ["GATHER/2", "GATHER/2"],
    "select_all": [],
    "rearrange_shuffle_pixels": ["RESHAPE/1", "TRANSPOSE/4", "RESHAPE/1"],  # the rows stay with the batch
    "rearrange_shuffle_channels": ["RESHAPE/1", "TRANSPOSE/2", "RESHAPE/1"],
    "rearrange_swap_rows_and_columns": ["TRANSPOSE/2"],
    "rearrange_channels_last": ["RESHAPE/1", "TRANSPOSE/2", "RESHAPE/1"],
    "rearrange_ones": ["RESHAPE/1"],
    "mean_2x2": ["DEPTHWISE_CONV_2D/3 VALID"],
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_the_program_and_no_more(name):
    assert operators(PROGRAMS[name]) == OPERATORS[name] + HEAD


def test_16_bit_logits_are_a_layer_of_16_bit_activations():
    assert operators(PROGRAMS["conv"], "int16") == ["CONV_2D/3 SAME", "QUANTIZE/2", "CONV_2D/4 VALID", "RESHAPE/1"]
    model = parsed(litert_model(PROGRAMS["conv"], {}, "int16"))
    tensors = tensors_of(model)
    weight, bias = tensors["logits/weight"], tensors["logits/bias"]
    exponents = numpy_constants(PROGRAMS["conv"])["logits.weight_exponent"]
    assert (weight.type, bias.type) == (schema.TensorType.INT8, schema.TensorType.INT64)
    assert np.array_equal(weight.quantization.scale, np.ldexp(1.0, -exponents))
    assert np.array_equal(value_of(model, bias, "<i8"), numpy_constants(PROGRAMS["conv"])["logits.bias"])
    for name in ("logits/input", "logits/int16", "logits"):
        assert tensors[name].type == schema.TensorType.INT16


def test_tensors_have_the_scales_and_the_layout_of_the_program():
    program = PROGRAMS["network"]
    model = parsed(litert_model(program, {}))
    tensors, constants = tensors_of(model), numpy_constants(program)
    assert model.version == 3 and model.subgraphs[0].name == b"main"
    for name in [INPUT, *int8_tensors(program)]:
        tensor = tensors[name]
        channels, height, width = (
            program.input_shape if name == INPUT else next(o.shape for o in program.ops if o.name == name)
        )
        assert tensor.type == schema.TensorType.INT8 and tensor.buffer == 0
        assert [*tensor.shape] == [1, height, width, channels] and [*tensor.shapeSignature] == [
            -1,
            height,
            width,
            channels,
        ]
        assert [*tensor.quantization.scale] == [2.0 ** -program.exponents[name]]
        assert [*tensor.quantization.zeroPoint] == [0]
    assert [*tensors["logits/int8"].quantization.scale] == [2.0**-program.int8_logit_exponent]
    assert [*tensors["logits"].quantization.scale] == [2.0**-program.int8_logit_exponent]
    for name, source, axis in (("stem", "border", 0), ("left", "stem", 0), ("right", "left", 3), ("mix", "both", 0)):
        weight, bias = tensors[f"{name}/weight"], tensors[f"{name}/bias"]
        exact = np.ldexp(1.0, -constants[f"{name}.weight_exponent"])
        scale = weight.quantization.scale
        assert scale.dtype == np.float32 and np.array_equal(scale, exact * (1 - 2.0**-24))
        assert np.array_equal(bias.quantization.scale, scale * np.float32(2.0 ** -program.exponents[source]))
        assert (weight.quantization.quantizedDimension, bias.quantization.quantizedDimension) == (axis, 0)
        for tensor in (weight, bias):
            assert [*tensor.quantization.zeroPoint] == [0] * len(exact)
        order = (1, 2, 3, 0) if axis == 3 else (0, 2, 3, 1)
        assert np.array_equal(value_of(model, weight, "i1"), constants[f"{name}.weight"].transpose(order))
        assert np.array_equal(value_of(model, bias, "<i4"), constants[f"{name}.bias"])


def with_op(op, exponent=7) -> Program:
    """A program that begins with `op`."""
    program = PROGRAMS["clamp"]
    ops = tuple(op if old.name == "x" else old for old in program.ops)
    return replace(program, ops=ops, exponents=program.exponents | {"x": exponent})


REFUSED = {
    "needs portable arithmetic, and the program's is exact8": replace(PROGRAMS["conv"], arithmetic=EXACT8),
    "x is a lookup": with_op(Lookup("x", (INPUT,), (3, 8, 8), "tanh", ())),
    "x is a mul": with_op(Mul("x", (INPUT, INPUT), (3, 8, 8))),
    "x is a avg_pool": with_op(AvgPool("x", (INPUT,), (3, 8, 8), (1, 1), (1, 1))),
    "x is a batch_norm, which .tflite files do not have: fold the program first": with_op(
        BatchNorm("x", (INPUT,), (3, 8, 8))
    ),
    "x adds 3 tensors": with_op(Add("x", (INPUT, INPUT, INPUT), (3, 8, 8))),
    "operands and result must have one exponent": with_op(Add("x", (INPUT, INPUT), (3, 8, 8)), exponent=6),
    "x has an exponent of 126, whose scale is no normal": one_conv((3, 8, 8), (4, 8, 8), exponent=126),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_written_is_named(message):
    with pytest.raises(ValueError, match=message) as raised:
        litert_model(REFUSED[message], {})
    assert "\n" not in str(raised.value)


def test_logits_that_cannot_be_written_are_named():
    with pytest.raises(ValueError, match="logits must be int8 or int16, not 'int32'"):
        litert_model(PROGRAMS["conv"], {}, "int32")
    program = build((3, 8, 8), conv("x", INPUT, (4, 8, 8)), logit_shifts=(-7, 3))
    with pytest.raises(ValueError, match=r"int16 logits shift accumulators by -6 and more, and int8 ones by -7"):
        litert_model(program, {}, "int16")


def test_names_that_collide_are_refused():
    ops = (
        Clamp("logits", (INPUT,), (3, 8, 8), clamp=RELU),
        Flatten("flat", ("logits",), (192,)),
        Linear("x", ("flat",), (5,)),
    )
    program = PROGRAMS["clamp"]
    constants = {key.replace("logits", "x"): value for key, value in program.constants.items()}
    exponents = {INPUT: 7, "logits": 7, "flat": 7}
    with pytest.raises(ValueError, match=r"two tensors of the .tflite file would have the name 'logits'; rename"):
        litert_model(replace(program, ops=ops, constants=constants, exponents=exponents), {})
