import torch

from stages import validate


def test_every_cell_of_a_small_confusion_matrix_in_the_order_of_the_classes():
    rows = validate.confusion_rows(torch.tensor([[7, 1], [0, 9]]), ["cat", "dog"])
    assert rows == [("cat", "cat", 7), ("cat", "dog", 1), ("dog", "cat", 0), ("dog", "dog", 9)]


def test_of_many_classes_those_with_the_most_mistakes(monkeypatch):
    monkeypatch.setattr(validate, "CONFUSED", 2)
    counts = torch.tensor([[5, 0, 0, 0], [0, 1, 0, 4], [1, 0, 5, 0], [0, 2, 0, 3]])
    rows = validate.confusion_rows(counts, ["a", "b", "c", "d"])
    assert rows == [("b", "b", 1), ("b", "d", 4), ("d", "b", 2), ("d", "d", 3)]
