"""A split of each class, by the bytes of the images."""

import json

import pytest

from imagedb.looks import Look
from imagedb.sources.image_list import ImageListSource
from imagedb.split import split, write_list
from storage.errors import InputError

CLASSES = ["a", "b"]


def images(label: int, count: int, first: int = 0) -> list[Look]:
    return [Look(f"{CLASSES[label]}/{n}.jpg", label, b"%d %d" % (label, n)) for n in range(first, first + count)]


def test_a_fifth_of_each_class_and_every_image_once():
    looks = images(0, 50) + images(1, 7)
    found = split(looks, CLASSES, 0)
    assert [sum(each.label == label for each in found["val"]) for label in (0, 1)] == [10, 1]
    assert sorted(found["train"] + found["val"], key=looks.index) == looks
    assert found["val"] == sorted(found["val"], key=looks.index)


def test_the_seed_and_the_bytes_decide_not_the_order_nor_the_names():
    looks = images(0, 50) + images(1, 50)
    renamed = [Look(f"x{each.name}", each.label, each.digest) for each in reversed(looks)]

    def of_val(given: list[Look], seed: int) -> set[bytes]:
        return {each.digest for each in split(given, CLASSES, seed)["val"]}

    assert of_val(looks, 0) == of_val(renamed, 0) != of_val(looks, 1)
    by_position = {each.digest for label in (0, 1) for each in images(label, 10)}
    assert of_val(looks, 0) != by_position


def test_copies_stay_together_also_across_classes():
    looks = [Look(f"{label}/{n}", label, b"%d" % (n // 2)) for label in (0, 1) for n in range(40)]
    found = split(looks, CLASSES, 0)
    digests = [{each.digest for each in found[name]} for name in ("train", "val")]
    assert digests[0] & digests[1] == set() and len(found["val"]) == 16


def test_many_copies_of_one_image_do_not_leave_training_without_images():
    looks = [Look(str(n), 0, b"one") for n in range(30)] + [Look("other", 0, b"two")] + images(1, 5)
    found = split(looks, CLASSES, 0)
    assert [each.name for each in found["val"] if each.label == 0] == ["other"]


def test_damaged_images_are_left_out_and_small_classes_are_all_named():
    found = split([*images(0, 5), Look("bad", 0, problem="truncated"), *images(1, 5)], CLASSES, 0)
    assert "bad" not in {each.name for name in found for each in found[name]}
    copies = [Look("1", 1, b"x"), Look("2", 1, b"x")]
    with pytest.raises(InputError, match=r"^'b': a class needs two different images that can be read, one to train"):
        split([*images(0, 5), *copies], CLASSES, 0)
    with pytest.raises(InputError, match=r"^'a', 'b': a class needs two different images"):
        split([*images(0, 1), *copies], CLASSES, 0)


def test_a_list_is_read_as_it_was_written(tmp_path):
    names = ["1", 'b, "two"']
    looks = [Look("1/x y.jpg", 0, b"1"), Look("b/é,.jpg", 1, b"2")]
    write_list(tmp_path / "train.jsonl", looks, names, "train/")
    source = ImageListSource(tmp_path, "train.jsonl")
    assert source.class_names == names
    assert [(each.name, each.label) for each in source] == [("train/1/x y.jpg", 0), ("train/b/é,.jpg", 1)]
    before = (tmp_path / "train.jsonl").read_bytes()
    write_list(tmp_path / "train.jsonl", looks, names, "train/")
    with pytest.raises(InputError, match=r"train\.jsonl is there, with other contents .* remove it first$"):
        write_list(tmp_path / "train.jsonl", looks[:1], names, "train/")
    assert (tmp_path / "train.jsonl").read_bytes() == before
    assert [json.loads(line)["label"] for line in before.decode().splitlines()] == names


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^the file name 'a\\udcff\.jpg' is not UTF-8"):
        write_list(tmp_path / "train.jsonl", [Look("a\udcff.jpg", 0, b"1")], ["a"], "")
    assert not [*tmp_path.iterdir()]
