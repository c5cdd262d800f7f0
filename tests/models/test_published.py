"""What timm and torchvision say of images, as their documentation has it."""

from dataclasses import replace

import pytest

from models.published import published
from storage.errors import InputError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("name", "source", "crop", "resample"),
    [
        ("resnet18", "timm's resnet18.a1_in1k", 0.95, "bicubic"),
        ("resnet18.tv_in1k", "timm's resnet18.tv_in1k", 224 / 256, "bilinear"),
        ("torchvision/resnet18", "torchvision's ResNet18_Weights.IMAGENET1K_V1", 224 / 256, "bilinear"),
        ("torchvision/mobilenet_v2", "torchvision's MobileNet_V2_Weights.IMAGENET1K_V2", 224 / 232, "bilinear"),
    ],
)
def test_published(name, source, crop, resample):
    found = published(name)
    assert (found.source, found.size, found.crop, found.resample) == (source, 224, crop, resample)
    assert (found.mean, found.std, found.filter) == (MEAN, STD, resample)


def test_another_filter_has_a_stand_in():
    found = replace(published("resnet18"), resample="lanczos")
    assert found.filter == "bicubic"


def test_a_tag_that_timm_has_not():
    with pytest.raises(InputError, match=r"^timm has no weights 'a1_in21k' of resnet18, but .*\ba1_in1k, .*\btv_in1k$"):
        published("resnet18.a1_in21k")


@pytest.mark.parametrize("name", ["nets/mine.py:build", "vargconvnet_32", "resnet19", "torchvision/resnet19"])
def test_nothing_is_published(name):
    assert published(name) is None
