from argparse import Namespace
from pathlib import Path

import pytest

from pipeline.params import load_params
from pipeline.trained_input import trained_input
from storage.errors import InputError

REPOSITORY = Path(__file__).parents[2]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NONE = dict.fromkeys(
    ("size", "resize", "resample", "color_space", "normalization", "images", "arithmetic", "reconstruction")
)


def chosen(model: str, **options):
    given = Namespace(model=model, **NONE | {"arguments": "{}"} | options)
    return trained_input(load_params(REPOSITORY / "params.yaml"), given)


def test_what_timm_publishes_is_taken_and_said():
    params, said = chosen("resnet18.tv_in1k")
    given = params.input
    assert (given.size, given.resize, given.resample, given.color_space) == (224, 256, "bilinear", "rgb")
    assert (params.model.name, params.model.num_classes) == ("resnet18", None)
    assert (params.model.normalization.mean, params.model.normalization.std) == (MEAN, STD)
    assert said == [
        "model.name: resnet18",
        "model.normalization: {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]}  (timm's resnet18.tv_in1k)",
        "input.size: 224  (timm's resnet18.tv_in1k)",
        "input.resize: 256  (size / 0.875, the crop of timm's resnet18.tv_in1k)",
        "input.resample: bilinear  (timm's resnet18.tv_in1k)",
        "input.color_space: rgb  (unless stated)",
    ]


def test_options_come_first():
    params, said = chosen(
        "resnet18",
        size=64,
        resample="bilinear",
        color_space="yuv444",
        normalization="0,0.5,1/1,.5,0.25",
        images=7,
        arithmetic="exact8",
        reconstruction=0,
        arguments="{output_stride: 8}",
    )
    given = params.input
    assert (given.size, given.resize, given.resample, given.color_space) == (64, 67, "bilinear", "yuv444")
    assert params.model.arguments == {"output_stride": 8}
    assert params.model.normalization.std == (1, 0.5, 0.25)
    assert (params.calibrate.images, params.calibrate.arithmetic, params.calibrate.reconstruction) == (7, "exact8", 0)
    assert [line.partition("  ")[2] for line in said[1:]] == [
        "(--normalization)", "(--size)", "(size / 0.95, the crop of timm's resnet18.a1_in1k)", "(--resample)",
        "(--color-space)",
    ]  # fmt: skip


def test_a_network_of_the_users_own_is_asked_about():
    with pytest.raises(InputError, match=r"nets/a\.py:b: add --size and --normalization, as in its training$"):
        chosen("nets/a.py:b")
    params, _ = chosen("nets/a.py:b", size=48, normalization="none")
    assert (params.input.size, params.input.resize, params.model.normalization) == (48, 48, None)
    assert params.model.name == "nets/a.py:b"


def test_a_name_that_is_unknown_is_said_first():
    with pytest.raises(InputError, match="model 'resnet19' is not known to timm; near matches: resnet18"):
        chosen("resnet19")
    with pytest.raises(InputError, match="for vargconvnet_32: add --normalization, as"):
        chosen("vargconvnet_32", size=32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalization": "0.5"}, r"--normalization 0\.5 is not allowed, must be as 0\.485"),
        ({"normalization": "0,0/1,1"}, r"the options: model\.normalization\.mean"),
        ({"normalization": "128,128,128/64,64,64"}, r"128 / 255 = 0\.502"),
        ({"size": 0}, r"the options: input\.size: 0 is not allowed"),
        ({"images": 0}, r"the options: calibrate\.images: 0 is not allowed"),
        ({"arguments": "[1]"}, r"the options: model\.arguments"),
        ({"arguments": "{"}, r"--arguments is not valid YAML"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(InputError, match=message) as raised:
        chosen("resnet18", **options)
    assert "\n" not in str(raised.value)
