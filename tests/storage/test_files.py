import os

import pytest

from storage.files import beside, whole_file, write_csv, write_json


def test_a_file_appears_when_it_is_whole_and_its_folder_with_it(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_ends_badly_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), whole_file(path) as partial:
        partial.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    with (
        pytest.raises(OSError, match=f"^cannot write {tmp_path}/a: .*No space left on device"),
        whole_file(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("durable", [False, True])
def test_a_durable_file_is_on_the_disk_before_its_name_and_the_name_before_it_is_said(tmp_path, monkeypatch, durable):
    path, done = tmp_path / "a", []
    fsync = os.fsync

    def note(descriptor):
        done.append((os.path.samestat(os.fstat(descriptor), tmp_path.stat()), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with whole_file(path, durable) as partial:
        partial.write_bytes(b"x")
    assert done == ([(False, False), (True, True)] if durable else [])


@pytest.mark.parametrize("name", ["a" * 240, "a" * 241, "a" * 255, "é" * 121])
def test_names_as_long_as_the_file_system_allows(tmp_path, name):
    for number in range(2):
        with whole_file(tmp_path / name) as partial:
            partial.write_text(str(number))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "1")]


def test_each_file_and_state_has_a_path_of_its_own(tmp_path):
    names = ["a", "b", "a" * 255, "a" * 254 + "b"]
    paths = {beside(tmp_path / name, state) for name in names for state in ("partial", "old")}
    assert len(paths) == 8
    assert beside(tmp_path / "a", "old") == tmp_path / ".a.old"
    assert all(path.name.startswith(".") and path.parent == tmp_path for path in paths)


def test_json_and_csv(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": [\n    1\n  ]\n}\n'
    write_csv(tmp_path / "a.csv", [("x", "y"), (1, None), ("é, a", 0.5)])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == 'x,y\n1,\n"é, a",0.5\n'
