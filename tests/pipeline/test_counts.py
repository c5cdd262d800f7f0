"""Counts of params.yaml beside those of the databases, all at once."""

import pytest

from pipeline.counts import all_used, refuse_large_batches
from pipeline.params import Params, load_params
from storage.errors import InputError


def with_values(batch_size: int = 64, qat_batch_size: int = 64, epochs: int = 1, qat_epochs: int = 1) -> Params:
    params = load_params()
    qat = params.qat.model_copy(update={"batch_size": qat_batch_size, "epochs": qat_epochs})
    return params.model_copy(update={"batch_size": batch_size, "epochs": epochs, "qat": qat})


def test_both_batches_are_named():
    with pytest.raises(InputError) as raised:
        refuse_large_batches(with_values(64, 50), 40)
    assert str(raised.value) == (
        "there are 40 training images, fewer than batch_size 64 and qat.batch_size 50: set 40 or less"
    )
    with pytest.raises(InputError, match=r"fewer than qat\.batch_size 41: set 40 or less$"):
        refuse_large_batches(with_values(40, 41), 40)
    refuse_large_batches(with_values(40, 40), 40)


def test_what_is_not_trained_has_no_batch():
    refuse_large_batches(with_values(epochs=0, qat_epochs=0), 1)
    with pytest.raises(InputError, match=r"fewer than qat\.batch_size 64"):
        refuse_large_batches(with_values(epochs=0), 63)


def test_counts_beyond_the_images_come_to_all_of_them():
    assert [*all_used(load_params(), 180, 50)] == [
        "there are 180 training images, and all are used for calibrate.images (512), calibrate.bias_correction (256), "
        "calibrate.reconstruction (512)",
        "there are 50 validation images, and all are used for compare.intermediate_images (64), report.images (256)",
    ]
    assert [*all_used(load_params(), 512, 256)] == []
