"""How folders of images are laid out."""

from pathlib import Path

import pytest

from imagedb.layout import Layout, layout
from storage.errors import InputError


def made(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train/a/1.jpg", "val/a/2.jpg"], ("folder", "train", "val")),
        (["Training/a/1.jpg", "Validation/a/2.jpg"], ("folder", "Training", "Validation")),
        (["train/a/1.jpg", "test/a/2.jpg"], ("folder", "train", "test")),
        (["train/a/1.jpg", "test/a/2.jpg", "val/a/3.jpg"], ("folder", "train", "val")),
        (["train/a/1.jpg"], ("folder", "train", None)),
        (["a b/1.jpg", "c/2.jpg"], ("folder", ".", None)),
        (["train/1.jpg", "bus/2.jpg"], ("folder", ".", None)),  # a class that is named train
        (["val/a/1.jpg", "c/2.jpg"], ("folder", ".", None)),
        (["train.csv", "val.csv", "images/1.jpg"], ("list", "train.csv", "val.csv")),
        (["train.jsonl", "test.csv", "train/a/1.jpg", "val/a/2.jpg"], ("list", "train.jsonl", "test.csv")),
        (["train.csv", "a/1.jpg"], ("folder", ".", None)),
        (["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"], ("imagenet", "train", "val")),
        (["ILSVRC2012_devkit_t12/readme.txt", "train/n01/1.JPEG"], ("imagenet", "train", "val")),
    ],
)
def test_what_a_folder_holds(tmp_path, paths, expected):
    kind, train, val = expected
    assert layout(made(tmp_path, *paths)) == Layout(kind, tmp_path, train, val)


def test_a_list_alone_is_to_be_divided_and_one_of_two_brings_the_other(tmp_path):
    made(tmp_path, "all.csv")
    assert layout(tmp_path / "all.csv") == Layout("list", tmp_path, "all.csv", None)
    made(tmp_path, "train.csv")
    assert layout(tmp_path / "train.csv") == Layout("list", tmp_path, "train.csv", None)
    made(tmp_path, "val.csv")
    assert layout(tmp_path / "train.csv") == Layout("list", tmp_path, "train.csv", "val.csv")
    assert layout(tmp_path / "all.csv") == Layout("list", tmp_path, "all.csv", None)


def test_what_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing does not exist; expected DIR/train/<class>/ and"):
        layout(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"photos\.zip is no folder and no list: extract an archive first; expected"):
        layout(made(tmp_path, "photos.zip") / "photos.zip")
