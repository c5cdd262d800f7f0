from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import difference, look, noise, photo, resize, view_pixels
from torchvision.transforms import InterpolationMode, v2

from pixels.augmentation import Augmentation, InputFormat
from pixels.draws import Draws
from pixels.views import center_views, random_views

SHAPES = [(64, 48), (37, 90), (120, 31), (16, 16), (9, 200), (150, 150)]


def augmentation(**changes):
    plain = {"crop": "resized", "crop_scale": (0.08, 1), "crop_ratio": (3 / 4, 4 / 3), "crop_padding": 0}
    plain |= {"flip": 0.5, "color_jitter": (0, 0, 0, 0), "policy": None, "policy_operations": 2, "policy_magnitude": 9}
    return Augmentation(**plain | {"extra": None, "erase": 0} | changes)


FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
MOST = {"bilinear": 1, "bicubic": 2}  # difference where Pillow begins with the columns
each_filter = pytest.mark.parametrize("resample", FILTERS)


def image(width, height, resample):
    """Noise; for a cubic filter, one without values that it overshoots, since Pillow clips those of its first pass."""
    return photo(width, height) if resample == "bicubic" else noise(width, height)


def draw(given, size, width, height, seed=0, resample="bilinear"):
    return random_views(given, input_format(size, resample=resample))(width, height, Draws(seed))


def rendered(pixels, view, size):
    return view_pixels(pixels, view, size).transpose(1, 2, 0)


def input_format(size, resize=None, resample="bilinear"):
    return InputFormat(size=size, color_space="rgb", resize=resize, resample=resample)


@each_filter
@pytest.mark.parametrize("shape", SHAPES)
def test_resized_crops_and_flips_are_those_of_torchvision(shape, resample):
    given, pixels = augmentation(), image(*shape, resample)
    crop = v2.RandomResizedCrop(32, given.crop_scale, given.crop_ratio, FILTERS[resample])
    both = v2.Compose([crop, v2.RandomHorizontalFlip(given.flip)])
    for seed in range(20):
        view = draw(given, 32, *shape, seed, resample)
        found = rendered(pixels, view, 32)

        torch.manual_seed(seed)
        assert difference(found, both(Image.fromarray(pixels))).max() <= MOST[resample]

        torch.manual_seed(seed)
        drawn = crop.make_params([Image.fromarray(pixels)])
        assert view.box == (drawn["left"], drawn["top"], drawn["left"] + drawn["width"], drawn["top"] + drawn["height"])
        assert view.flip == bool(torch.rand(1) < given.flip)
        assert (found == look(pixels, view, 32)).all()


@pytest.mark.parametrize(
    ("shape", "ratio"), [((60, 40), (0.5, 2)), ((90, 30), (1, 2)), ((30, 90), (0.5, 1)), ((30, 91), (0.6, 0.7))]
)
def test_resized_crop_where_no_draw_fits_is_torchvisions_centre(shape, ratio):
    given = augmentation(crop_scale=(1, 1), crop_ratio=ratio)
    crop = v2.RandomResizedCrop(32, given.crop_scale, given.crop_ratio)
    found = []
    for seed in range(5):
        view = draw(given, 32, *shape, seed)
        torch.manual_seed(seed)
        drawn = crop.make_params([Image.new("RGB", shape)])
        assert view.box == (drawn["left"], drawn["top"], drawn["left"] + drawn["width"], drawn["top"] + drawn["height"])
        found.append(view.box)
    assert len(set(found)) == 1


@pytest.mark.parametrize("padding", [0, 3, 15])
@pytest.mark.parametrize("shape", [(16, 16), (20, 16), (16, 33), (40, 40), (7, 30), (30, 3), (10, 10)])
def test_padded_crops_and_flips_are_those_of_torchvision(shape, padding):
    given, pixels = augmentation(crop="padded", crop_padding=padding), noise(*shape)
    crop = v2.RandomCrop(16, padding=padding, pad_if_needed=True)
    both = v2.Compose([crop, v2.RandomHorizontalFlip(given.flip)])
    for seed in range(20):
        torch.manual_seed(seed)
        expected = np.asarray(both(Image.fromarray(pixels)))
        assert (rendered(pixels, draw(given, 16, *shape, seed), 16) == expected).all()


@pytest.mark.parametrize("shape", [(60, 90), (35, 30), (24, 24)])
def test_padded_crops_are_of_the_image_that_validation_sees(shape):
    pixels, padding = noise(*shape), 3
    resize, crop = v2.Resize(20), v2.RandomCrop(16, padding=padding, pad_if_needed=True)
    resized = resize(Image.fromarray(pixels))
    views = random_views(augmentation(crop="padded", crop_padding=padding, flip=0), input_format(16, 20))
    for seed in range(20):
        view = views(*shape, Draws(seed))
        torch.manual_seed(seed)
        off = difference(rendered(pixels, view, 16), crop(resized))
        left, top, width, height = view.target
        # there, pixels beyond the crop influence its outermost ones; here, they do not
        assert off[top + 1 : top + height - 1, left + 1 : left + width - 1].max() <= 1
        off[top : top + height, left : left + width] = 0
        assert off.max() == 0


@pytest.mark.parametrize(("size", "side", "corners"), [(32, 28, range(5)), (16, 14, range(3)), (64, 56, range(9))])
def test_padded_crops_of_another_size_are_smaller_or_larger_images(size, side, corners):
    views = random_views(augmentation(crop="padded", crop_padding=4), input_format(32), size)
    seen = [views(28, 28, Draws(seed)) for seed in range(500)]
    assert {view.box for view in seen} == {(0, 0, 28, 28)}
    assert {view.target for view in seen} == {(left, top, side, side) for left in corners for top in corners}


def test_nothing_else_is_drawn_from_the_generator():
    for given in (augmentation(), augmentation(crop="padded", crop_padding=3)):
        draws = Draws(5)
        random_views(given, input_format(16))(20, 20, draws)
        torch.manual_seed(5)
        resized = v2.RandomResizedCrop(16, given.crop_scale, given.crop_ratio)
        crop = resized if given.crop == "resized" else v2.RandomCrop(16, padding=3, pad_if_needed=True)
        v2.Compose([crop, v2.RandomHorizontalFlip(given.flip)])(Image.new("RGB", (20, 20)))
        assert draws.uniform() == torch.rand(1)


def test_padding_that_could_miss_the_image_is_refused():
    with pytest.raises(ValueError, match=r"^crop_padding 16 is not allowed, must be below the input's size 16$"):
        random_views(augmentation(crop="padded", crop_padding=16), input_format(16), 32)
    random_views(augmentation(crop="resized", crop_padding=16), input_format(16))


@each_filter
@pytest.mark.parametrize("short", [None, 12, 40, 56])
@pytest.mark.parametrize("shape", [*SHAPES, (33, 47), (31, 31), (32, 32), (5, 8)])
def test_center_views_are_those_of_torchvision(shape, short, resample):
    pixels = image(*shape, resample)
    view = center_views(input_format(32, short, resample))(*shape, Draws(0))
    found = rendered(pixels, view, 32)
    resizing = [v2.Resize(short, FILTERS[resample])] if short else []
    assert (
        difference(found, v2.Compose([*resizing, v2.CenterCrop(32)])(Image.fromarray(pixels))).max() <= MOST[resample]
    )

    size = v2.Resize(short)(Image.fromarray(pixels)).size if short else None
    resized = resize(pixels, *size, view.cubic) if size else pixels
    assert (found == np.asarray(v2.CenterCrop(32)(Image.fromarray(resized)))).all()
    assert (view.flip, view.jitter, view.reduce) == (False, None, 1)


def test_center_views_put_a_smaller_image_on_black():
    pixels = noise(16, 13)
    found = rendered(pixels, center_views(input_format(20))(16, 13, Draws(0)), 20)
    assert (found == np.pad(pixels, ((3, 4), (2, 2), (0, 0)))).all()


def test_center_views_draw_nothing():
    draws = Draws(0)
    center_views(input_format(8, 12))(40, 30, draws)
    assert draws.uniform() == Draws(0).uniform()


def test_a_jpeg_file_is_reduced_only_as_far_as_no_pixel_is_lost():
    found = set()
    for seed in range(200):
        view = draw(augmentation(crop_scale=(0.01, 1)), 32, 400, 300, seed)
        left, top, right, bottom = view.box
        ratio = min(right - left, bottom - top) / 32
        assert view.reduce == (8 if ratio >= 8 else 4 if ratio >= 4 else 2 if ratio >= 2 else 1)
        found.add(view.reduce)
    assert found == {1, 2, 4, 8}
    assert draw(augmentation(crop="padded"), 32, 400, 300).reduce == 1


def test_jitter_is_uniform_between_its_bounds():
    strengths = (0.4, 0.3, 1, 0.1)
    drawn = torch.tensor([draw(augmentation(color_jitter=strengths), 8, 8, 8, seed).jitter for seed in range(300)])
    for values, low, high in zip(drawn.T, (0.6, 0.7, 0, -0.1), (1.4, 1.3, 2, 0.1), strict=True):
        share = (values - low) / (high - low)
        assert 0 <= share.min() < 0.03
        assert 0.97 < share.max() <= 1
        assert abs(share.mean() - 0.5) < 0.06, "3.6 standard deviations"
    assert (torch.corrcoef(drawn.T) - torch.eye(4)).abs().max() < 0.2, "of one draw each"


def test_jitter_of_strength_0_changes_nothing():
    assert draw(augmentation(), 8, 8, 8).jitter is None
    brightness, *others = draw(augmentation(color_jitter=(0.4, 0, 0, 0)), 8, 8, 8).jitter
    assert brightness != 1
    assert others == [1, 1, 0]


@pytest.mark.parametrize("size", [2, 32, 100])
@pytest.mark.parametrize("probability", [0.3, 1])
def test_erased_rectangles_are_those_of_torchvision(probability, size):
    found = []
    for seed in range(60):
        given = augmentation(crop="padded", erase=probability)
        draws = Draws(seed)
        found.append(random_views(given, input_format(size))(size, size, draws).erase)

        torch.manual_seed(seed)
        torch.rand(1)  # the flip
        pixels = torch.zeros(3, size, size)
        pixels = v2.RandomErasing(probability, value=1)(pixels)
        assert draws.uniform() == torch.rand(1)
        expected = torch.zeros(3, size, size)
        if found[-1]:
            left, top, width, height = found[-1]
            expected[:, top : top + height, left : left + width] = 1
        assert torch.equal(pixels, expected)
    assert 0.1 < sum(rectangle is not None for rectangle in found) / 60 <= probability + 0.2
    assert len(set(found)) > 10


def test_a_policy_is_drawn_after_the_jitter_and_before_the_erased_rectangle():
    jitter = (0.5, 0.5, 0.5, 0)
    for seed in range(10):
        plain = draw(augmentation(color_jitter=jitter), 32, 40, 30, seed)
        both = draw(augmentation(color_jitter=jitter, policy="rand_augment", erase=1), 32, 40, 30, seed)
        policy = draw(augmentation(color_jitter=jitter, policy="rand_augment"), 32, 40, 30, seed)
        assert replace(both, operations=(), erase=None) == plain
        assert replace(both, erase=None) == policy
        assert len(policy.operations) == 2


def test_jitter_comes_after_crop_and_flip():
    for seed in range(10):
        plain, jittered = (draw(augmentation(color_jitter=(s, s, s, 0)), 8, 40, 30, seed) for s in (0, 0.5))
        assert (plain.box, plain.flip) == (jittered.box, jittered.flip)
