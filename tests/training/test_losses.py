import math

import pytest
import torch
from torch import tensor

from training.losses import distilled_loss, label_loss

LOGITS = tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], dtype=torch.float64)
TEACHER = tensor([[0.5, -1.0, 2.0], [0.25, 1.0, -4.0]], dtype=torch.float64)
LABELS = tensor([2, 1])
X = torch.zeros(2, 3, 4, 4)


def softmax(row, temperature):
    total = sum(math.exp(value / temperature) for value in row)
    return [math.exp(value / temperature) / total for value in row]


def soft_cross_entropy(logits, target, temperature):
    """The definition, in Python's floats."""
    rows = [
        -sum(p * math.log(q) for p, q in zip(softmax(t, temperature), softmax(z, temperature), strict=True))
        for z, t in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    return sum(rows) / len(rows)


def teacher(x):
    assert x is X
    return TEACHER


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_cross_entropy_against_smoothed_labels(smoothing):
    expected = 0
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        for c, q in enumerate(softmax(row, 1)):
            expected -= ((1 - smoothing) * (c == label) + smoothing / 3) * math.log(q) / 2
    assert float(label_loss(smoothing)(LOGITS, LABELS, X)) == pytest.approx(expected, rel=1e-9)


def test_cross_entropy_against_the_probabilities_of_mixed_labels():
    target = tensor([[0.2, 0.0, 0.8], [0.0, 0.5, 0.5]], dtype=torch.float64)
    expected = 0
    for row, probabilities in zip(LOGITS.tolist(), target.tolist(), strict=True):
        expected -= sum(p * math.log(q) for p, q in zip(probabilities, softmax(row, 1), strict=True)) / 2
    assert float(label_loss(0.3)(LOGITS, target, X)) == pytest.approx(expected, rel=1e-9), "they are smoothed already"


@pytest.mark.parametrize("smoothing", [0, 0.3])
def test_binary_cross_entropy_is_the_sum_over_classes(smoothing):
    smooth = [[(1 - smoothing) * (c == label) + smoothing / 3 for c in range(3)] for label in LABELS.tolist()]
    expected = 0
    for row, targets in zip(LOGITS.tolist(), smooth, strict=True):
        for z, p in zip(row, targets, strict=True):
            q = 1 / (1 + math.exp(-z))
            expected -= (p * math.log(q) + (1 - p) * math.log(1 - q)) / 2
    binary = label_loss(smoothing, "binary_cross_entropy")
    assert float(binary(LOGITS, LABELS, X)) == pytest.approx(expected, rel=1e-9)
    assert float(binary(LOGITS, tensor(smooth, dtype=torch.float64), X)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("targets", [LABELS, tensor([[0.1, 0.21, 0.69], [0.2, 0.8, 0.0]], dtype=torch.float64)])
def test_binary_cross_entropy_of_the_classes_above_a_threshold(targets):
    present = [[0, targets.dim() - 1, 1], [0, 1, 0]]  # of equal ones, not
    expected = 0
    for row, classes in zip(LOGITS.tolist(), present, strict=True):
        for z, there in zip(row, classes, strict=True):
            expected += math.log(1 + math.exp(-z if there else z)) / 2
    binary = label_loss(0.3, "binary_cross_entropy", 0.2)
    assert float(binary(LOGITS, targets, X)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [1, 4])
@pytest.mark.parametrize("weight", [0.25, 1])
def test_distillation_mixes_labels_and_teacher(weight, temperature):
    loss_of = distilled_loss(label_loss(0.1), teacher, weight, temperature)
    divergence = soft_cross_entropy(LOGITS, TEACHER, temperature) - soft_cross_entropy(TEACHER, TEACHER, temperature)
    expected = (1 - weight) * float(label_loss(0.1)(LOGITS, LABELS, X)) + weight * temperature**2 * divergence
    assert float(loss_of(LOGITS, LABELS, X)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [1, 4])
def test_the_gradient_is_that_of_hintons_soft_targets(temperature):
    logits = LOGITS.clone().requires_grad_()
    distilled_loss(label_loss(0), teacher, 1, temperature)(logits, LABELS, X).backward()
    for row, z, t in zip(logits.grad.tolist(), LOGITS.tolist(), TEACHER.tolist(), strict=True):
        pairs = zip(softmax(z, temperature), softmax(t, temperature), strict=True)
        assert row == pytest.approx([temperature * (q - p) / 2 for q, p in pairs], rel=1e-9)


def test_a_student_like_its_teacher_has_no_loss():
    assert float(distilled_loss(label_loss(0.1), teacher, 1, 2)(TEACHER, LABELS, X)) == pytest.approx(0, abs=1e-12)


def test_the_teacher_gets_no_gradient():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    logits = LOGITS.clone().requires_grad_()
    distilled_loss(label_loss(0.1), network, 0.5, 2)(logits, LABELS, X).backward()
    assert all(parameter.grad is None for parameter in network.parameters())
