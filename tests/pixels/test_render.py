import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import decode_planes, difference, encode, look, noise, photo, resize
from torchvision.transforms import v2

from imagedb.images import decode_image
from models.normalization import normalize
from pixels.augmentation import Augmentation, InputFormat
from pixels.colors import affine_map
from pixels.draws import Draws
from pixels.render import render
from pixels.seeds import derive_seed, seeded_generator
from pixels.views import View, center_views, random_views

AUGMENTATION = Augmentation(
    crop="resized",
    crop_scale=(0.3, 1),
    crop_ratio=(3 / 4, 4 / 3),
    crop_padding=0,
    flip=0.5,
    color_jitter=(0.3, 0.3, 0.3, 0.1),
    policy=None,
    policy_operations=2,
    policy_magnitude=9,
    extra=None,
    erase=0,
)


RGB = InputFormat(size=32, color_space="rgb", resize=None, resample="bilinear")


def rendered(image, views, size, color_space="rgb", seed=0):
    """uint8 [size, size, 3]; `views` may be one view."""
    chosen = views if callable(views) else lambda width, height, draws: views
    given = InputFormat(size=size, color_space=color_space, resize=None, resample="bilinear")
    return render(image, chosen, given, Draws(seed)).permute(1, 2, 0).numpy()


def center(size, resize=None):
    return center_views(InputFormat(size=size, color_space="rgb", resize=resize, resample="bilinear"))


def in_yuv(pixels):
    """RGB pixels in YUV, rounded as for PNG images: `rendered` at their own size."""
    return rendered(encode(pixels), center(len(pixels)), len(pixels), "yuv444")


def test_pixels_are_channels_first_and_uint8():
    image = encode(np.array([[(1, 2, 3), (4, 5, 6)], [(7, 8, 9), (0, 255, 0)]], np.uint8))
    given = InputFormat(size=2, color_space="rgb", resize=None, resample="bilinear")
    pixels = render(image, center(2), given, Draws(0))
    assert pixels.dtype == torch.uint8
    assert pixels.tolist() == [[[1, 4], [7, 0]], [[2, 5], [8, 255]], [[3, 6], [9, 0]]]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_an_image_becomes_yuv_after_it_is_resized(kind):
    pixels = noise(40, 30)
    image = encode(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = resize(pixels, 40 * 20 // 30, 20)[2:18, 5:21]
    assert (rendered(image, center(16, resize=20), 16) == expected).all()
    assert (rendered(image, center(16, resize=20), 16, "yuv444") == in_yuv(expected)).all()


def test_a_jpeg_file_in_yuv_never_was_rgb():
    jpeg = encode(noise(40, 30), "JPEG", subsampling=0)
    view = View((3, 2, 38, 29), True, (0, 0, 16, 16), flip=True)
    assert (rendered(jpeg, view, 16, "yuv444") == look(decode_planes(jpeg), view, 16)).all()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_file_in_rgb_is_nearly_pillows(subsampling):
    jpeg = encode(photo(90, 70), "JPEG", quality=95, subsampling=subsampling)
    view = View((0, 0, 90, 70), True, (0, 0, 50, 50))
    error = difference(rendered(jpeg, view, 50), look(np.asarray(decode_image(jpeg)), view, 50))
    assert error.mean() < 0.8
    assert error.max() <= 6


@pytest.mark.parametrize("color_space", ["rgb", "yuv444"])
def test_the_same_image_as_jpeg_and_png_looks_the_same(color_space):
    """This holds after jitter, too, which starts from YUV for one and from RGB for the other."""
    jpeg = encode(photo(90, 70), "JPEG", quality=95)
    png = encode(np.asarray(decode_image(jpeg)))
    views = random_views(AUGMENTATION, RGB)
    for seed in range(10):
        both = (rendered(image, views, 32, color_space, seed) for image in (jpeg, png))
        assert difference(*both).mean() < 1.5


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_jitter_is_relative_to_the_mean_of_the_pixels(kind):
    image, jitter = encode(photo(40, 40), kind, **({"subsampling": 0} if kind == "JPEG" else {})), (0.9, 0.6, 1.1, 0.05)
    view = View((5, 0, 30, 40), True, (0, 3, 24, 20))
    plain = rendered(image, view, 24, "yuv444" if kind == "JPEG" else "rgb").astype(float)
    matrix, offset, of_mean = affine_map("yuv444" if kind == "JPEG" else "rgb", "yuv444", np.array(jitter))
    expected = plain @ matrix.T + offset + of_mean @ plain.mean(axis=(0, 1))
    found = rendered(image, View(view.box, True, view.target, jitter=jitter), 24, "yuv444")
    assert difference(found, np.clip(expected, 0, 255)).max() < 0.52


@pytest.mark.parametrize("image", [encode(photo(16, 16)), encode(photo(16, 16), "JPEG")])
def test_the_rest_of_the_pixels_is_black(image):
    for color_space, black in (("rgb", (0, 0, 0)), ("yuv444", (0, 128, 128))):
        found = rendered(image, center(20), 20, color_space)
        rest = np.ones((20, 20), bool)
        rest[2:18, 2:18] = False
        assert (found[rest] == black).all()
        assert (found[~rest] != black).any(axis=1).all()


@pytest.mark.parametrize("policy", [v2.TrivialAugmentWide, v2.RandAugment, v2.AutoAugment])
def test_all_random_changes_one_after_the_other_are_those_of_torchvision(policy):
    name = {"TrivialAugmentWide": "trivial_augment", "RandAugment": "rand_augment", "AutoAugment": "auto_augment"}
    changes = {"crop": "padded", "crop_padding": 4, "color_jitter": (0, 0, 0, 0), "erase": 0.5}
    views = random_views(AUGMENTATION.model_copy(update=changes | {"policy": name[policy.__name__]}), RGB)
    crop = v2.RandomCrop(32, padding=4)
    operations = policy(interpolation=v2.InterpolationMode.BILINEAR, fill=128)
    erasing = v2.RandomErasing(0.5, value=128)
    theirs = v2.Compose([crop, v2.RandomHorizontalFlip(0.5), operations, v2.PILToTensor(), erasing])
    image = Image.fromarray(photo(32, 32))
    for seed in range(40):
        torch.manual_seed(seed)
        expected = theirs(image).permute(1, 2, 0).numpy()
        assert (rendered(encode(image), views, 32, seed=seed) == expected).all()
        assert (rendered(encode(image), views, 32, "yuv444", seed) == in_yuv(expected)).all()


@pytest.mark.parametrize("image", [encode(photo(40, 40)), encode(photo(40, 40), "JPEG")])
def test_a_policy_sees_jittered_rgb_and_what_is_erased_is_grey_in_the_end(image):
    jittered = View((5, 0, 30, 40), True, (0, 3, 24, 20), jitter=(0.9, 0.6, 1.1, 0.05))
    changed = replace(jittered, operations=(("Posterize", 3.0), ("Invert", 0.0)), erase=(2, 5, 7, 4))
    expected = 255 - (rendered(image, jittered, 24) & 0b11100000)
    for color_space, pixels in (("rgb", expected), ("yuv444", in_yuv(expected))):
        pixels[5:9, 2:9] = 128
        assert (rendered(image, changed, 24, color_space) == pixels).all()


ODD = {
    "grey": Image.fromarray(noise(30, 20)[..., 0]),
    "16-bit grey": Image.fromarray(noise(30, 20)[..., 0].astype(np.uint16) * 250),
    "palette": Image.fromarray(noise(30, 20)).quantize(16),
    "alpha": Image.fromarray(np.concatenate([noise(30, 20), noise(30, 20)[..., :1]], axis=2)),
    "bitmap": Image.fromarray(noise(30, 20)[..., 0] > 127),
}


@pytest.mark.parametrize("name", ODD)
def test_images_of_other_modes(name):
    image = encode(ODD[name])
    assert (rendered(image, center(16), 16) == np.asarray(decode_image(image))[2:18, 7:23]).all()


def test_cmyk_jpeg_files():
    jpeg = encode(Image.fromarray(photo(30, 20)).convert("CMYK"), "JPEG")
    assert (rendered(jpeg, center(16), 16) == np.asarray(decode_image(jpeg))[2:18, 7:23]).all()


@pytest.mark.parametrize("color_space", ["rgb", "yuv444"])
def test_what_a_truncated_jpeg_file_lacks_is_grey(color_space):
    jpeg = encode(noise(64, 64), "JPEG")
    found, whole = (rendered(image, center(64), 64, color_space) for image in (jpeg[: len(jpeg) // 2], jpeg))
    assert (found[:15] == whole[:15]).all(), "all but the row that shares its chroma with the next"
    assert (found[48:] == 128).all()
    cmyk = encode(Image.fromarray(noise(64, 64)).convert("CMYK"), "JPEG")
    assert rendered(cmyk[: len(cmyk) // 2], center(64), 64, color_space).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "^empty$"),
        (b"garbage", "^not an image, allowed: JPEG"),
        (encode(noise(64, 64))[:5000], "^a truncated PNG file: chunk IDAT is not whole$"),
        (encode(noise(64, 64), "JPEG")[:150], "^a JPEG file that is truncated or damaged before"),
        (encode(noise(64, 64), "JPEG").replace(b"\xff\xdb", b"\xff\xef"), "^the image cannot be decoded: damaged JPEG"),
    ],
)
def test_a_damaged_image(image, message):
    with pytest.raises(ValueError, match=message):
        rendered(image, center(16), 16)


def test_a_jpeg_file_that_claims_too_many_pixels_is_not_decoded():
    jpeg = bytearray(encode(noise(16, 16), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (14_000).to_bytes(2, "big") * 2
    with warnings.catch_warnings(), pytest.raises(ValueError, match="bomb"):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        rendered(bytes(jpeg), center(16), 16)


@pytest.mark.parametrize("image", [encode(photo(40, 30)), encode(photo(40, 30), "JPEG")])
def test_a_view_draws_from_its_generator_alone(image):
    views, state = random_views(AUGMENTATION, RGB, 16), torch.get_rng_state()
    first = rendered(image, views, 16, seed=3)
    torch.manual_seed(99)
    assert (rendered(image, views, 16, seed=3) == first).all()
    assert len({rendered(image, views, 16, seed=seed).tobytes() for seed in range(8)}) == 8
    torch.set_rng_state(state)
    rendered(image, views, 16)
    rendered(image, center(16), 16)
    assert torch.equal(torch.get_rng_state(), state)


def test_normalize_is_exact():
    x = normalize(torch.arange(256, dtype=torch.uint8))
    assert x.dtype == torch.float32
    assert x.tolist() == [(p - 128) / 128 for p in range(256)]


@pytest.mark.parametrize("shape", [(5, 3, 100, 200), (2, 3, 300, 300), (700, 3, 10, 10), (1, 1), (0, 3, 8, 8)])
def test_images_of_every_size_are_normalized_as_one_value_is(shape):
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert torch.equal(normalize(pixels), (pixels.float() - 128) / 128)


def test_derived_seeds():
    seeds = {
        derive_seed(*parts) for parts in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0), (0, 0, -1), (0, 10, 1)]
    }
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, 1, 2) == 5458876493991123480  # another value would change every training run


def test_a_seeded_generator_depends_on_its_parts_alone():
    state = torch.get_rng_state()
    first, again, other = (torch.rand(4, generator=seeded_generator(*parts)) for parts in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
