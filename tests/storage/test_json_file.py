import os
import re

import pytest

from storage.errors import InputError
from storage.json_file import MAX_DEPTH, parse_json, read_json


def refused(message):
    return pytest.raises(InputError, match=f"^{re.escape(message)}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_of_every_unicode_encoding_are_read(tmp_path, encoding):
    file = tmp_path / "a.json"
    file.write_bytes('{"é": [1, 2.5, null]}'.encode(encoding))
    assert read_json(file) == {"é": [1, 2.5, None]}


def test_hook_sees_the_maps():
    assert parse_json('{"a": {"b": 1}}', "x", lambda fields: sorted(fields)) == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "here: Expecting value: line 1 column 1 (char 0)"),
        ('{"a": 1', "here: Expecting ',' delimiter: line 1 column 8 (char 7)"),
        (b'"\xff"', "here: 'utf-8' codec can't decode byte 0xff"),
        ("9" * 10_000, "here: Exceeds the limit"),
    ],
)
def test_damaged_text_is_refused_with_its_place(text, message):
    with refused(message):
        parse_json(text, "here")


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("times", [MAX_DEPTH + 1, 100_000])
def test_deep_nesting_is_refused(opening, times):
    closing = {"[": "]", "{": "}"}
    text = opening * times + "1" + "".join(closing[c] for c in reversed(opening) if c in closing) * times
    with refused(f"here: maps and lists are nested too deep, allowed: {MAX_DEPTH}"):
        parse_json(text, "here")


def test_depth_that_is_allowed_is_read():
    value = parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "here")
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []


def test_a_fifo_is_named_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with refused(f"{tmp_path}/a.json is not a file, JSON is expected there"):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")
