from urllib.parse import unquote

import pytest

from fixedpoint.errors import QuantizationError
from fixedpoint.program.names import allowed_name, check_name, file_stem

USUAL = ["conv", "stages.0.0.conv1", "features.3.sum1", "0", "conv_1", "a-b", "Mixed_5b.branch"]


@pytest.mark.parametrize("name", [*USUAL, "conv/3x3", "../../x", "/abs/x", "a:b", "x" * 200, "/" * 66])
def test_allowed_names(name):
    check_name(name, {"other"})


@pytest.mark.parametrize("name", ["", "a b", "é", "a\n", "x*\\\n/ {", "x" * 201, "/" * 67, "a\0", "%", None, 3, ["a"]])
def test_other_names_are_refused_in_one_line(name):
    with pytest.raises(QuantizationError, match=r"^the name of an operation must be at most 200 letters[^\n]{,200}$"):
        check_name(name, set())


def test_two_tensors_have_two_names():
    for name in ("a", "input"):
        with pytest.raises(QuantizationError, match=f"two tensors have the name {name}"):
            check_name(name, {"a"})


@pytest.mark.parametrize("name", USUAL)
def test_usual_paths_are_names_of_operations_and_files(name):
    assert allowed_name(name, set()) == file_stem(name) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [("conv/3x3", "conv_3x3"), ("a b", "a_b"), ("é\n*/", "____"), ("input", "input_1"), ("b", "b_2"), ("../x", ".._x")],
)
def test_other_paths_become_names_that_are_free(path, name):
    assert allowed_name(path, {"b", "b_1"}) == name
    check_name(name, set())


def test_long_paths_are_cut_and_stay_apart():
    first = allowed_name("a" * 300, set())
    second = allowed_name("a" * 299 + "b", {first})
    assert first != second
    for name in (first, second):
        check_name(f"{name}.sum12", set())
        assert len(f".{file_stem(name)}.partial".encode()) < 255


def test_file_stems_hold_no_path_and_give_the_name_back():
    names = ["../../x", "/abs/x", "conv/3x3", "conv_3x3", "conv%2F3x3", "a:b", "é \n", ".."]
    stems = [file_stem(name) for name in names]
    assert len({*stems}) == len(names) and [unquote(stem) for stem in stems] == names
    assert not any({*stem} & {"/", ":", "\n", " "} for stem in stems)
