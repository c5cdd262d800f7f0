"""Model files that do not fit the parameters, and databases that do not fit each other."""

import dataclasses
from types import SimpleNamespace

import pytest

from pipeline.databases import check_model, check_same_classes
from pipeline.params import load_params
from storage.model_file import ModelInfo


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_size", 64, "m has image_size 64, but input.size is 32"),
        ("color_space", "rgb", "m has color_space rgb, but input.color_space is yuv444"),
        ("num_classes", 7, "m has num_classes 7, but model.num_classes is 10"),
    ],
)
def test_a_model_for_other_images_is_refused(name, value, message):
    info = ModelInfo("vargconvnet_32", {}, 10, 32, "yuv444", [str(i) for i in range(10)])
    check_model("m", info, load_params())
    with pytest.raises(ValueError, match=message):
        check_model("m", dataclasses.replace(info, **{name: value}), load_params())


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["cat", "cow", "dog"], "only one has cow, emu"), (["dog", "cat", "emu"], "in another order")],
)
def test_databases_whose_labels_mean_other_classes_are_refused(names, reason):
    train = SimpleNamespace(path="train.lmdb", class_names=["cat", "dog", "emu"])
    check_same_classes(train, SimpleNamespace(path="val.lmdb", class_names=["cat", "dog", "emu"]))
    with pytest.raises(ValueError, match=f"train.lmdb and val.lmdb have different classes: {reason}"):
        check_same_classes(train, SimpleNamespace(path="val.lmdb", class_names=names))
