import pytest
import torch

from evaluation.exactness import Agreement, Difference
from storage.errors import InputError


def test_every_pair_is_counted_over_all_tensors():
    agreement = Agreement(["a", "b", "c"], "a")
    agreement.add({"a": torch.tensor([1, 2, 3]), "b": torch.tensor([1, 2, 4]), "c": torch.tensor([1, 2, 3])}, "x")
    agreement.add({"a": torch.zeros(2, 2), "b": torch.ones(2, 2), "c": torch.zeros(2, 2)}, "y")
    assert agreement.by_pair() == {
        "a = b": {"elements": 7, "mismatches": 5},
        "a = c": {"elements": 7, "mismatches": 0},
        "b = c": {"elements": 7, "mismatches": 5},
    }
    assert agreement.elements == 21 and agreement.mismatches == 10
    assert agreement.differences == {"b": Difference("b", "x", 2, (), 4, 3)}


def test_integers_and_floats_are_compared_by_value():
    agreement = Agreement(["a", "b"], "b")
    agreement.add({"a": torch.tensor([3, -128], dtype=torch.int8), "b": torch.tensor([3.0, -127.5])}, "x")
    assert agreement.mismatches == 1
    assert str(agreement.differences["a"]) == "x[] is -128 in a and not -127.5"


def test_the_first_difference_is_that_of_the_first_tensor_not_of_the_first_image():
    """Of form c, a tensor that comes later differs in an earlier image already."""
    right = torch.arange(24).reshape(2, 3, 2, 2)
    agreement = Agreement(["a", "b", "c"], "b")
    later = right.clone()
    later[0, 0, 0, 0] = -7
    agreement.add({"a": right, "b": right, "c": right}, "x")
    agreement.add({"a": right, "b": right, "c": later}, "y")
    wrong = right.clone()
    wrong[1, 2, 0, 1], wrong[1, 2, 1, 1] = 99, 98
    agreement.add({"a": right, "b": right, "c": wrong.flatten(1)}, "x", 2)  # C gives no shape
    agreement.add({"a": right, "b": right, "c": later}, "y", 2)
    (first,) = agreement.differences.values()
    assert first == Difference("c", "x", 3, (2, 0, 1), 99, 12 + 8 + 1)
    assert str(first) == "x[2, 0, 1] is 99 in c and not 21"


def test_nan_equals_nothing_and_the_zeros_are_equal():
    agreement = Agreement(["a", "b"], "a")
    agreement.add({"a": torch.tensor([float("nan"), 0.0]), "b": torch.tensor([float("nan"), -0.0])}, "x")
    assert agreement.mismatches == 1


def test_shapes_must_be_equal_and_do_not_broadcast():
    agreement = Agreement(["torch", "onnx"], "torch")
    with pytest.raises(InputError, match=r"torch gives \[2, 1\] where onnx gives \[2\]: x"):
        agreement.add({"torch": torch.zeros(2, 1), "onnx": torch.zeros(2)}, "x")


def test_a_form_of_another_network_lacks_a_tensor():
    with pytest.raises(InputError, match=r"c has no tensor conv, which int has"):
        Agreement(["int", "c"], "int").add({"int": torch.zeros(2)}, "conv")


def test_nothing_was_compared():
    agreement = Agreement(["a", "b"], "a")
    assert agreement.elements == 0 and agreement.mismatches == 0 and agreement.differences == {}
