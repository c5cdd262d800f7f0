import json
import os
import re

import pytest

from imagedb.sources.image_list import ImageListSource, read_class_names
from imagedb.sources.source import Shard, Survey
from storage.errors import InputError

IMAGES = {"b/2.png": b"two", "a/1, big.png": b"one", "b/10.png": b"ten!"}


@pytest.fixture
def root(tmp_path):
    for name, content in IMAGES.items():
        file = tmp_path / "lists" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path


def write(root, name, content):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root / name


def as_csv(rows):
    quoted = (f'"{path}",{label}' if "," in path else f"{path},{label}" for path, label in rows)
    return "\n".join(["path,label", *quoted]) + "\n"


def as_jsonl(rows):
    return "".join(json.dumps({"path": path, "label": label}) + "\n" for path, label in rows)


FORMS = [("csv", as_csv), ("jsonl", as_jsonl)]


def refused(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(str(message))}$")


@pytest.mark.parametrize(("suffix", "form"), FORMS)
@pytest.mark.parametrize(
    ("labels", "classes", "expected", "class_names"),
    [
        ([2, 0, 2], None, [2, 0, 2], ["0", "1", "2"]),
        ([2, 0, 2], "ant\nbee\ncrane\ncrane\n", [2, 0, 2], ["ant", "bee", "crane", "crane"]),
        (["cat", "ant", "cat"], None, [1, 0, 1], ["ant", "cat"]),
        (["cat", "ant", "cat"], "dog\r\n cat\r\nant", [1, 2, 1], ["dog", "cat", "ant"]),
    ],
)
def test_order_names_and_labels_are_the_lists(root, suffix, form, labels, classes, expected, class_names):
    write(root, f"lists/train.{suffix}", form(zip(IMAGES, labels, strict=True)))
    if classes:
        write(root, "classes.txt", classes)
    source = ImageListSource(root, f"lists/train.{suffix}")
    assert source.class_names == class_names
    found = [(item.name, item.label, item.image()) for item in source.images()]
    assert found == [(name, label, IMAGES[name]) for name, label in zip(IMAGES, expected, strict=True)]
    assert [item.name for item in source.images(Shard(2, 3))] == ["a/1, big.png"]
    assert source.survey() == Survey(3, 3 + 3 + 4)


def test_absolute_paths_a_byte_order_mark_and_empty_lines(root):
    first, second, _ = (str(root / "lists" / name) for name in IMAGES)
    write(root, "train.csv", f'\ufeffpath,label\r\n\r\n{first},7\r\n"{second}",1\r\n\r\n')
    write(root, "train.jsonl", "\ufeff" + as_jsonl([(first, 7), (second, 1)]).replace("\n", "\n\n"))
    for split in ("train.csv", "train.jsonl"):
        items = list(ImageListSource(root, split).images())
        assert [(item.name, item.label, item.image()) for item in items] == [(first, 7, b"two"), (second, 1, b"one")]


def test_digits_are_integers_in_csv_and_strings_are_names_in_jsonl(root):
    write(root, "lists/a.csv", as_csv([("b/2.png", "3"), ("b/10.png", "1")]))
    write(root, "lists/a.jsonl", as_jsonl([("b/2.png", "3"), ("b/10.png", "1")]))
    assert [item.label for item in ImageListSource(root, "lists/a.csv").images()] == [3, 1]
    source = ImageListSource(root, "lists/a.jsonl")
    assert ([item.label for item in source.images()], source.class_names) == ([1, 0], ["1", "3"])


def test_missing_image_is_named_when_it_is_read_and_by_the_survey(root):
    write(root, "lists/train.csv", as_csv([("b/2.png", 0), ("b/3.png", 0)]))
    source = ImageListSource(root, "lists/train.csv")
    assert source.expected() == (2, "image")
    with pytest.raises(FileNotFoundError, match=r"lists/b/3\.png"):
        source[1].image()
    with pytest.raises(FileNotFoundError, match=r"lists/b/3\.png"):
        source.survey()


@pytest.mark.parametrize(("suffix", "form"), FORMS)
@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1, -1], None, "line {last}: label -1, allowed: 0 to 999999"),
        ([0, 1, 10**9], None, "line {last}: label 1000000000, allowed: 0 to 999999"),
        ([0, 1, 2], "ant\nbee\n", "line {last}: label 2, allowed: 0 to 1"),
        ([0, 1, "ant"], None, "line {last}: label 'ant', unlike the lines before; "),
        (["ant", "ant", 1], "ant\nbee\n", "line {last}: label 1, unlike the lines before; "),
        (["ant", "bee", "cat"], "ant\nbee\n", "line {last}: label 'cat', which {root}/classes.txt has 0 times, "),
        (["ant", "ant", "bee"], "ant\nbee\nbee\n", "line {last}: label 'bee', which {root}/classes.txt has 2 times, "),
    ],
)
def test_label_without_a_class_is_refused(root, suffix, form, labels, classes, message):
    file = write(root, f"train.{suffix}", form(zip("abc", labels, strict=True)))
    if classes:
        write(root, "classes.txt", classes)
    message = message.format(last=4 if suffix == "csv" else 3, root=root)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file} {message}')}"):
        ImageListSource(root, file.name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: header '', expected path,label"),
        ("file,label\na,1\n", "line 1: header 'file,label', expected path,label"),
        ("path,label\n", "lists no images"),
        ("path,label\na,1\nb\n", "line 3: 'b', expected a path and a label"),
        ("path,label\na,1\nb,c,2\n", "line 3: 'b,c,2', expected a path and a label"),
        ("path,label\n\na,\n", "line 3: 'a,', expected a path and a label"),
        ("path,label\n,1\n", "line 2: ',1', expected a path and a label"),
        ('path,label\na,1\n"b,2\n', "line 3: unexpected end of data"),
        (b"path,label\na,1\n\xff,1\n", "line 3: not UTF-8"),
    ],
)
def test_bad_csv_is_refused(root, content, message):
    file = write(root, "train.csv", content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file} {message}')}$"):
        ImageListSource(root, "train.csv")


@pytest.mark.parametrize(
    "line",
    [
        '["a", 1]',
        '"path label"',
        '{"path": "a"}',
        '{"path": "a", "label": 1, "labels": [1]}',
        '{"path": "a", "label": 1.5}',
        '{"path": "a", "label": NaN}',
        '{"path": "a", "label": Infinity}',
        '{"path": "a", "label": null}',
        '{"path": "a", "label": " "}',
        '{"path": "a", "label": true}',
        '{"path": "a", "label": ""}',
        '{"path": "", "label": 1}',
        '{"path": 7, "label": 1}',
    ],
)
def test_bad_jsonl_is_refused(root, line):
    file = write(root, "val.jsonl", f'{{"path": "a", "label": 1}}\n\n{line}\n')
    with refused(ValueError, f'{file} line 3: expected {{"path": string, "label": whole number or string}}'):
        ImageListSource(root, "val.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,1", "Expecting value: line 1 column 1 (char 0)"),
        ("[" * 100_000, "maps and lists are nested too deep, allowed: 100"),
        (
            '{"path": "a\\u0000", "label": 1}',
            "{'path': 'a\\x00', 'label': 1} has a character that is not allowed in a name",
        ),
        (
            '{"path": "a", "label": "\\ud800"}',
            "{'path': 'a', 'label': '\\ud800'} has a character that is not allowed in",
        ),
        (f'{{"path": "a", "label": {10**400}}}', f"label 1{'0' * 79}..., allowed: 0 to 999999"),
        ('{"path": "a", "label": "b"}', "label 'b', unlike the lines before; labels must be all whole numbers or all"),
        (" " * 2**20, "more than 1048576 bytes, which are allowed"),
    ],
)
def test_hostile_jsonl_is_refused_in_one_line(root, line, message):
    file = write(root, "val.jsonl", f'{{"path": "a", "label": 1}}\n{line}\n')
    with pytest.raises(InputError, match=f"^{re.escape(f'{file} line 2: {message}')}.*$"):
        ImageListSource(root, "val.jsonl")


@pytest.mark.parametrize("form", ["{}.0", " {}", "+{}."])
def test_numbers_in_csv_are_numbers_as_pandas_and_people_write_them(root, form):
    write(root, "train.csv", as_csv((f"{n}.png", form.format(n)) for n in range(11)))
    source = ImageListSource(root, "train.csv")
    assert [item.label for item in source] == list(range(11))
    assert source.class_names == [str(n) for n in range(11)]
    blanks = [f"{n}.png" for n in range(11)] if form.startswith(" ") else []
    assert source.notes == ({"label with blanks around it, which are left out": blanks} if blanks else {})


def test_whole_numbers_in_jsonl_and_blanks_around_names(root):
    write(root, "a.jsonl", '{"path": "a", "label": 2.0}\n{"path": "b", "label": 10}\n')
    assert [item.label for item in ImageListSource(root, "a.jsonl")] == [2, 10]
    write(root, "b.csv", 'path,label\na,Bag\nb,"Bag "\nc,\u00a0Bag\n')
    write(root, "b.jsonl", as_jsonl({"a": "Bag", "b": "Bag ", "c": " Bag"}.items()))
    for name in ("b.csv", "b.jsonl"):
        source = ImageListSource(root, name)
        assert (source.class_names, [item.label for item in source]) == (["Bag"], [0, 0, 0])
        assert source.notes == {"label with blanks around it, which are left out": ["b", "c"]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "a,1\nb,cat",
            "line 3: label 'cat', unlike the lines before; labels must be all whole numbers or all class names",
        ),
        (
            "a,cat\nb,1.0",
            "line 3: label 1, unlike the lines before; labels must be all whole numbers or all class names",
        ),
        (
            "a,1\nb,nan",
            "line 3: label 'nan', unlike the lines before; labels must be all whole numbers or all class names",
        ),
        ("a,1\nb,", "line 3: 'b,', expected a path and a label"),
        ("a,1\nb, ", "line 3: 'b, ', expected a path and a label"),
        ("a,1\nb,1.5", "line 3: label '1.5', must be a whole number or a name"),
        ("a,1\nb,1.0000000000000001", "line 3: label '1.0000000000000001', must be a whole number or a name"),
        (f"a,{'9' * 5000}", f"line 2: label '{'9' * 79}..., must be a whole number or a name"),
        ("a,1\nb\0,1", "line 3: a character NUL, which no text in UTF-8 has"),
        (f"a,1\n{'b' * 200_000},1", "line 3: field larger than field limit (131072)"),
        (f"a,1\n{'b' * 10_000_000},1", "line 3: more than 1048576 bytes, which are allowed"),
        ('a,1\n"b,1\nc,1', "line 4: unexpected end of data"),
        ('a,1\n"b"c,1', "line 3: ',' expected after '\"'"),
    ],
)
def test_labels_and_lines_that_cannot_be_meant_are_named(root, rows, message):
    file = write(root, "train.csv", f"path,label\n{rows}\n")
    must = "labels must be all whole numbers or all class names"
    with refused(InputError, f"{file} {message.replace('{must}', must)}"):
        ImageListSource(root, "train.csv")


def test_other_encodings_are_named(root):
    file = write(root, "train.csv", "path,label\né,1\n".encode("latin-1"))
    with refused(InputError, f"{file} line 2: not UTF-8"):
        ImageListSource(root, "train.csv")
    write(root, "train.csv", "path,label\na,1\n".encode("utf-16"))
    with refused(InputError, f"{file} line 1: not UTF-8"):
        ImageListSource(root, "train.csv")
    write(root, "train.csv", "path,label\na,1\n".encode("utf-16-le"))
    with refused(InputError, f"{file} line 1: a character NUL, which no text in UTF-8 has"):
        ImageListSource(root, "train.csv")


@pytest.mark.parametrize("name", ["train.csv", "classes.txt"])
def test_fifos_are_named_and_not_opened(root, name):
    write(root, "train.csv", as_csv([("a", 1)]))
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    with refused(InputError, f"{root / name} is a FIFO, a file is expected there"):
        ImageListSource(root, "train.csv")


def test_missing_list_and_other_kinds(root):
    with refused(FileNotFoundError, f"{root / 'val.csv'} does not exist, a list of images is expected there"):
        ImageListSource(root, "val.csv")
    with refused(ValueError, f"{root / 'val.txt'} is not allowed as a list of images, must end in .csv or .jsonl"):
        ImageListSource(root, "val.txt")
    write(root, "val.jsonl", "\n")
    with refused(ValueError, f"{root / 'val.jsonl'} lists no images"):
        ImageListSource(root, "val.jsonl")


def test_class_names(tmp_path):
    assert read_class_names(tmp_path) is None
    for content, line in [("", 1), ("ant\n\nbee\n", 2), ("ant\n \n", 2)]:
        file = write(tmp_path, "classes.txt", content)
        with refused(ValueError, f"{file} line {line}: expected a class name"):
            read_class_names(tmp_path)
    write(tmp_path, "classes.txt", "crane\ntench, Tinca tinca\ncrane")
    assert read_class_names(tmp_path) == ["crane", "tench, Tinca tinca", "crane"]
