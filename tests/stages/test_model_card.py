"""What the card states of images belongs to their digest."""

import pytest

from pipeline.params import Card, load_params
from pipeline.results import read_metrics
from reports.model_card import Packed
from stages.model_card import stated

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize("digest", [DIGEST[:8], DIGEST[:12], DIGEST])
def test_of_the_images_that_it_was_written_for(digest, capsys):
    assert stated(Card(license=None, data="mine", digest=digest), DIGEST) == "mine"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("data", "digest", "why"),
    [
        ("mine", "f" * 12, "card.digest is not that of these images"),
        ("mine", None, "card.digest is not that of these images"),
        (None, None, "card.data is null"),
        (None, DIGEST[:12], "card.data is null"),
    ],
)
def test_of_no_others(data, digest, why, capsys):
    assert stated(Card(license=None, data=data, digest=digest), DIGEST) is None
    assert capsys.readouterr().out == (
        f"the card does not state whose the images are: {why}; set card.data, and card.digest to '0123456789ab'\n"
    )


def test_the_sample_is_stated():
    packed = read_metrics("pack_train", "pack", Packed)
    assert stated(load_params().card, packed["digest"]) == "Fashion-MNIST, © 2017 Zalando SE, MIT licence"
