import numpy as np
import pytest
import torch
from training_runs import recipe

from training.mixing import Mixing


def batch(count=8):
    return torch.arange(float(count))[:, None, None, None].expand(count, 3, 4, 4).clone(), torch.arange(count) % 3


def mixed(given, *drawn_from, count=8):
    return Mixing(given, 3)(*batch(count), *drawn_from)


def test_mixup_mixes_with_the_image_as_far_from_the_end():
    x, targets = mixed(recipe(mixup=1, label_smoothing=0.3), 5, 0, 0)
    plain, labels = batch()
    share = float((x[0, 0, 0, 0] - 7) / (0 - 7))
    assert 0 < share < 1
    assert torch.allclose(x, share * plain + (1 - share) * plain.flip(0))
    one_hot = 0.7 * torch.nn.functional.one_hot(labels, 3) + 0.1
    assert torch.allclose(targets, share * one_hot + (1 - share) * one_hot.flip(0))


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    for step in range(20):
        x, targets = mixed(recipe(cutmix=1, label_smoothing=0), 5, 0, step)
        share = float((x[0] == 0).double().mean())
        assert set(x[0].unique().tolist()) <= {0, 7}
        assert targets[0].tolist() == pytest.approx([share, 1 - share, 0])  # labels 0 and 1


def test_both_take_turns():
    kinds = {len(mixed(recipe(mixup=1, cutmix=1), 5, 0, step)[0][0].unique()) for step in range(20)}
    assert kinds == {1, 2}


def test_what_is_drawn_depends_on_seed_epoch_and_step_alone():
    given = recipe(mixup=0.4, cutmix=1)
    first = mixed(given, 5, 1, 2)
    np.random.rand(7)
    for again, others in ((mixed(given, 5, 1, 2), False), (mixed(given, 5, 1, 3), True), (mixed(given, 6, 1, 2), True)):
        assert torch.equal(first[0], again[0]) != others


def test_parts_of_a_batch_are_mixed_as_the_batch():
    given = recipe(mixup=0.4, cutmix=1)
    whole, whole_targets = mixed(given, 5, 0, 4)
    x, labels = batch()
    for part in ([0, 1, 6, 7], [2, 3, 4, 5]):
        found, targets = Mixing(given, 3)(x[part].clone(), labels[part], 5, 0, 4)
        assert torch.equal(found, whole[part])
        assert torch.equal(targets, whole_targets[part])
