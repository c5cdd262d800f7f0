"""A change of the user's own in training pixels: where it stands among the others, and what decides it."""

from dataclasses import replace

import numpy as np
import torch
from sample_images import encode

from pixels.augmentation import Augmentation, InputFormat
from pixels.batches import EncodedBatch
from pixels.colors import float_color_map
from pixels.draws import Draws
from pixels.extra import Extra
from pixels.gpu import DeviceRenderer
from pixels.policies import GREY
from pixels.render import render
from pixels.views import View, random_views

PLAIN = {"crop": "padded", "crop_scale": (1, 1), "crop_ratio": (1, 1), "crop_padding": 2, "flip": 0.5}
PLAIN |= {"color_jitter": (0, 0, 0, 0), "policy": None, "policy_operations": 1, "policy_magnitude": 0, "extra": None}
RGB = InputFormat(size=8, color_space="rgb", resize=None, resample="bilinear")
YUV = RGB.model_copy(update={"color_space": "yuv444"})
WHOLE = View((0, 0, 8, 8), True, (0, 0, 8, 8))


def draw(change, **changes):
    views = random_views(Augmentation(**PLAIN | {"erase": 0} | changes), RGB, None, change)
    return [views(8, 8, Draws(seed)) for seed in range(20)]


def swapped(pixels, generator):
    """Red and blue in each other's places."""
    return pixels.flip(0)


def noisy(pixels, generator):
    return torch.randint(0, 256, pixels.shape, generator=generator, dtype=torch.uint8)


def test_the_other_draws_stay_as_they_are_and_each_image_has_a_seed_of_its_own():
    plain, changed = draw(None, erase=0.5), draw(swapped, erase=0.5)
    assert [replace(view, extra=None) for view in changed] == plain
    assert len({view.extra.seed for view in changed}) == 20
    assert all(view.extra.change is swapped for view in changed)


def test_it_changes_rgb_pixels_before_the_rectangle_is_grey_and_before_yuv():
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0], image[..., 1] = 200, 50
    view = replace(WHOLE, extra=Extra(swapped, 0), erase=(0, 0, 3, 8))
    found = render(encode(image), lambda *given: view, RGB, Draws(0))
    assert found[:, 0, 3:].T.tolist() == [[0, 50, 200]] * 5 and (found[:, :, :3] == GREY).all()
    found = render(encode(image), lambda *given: view, YUV, Draws(0))[:, 0, 5]
    # BT.601: 0.587 * 50 + 0.114 * 200 = 52.15; 128 + 0.564 * (200 - 52.15) = 211.4; 128 - 0.713 * 52.15 = 90.8
    assert found.tolist() == [52, 211, 91]


def test_its_draws_depend_on_its_seed_alone():
    data = encode(np.zeros((8, 8, 3), np.uint8))

    def seen(seed: int) -> torch.Tensor:
        view = replace(WHOLE, extra=Extra(noisy, seed))
        return render(data, lambda *given: view, RGB, Draws(0))

    assert torch.equal(seen(1), seen(1)) and not torch.equal(seen(1), seen(2))
    expected = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert torch.equal(seen(1), expected)


def test_a_device_gives_the_same():
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    view = replace(WHOLE, extra=Extra(swapped, 0))
    colors = torch.from_numpy(float_color_map("rgb")).float()[None]
    batch = EncodedBatch([image], [view], colors, torch.tensor([0]), ["image"])
    pixels, _ = DeviceRenderer(RGB, torch.device("cpu"))(batch)
    assert torch.equal(pixels[0], image.flip(0))
