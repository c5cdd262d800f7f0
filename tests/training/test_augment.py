import io

import numpy as np
import pytest
import torch
from PIL import Image

from training.augment import ToPixels, derive_seed, eval_transform, normalize, seeded, train_transform
from training.recipe import Augmentation, InputFormat

PLAIN = {
    "crop": "padded",
    "crop_scale": (1, 1),
    "crop_ratio": (1, 1),
    "crop_padding": 0,
    "flip": 0,
    "color_jitter": (0, 0, 0, 0),
}


@pytest.fixture
def noise():
    """RGB, 16 x 16 pixels, none of them black."""
    return np.random.default_rng(0).integers(1, 256, (16, 16, 3), np.uint8)


def picture(pixels):
    return Image.fromarray(np.asarray(pixels, np.uint8))


def rgb(size, resize=None):
    return InputFormat(size=size, color_space="rgb", resize=resize)


def train(pixels, size=16, seed=0, **changes):
    """uint8 [size, size, 3] after the training transform."""
    with seeded(seed):
        return train_transform(Augmentation(**PLAIN | changes), rgb(size))(picture(pixels)).permute(1, 2, 0).numpy()


def yuv(pixels):
    return ToPixels("yuv444")(picture(pixels)).permute(1, 2, 0).numpy()


def bt601(pixels):
    """JPEG's conversion (ITU-T T.871, section 7), before rounding."""
    r, g, b = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.clip(np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], axis=-1), 0, 255)


def test_yuv444_of_greys_has_no_colour():
    greys = yuv(np.broadcast_to(np.arange(256)[None, :, None], (1, 256, 3)))[0].astype(int)
    assert (greys[:, 1:] == 128).all()
    assert greys[:, 0].tolist() == list(range(256))


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((255, 0, 0), (76.245, 84.97, 255)),
        ((0, 255, 0), (149.685, 43.53, 21.23)),
        ((0, 0, 255), (29.07, 255, 107.27)),
        ((255, 255, 0), (225.93, 0.5, 148.73)),
        ((0, 0, 0), (0, 128, 128)),
        ((255, 255, 255), (255, 128, 128)),
    ],
)
def test_yuv444_of_primary_colours_worked_out_by_hand(color, expected):
    assert yuv([[color]]).tolist() == [[[round(value) for value in expected]]]


def test_yuv444_is_full_range_bt601():
    colors = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    assert np.abs(yuv(colors) - bt601(colors)).max() < 0.502


def test_yuv444_is_the_conversion_that_jpeg_files_are_written_with():
    colors = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    blocks = colors.repeat(8, axis=0).repeat(8, axis=1)  # of one colour each, which quality 100 keeps
    buffer = io.BytesIO()
    picture(blocks).save(buffer, "JPEG", quality=100, subsampling=0)
    file = Image.open(buffer)
    file.draft("YCbCr", file.size)
    assert file.mode == "YCbCr"
    assert (np.asarray(file)[::8, ::8] == yuv(colors)).all()


def test_pixels_are_channels_first_and_uint8():
    pixels = ToPixels("rgb")(picture([[(1, 2, 3), (4, 5, 6)]]))
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]


def test_normalize_is_exact():
    x = normalize(torch.arange(256, dtype=torch.uint8))
    assert x.dtype == torch.float32
    assert x.tolist() == [(p - 128) / 128 for p in range(256)]


def test_padded_crop_is_a_window_of_the_picture_in_black(noise):
    padded = np.pad(noise, ((2, 2), (2, 2), (0, 0)))
    windows = {padded[y : y + 16, x : x + 16].tobytes(): (y, x) for y in range(5) for x in range(5)}
    found = [windows[train(noise, crop_padding=2, seed=seed).tobytes()] for seed in range(200)]
    assert set(found) == set(windows.values())


def test_padded_crop_of_a_smaller_picture_is_as_large_as_asked(noise):
    assert train(noise, size=20).shape == (20, 20, 3)


def test_flip(noise):
    assert (train(noise, flip=1) == noise[:, ::-1]).all()
    flipped = [(train(noise, flip=0.25, seed=seed) != noise).any() for seed in range(200)]
    assert 30 <= sum(flipped) <= 70, "a quarter of 200, within 3.3 standard deviations"


def test_resized_crop_of_the_whole_picture_is_the_picture(noise):
    assert (train(noise, crop="resized") == noise).all()


def test_resized_crop_takes_the_asked_share_of_the_picture():
    ramp = np.broadcast_to(np.arange(0, 256, 4)[:, None, None], (64, 64, 3))
    for seed in range(20):
        rows = train(ramp, size=64, seed=seed, crop="resized", crop_scale=(0.25, 0.25))[:, 0, 0].astype(int)
        assert abs(rows[-1] - rows[0] - 32 * 4) <= 4, "a quarter of the area is half of the rows"


def test_color_jitter_changes_colours_only_if_asked(noise):
    assert (train(noise) == noise).all()
    brighter = train(np.full((16, 16, 3), 100), color_jitter=(0.5, 0, 0, 0), seed=1)
    assert len(np.unique(brighter)) == 1
    assert 50 <= brighter[0, 0, 0] <= 150
    assert brighter[0, 0, 0] != 100


def test_eval_takes_the_centre(noise):
    assert (eval_transform(rgb(8))(picture(noise)).permute(1, 2, 0).numpy() == noise[4:12, 4:12]).all()


def test_eval_puts_a_smaller_picture_on_black(noise):
    pixels = eval_transform(rgb(20))(picture(noise)).permute(1, 2, 0).numpy()
    assert (pixels == np.pad(noise, ((2, 2), (2, 2), (0, 0)))).all()


def test_eval_resizes_the_short_side():
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 200
    resized = eval_transform(rgb(10, resize=20))(picture(halves))  # 20 x 40, of which columns 15 to 24
    assert resized.shape == (3, 10, 10)
    assert (resized[..., :4] == 0).all()
    assert (resized[..., 6:] == 200).all()


def test_eval_draws_nothing(noise):
    state = torch.get_rng_state()
    eval_transform(rgb(8, resize=12))(picture(noise))
    assert torch.equal(torch.get_rng_state(), state)


def test_derived_seeds():
    seeds = {
        derive_seed(*parts) for parts in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0), (0, 0, -1), (0, 10, 1)]
    }
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, 1, 2) == 5458876493991123480  # another value would change every training run


def test_seeded_leaves_the_global_generator_as_it_was():
    state = torch.get_rng_state()
    with seeded(1, 2):
        first = torch.rand(4)
    with pytest.raises(KeyError), seeded(1, 2):
        assert torch.equal(torch.rand(4), first)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(1, 3):
        assert not torch.equal(torch.rand(4), first)
