import pytest
import torch

from evaluation.exactness import Agreement


def test_every_pair_is_counted_over_all_tensors():
    agreement = Agreement(["a", "b", "c"])
    agreement.add({"a": torch.tensor([1, 2, 3]), "b": torch.tensor([1, 2, 4]), "c": torch.tensor([1, 2, 3])})
    agreement.add({"a": torch.zeros(2, 2), "b": torch.ones(2, 2), "c": torch.zeros(2, 2)})
    assert agreement.by_pair() == {
        "a = b": {"elements": 7, "mismatches": 5},
        "a = c": {"elements": 7, "mismatches": 0},
        "b = c": {"elements": 7, "mismatches": 5},
    }
    assert agreement.elements == 21 and agreement.mismatches == 10


def test_integers_and_floats_are_compared_by_value():
    agreement = Agreement(["a", "b"])
    agreement.add({"a": torch.tensor([3, -128], dtype=torch.int8), "b": torch.tensor([3.0, -127.5])})
    assert agreement.mismatches == 1


def test_nan_equals_nothing_and_the_zeros_are_equal():
    agreement = Agreement(["a", "b"])
    agreement.add({"a": torch.tensor([float("nan"), 0.0]), "b": torch.tensor([float("nan"), -0.0])})
    assert agreement.mismatches == 1


def test_shapes_must_be_equal_and_do_not_broadcast():
    agreement = Agreement(["torch", "onnx"])
    with pytest.raises(ValueError, match=r"torch gives \[2, 1\] where onnx gives \[2\]"):
        agreement.add({"torch": torch.zeros(2, 1), "onnx": torch.zeros(2)})


def test_nothing_was_compared():
    agreement = Agreement(["a", "b"])
    assert agreement.elements == 0 and agreement.mismatches == 0
