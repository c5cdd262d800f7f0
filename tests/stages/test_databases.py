"""A model file against the parameters."""

import dataclasses

import pytest

from models.storage import ModelInfo
from stages.databases import check_model
from stages.params import load_params


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_size", 64, "m has image_size 64, but input.size is 32"),
        ("color_space", "rgb", "m has color_space rgb, but input.color_space is yuv444"),
        ("num_classes", 7, "m has num_classes 7, but model.num_classes is 10"),
    ],
)
def test_a_model_for_other_pictures_is_refused(name, value, message):
    info = ModelInfo("vargconvnet_32", {}, 10, 32, "yuv444", [str(i) for i in range(10)])
    check_model("m", info, load_params())
    with pytest.raises(ValueError, match=message):
        check_model("m", dataclasses.replace(info, **{name: value}), load_params())
