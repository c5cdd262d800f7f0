"""Model files that do not fit the parameters, and databases that do not fit each other."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from sample_images import encode

from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from pipeline.databases import check_model, check_same_classes, open_database
from pipeline.params import load_params
from storage.errors import InputError
from storage.model_file import ModelInfo


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_size", 64, "m has image_size 64, but input.size is 32"),
        ("color_space", "rgb", "m has color_space rgb, but input.color_space is yuv444"),
        ("resample", "bicubic", "m has resample bicubic, but input.resample is bilinear"),
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
    [
        (["cat", "cow", "dog"], "only one has cow, emu"),
        (["dog", "cat", "emu"], "in another order"),
        (["cat", "dog", "emu "], "'emu' and 'emu ' look alike and differ in blanks"),
    ],
)
def test_databases_whose_labels_mean_other_classes_are_refused(names, reason):
    train = SimpleNamespace(path="train.lmdb", class_names=["cat", "dog", "emu"])
    check_same_classes(train, SimpleNamespace(path="val.lmdb", class_names=["cat", "dog", "emu"]))
    with pytest.raises(ValueError, match=f"train.lmdb and val.lmdb have different classes: {reason}"):
        check_same_classes(train, SimpleNamespace(path="val.lmdb", class_names=names))


def test_a_class_too_many_that_looks_like_another_is_shown(tmp_path, monkeypatch):
    params, png = load_params(), encode(np.zeros((2, 2, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    for name in [*"abcdefghi", "Caf\u00e9", "Cafe\u0301"]:
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        (tmp_path / "images" / "train" / name / "1.png").write_bytes(png)
    write_database(FolderSource(tmp_path / "images", "train"), "artifacts/db/train.lmdb")
    expected = (
        "artifacts/db/train.lmdb has 11 classes, but model.num_classes is 10; "
        "'Cafe\\u0301' and 'Caf\\xe9' look alike and differ in how Unicode composes letters (NFC, NFD)"
    )
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        open_database(params, "train")
