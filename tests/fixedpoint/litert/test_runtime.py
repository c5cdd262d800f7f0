"""LitertModel: what it refuses, which kernels it runs, and 16-bit logits."""

import numpy as np
import oracle
import pytest
from portable_programs import PROGRAMS, build
from programs import conv, hard_inputs, numpy_constants

from fixedpoint.litert.graph import read_metadata
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.litert.scales import logit_exponent
from fixedpoint.litert.writer import litert_model
from fixedpoint.program import INPUT, Program

CONTENT = litert_model(PROGRAMS["network"], {})


def test_a_batch_of_any_size_gives_the_bits_of_its_images():
    x = hard_inputs(PROGRAMS["network"], 4)
    for kernels in KERNELS:
        model = LitertModel(CONTENT, kernels)
        alone = np.concatenate([model(x[i : i + 1]) for i in range(3)])
        assert alone.dtype == np.int8 and alone.shape == (3, 5)
        assert np.array_equal(model(x)[:3], alone) and np.array_equal(model(x[1:3]), alone[1:])
        assert np.array_equal(LitertModel(CONTENT, kernels, threads=2)(x)[:3], alone)


def test_only_xnnpack_delegates():
    kinds = {}
    for kernels in KERNELS:
        model = LitertModel(CONTENT, kernels)
        model(hard_inputs(PROGRAMS["network"], 1))
        kinds[kernels] = [op["op_name"] for op in model._interpreter._get_ops_details()]
    assert "DELEGATE" in kinds["xnnpack"]
    assert "DELEGATE" not in kinds["optimized"] + kinds["reference"]
    # three operators, and then the one that stands for all of them
    taken = LitertModel(litert_model(PROGRAMS["conv_groups"], {}))
    taken(hard_inputs(PROGRAMS["conv_groups"], 1))
    assert [op["op_name"] for op in taken._interpreter._get_ops_details()][3:] == ["DELEGATE"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_16_bit_logits_are_the_oracles(name):
    program = PROGRAMS[name]
    x, content = hard_inputs(program, 4), litert_model(program, {}, "int16")
    exponent = LitertModel(content).exponent
    for kernels in KERNELS:
        logits = LitertModel(content, kernels)(x)
        assert logits.dtype == np.int16
        assert np.array_equal(logits, int16_logits(program, x, exponent)), kernels


def int16_logits(program: Program, x: np.ndarray, exponent: int) -> np.ndarray:
    constants, last = numpy_constants(program), program.last_layer
    accumulators = oracle.run(program.to_json(), constants, x)[last.name].reshape(len(x), -1)
    of_accumulators = program.exponents[last.inputs[0]] + constants[f"{last.name}.weight_exponent"].astype(np.int64)
    return np.clip(oracle.divide_by_power(accumulators, of_accumulators - exponent), -(2**15), 2**15 - 1)


@pytest.mark.parametrize(
    ("shifts", "more"),
    [
        ((7, 10, 11, 12), 8),  # 9 would be a tie: 9 - 8 = 1
        ((7, 10, 9, 12), 7),
        ((10, 9, 8), 6),
        ((9, 8, 7, 6, 5), 3),
        ((1, 1), 7),  # the kernel of 16 bits shifts left by 6 at most
        ((-5, 4), 1),
        ((-5, 2), 0),
        ((-6, 4), 0),
    ],
)
def test_16_bit_logits_have_as_many_more_bits_as_are_exact(shifts, more):
    program = build((3, 4, 4), conv("x", INPUT, (4, 4, 4)), logit_shifts=shifts)
    assert logit_exponent(program, "int8") == program.int8_logit_exponent
    assert logit_exponent(program, "int16") == program.int8_logit_exponent + more
    x, content = hard_inputs(program, 4), litert_model(program, {}, "int16")
    for kernels in KERNELS:
        found = LitertModel(content, kernels)(x)
        assert np.array_equal(found, int16_logits(program, x, program.int8_logit_exponent + more)), kernels


def test_a_changed_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "int8.tflite"
    with pytest.raises(FileNotFoundError, match=r"int8\.tflite"):
        LitertModel(path)
    path.write_bytes(CONTENT)
    assert LitertModel(path).metadata == read_metadata(CONTENT, path) == LitertModel(str(path)).metadata
    path.write_bytes(CONTENT[:-100] + bytes(100))
    with pytest.raises(ValueError, match=r"int8\.tflite is damaged or was edited; make export-litert"):
        LitertModel(path)
    foreign = CONTENT.replace(b'{"digest"', b'{"sha256"')
    for content in (foreign, b"", b"TFL3", CONTENT.replace(b"TFL3", b"TFL2")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"int8\.tflite is not a \.tflite file of this repository"):
            LitertModel(path)


def test_what_cannot_be_run_is_named():
    with pytest.raises(ValueError, match="kernels 'gpu' are not allowed, must be one of xnnpack, optimized, reference"):
        LitertModel(CONTENT, "gpu")
    with pytest.raises(
        ValueError, match="xnnpack keeps no tensors between input and logits; optimized and reference do"
    ):
        LitertModel(CONTENT, tensors=True)
    model = LitertModel(CONTENT, "optimized")
    x = hard_inputs(PROGRAMS["network"], 1)
    with pytest.raises(ValueError, match="tensors can be read with tensors=True only"):
        model.tensors(x)
    for wrong, found in ((x.astype(np.float32), "float32"), (x[:, :1], "int8"), (x[0], "int8"), (x[:0], "int8")):
        message = rf"the input must be int8 \[batch, 3, 33, 33\], not {found} \[.*\]"
        with pytest.raises(ValueError, match=message):
            model(wrong)
