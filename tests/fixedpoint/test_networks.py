"""Networks of timm and torchvision, from a module to every integer form, bit for bit: `make test-networks`.

Their weights are random, the statistics of their BatchNorms those of real images. What needs no minutes is also part
of `make test`.
"""

import pytest
import torch
from every_form import compare_every_form
from networks import random_network, real_images

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import EXACT8, PORTABLE
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.correct import correct_biases

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ARITHMETICS: dict[str, dict] = {  # arguments of `calibrate`
    "portable": {"arithmetic": PORTABLE},
    "exact8": {"arithmetic": EXACT8},
    "exact8-7bit": {"arithmetic": EXACT8, "weight_bits": 7},
}
# Name, image size, arithmetic, normalization. Odd sizes make padding to the same size asymmetric in other places.
QUICK = [("test_efficientnet", 64, "exact8", IMAGENET)]  # portable arithmetic: tests/test_pipeline.py
ALL = [
    *QUICK,
    ("mobilenetv3_small_100", 64, "exact8", IMAGENET),
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


@pytest.mark.parametrize(("name", "size", "arithmetic", "normalization"), CASES)
@pytest.mark.filterwarnings("ignore:.* must share the exponent")  # random weights need others
@torch.no_grad()
def test_every_form_gives_the_same_bits(name, size, arithmetic, normalization, tmp_path):
    x = real_images(size, 4)[1:3]
    program = fold(capture(random_network(name, size, normalization), (3, size, size)))
    program = correct_biases(calibrate(program, lambda: [x], **ARITHMETICS[arithmetic]), x)
    compare_every_form(program, x, tmp_path)
