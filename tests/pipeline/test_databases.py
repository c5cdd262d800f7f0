"""Model files that do not fit the parameters, and databases that do not fit each other."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from sample_images import encode

from imagedb.record import Annotation, Object
from imagedb.sources.folder import FolderSource
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from pipeline.databases import check_model, check_same_classes, open_database, plain_batches
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


class Boxes(IndexedSource):
    """Three images with no object, or one, in place of a label."""

    class_names, annotated = ("cat", "dog"), True

    def __len__(self):
        return 3

    def __getitem__(self, index):
        objects = (Object(1, (0, 0, 1, 1)),) * (index > 0)
        image = encode(np.full((4, 4, 3), index, np.uint8))
        return SourceImage(str(index), None, image, annotation=lambda: Annotation(objects))


def test_images_with_annotations_may_calibrate(tmp_path, monkeypatch):
    params = load_params()
    params = params.model_copy(update={"machine": params.machine.model_copy(update={"workers": 0})})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts/db").mkdir(parents=True)
    for split in ("train", "val"):
        write_database(Boxes(), f"artifacts/db/{split}.lmdb")
    (batch,) = plain_batches(params, "train", images=2)
    assert batch[0].shape == (2, 3, 32, 32) and batch[1].tolist() == [-1, -1]
    for split in ("train", "val"):
        with pytest.raises(InputError, match="holds annotations, and networks are trained and scored on labels"):
            open_database(params, split)
    with pytest.raises(InputError, match="holds annotations"):
        plain_batches(params, "val")


def test_the_number_of_classes_may_be_the_databases(tmp_path, monkeypatch):
    params = load_params()
    any_number = params.model_copy(update={"model": params.model.model_copy(update={"num_classes": None})})
    info = ModelInfo("vargconvnet_32", {}, 7, 32, "yuv444", [*"abcdefg"], resample=params.input.resample)
    check_model("m", info, any_number)
    png = encode(np.zeros((2, 2, 3), np.uint8))
    for name in "abc":
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").write_bytes(png)
    monkeypatch.chdir(tmp_path)
    write_database(FolderSource(tmp_path, "train"), "artifacts/db/train.lmdb")
    assert open_database(any_number, "train").class_names == [*"abc"]
    with pytest.raises(InputError, match=r"has 3 classes, but model\.num_classes is 10; classes without images can be"):
        open_database(params, "train")
