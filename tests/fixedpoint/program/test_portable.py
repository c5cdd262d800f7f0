"""Portable arithmetic: lowering, calibration, and that no rounding rule changes a result."""

import warnings
from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from drawing import Drawing, share_of_examples
from hypothesis import given
from hypothesis import strategies as st
from moves import rearrange, select
from portable_programs import PROGRAMS
from programs import RELU, RELU6, build, conv, hard_inputs, in_real_numbers, numpy_constants

from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source
from fixedpoint.program import (
    INPUT,
    PORTABLE,
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
    Program,
)
from fixedpoint.program.bounds import check_exactness
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator, int8_logits, integer_tensor
from fixedpoint.program.portable import check_portable, lower, mean_weight
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.qat import FakeQuantModel
from fixedpoint.quantize.refine import refine


def images(count=24, size=8, seed=0):
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return (pixels - 128) / 128


def float_program(input_shape, *ops, scale=0.3):
    """A folded float program of `ops` with random constants; convolutions are 3x3."""
    rng, shapes, constants = np.random.default_rng(0), {INPUT: input_shape}, {}
    for op in ops:
        if isinstance(op, Conv | Linear):
            groups = op.groups if isinstance(op, Conv) else 1
            kernel = (3, 3) if isinstance(op, Conv) else ()
            constants[f"{op.name}.weight"] = scale * rng.standard_normal(
                (op.shape[0], shapes[op.inputs[0]][0] // groups, *kernel)
            )
            constants[f"{op.name}.bias"] = rng.standard_normal(op.shape[0]) / 2
        shapes[op.name] = op.shape
    return Program(input_shape, ops, {k: torch.tensor(v, dtype=torch.float32) for k, v in constants.items()})


def head(source, channels):
    return Flatten("flat", (source,), (channels,)), Linear("fc", ("flat",), (5,))


def residual():
    """Three layers in a residual stream, a join with another branch, a mean over the map."""
    size = (8, 8, 8)
    return float_program(
        (3, 8, 8),
        conv("stem", INPUT, size, clamp=RELU),
        conv("a", "stem", size, clamp=RELU6),
        Add("sum1", ("stem", "a"), size, clamp=RELU),
        conv("b", "sum1", size),
        Add("sum2", ("sum1", "b"), size, clamp=RELU),
        conv("side", "stem", size),
        Concat("both", ("sum2", "side"), (16, 8, 8)),
        MaxPool("max", ("both",), (16, 7, 7), (2, 2), (1, 1), (0, 0)),
        AvgPool("mean", ("max",), (16, 1, 1), (7, 7), (7, 7)),
        *head("mean", 16),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9, 12, 16, 25, 36, 49, 64, 121, 196, 225, 784, 3136, 12544])
def test_a_mean_has_the_best_even_weight_there_is(count):
    weight, exponent = mean_weight(count)
    assert weight % 2 == 0 and 128 * count * weight + 1 < 2**23  # exact in every runtime, whatever the shift

    def error(w, e):
        return abs(Fraction(w * count, 2**e) - 1)

    greatest = min(126, (2**23 - 2) // (128 * count))
    candidates = {(w, e): error(w, e) for e in range(1, 30) for w in range(2, greatest + 1, 2)}
    assert error(weight, exponent) == min(candidates.values())
    assert weight == min(w for (w, _), off in candidates.items() if off == error(weight, exponent))


def test_known_means():
    assert mean_weight(4) == (2, 3)  # the sum of four, doubled and one added, over 8
    assert mean_weight(49) == (42, 11)


def test_a_mean_over_too_many_values_is_refused():
    program = float_program(
        (3, 256, 256), AvgPool("mean", (INPUT,), (3, 1, 1), (256, 256), (256, 256)), *head("mean", 3)
    )
    with pytest.raises(ValueError, match=r"mean: a mean over 65536 values has no weight.*calibrate.arithmetic"):
        lower(program)


def pooled(*between, kernel=(7, 7), clamp=(None, None), fc=16):
    """A mean over windows of `kernel` of a map, then `between` that reads "mean", then a linear layer."""
    size = tuple(8 // k if k < 7 else 1 for k in kernel)
    pool = AvgPool("mean", ("stem",), (16, *size), kernel, kernel, clamp=clamp)
    return float_program((3, 8, 8), conv("stem", INPUT, (16, 8, 8), clamp=RELU), pool, *between, *head(*fc))


POOLED = {
    "linear": (pooled(fc=("mean", 16)), True),
    "conv": (pooled(conv("c", "mean", (8, 1, 1)), fc=("c", 8)), True),
    "grouped conv": (pooled(conv("c", "mean", (8, 1, 1), groups=4), fc=("c", 8)), True),
    "depthwise conv": (pooled(conv("c", "mean", (16, 1, 1), groups=16), fc=("c", 16)), True),
    "relu": (pooled(Clamp("c", ("mean",), (16, 1, 1), clamp=RELU), fc=("c", 16)), True),
    "concat": (pooled(Concat("c", ("mean", "mean"), (32, 1, 1)), fc=("c", 32)), True),
    "map": (pooled(kernel=(3, 3), fc=("mean", 64)), True),
    "two means": (pooled(AvgPool("m", ("mean",), (16, 1, 1), (1, 2), (1, 1)), kernel=(3, 3), fc=("m", 32)), None),
    "power of two": (pooled(kernel=(4, 4), fc=("mean", 64)), True),
    "select": (pooled(select("c", "mean", [3, 3, 1, 0], [0] * 2, [0]), fc=("c", 8)), True),
    "rearrange": (pooled(rearrange("c", "mean", (4, 4, 4), (2, 1, 0), (8, 2, 4)), kernel=(3, 3), fc=("c", 64)), True),
    "rearrange of some": (
        pooled(
            select("some", "stem", range(16), [0], [0]),
            Concat("all", ("mean", "some"), (32, 1, 1)),
            rearrange("c", "all", (4, 8), (1, 0), (32,)),
            fc=("c", 32),
        ),
        True,
    ),
    # channels that hold a mean and another value
    "rearrange that mixes": (
        pooled(
            select("some", "stem", range(16), [0], [0]),
            Concat("all", ("mean", "some"), (32, 1, 1)),
            rearrange("c", "all", (2, 16), (1, 0), (16, 1, 2)),
            fc=("c", 32),
        ),
        False,
    ),
    # 42 / 2**11 * 49 = 1.0049 stays: a sum and a clamp do not take a factor along
    "add": (pooled(Add("c", ("mean", "mean"), (16, 1, 1)), fc=("c", 16)), False),
    "relu6": (pooled(clamp=RELU6, fc=("mean", 16)), False),
}


@pytest.mark.parametrize("name", [name for name, (_, same) in POOLED.items() if same is not None])
def test_the_factor_that_a_mean_is_off_by_goes_into_the_next_weights(name):
    program, same = POOLED[name]
    lowered, x = lower(program), images()
    assert not [op for op in lowered.ops if isinstance(op, AvgPool)]
    assert [op.name for op in lowered.ops] == [op.name for op in program.ops]
    before, after = (FloatEvaluator(p).logits(x) for p in (program, lowered))
    error = float((before - after).norm() / before.norm())
    assert error < 1e-6 if same else 1e-4 < error < 0.01


def test_lowering_leaves_what_it_was_given_as_it_was():
    program = residual()
    weights = {name: value.clone() for name, value in program.constants.items()}
    lowered = lower(program)
    assert all(torch.equal(program.constants[name], value) for name, value in weights.items())
    assert (lowered.arithmetic, lowered.weight_limit) == (PORTABLE, 126)
    assert lower(lowered) == lowered


def test_sums_of_several_tensors_become_sums_of_two():
    size = (8, 8, 8)
    layers = [conv(name, INPUT, size) for name in "abc"]
    program = float_program((3, 8, 8), *layers, Add("s", ("a", "b", "c"), size, clamp=RELU), *head("s", 512))
    lowered = lower(program)
    sums = [op for op in lowered.ops if isinstance(op, Add)]
    assert [(op.name, op.inputs, op.clamp) for op in sums] == [
        ("s.sum1", ("a", "b"), (None, None)),
        ("s", ("s.sum1", "c"), RELU),
    ]
    x = images()
    assert torch.allclose(FloatEvaluator(program).logits(x), FloatEvaluator(lowered).logits(x), atol=1e-5)


def test_products_and_tables_are_refused_by_name_with_the_parameter_to_change():
    size = (8, 8, 8)
    layers = [conv("a", INPUT, size), Lookup("act", ("a",), size, "silu", ()), Mul("gated", ("a", "act"), size)]
    with pytest.raises(ValueError) as error:
        calibrate(float_program((3, 8, 8), *layers, *head("gated", 512)), lambda: [images()], arithmetic=PORTABLE)
    message = str(error.value)
    assert "act (a table), gated (a product of two tensors)" in message
    assert message.endswith("set arithmetic (calibrate.arithmetic) to exact8") and "\n" not in message
    many = [Lookup(f"f{i}", (f"f{i - 1}" if i else INPUT,), (3, 8, 8), "tanh", ()) for i in range(9)]
    with pytest.raises(ValueError, match=r": f0, f1, f2 and 6 more \(a table\); "):
        lower(float_program((3, 8, 8), *many, *head("f8", 192)))


@pytest.fixture(scope="module")
def calibrated():
    x = images(64)
    program = calibrate(residual(), lambda: x.split(16), arithmetic=PORTABLE)
    return program, x


def test_a_residual_stream_and_what_is_joined_to_it_have_one_exponent(calibrated):
    program, _ = calibrated
    stream = {program.exponents[name] for name in ("stem", "a", "sum1", "b", "sum2", "side", "both", "max")}
    assert len(stream) == 1
    shared = program.shared_exponents()
    assert {shared[name] for name in ("a", "both", "max")} == {"stem"} and shared["mean"] == shared["flat"] == "mean"


def test_the_exponent_of_a_stream_has_the_least_error_of_all_its_tensors_together(calibrated):
    program, x = calibrated
    tensors = dict(FloatEvaluator(program).run(x))
    measured = [op for op in program.ops if op.name in ("stem", "a", "sum1", "b", "sum2", "side")]

    def error(exponent):
        total = 0.0
        for op in measured:
            value = tensors[op.name].double().numpy() * 2.0**exponent
            bounds = [
                np.clip(e if b is None else round(b * 2.0**exponent), -128, 127)
                for e, b in zip((-128, 127), op.clamp, strict=True)
            ]
            total += np.square(np.clip(np.rint(value), *bounds) - value).sum() * 4.0**-exponent
        return total

    largest = max(float(tensors[op.name].abs().max()) for op in measured)
    coarsest = max(e for e in range(-20, 20) if largest * 2.0**e <= 127)
    assert program.exponents["stem"] == min(range(coarsest, coarsest + 4), key=error)


def test_a_tensor_of_zeros_does_not_decide_for_its_stream():
    program = residual()
    zeros = {f"b.{name}": torch.zeros_like(program.constants[f"b.{name}"]) for name in ("weight", "bias")}
    x = images(64)
    without = calibrate(program.with_constants(**zeros), lambda: [x], arithmetic=PORTABLE)
    largest = max(
        float(v.abs().max()) for n, v in FloatEvaluator(without).run(x) if n in ("stem", "a", "sum1", "sum2", "side")
    )
    coarsest = max(e for e in range(-20, 20) if largest * 2.0**e <= 127)
    assert coarsest <= without.exponents["b"] <= coarsest + 3
    convert(without)


def test_what_is_joined_with_the_image_has_the_exponent_that_it_needs():
    size = (6, 8, 8)
    program = float_program((3, 8, 8), conv("a", INPUT, (3, 8, 8)), Concat("c", (INPUT, "a"), size), *head("c", 384))
    found = calibrate(program, lambda: [images()], finer=0, arithmetic=PORTABLE)
    largest = float(dict(FloatEvaluator(program).run(images()))["a"].abs().max())
    exponent = max(e for e in range(-20, 20) if largest * 2.0**e <= 127)
    assert exponent < 7
    assert found.exponents == {INPUT: 7} | dict.fromkeys(["c.copy", "a", "c", "flat"], exponent)


def test_a_shared_exponent_that_costs_more_than_two_bits_is_warned_of():
    program = residual()
    small = {f"b.{name}": program.constants[f"b.{name}"] / 64 for name in ("weight", "bias")}
    with pytest.warns(UserWarning, match=r"^b must share the exponent .* would be \d+\.\d dB lower$") as found:
        calibrate(program.with_constants(**small), lambda: [images(64)], arithmetic=PORTABLE)
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(program, lambda: [images(64)], arithmetic=PORTABLE)


@torch.no_grad()
@pytest.mark.parametrize("step", ["calibrated", "refined", "corrected"])
def test_every_step_gives_a_program_that_converts_and_computes_as_it_was_trained(calibrated, step):
    program, x = calibrated
    if step != "calibrated":
        program = refine(program, x[:16], 3).program
    if step == "corrected":
        program = correct_biases(program, x)
    integer = convert(program)
    for op in integer.ops:
        if isinstance(op, Conv | Linear):
            weight, bias = integer.constants[f"{op.name}.weight"], integer.constants[f"{op.name}.bias"]
            k = integer.shift(op)
            assert not (weight % 2).any() and int(weight.abs().max()) <= 126
            assert (bias[k >= 2] % 2 == 1).all() and (bias[k == 1] % 2 == 0).all()
            assert int(k.max()) <= 15
    fake = FakeQuantModel(program).run(x)
    for (name, real), (_, value) in zip(fake, IntegerEvaluator(integer).run((x * 128).to(torch.int8)), strict=True):
        assert torch.equal(integer_tensor(program, name, real), value.int()), name
    error = FakeQuantModel(program)(x) - FloatEvaluator(program).logits(x)
    assert error.norm() < 0.1 * FloatEvaluator(program).logits(x).norm()


def test_training_leaves_means_alone_and_keeps_the_parity(calibrated):
    program, x = calibrated
    model = FakeQuantModel(program)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        model.project()
    trained = model.trained()
    assert torch.equal(trained.constants["mean.weight"], program.constants["mean.weight"])
    assert not torch.equal(trained.constants["a.weight"], program.constants["a.weight"])
    assert not torch.equal(trained.constants["a.bias"], program.constants["a.bias"])
    integer = convert(trained)
    logits = IntegerEvaluator(integer)((x * 128).to(torch.int8))
    assert torch.equal(integer_tensor(integer, integer.output, model(x).detach()), logits)


def test_biases_get_the_gradient_of_their_rounded_values(calibrated):
    program, x = calibrated
    model = FakeQuantModel(program)
    model(x).sum().backward()
    assert model.constants(program.last_layer)[1].grad.tolist() == [len(x)] * 5
    assert model.constants(program.ops[0])[1].grad.abs().sum() > 0


def test_projection_brings_doubled_weights_back_below_the_bound():
    program = in_real_numbers(PROGRAMS["conv_near_the_limit"])
    constants = {f"x.{name}": program.constants[f"x.{name}"] * 1.1 for name in ("weight", "bias")}
    model = FakeQuantModel(program.with_constants(**constants))
    with pytest.raises(ValueError, match="can reach"):
        convert(model.trained())
    model.project()
    convert(model.trained())


class PortableDrawing(Drawing):
    """Builds a portable program."""

    def weights(self, x, shape, exponent):
        super().weights(x, shape, exponent)
        name = f"t{len(self.ops)}"
        constants = {key: self.constants[f"{name}.{key}"].long() for key in ("weight", "bias", "weight_exponent")}
        shift = (constants["weight_exponent"] + self.exponents[x] - exponent).clamp(-3, 15)
        weight = (constants["weight"] // 2 * 2).clamp(-126, 126)
        bias = constants["bias"] // 2 * 2 + (shift >= 2).long()
        self.constants[f"{name}.weight"] = weight.to(torch.int8)
        self.constants[f"{name}.bias"] = torch.where(shift <= 0, constants["bias"], bias).int()
        self.constants[f"{name}.weight_exponent"] = (shift + exponent - self.exponents[x]).int()

    def copy(self, x):
        """Twice or minus twice `x` and one, halved: another tensor of the same exponent."""
        name = f"t{len(self.ops)}"
        result = super().copy(x)
        self.constants[f"{name}.weight"] = self.constants[f"{name}.weight"] * 4
        self.constants[f"{name}.bias"] = torch.ones_like(self.constants[f"{name}.bias"])
        self.constants[f"{name}.weight_exponent"] = torch.full_like(self.constants[f"{name}.weight_exponent"], 2)
        self.exponents[result] = self.exponents[x]
        return result

    def add(self, x):
        exponent = self.exponents[x]
        return self.append(Add, self.operands(x, 1), self.shapes[x], exponent, clamp=self.bounds(exponent))

    def concat(self, x):
        operands = self.operands(x, self.number(0, 2))
        shape = (len(operands) * self.shapes[x][0], *self.shapes[x][1:])
        return self.append(Concat, operands, shape, self.exponents[x], clamp=self.bounds(self.exponents[x]))

    def bounds(self, exponent):
        low, high = sorted(self.number(-140, 140) * 2.0**-exponent for _ in range(2))
        return self.draw(st.sampled_from([(None, None), (0.0, None), (low, None), (None, high), (low, high)]))

    def finish(self, x):
        program = super().finish(x)
        exponent = program.exponents[program.last_layer.inputs[0]]
        shifts = program.constants[f"{program.output}.weight_exponent"] + exponent
        wanted = int(shifts.min()) - 2  # so that the parities drawn for other shifts stay right: all at least 2
        bias = program.constants[f"{program.output}.bias"] // 2 * 2 + 1
        program = program.with_constants(**{f"{program.output}.bias": bias.int()})
        return replace(program, arithmetic=PORTABLE, weight_limit=126, int8_logit_exponent=wanted)


KINDS = ("add", "clamp", "concat", "conv", "linear", "max_pool", "pad")
MAPS = tuple(kind for kind in KINDS if kind != "linear")


@st.composite
def cases(draw):
    """A portable program of up to three operations, and images for it."""
    drawing, x = PortableDrawing(draw), INPUT
    for _ in range(drawing.number(1, 3)):
        x = getattr(drawing, draw(st.sampled_from(MAPS)))(x)
    if draw(st.booleans()):
        x = drawing.linear(drawing.flatten(x))
    program, seed = drawing.finish(x), drawing.number(0, 2**32 - 1)
    check_exactness(program)
    check_portable(program)
    return program, hard_inputs(program, 1, seed)


def results(program, x, divide):
    values = oracle.run(program.to_json(), numpy_constants(program), x, divide)
    values["int8 logits"] = oracle.int8_logits(
        program.to_json(), numpy_constants(program), values[program.output], divide
    )
    return values


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_rounding_rule_gives_the_same_bits(name):
    program = PROGRAMS[name]
    x = hard_inputs(program, 4)
    expected = results(program, x, None)
    for rule, divide in oracle.ROUNDINGS.items():
        for tensor, value in results(program, x, divide).items():
            assert np.array_equal(value, expected[tensor]), (rule, tensor)


@pytest.mark.parametrize("name", PROGRAMS)
@torch.no_grad()
def test_qat_and_integer_model_give_them_and_conversion_takes_them_back(name):
    program = PROGRAMS[name]
    x = torch.from_numpy(hard_inputs(program, 4))
    expected = results(program, x.numpy(), None)
    real = in_real_numbers(program)
    fake = dict(FakeQuantModel(real).run(x.float() / 128))
    for tensor, value in IntegerEvaluator(program).run(x):
        assert np.array_equal(value, expected[tensor]), tensor
        assert np.array_equal(integer_tensor(program, tensor, fake[tensor]), expected[tensor]), tensor
    if name != "conv_extreme_shifts":  # beyond what exactness in float32 allows
        assert all(torch.equal(value, program.constants[key]) for key, value in convert(real).constants.items())


@share_of_examples(2)
@given(cases())
@torch.no_grad()
def test_every_rounding_rule_gives_random_programs_the_same_bits(case):
    program, x = case
    expected = results(program, x, None)
    for rule, divide in oracle.ROUNDINGS.items():
        for tensor, value in results(program, x, divide).items():
            assert np.array_equal(value, expected[tensor]), (rule, tensor)
    pixels = torch.from_numpy(x)
    fake = dict(FakeQuantModel(in_real_numbers(program)).run(pixels.float() / 128))
    for name, value in IntegerEvaluator(program).run(pixels):
        assert np.array_equal(value, expected[name]), name
        assert np.array_equal(integer_tensor(program, name, fake[name]), expected[name]), name
    assert np.array_equal(int8_logits(program, torch.from_numpy(expected[program.output])), expected["int8 logits"])
    assert convert(in_real_numbers(program)).constants.keys() == program.constants.keys()


@share_of_examples(30)
@given(cases())
def test_the_c_source_of_random_programs_gives_them_too(case):
    program, x = case
    tensors = CModel(c_source(program, {}), trace=True, options=["-O1"]).tensors(x)
    for name, value in list(oracle.run(program.to_json(), numpy_constants(program), x).items())[1:]:
        assert np.array_equal(tensors[name], value.reshape(len(x), -1)), name


def changed(program, name, index, by):
    value = program.constants[name].clone()
    value.view(-1)[index] += by
    return program.with_constants(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: changed(p, "x.weight", 5, 1), "x: channel 0 has an odd weight"),
        (lambda p: changed(p, "x.bias", 4, 1), r"x: channel 4 has a bias that lets its accumulators be ties.*shift 8"),
        (lambda p: changed(p, "x.bias", 1, 1), r"x: channel 1 has a bias that lets its accumulators be ties.*shift 1"),
        (lambda p: changed(p, "x.weight_exponent", 7, 20), "x: channel 7 has a shift above 15"),
        (lambda p: changed(p, "x.weight_exponent", 5, -6), "x: channel 5 has a shift below -7"),
        (lambda p: changed(p, "logits.bias", 0, 1), "logits: channel 0 has a bias that lets"),
        (lambda p: replace(p, int8_logit_exponent=None), "exponent of its int8 logits"),
    ],
)
def test_conversion_catches_what_would_not_be_portable(change, message):
    program = near_saturation() if "above 15" in message else PROGRAMS["conv_many_terms"]
    check_portable(PROGRAMS["conv_many_terms"])
    with pytest.raises(ValueError, match=message):
        check_portable(change(program))


def near_saturation():
    """A program whose bounds reach 2**23 in each channel."""
    program = PROGRAMS["conv_many_terms"]
    return program.with_constants(**{"x.weight": torch.full_like(program.constants["x.weight"], 126)})


def test_conversion_catches_an_add_with_unequal_exponents():
    program = PROGRAMS["add"]
    add = next(op for op in program.ops if isinstance(op, Add))
    for name in (*add.inputs, add.name):
        other = replace(program, exponents=program.exponents | {name: program.exponents[name] + 1})
        with pytest.raises(ValueError, match=f"{add.name}: operands and result must have one exponent"):
            check_portable(other)


def test_conversion_catches_a_clamp_halfway_between_integers():
    program = PROGRAMS["conv_relu6"]
    with pytest.raises(ValueError, match=r"x: its clamp at 6 is 1.5 of its steps, halfway"):
        check_portable(replace(program, exponents=program.exponents | {"x": -2}))


def test_conversion_catches_operations_that_are_not_portable():
    other = replace(build((3, 8, 8), AvgPool("x", (INPUT,), (3, 4, 4), (2, 2), (2, 2))), arithmetic=PORTABLE)
    with pytest.raises(ValueError, match="x is a avg_pool, which portable arithmetic does not have"):
        check_portable(replace(other, int8_logit_exponent=3))


@pytest.mark.parametrize("mutation", ["bias", "weight"])
def test_what_conversion_forbids_does_differ_between_rounding_rules(mutation):
    program = PROGRAMS["conv_many_terms"]
    for channel in range(16):
        step = program.constants["x.weight"][0].numel()
        index = channel if mutation == "bias" else channel * step
        program = changed(program, f"x.{mutation}", index, 1)
    x = hard_inputs(program, 12)
    values = {rule: results(program, x, divide)["x"] for rule, divide in oracle.ROUNDINGS.items()}
    assert (values["half up"] != values["half to even"]).any()
    assert (values["half down"] != values["half up"]).any()
