"""Images are drawn at random, the same each time, and as many of each class."""

import hashlib
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest

from pipeline.draw import draw


class Labels:
    """A database that has labels alone; `read` counts its records that were read."""

    def __init__(self, labels, classes=None):
        self.labels, self.read = labels, 0
        self.class_names = [str(label) for label in range(classes or max(labels) + 1)]
        self.header = SimpleNamespace(digest=hashlib.sha256(bytes(labels)).hexdigest())

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.read += 1
        return SimpleNamespace(labels=[self.labels[index]])


IN_TURN = [index % 10 for index in range(6000)]
SORTED = sorted(IN_TURN)
RARE = [0] * 3000 + [1] * 3 + [2] * 2997


@pytest.mark.parametrize("labels", [IN_TURN, SORTED], ids=["in turn", "sorted"])
@pytest.mark.parametrize("images", [1, 7, 10, 64, 300, 512])
def test_as_many_of_each_class_as_of_any_other(labels, images):
    database = Labels(labels)
    found = draw(database, images)
    counts = Counter(labels[index] for index in found.indices)
    assert len(found.indices) == len({*found.indices}) == images and found.indices == sorted(found.indices)
    assert len(counts) == min(10, images) and max(counts.values()) - min(counts.values()) <= 1
    assert sorted(counts.values()) == sorted(found.counts)
    assert database.read < 2 * images + 100


def test_the_draw_depends_on_the_contents_alone_and_is_not_regular():
    first, again = (draw(Labels(IN_TURN), 512).indices for _ in range(2))
    assert first == again != draw(Labels(SORTED), 512).indices
    gaps = {b - a for a, b in pairwise(first)}
    assert len(gaps) > 20
    assert {*draw(Labels(IN_TURN), 64).indices} < {*first}, "refinement sees images of the calibration"


def test_a_rare_class_has_what_was_met_of_it_and_others_fill_up():
    database = Labels(RARE)
    found = draw(database, 100)
    assert len(found.indices) == 100 and database.read == 1000
    everything = draw(Labels([*RARE[:40], *RARE[2990:3010]]), 50)
    assert sorted(everything.counts) == [3, 7, 40]


@pytest.mark.parametrize(
    ("labels", "images", "line"),
    [
        (IN_TURN, 512, "512 images of 10 classes, 51 or 52 each"),
        (IN_TURN, 100, "100 images of 10 classes, 10 each"),
        (IN_TURN, 1, "1 image of 1 class"),
        ([0, 1, 2] * 8, 512, "24 images (all there are; 512 were asked for) of 3 classes, 8 each"),
        ([0] * 9 + [1, 2], 11, "11 images of 3 classes, 1 to 9 each"),
        ([1] * 5, 3, "3 images of 1 class"),
    ],
)
def test_what_was_drawn_is_said(labels, images, line):
    assert str(draw(Labels(labels), images)) == line
