"""Tables of a confusion matrix, worked out by hand."""

import torch

from evaluation import classes
from evaluation.classes import class_rows, confusion_rows, shown_names, worst_classes


def test_every_class_with_the_one_it_is_most_often_predicted_as():
    counts = torch.tensor([[5, 2, 2], [1, 2, 3], [0, 0, 0]])
    assert class_rows(counts, ["a", "b", "c"]) == [
        ("a", 9, 55.5556, "b", 2),  # of equally many, the lower class
        ("b", 6, 33.3333, "c", 3),
        ("c", 0, None, None, 0),
    ]


def test_the_ten_worst_classes_for_people():
    rows = [classes.ClassRow(f"class {i}", 100, 90.0 - i % 3, "x", 1 + i) for i in range(12)]
    lines = worst_classes([classes.ClassRow("none", 0, None, None, 0), *rows]).split("\n")
    order = [2, 5, 8, 11, 1, 4, 7, 10, 0, 3]
    assert [line.split("  ")[0] for line in lines[1:]] == [f"class {i}" for i in order]
    assert lines[1] == "class 2      100    88.00  x (3)"


def test_every_cell_of_a_small_confusion_matrix_in_the_order_of_the_classes():
    rows = confusion_rows(torch.tensor([[7, 1], [0, 9]]), ["cat", "dog"])
    assert rows == [("cat", "cat", 7), ("cat", "dog", 1), ("dog", "cat", 0), ("dog", "dog", 9)]


def test_of_many_classes_those_with_the_most_mistakes(monkeypatch):
    monkeypatch.setattr(classes, "CONFUSED", 2)
    counts = torch.tensor([[5, 0, 0, 0], [0, 1, 0, 4], [1, 0, 5, 0], [0, 2, 0, 3]])
    rows = confusion_rows(counts, ["a", "b", "c", "d"])
    assert rows == [("b", "b", 1), ("b", "d", 4), ("d", "b", 2), ("d", "d", 3)]


def test_names_that_are_shown_are_short_plain_and_differ():
    long = "x" * 10_000
    shown = shown_names(["ant", f"{long}1", f"{long}2", "</script><script>alert(1)</script>", "\x1b[2J", "a\nb"])
    cut = "x" * 80 + "…"
    assert shown[:3] == ["ant", f"{cut} (1)", f"{cut} (2)"]
    assert shown[3:] == ["\u2039/script>\u2039script>alert(1)\u2039/script>", r"\x1b[2J", r"a\nb"]
