import errno
import json
import os
from dataclasses import asdict
from hashlib import sha256

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from storage.errors import InputError
from storage.model_file import ModelInfo, check_weights, load_model, read_info, save_model

FORMS = ("float", "ptq", "qat", "int")
INFO = ModelInfo("vargconvnet_32", {"channels": [16, 24, 32, 64, 128]}, 2, 32, "yuv444", ["chat", "élan"])
TENSORS = {
    "b.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
    "a.scale": torch.tensor(0.5),
    "c.weight": torch.tensor([[-128, 127]], dtype=torch.int8),
    "d.bias": torch.tensor([2**31 - 1], dtype=torch.int32),
}
PROGRAM = {"nodes": [{"op": "conv", "shift": 7}], "inputs": ["x"]}


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(tmp_path, form):
    path = tmp_path / "new" / "model.safetensors"
    save_model(path, form, TENSORS, INFO, PROGRAM if form == "int" else None)
    stored = load_model(path, (form,))
    assert (stored.form, stored.info, stored.program) == (form, INFO, PROGRAM if form == "int" else None)
    assert stored.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert stored.tensors[name].dtype == tensor.dtype
        assert torch.equal(stored.tensors[name], tensor)


def test_bytes_depend_on_the_contents_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, "int", TENSORS, INFO, PROGRAM)
    first = path.read_bytes()
    save_model(path, "int", dict(reversed(TENSORS.items())), INFO, dict(reversed(PROGRAM.items())))
    assert path.read_bytes() == first
    # A golden value, because another process may use another order.
    assert sha256(first).hexdigest() == "50ca133b861f8778c54946c11cff5a9a05c1a981767d6ec36e1698252e407654"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, "float", TENSORS, INFO)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors does not exist"):
        load_model(tmp_path / "absent.safetensors", FORMS)


def write_pickle(path):
    torch.save(TENSORS, path)


def write_truncated(path):
    save_model(path, "float", TENSORS, INFO)
    path.write_bytes(path.read_bytes()[:-1])


def write_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")


def write_without_header(path):
    save_file({"a": torch.zeros(1)}, path)


def write_foreign_header(path):
    save_file({"a": torch.zeros(1)}, path, {"model": "resnet18"})


def write_version_1(path):
    save_file({"a": torch.zeros(1)}, path, {"model": json.dumps({"format_version": 1})})


def write_qat(path):
    save_model(path, "qat", TENSORS, INFO)


@pytest.mark.parametrize(
    "write, message",
    [
        (write_pickle, "is not a safetensors file"),
        (write_truncated, "is not a safetensors file"),
        (write_pointer, "is a pointer of git-lfs; `git lfs pull` fetches the file itself"),
        (write_without_header, "has no model header"),
        (write_foreign_header, "has no model header"),
        (write_version_1, "has format version 1, supported is 5"),
        (write_qat, "holds a model in form 'qat', expected float or int"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, write, message):
    path = tmp_path / "bad.safetensors"
    write(path)
    with pytest.raises(ValueError, match=f"bad.safetensors {message}") as raised:
        load_model(path, ("float", "int"))
    assert "\n" not in str(raised.value)


def saved(folder, tensors, info=INFO, program=None):
    save_model(folder / "x.safetensors", "float", tensors, info, program)
    return folder / "x.safetensors"


def test_each_flipped_bit_is_seen_or_changes_nothing(tmp_path):
    path = saved(tmp_path, TENSORS, program=PROGRAM)
    whole, expected = path.read_bytes(), load_model(path, FORMS)
    named = 0
    for bit in range(0, 8 * len(whole), 7):
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        try:
            found = load_model(path, FORMS)
        except InputError as error:
            assert str(path) in str(error)
            named += 1
        else:
            assert (found.form, found.info, found.program) == (expected.form, expected.info, expected.program)
            assert found.tensors.keys() == TENSORS.keys()
            assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert named > len(whole)


def test_the_digest_is_that_of_header_and_tensors(tmp_path):
    with safe_open(saved(tmp_path, {"b": torch.tensor([1.5]), "a": torch.tensor(7, dtype=torch.int8)}), "pt") as file:
        header = json.loads(file.metadata()["model"])
    digest = header.pop("sha256")
    text = json.dumps(header, sort_keys=True) + '["a", "torch.int8", []]\x07["b", "torch.float32", [1]]'
    assert digest == sha256(text.encode() + b"\x00\x00\xc0\x3f").hexdigest()


def test_tensors_that_share_memory_are_stored_each(tmp_path):
    weight = torch.arange(4.0)
    found = load_model(saved(tmp_path, {"a": weight, "b": weight, "c": weight[1:3]}), FORMS).tensors
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [0, 1, 2, 3],
        "b": [0, 1, 2, 3],
        "c": [1, 2],
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_named(tmp_path, value, dtype):
    path = saved(tmp_path, {"a": torch.empty(0), "b": torch.tensor([[1, 2], [3, value]], dtype=dtype)})
    with pytest.raises(InputError, match=r"x\.safetensors: b holds values that are not finite, first in channel 1$"):
        load_model(path, FORMS)
    path = saved(tmp_path, {"b": torch.tensor(value, dtype=dtype)})
    with pytest.raises(InputError, match=r"x\.safetensors: b holds values that are not finite$"):
        load_model(path, FORMS)


def test_a_variance_below_zero_is_named(tmp_path):
    path = saved(
        tmp_path, {"bn.running_var": torch.tensor([0.0, 1, 2, -1e-9]), "bn.running_mean": torch.tensor([-1.0])}
    )
    with pytest.raises(
        InputError, match=r"x\.safetensors: bn.running_var holds a variance below 0, first in channel 3$"
    ):
        load_model(path, FORMS)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "holds no weights by name"),
        ({1: torch.ones(1)}, "holds no weights by name"),
        ({"a": 1.0}, "a is no dense tensor of real numbers"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a is no dense tensor"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "a is no dense tensor"),
        ({"a": torch.ones(1).to(torch.float8_e5m2)}, "a is no dense tensor"),
    ],
)
def test_what_is_no_weight_is_refused(weights, message):
    with pytest.raises(InputError, match=message):
        check_weights(weights, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "with an impossible name"),
        ({"arguments": []}, "with an impossible arguments"),
        ({"num_classes": True}, "with an impossible num_classes"),
        ({"image_size": -32}, "with an impossible num_classes and image_size"),
        ({"color_space": None}, "with an impossible color_space"),
        ({"resample": 3}, "with an impossible resample"),
        ({"class_names": "ab"}, "with an impossible class_names"),
        ({"class_names": ["a", 1]}, "with an impossible class_names"),
        ({"class_names": ["a"]}, "has 1 class names for 2 classes"),
        ({"normalization": 1}, "with an impossible normalization"),
        ({"normalization": {"mean": [0.5] * 3}}, "with an impossible normalization"),
        ({"normalization": {"mean": [0.5] * 3, "std": [0.2, 0, 0.2]}}, "with an impossible normalization"),
        ({"normalization": {"mean": [0.5, float("nan"), 0.5], "std": [0.2] * 3}}, "with an impossible normalization"),
        ({"normalization": {"mean": [0.5] * 2, "std": [0.2] * 3}}, "with an impossible normalization"),
        ({"normalization": {"mean": "abc", "std": [0.2] * 3}}, "with an impossible normalization"),
        ({"more": 1}, "does not describe its model as this version does"),
    ],
)
def test_an_impossible_description_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        read_info(asdict(INFO) | change, "x")


def test_a_header_nested_too_deep_is_no_header(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"model": "[" * 100_000})
    with pytest.raises(InputError, match="has no model header"):
        load_model(tmp_path / "x.safetensors", FORMS)
