"""Values as YAML 1.2 has them: what DVC reads is what is read here, and nothing takes long or much memory."""

import os
import time

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError
from dvc.utils.serialize import parse_yaml as parse_dvc

from pipeline.yaml_file import DEEPEST, LONGEST, MOST, parse_yaml, read_yaml
from storage.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-05),
        ("1E5", 1e5),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("0.1e1_0", "0.1e1_0"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("n", "n"),
        ("true", True),
        ("12:30:45", "12:30:45"),
        ("1:30.5", "1:30.5"),
        ("~", None),
        ("", None),
        ("-0", 0),
        ("!!float 1", 1.0),
        ("!!str 1", "1"),
        ("'1e-5'", "1e-5"),
        ("{<<: {flip: 1}, size: 2}", {"flip": 1, "size": 2}),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
    ],
)
def test_values_are_those_of_yaml_1_2_and_of_dvc(text, value):
    read = parse_yaml(f"key: {text}\n", "params.yaml")["key"]
    dvc = parse_dvc(f"key: {text}\n", "params.yaml")["key"]
    assert (type(read), read) == (type(value), value) == (type(dvc), dvc)


def test_merge_keys_over_several_blocks():
    text = "a: &a {flip: 1, erase: 2}\nb: {c: &c {<<: *a, flip: 3}}\nd: {<<: *c, size: 4}\ne: {<<: [*a, *c]}\n"
    merged = {"erase": 2, "flip": 3}
    assert parse_yaml(text, "x") == parse_dvc(text, "x")
    assert parse_yaml(text, "x")["b"]["c"] == merged and parse_yaml(text, "x")["d"] == merged | {"size": 4}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: .inf", ": a: inf is not allowed, must be a finite number"),
        ("a: {b: [1, .NaN]}", ": a.b.1: nan is not allowed, must be a finite number"),
        ("a: 1e400", ": a: inf is not allowed, must be a finite number"),
        ("a: -0.0", ": a: -0.0 is not allowed, must be 0"),
        ("a: 9223372036854775808", ": a: a number of 64 bits is not allowed, must be below 2^63"),
        ("a: 0x" + 9999 * "f", ": a: a number of 39996 bits is not allowed, must be below 2^63"),
        ("a: 2001-01-01", ": a: 2001-01-01 is a date; allowed are numbers, lists, blocks, and texts (in quotes)"),
        ("a: !!binary aGVsbG8=", ": a: b'hello' is a bytes; allowed are numbers, lists, blocks, and texts (in quotes)"),
        ("a: {null: 1}", ": the key None in a must be a text or a whole number"),
        ("a: {true: 1}", ": the key True in a must be a text or a whole number"),
        ("a: {flip: 1,\n <<: {flip: 2}, flip: 3}", " is not valid YAML: flip occurs twice, again in line 2, column 17"),
        ("a: {1: 1, '1': 2}", " is not valid YAML: 1 occurs twice, again in line 1, column 11"),
        ("a: &b [*b]", " is not valid YAML: b contains itself in line 1, column 8"),
        ("a: &b {<<: *b}", " is not valid YAML: b contains itself in line 1, column 12"),
        ("a: !!int ''", " is not valid YAML: string index out of range"),
        ("a: !!bool maybe", " is not valid YAML: 'maybe'"),
        ("a: 2001-99-99", " is not valid YAML: month must be in 1..12"),
        ("a: 1\0", " is not valid YAML: unacceptable character #x0000: control characters are not allowed in "),
        ("a: *b", " is not valid YAML: found undefined alias in line 1, column 4"),
        ("a: !!python/name:os.system", " is not valid YAML: could not determine a constructor for the tag "),
        ("a: 1\n---\nb: 2", " is not valid YAML: expected a single document in the stream in line 1, column 1 but "),
    ],
)
def test_what_has_no_place_in_a_file_of_parameters(text, mistake):
    with pytest.raises(InputError) as raised:
        parse_yaml(text, "p.yaml")
    assert str(raised.value).startswith(f"p.yaml{mistake}") and str(raised.value).isprintable()


LEVELS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
MERGES = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a0: &a0 [1]\n" + LEVELS, f"more than {MOST:,} values in line "),
        ("a0: &a0 {k: 1}\n" + MERGES, f"more than {MOST:,} values in line "),
        ("[" * 100_000, f"more than {DEEPEST} blocks within blocks in line 1, column {DEEPEST}"),
        ("{a: " * 60_000, f"more than {DEEPEST} blocks within blocks in line 1, column "),
        ("- " * 100_000, f"more than {DEEPEST} blocks within blocks in line 1, column "),
        ("a: " + "x" * 10**7, f"is too long for a file of parameters, allowed are {LONGEST:,} characters"),
    ],
    ids=["aliases", "merges", "lists", "blocks", "dashes", "length"],
)
def test_bombs_are_refused_at_once(text, mistake):
    begun = time.process_time()
    with pytest.raises(InputError) as raised:
        parse_yaml(text, "p.yaml")
    assert mistake in str(raised.value) and time.process_time() - begun < 2


def test_dvc_refuses_what_occurs_twice_as_well():
    with pytest.raises(YAMLFileCorruptedError):
        parse_dvc("a: {flip: 1, flip: 3}", "p.yaml")


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe is not a regular file$"):
        read_yaml(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        read_yaml(tmp_path)
    (tmp_path / "latin").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin is not valid YAML: 'utf-8' codec can't decode"):
        read_yaml(tmp_path / "latin")
    (tmp_path / "bom").write_bytes("\ufeffa: é\r\nb: 1\r\n".encode())
    assert read_yaml(tmp_path / "bom") == {"a": "é", "b": 1}
