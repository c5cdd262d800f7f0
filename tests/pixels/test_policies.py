from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import difference, noise, photo
from torchvision.transforms import v2

from pixels.augmentation import Augmentation
from pixels.draws import Draws
from pixels.policies import apply_operations, draw_operations

HOW = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": 128}
THEIRS = {
    "trivial_augment": v2.TrivialAugmentWide(**HOW),
    "rand_augment": v2.RandAugment(**HOW),
    "rand_augment, strongest": v2.RandAugment(5, 30, **HOW),
    "rand_augment, weakest": v2.RandAugment(1, 0, **HOW),
    "auto_augment": v2.AutoAugment(**HOW),
}


def draw(policy, size=32, seed=0, operations=2, magnitude=9):
    """The drawn operations, and the number that is drawn after them."""
    given = Augmentation(
        crop="padded",
        crop_padding=0,
        crop_scale=(1, 1),
        crop_ratio=(1, 1),
        flip=0,
        color_jitter=(0, 0, 0, 0),
        policy=policy,
        policy_operations=operations,
        policy_magnitude=magnitude,
        extra=None,
        erase=0,
    )
    draws = Draws(seed)
    return draw_operations(given, size, draws), draws.uniform()


def changed(pixels, *operations):
    return np.asarray(apply_operations(Image.fromarray(pixels), operations))


@pytest.mark.parametrize("size", [16, 75])
@pytest.mark.parametrize("name", THEIRS)
def test_policies_are_those_of_torchvision(name, size):
    theirs, pixels = THEIRS[name], photo(size, size)
    strength = {"operations": theirs.num_ops, "magnitude": theirs.magnitude} if "rand_" in name else {}
    for seed in range(100):
        operations, following = draw(name.split(",")[0], size, seed, **strength)
        torch.manual_seed(seed)
        assert (changed(pixels, *operations) == np.asarray(theirs(Image.fromarray(pixels)))).all()
        assert following == torch.rand(1)


def test_no_policy_draws_nothing():
    assert draw(None)[0] == ()
    assert draw(None)[1] == Draws(0).uniform()


def test_trivial_augment_draws_as_its_paper_says():
    """14 operations with 31 strengths, all equally likely: table 1 of https://arxiv.org/abs/2103.10158."""
    drawn = [draw("trivial_augment", seed=seed)[0] for seed in range(2800)]
    assert all(len(operations) == 1 for operations in drawn)
    counts = Counter(operations[0][0] for operations in drawn)
    assert len(counts) == 14
    assert max(abs(count - 200) for count in counts.values()) < 60, "4.4 standard deviations"
    turns = [magnitude for ((name, magnitude),) in drawn if name == "Rotate"]
    assert {round(abs(turn) / 4.5, 4) for turn in turns} == set(range(31))
    assert min(turns) == -135


def test_rand_augment_has_one_strength():
    drawn = {operation for seed in range(300) for operation in draw("rand_augment", 100, seed, 3, 30)[0]}
    found = {name: sorted(magnitude for other, magnitude in drawn if other == name) for name, _ in drawn}
    assert len(found) == 14
    assert found["Rotate"] == [-30, 30]
    assert found["TranslateX"] == pytest.approx([-15000 / 331, 15000 / 331], rel=1e-6), "of the width"
    assert found["Posterize"] == [4]
    assert found["Equalize"] == [0]


def test_operations():
    pixels = noise(20, 12)
    assert (changed(pixels) == pixels).all()
    assert (changed(pixels, ("Identity", 0.0)) == pixels).all()
    assert (changed(pixels, ("Invert", 0.0)) == 255 - pixels).all()
    assert (changed(pixels, ("Posterize", 3.0)) == pixels // 32 * 32).all()
    assert (changed(pixels, ("Solarize", 0.5)) == np.where(pixels >= 128, 255 - pixels, pixels)).all()
    assert (changed(pixels, ("Invert", 0.0), ("Posterize", 3.0)) == (255 - pixels) // 32 * 32).all()


def test_what_is_uncovered_is_grey():
    pixels = noise(20, 12)
    assert (
        changed(pixels, ("TranslateX", 7.0)) == np.pad(pixels, ((0, 0), (7, 0), (0, 0)), constant_values=128)[:, :20]
    ).all()
    assert (
        changed(pixels, ("TranslateY", -5.0)) == np.pad(pixels, ((0, 5), (0, 0), (0, 0)), constant_values=128)[5:]
    ).all()
    assert (changed(pixels, ("Rotate", 45.0))[0, 0] == 128).all()


@pytest.mark.parametrize("name", [*v2.TrivialAugmentWide._AUGMENTATION_SPACE, "Invert"])
def test_tensors_become_nearly_the_same(name):
    pixels, magnitude = photo(60, 60), {"Posterize": 4.0, "Rotate": 20.0, "TranslateX": -9.0}.get(name, 0.3)
    found = apply_operations(torch.from_numpy(pixels).permute(2, 0, 1), ((name, magnitude),)).permute(1, 2, 0)
    assert found.dtype == torch.uint8
    error = difference(found, changed(pixels, (name, magnitude)))
    if name in ("ShearX", "ShearY", "Rotate"):  # Pillow rounds down, and blends nothing with what is uncovered
        assert np.median(error) <= 1
        assert error.mean() < 1.2
    else:
        assert error.max() <= 1


def test_threads_and_the_global_generator_change_nothing():
    pixels, state = photo(32, 32), torch.get_rng_state()
    work = [(policy, 32, seed) for seed in range(20) for policy in ("trivial_augment", "rand_augment", "auto_augment")]
    alone = [changed(pixels, *draw(*each)[0]).tobytes() for each in work]
    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(lambda each: changed(pixels, *draw(*each)[0]).tobytes(), work)] == alone
    assert torch.equal(torch.get_rng_state(), state)
