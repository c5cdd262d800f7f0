"""What timm and torchvision say of images, as their documentation has it."""

import pytest

from models.published import published

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("name", "source", "size", "resize", "resample"),
    [
        ("resnet18", "timm's resnet18.a1_in1k", 224, 235, "bicubic"),  # crop_pct 0.95: 235.8 rounded down
        ("resnet18.tv_in1k", "timm's resnet18.tv_in1k", 224, 256, "bilinear"),
        ("torchvision/resnet18", "torchvision's ResNet18_Weights.IMAGENET1K_V1", 224, 256, "bilinear"),
        ("torchvision/mobilenet_v2", "torchvision's MobileNet_V2_Weights.IMAGENET1K_V2", 224, 232, "bilinear"),
    ],
)
def test_published(name, source, size, resize, resample):
    found = published(name)
    assert (found.source, found.size, found.resize(size), found.resample) == (source, size, resize, resample)
    assert (found.mean, found.std) == (MEAN, STD)


def test_the_crop_holds_for_other_sizes():
    assert published("resnet18.tv_in1k").resize(64) == 73  # 64 / 0.875 = 73.1


@pytest.mark.parametrize("name", ["nets/mine.py:build", "vargconvnet_32", "resnet19", "torchvision/resnet19"])
def test_nothing_is_published(name):
    assert published(name) is None
