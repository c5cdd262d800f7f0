"""Noise, ranges, clipping and accumulators, compared with NumPy."""

import math
from dataclasses import asdict

import numpy as np
import oracle
import pytest
import torch
from programs import PROGRAMS, RELU, RELU6, build, conv, hard_inputs, numpy_constants

from fixedpoint.analysis.statistics import (
    Noise,
    accumulated_noise,
    head_room,
    integer_values,
    own_noise,
    result_bounds,
    weight_histogram,
)
from fixedpoint.program import INPUT, Flatten, Linear, Program
from fixedpoint.quantize.convert import convert

RNG = np.random.default_rng(3)
X = RNG.integers(-128, 128, (40, 6, 1, 1))
W, B = RNG.normal(size=(8, 6)).astype(np.float32), RNG.normal(size=8).astype(np.float32)
V, C = RNG.normal(size=(3, 8)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
E_W, E_V = np.array([5, 6, 5, 4, 5, 6, 5, 5]), np.array([5, 6, 4])
E_HIDDEN = 6  # clips what exceeds 127 / 64


def two_layers() -> tuple[Program, Program]:
    """A float network of two linear layers, and its integer program."""
    ops = (
        Flatten("flat", (INPUT,), (6,)),
        Linear("hidden", ("flat",), (8,), clamp=RELU),
        Linear("logits", ("hidden",), (3,)),
    )
    constants = {"hidden.weight": W, "hidden.bias": B, "logits.weight": V, "logits.bias": C}
    exponents = {"hidden.weight_exponent": E_W.astype(np.int32), "logits.weight_exponent": E_V.astype(np.int32)}
    reference = Program((6, 1, 1), ops, {name: torch.from_numpy(value) for name, value in constants.items()})
    tensors = {name: torch.from_numpy(value) for name, value in (constants | exponents).items()}
    return reference, convert(Program((6, 1, 1), ops, tensors, {INPUT: 7, "flat": 7, "hidden": E_HIDDEN}))


REFERENCE, PROGRAM = two_layers()


def batches(x: np.ndarray = X) -> list[torch.Tensor]:
    """Network input from integers, in two batches of different size."""
    pixels = torch.from_numpy(x / 128).float()
    return [pixels[:7], pixels[7:]]


def ratio(expected: np.ndarray, found: np.ndarray) -> float:
    return 10 * math.log10((expected**2).sum() / ((expected - found) ** 2).sum())


def float_layers(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.maximum(x @ W.astype(np.float64).T + B, 0)
    return hidden, hidden @ V.astype(np.float64).T + C


def integer_layers(q: np.ndarray) -> dict[str, np.ndarray]:
    """The results of the integer program, with those of the hidden layer before clamp and rounding."""
    accumulator = q @ integer_weights(W, E_W).T + np.rint(B * 2.0 ** (7 + E_W))
    scaled = accumulator / 2.0 ** (7 + E_W - E_HIDDEN)
    hidden = np.clip(np.rint(scaled), 0, 127)
    return {"accumulator": accumulator, "scaled": scaled, "hidden": hidden, "logits": quantized_logits(hidden)}


def quantized_logits(hidden: np.ndarray) -> np.ndarray:
    return hidden @ integer_weights(V, E_V).T + np.rint(C * 2.0 ** (E_HIDDEN + E_V))


def integer_weights(weight: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(weight * 2.0 ** exponent[:, None]), -127, 127)


FLAT = X.reshape(40, 6).astype(np.float64)


def test_noise_up_to_a_tensor():
    found = accumulated_noise(REFERENCE, {"a": PROGRAM, "b": PROGRAM}, batches())
    assert found["a"] == found["b"]
    hidden, logits = float_layers(FLAT / 128)
    integers = integer_layers(FLAT)
    expected = {
        "hidden": ratio(hidden, integers["hidden"] / 2**E_HIDDEN),
        "logits": ratio(logits, integers["logits"] / 2.0 ** (E_HIDDEN + E_V)),
    }
    assert 5 < expected["logits"] < 60
    assert {name: found["a"][name].decibels for name in expected} == pytest.approx(expected, abs=1e-3)
    assert found["a"]["flat"] == Noise(pytest.approx(((FLAT / 128) ** 2).sum()), 0.0), "an input is exact"


def test_noise_of_one_operation_by_itself():
    found = own_noise(REFERENCE, PROGRAM, batches())
    hidden, _ = float_layers(FLAT / 128)
    assert found["hidden"].total.decibels == pytest.approx(
        ratio(hidden, integer_layers(FLAT)["hidden"] / 2**E_HIDDEN), abs=1e-3
    )
    rounded = np.clip(np.rint(hidden * 2**E_HIDDEN), 0, 127)
    assert found["hidden"].result.decibels == pytest.approx(ratio(hidden, rounded / 2**E_HIDDEN), abs=1e-3)
    logits = rounded / 2**E_HIDDEN @ V.astype(np.float64).T + C  # of the float network's tensor on the grid
    expected = ratio(logits, quantized_logits(rounded) / 2.0 ** (E_HIDDEN + E_V))
    assert found["logits"].total.decibels == pytest.approx(expected, abs=1e-3)
    assert found["logits"].result == Noise(), "accumulators are not rounded"
    assert found["flat"].total.decibels == math.inf


def test_integers_of_a_layer():
    found = integer_values(PROGRAM, batches())["hidden"]
    integers = integer_layers(FLAT)
    clipped = int((np.rint(integers["scaled"]) > 127).sum())
    assert clipped > 5 and (integers["scaled"] < -1).sum() > 5, "ReLU's zeros are there and do not count"
    assert (found.clipped, found.elements) == (clipped, 320)
    assert found.accumulator == np.abs(integers["accumulator"]).max()
    assert (found.least, found.greatest) == (0, 127)
    assert found.histogram.tolist() == np.bincount(integers["hidden"].astype(int).ravel() + 128, minlength=256).tolist()


def test_integers_of_input_and_logits():
    found = integer_values(PROGRAM, batches())
    logits = integer_layers(FLAT)["logits"]
    assert (found["logits"].least, found["logits"].greatest) == (logits.min(), logits.max())
    assert found["logits"].accumulator == np.abs(logits).max()
    assert (found["logits"].clipped, int(found["logits"].histogram.sum())) == (0, 0)
    assert found["input"].histogram.tolist() == np.bincount(X.ravel() + 128, minlength=256).tolist()


def of_oracle(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """The integer values of a program's tensors as `Values`, and the tensors themselves."""
    program, x = PROGRAMS[name], hard_inputs(PROGRAMS[name], 2)
    return integer_values(program, batches(x)), oracle.run(program.to_json(), numpy_constants(program), x)


@pytest.mark.parametrize("name", PROGRAMS)
def test_ranges_are_those_of_the_oracle(name):
    found, tensors = of_oracle(name)
    program = PROGRAMS[name]
    assert list(found) == list(tensors)
    bounds = {op.name: result_bounds(program, op) for op in program.ops if op.name not in program.raw}
    for tensor, value in tensors.items():
        assert (found[tensor].least, found[tensor].greatest) == (value.min(), value.max())
        if tensor not in program.raw:
            assert found[tensor].histogram.tolist() == np.bincount(value.ravel() + 128, minlength=256).tolist()
            low, high = bounds.get(tensor, (-128, 127))
            assert low <= value.min() and value.max() <= high


def test_what_int8_clips_of_a_sum():
    found, tensors = of_oracle("add_finer_result")  # a has exponent 3, b 2, and the sum 5
    exact = 4 * tensors["a"] + 8 * tensors["b"]
    clipped = (exact < -128) | (exact > 127)
    assert 0 < found["x"].clipped == clipped.sum() < clipped.size


@pytest.mark.parametrize("exponent", [4, 5])
def test_what_relu6_cuts_off_is_not_clipped(exponent):
    """With exponent 4, 6 is 96, and int8 clips nothing; with exponent 5 it would be 192."""
    layer = conv("x", INPUT, (6, 8, 8), clamp=RELU6)
    program = build((3, 8, 8), layer, exponents={"x": exponent}, weight_shift=-5)
    x = hard_inputs(program, 2)
    constants = numpy_constants(program)
    weight, bias, shift = (constants[f"x.{name}"].reshape(6, -1) for name in ("weight", "bias", "weight_exponent"))
    accumulator = oracle.conv(asdict(layer), x.astype(np.int64), weight.reshape(6, 3, 3, 3).astype(np.int64))
    real = (accumulator + bias[:, :, None]) / 2.0 ** (7 + shift[:, :, None])
    assert (real > 6).any()
    clipped = np.rint(np.clip(real, 0, 6) * 2**exponent) > 127
    found = integer_values(program, batches(x))["x"]
    assert (found.clipped, found.greatest) == (clipped.sum(), {4: 96, 5: 127}[exponent])
    assert clipped.any() == (exponent == 5)


def test_what_a_lookup_clips():
    program = PROGRAMS["lookup_sigmoid"]
    found, tensors = of_oracle("lookup_sigmoid")
    source, exponent = program.exponents[program.ops[0].inputs[0]], program.exponents["x"]
    result = np.rint(2.0**exponent / (1 + np.exp(-tensors[program.ops[0].inputs[0]] * 2.0**-source)))
    assert found["x"].clipped == (result > 127).sum()


def test_padding_that_int8_cannot_hold():
    found, tensors = of_oracle("pad_values")  # with -7 in the second of three channels, of exponent 7
    assert found["x"].clipped == len(tensors["x"]) * (10 * 10 - 8 * 8)
    found, _ = of_oracle("pad_max_pool")  # with the least value there is
    assert found["p"].clipped == 0


@pytest.mark.parametrize("name", ["max_pool_padding", "clamp", "pad_max_pool", "mul_by_itself"])
def test_operations_that_only_move_values_add_no_noise(name):
    program = PROGRAMS[name]
    reals = {}
    for op in program.ops:
        if isinstance(op, Linear):
            exponents = {"weight": program.constants[f"{op.name}.weight_exponent"], "bias": program.logit_exponent}
            for key, exponent in exponents.items():
                value = program.constants[f"{op.name}.{key}"]
                reals[f"{op.name}.{key}"] = value * 2.0 ** -exponent.reshape(-1, *[1] * (value.dim() - 1))
    found = own_noise(program.with_constants(**reals), program, batches(hard_inputs(program, 2)))
    noisy = {op.name for op in program.ops if op.kind == "mul"}
    assert {tensor for tensor, noise in found.items() if noise.total.noise} == noisy
    assert all(noise.total.signal > 0 for noise in found.values())


def test_result_bounds():
    network = {op.name: result_bounds(PROGRAMS["network"], op) for op in PROGRAMS["network"].ops[:-2]}
    assert network["sum"] == network["max"] == (0, 127), "a max pool keeps what a ReLU leaves"
    assert network["left"] == (0, 96), "6 with exponent 4"
    lookup = PROGRAMS["lookup"]
    table = lookup.constants["x.table"].tolist()
    assert result_bounds(lookup, lookup.ops[0]) == (min(table), max(table))


def test_weight_histogram():
    op = PROGRAM.ops[1]
    integers = integer_weights(W, E_W).astype(int)
    assert weight_histogram(PROGRAM, op).tolist() == np.bincount(integers.ravel() + 128, minlength=256).tolist()


@pytest.mark.parametrize(("accumulator", "bits"), [(2**24, 0), (2**23, 1), (3 * 2**20, 2.415), (1, 24), (0, 24)])
def test_head_room(accumulator, bits):
    assert head_room(accumulator) == pytest.approx(bits, abs=1e-3)


def test_decibels():
    noise = Noise()
    noise.add(torch.tensor([3.0, -4.0, -math.inf]), torch.tensor([3.0, -4.5, -128.0]))
    assert noise == Noise(25, 0.25) and noise.decibels == pytest.approx(20)
    noise.add(torch.tensor([5.0, 0.0]), torch.tensor([5.0, 0.5]))
    assert noise.decibels == pytest.approx(20), "of all batches"
    assert Noise(1, 0).decibels == math.inf
    assert Noise(0, 1).decibels == -math.inf
