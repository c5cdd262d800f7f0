import torch

from evaluation.disagreement import disagreeing, disagreement_rows, reliability


def of(*probabilities: float) -> torch.Tensor:
    """Logits of two classes, whose first one has these probabilities."""
    first = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([first.log(), (1 - first).log()], dim=1).float()


def test_reliability_has_a_row_for_each_tenth_with_images():
    logits = of(0.55, 0.57, 0.91, 0.95, 0.04)  # 0.04: the second class with 0.96
    labels = torch.tensor([0, 1, 0, 0, 0])
    assert reliability(logits, labels) == [(56.0, 50.0, 2), (94.0, 66.6667, 3)]


def test_what_is_certain_is_in_the_last_tenth():
    assert reliability(torch.tensor([[100.0, 0.0]]), torch.tensor([0])) == [(100.0, 100.0, 1)]


def test_those_of_which_the_left_form_is_surest_come_first():
    left, right = of(0.6, 0.9, 0.8, 0.3, 0.9), of(0.4, 0.8, 0.1, 0.7, 0.2)
    assert disagreeing(left, right).tolist() == [4, 2, 3, 0]
    assert disagreeing(left, left).tolist() == []


def test_pairs_of_classes_with_the_images_and_how_often_each_form_is_right():
    classes = 3
    left, right = (torch.eye(classes)[torch.tensor(each)] for each in ([0, 0, 0, 2, 1], [1, 1, 0, 0, 2]))
    labels = torch.tensor([0, 1, 0, 2, 0])
    assert disagreement_rows(left, right, labels, ["a", "b", "c"]) == [
        ("a", "b", 2, 1, 1),
        ("b", "c", 1, 0, 0),
        ("c", "a", 1, 1, 0),
    ]
    assert disagreement_rows(left, left, labels, ["a", "b", "c"]) == []
