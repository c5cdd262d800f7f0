import math

import pytest
import torch

from evaluation.score import confusion, hardest, predict, ranked, score


def brute_force(logits, labels):
    """Ranks by sorting, loss by its definition."""
    top1 = top5 = loss = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        top1 += label in order[:1]
        top5 += label in order[:5]
        loss += math.log(sum(math.exp(value) for value in row)) - row[label]
    n = len(labels)
    return {"top1": round(100 * top1 / n, 4), "top5": round(100 * top5 / n, 4), "loss": round(loss / n, 4), "images": n}


def test_by_hand():
    logits = torch.tensor(
        [[2.0, 1, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0]]
    )
    labels = torch.tensor([0, 1, 4, 5])  # ranks 1, 2, 5 and, as the last of equal logits, 6
    log_sum = math.log(math.e**2 + math.e + 5)
    assert score(logits, labels) == {"top1": 25, "top5": 75, "loss": round(log_sum - 3 / 4, 4), "images": 4}


@pytest.mark.parametrize(("label", "top1"), [(0, 100), (1, 0), (2, 0)])
def test_of_equal_logits_the_lower_class_comes_first(label, top1):
    assert score(torch.ones(1, 3), torch.tensor([label]))["top1"] == top1


@pytest.mark.parametrize("classes", [2, 4, 5])
def test_top5_of_up_to_five_classes_is_everything(classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, classes, generator=generator)
    assert score(logits, torch.randint(classes, (20,), generator=generator))["top5"] == 100


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [3, 10, 100])
def test_against_sorting(classes, ties):
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(700, classes, generator=generator)
    if ties:
        logits = logits.round()
    labels = torch.randint(classes, (700,), generator=generator)
    assert score(logits, labels) == brute_force(logits, labels)


def test_loss_of_large_logits_is_finite():
    assert score(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))["loss"] == 1000


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_logits_are_no_success(value):
    with pytest.raises(ValueError, match="not finite"):
        score(torch.tensor([[value, value, value]]), torch.tensor([0]))


def test_predict_keeps_the_order():
    batches = [(torch.full((2, 3, 4, 4), i, dtype=torch.uint8), torch.tensor([i, -i])) for i in range(3)]
    logits, labels = predict(lambda pixels: pixels.double().mean((2, 3)), batches)
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[i] * 3 for i in (0, 0, 1, 1, 2, 2)]
    assert labels.tolist() == [0, 0, 1, -1, 2, -2]


def test_predict_keeps_no_graph():
    layer = torch.nn.Linear(2, 2)
    logits, _ = predict(layer, [(torch.zeros(1, 2), torch.tensor([0]))])
    assert not logits.requires_grad


def test_confusion_counts_images_by_class_and_predicted_class():
    logits = torch.tensor([[3.0, 1, 0], [0, 2, 2], [0, 0, 5], [9, 8, 7], [1, 1, 1]])
    labels = torch.tensor([0, 1, 1, 1, 2])
    assert confusion(logits, labels).tolist() == [[1, 0, 0], [1, 1, 1], [1, 0, 0]]


def test_ranked_by_hand():
    logits = torch.tensor([[0.0, math.log(3), 0, -math.inf], [0, 0, 0, 1]])[:, :3]
    probabilities, classes = ranked(logits, 2)
    assert classes.tolist() == [[1, 0], [0, 1]]  # of equal ones the lower class
    assert probabilities.flatten().tolist() == pytest.approx([3 / 5, 1 / 5, 1 / 3, 1 / 3])


def test_ranked_begins_with_what_counts_as_top1_and_gives_all_of_few_classes():
    logits = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)).round()
    probabilities, classes = ranked(logits, 5)
    assert score(logits, classes[:, 0])["top1"] == 100
    assert classes.sort(dim=1).values.tolist() == [[0, 1, 2, 3]] * 200
    assert probabilities.sum(dim=1).tolist() == pytest.approx([1] * 200)


def test_ranked_refuses_broken_logits():
    with pytest.raises(ValueError, match="not finite"):
        ranked(torch.tensor([[math.nan, 1]]), 1)


def test_hardest_are_those_with_the_greatest_loss_and_of_equal_ones_the_first():
    logits = torch.tensor([[2.0, 0], [0, 2], [5, 0], [0, 2], [1, 0]])
    labels = torch.tensor([0, 0, 0, 0, 0])
    assert hardest(logits, labels, 3).tolist() == [1, 3, 4]
    assert hardest(logits, labels, 9).tolist() == [1, 3, 4, 0, 2]


def test_the_last_bits_of_logits_change_no_order():
    logits = torch.tensor([[1.0, 0], [1 - 1e-6, 0], [1 + 1e-6, 0]])
    assert hardest(logits, torch.zeros(3, dtype=torch.int64), 3).tolist() == [0, 1, 2]
