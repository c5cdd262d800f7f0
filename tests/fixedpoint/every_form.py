"""Compares every form of a quantized network with its integer model, tensor by tensor and bit by bit."""

import re

import numpy as np
import oracle
import torch

from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source, flash_bytes
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.litert.writer import litert_model, tensor_names
from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.onnx.runtime import OnnxModel, saturating_weights
from fixedpoint.program.integer import IntegerEvaluator, int8_logits, integer_input, integer_tensor
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel

ONNX = {"qdq": QdqWriter, "qoperator": QOperatorWriter, "integer": IntegerWriter}
MODES = ("default", "off", "int8")  # of ONNX Runtime
MANY = 1_000_000  # bytes of constants; a compiler takes a minute for ten times as many
ARRAY = re.compile(r"^static const (int\d+_t) (\w+)\[\] = \{\n(.*?)\};$", re.MULTILINE | re.DOTALL)
LINKED = """\
extern const {type} {name}[];
__asm__(".section .rodata\\n.balign 8\\n{name}:\\n.incbin \\"{path}\\"\\n.text");"""


@torch.no_grad()
def compare_every_form(program, x, folder, modes=MODES, kernels=tuple(KERNELS), threads=(2, 1)):
    """Give the forms that were compared, by name, for the network input `x`; a difference is an AssertionError.

    Args:
        program: A calibrated program with float weights.
        modes, kernels: Those of ONNX Runtime and of LiteRT that are compared.
        threads: Those of PyTorch and of ONNX Runtime, one after the other.
    """
    integer = convert(program)
    expected = dict(IntegerEvaluator(integer).run(integer_input(x)))
    assert expected[integer.output].unique().numel() > 5, "a network with few different logits proves nothing"
    compare_pytorch(program, integer, expected, x, threads)
    compare_oracle(integer, expected, x)
    compare_onnx(integer, expected, x, folder, modes, threads)
    compare_c(integer, expected, x, folder)
    forms = ["QAT", "NumPy", "ONNX", "C"]
    if integer.is_portable:
        compare_litert(integer, expected, x, kernels)
        forms.append("LiteRT")
    return forms


def compare_pytorch(program, integer, expected, x, threads):
    fake = FakeQuantModel(program).eval()
    for count in threads:
        torch.set_num_threads(count)
        for tensor, value in fake.run(x):
            assert torch.equal(integer_tensor(program, tensor, value), expected[tensor].int()), tensor
        for tensor, value in IntegerEvaluator(integer).run(integer_input(x)):
            assert torch.equal(value, expected[tensor]), tensor


def compare_oracle(integer, expected, x):
    if x.shape[-1] >= 100:
        return  # the oracle is in no hurry
    constants = {key: value.numpy() for key, value in integer.constants.items()}
    for tensor, value in oracle.run(integer.to_json(), constants, integer_input(x[:1]).numpy()).items():
        assert tensor == "input" or np.array_equal(value, expected[tensor][:1].numpy()), tensor


def compare_c(integer, expected, x, folder):
    sources = c_source(integer, {})
    if flash_bytes(integer) > MANY:
        sources["network.c"] = ARRAY.sub(lambda array: linked(*array.groups(), folder), sources["network.c"])
    for tensor, value in CModel(sources, trace=True).tensors(integer_input(x).numpy()).items():
        assert np.array_equal(value, expected[tensor].flatten(1).numpy()), f"C: {tensor}"


def linked(dtype, name, numbers, folder):
    """C that takes an array from a file, in no time."""
    path = folder / f"{name}.bin"
    np.fromstring(numbers, np.dtype(dtype.removesuffix("_t")), sep=",").tofile(path)
    return LINKED.format(type=dtype, name=name, path=path)


def compare_onnx(integer, expected, x, folder, modes, threads):
    names = [op.name for op in integer.ops if op.name not in integer.raw]
    logits = np.ldexp(expected[integer.output].numpy().astype(np.float64), -integer.logit_exponent.numpy())
    for form, writer in ONNX.items():
        path = folder / f"{form}.onnx"
        path.write_bytes(writer.export(integer, {}).SerializeToString())
        for mode in modes:
            if (form, mode) == ("qdq", "default") and saturating_weights(integer):
                continue  # exact where the processor has VNNI
            for tensor, value in OnnxModel(path, mode, outputs=names).tensors(x.numpy()).items():
                wanted = logits if tensor == OUTPUT else expected[tensor].numpy()
                assert np.array_equal(value, wanted), f"{form} ({mode}): {tensor}"
            for count in {*threads} - {1}:
                assert np.array_equal(OnnxModel(path, mode, threads=count)(x.numpy()), logits), f"{form} ({mode})"


def compare_litert(integer, expected, x, kernels):
    content, pixels = litert_model(integer, {}), integer_input(x).numpy()
    logits = int8_logits(integer, expected[integer.output]).numpy()
    assert len(np.unique(logits)) > 5
    for name in kernels:
        if name == "reference" and x.shape[-1] >= 100:
            continue  # its kernels are slow
        assert np.array_equal(LitertModel(content, name, threads=2)(pixels), logits), name
        if name != "xnnpack":
            tensors = LitertModel(content, name, tensors=True).tensors(pixels)
            assert [*tensors] == tensor_names(integer)
            for tensor, value in tensors.items():
                assert np.array_equal(value, expected[tensor].numpy()), f"{name}: {tensor}"
