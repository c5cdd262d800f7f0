"""Networks of timm and torchvision, from a module to every integer form, bit for bit: `make test-networks`.

Their weights are random, the statistics of their BatchNorms those of real images. What needs no minutes is also part
of `make test`.
"""

import numpy as np
import oracle
import pytest
import torch
from networks import random_network, real_images

from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source, flash_bytes
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.litert.writer import litert_model, tensor_names
from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.onnx.runtime import OnnxModel, saturating_weights
from fixedpoint.program import EXACT8, PORTABLE
from fixedpoint.program.integer import IntegerEvaluator, int8_logits, integer_input, integer_tensor
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.qat import FakeQuantModel

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ARITHMETICS: dict[str, dict] = {  # arguments of `calibrate`
    "portable": {"arithmetic": PORTABLE},
    "exact8": {"arithmetic": EXACT8},
    "exact8-7bit": {"arithmetic": EXACT8, "weight_bits": 7},
}
# Name, image size, arithmetic, normalization. Odd sizes make padding to the same size asymmetric in other places.
QUICK = [("mobilenetv3_small_100", 64, "exact8", IMAGENET)]  # portable arithmetic: tests/test_pipeline.py
ALL = [
    *QUICK,
    ("tf_efficientnet_lite0", 65, "portable", None),
    ("resnet18", 64, "portable", None),
    ("resnet18", 64, "exact8", None),
    ("resnet50", 64, "portable", IMAGENET),
    ("mobilenetv2_100", 64, "portable", IMAGENET),
    ("mobilenetv2_100", 64, "exact8-7bit", IMAGENET),
    ("regnetx_002", 64, "portable", None),
    ("mobilenetv4_conv_small", 64, "portable", None),
    ("vgg11_bn", 224, "portable", None),  # its first fully connected layer takes 7x7 maps
    ("densenet121", 64, "portable", None),
    (
        "efficientnet_b0",
        64,
        "exact8",
        IMAGENET,
    ),  # products of tensors, and tables: not portable
    ("vargconvnet", 64, "portable", None),
    ("torchvision/mobilenet_v3_small", 64, "exact8", IMAGENET),
    ("torchvision/googlenet", 64, "portable", None),
]
CASES = [
    pytest.param(*case, id=f"{case[0]}-{case[2]}", marks=[] if case in QUICK else pytest.mark.networks) for case in ALL
]
FORMS = {"qdq": QdqWriter, "qoperator": QOperatorWriter, "integer": IntegerWriter}


@pytest.mark.parametrize(("name", "size", "arithmetic", "normalization"), CASES)
@pytest.mark.filterwarnings("ignore:.* must share the exponent")  # random weights need others
@torch.no_grad()
def test_every_form_gives_the_same_bits(name, size, arithmetic, normalization, tmp_path):
    x = real_images(size, 4)[1:3]
    program = fold(capture(random_network(name, size, normalization), (3, size, size)))
    program = correct_biases(calibrate(program, lambda: [x], **ARITHMETICS[arithmetic]), x)
    integer = convert(program)
    expected = dict(IntegerEvaluator(integer).run(integer_input(x)))
    assert expected[integer.output].unique().numel() > 5, "a network with few different logits proves nothing"

    fake = FakeQuantModel(program).eval()
    for threads in (2, 1):
        torch.set_num_threads(threads)
        for tensor, value in fake.run(x):
            assert torch.equal(integer_tensor(program, tensor, value), expected[tensor].int()), tensor
        for tensor, value in IntegerEvaluator(integer).run(integer_input(x)):
            assert torch.equal(value, expected[tensor]), tensor
    if flash_bytes(integer) < 10_000_000:  # the compiler takes minutes for the constants of larger ones
        for tensor, value in CModel(c_source(integer, {}), trace=True).tensors(integer_input(x).numpy()).items():
            assert np.array_equal(value, expected[tensor].flatten(1).numpy()), f"C: {tensor}"
    if size < 100:  # the oracle is in no hurry
        constants = {key: value.numpy() for key, value in integer.constants.items()}
        for tensor, value in oracle.run(integer.to_json(), constants, integer_input(x[:1]).numpy()).items():
            assert tensor == "input" or np.array_equal(value, expected[tensor][:1].numpy()), tensor

    names = [op.name for op in integer.ops if op.name not in integer.raw]
    logits = np.ldexp(expected[integer.output].numpy().astype(np.float64), -integer.logit_exponent.numpy())
    for form, writer in FORMS.items():
        path = tmp_path / f"{form}.onnx"
        path.write_bytes(writer.export(integer, {}).SerializeToString())
        for mode in ("default", "off", "int8"):
            if (form, mode) == ("qdq", "default") and saturating_weights(integer):
                continue  # exact where the processor has VNNI
            model = OnnxModel(path, mode, outputs=names)
            for tensor, value in model.tensors(x.numpy()).items():
                wanted = logits if tensor == OUTPUT else expected[tensor].numpy()
                assert np.array_equal(value, wanted), f"{form} ({mode}): {tensor}"
            assert np.array_equal(OnnxModel(path, mode, threads=2)(x.numpy()), logits), f"{form} ({mode})"
    if integer.is_portable:
        compare_litert(integer, expected, x)


def compare_litert(integer, expected, x):
    """Compare the .tflite file with the integer model for the network input `x`."""
    content, pixels = litert_model(integer, {}), integer_input(x).numpy()
    logits = int8_logits(integer, expected[integer.output]).numpy()
    assert len(np.unique(logits)) > 5
    for kernels in KERNELS:
        if kernels == "reference" and x.shape[-1] >= 100:
            continue  # its kernels are slow
        assert np.array_equal(LitertModel(content, kernels, threads=2)(pixels), logits), kernels
        if kernels != "xnnpack":
            tensors = LitertModel(content, kernels, tensors=True).tensors(pixels)
            assert [*tensors] == tensor_names(integer)
            for tensor, value in tensors.items():
                assert np.array_equal(value, expected[tensor].numpy()), f"{kernels}: {tensor}"
