import hashlib
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image
from sample_images import decode_planes, difference, encode, look, noise, photo, resize, view_pixels
from torchvision.transforms import v2

from imagedb.limits import MAX_SCANS
from pixels import build_native, draws, native
from pixels import resize as resizing
from pixels.augmentation import InputFormat
from pixels.colors import color_maps
from pixels.draws import Draws
from pixels.native import jpeg_size, map_colors
from pixels.render import render
from pixels.resize import lanczos
from pixels.views import View, center_views
from storage.errors import InputError

REPOSITORY = Path(__file__).parents[2]
BLACK = (0, 128, 128)
KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"subsampling": 2, "progressive": True},
    "restarts": {"subsampling": 2, "restart_marker_rows": 1},
}


def whole(width, height, size, **changes):
    return View(**{"box": (0, 0, width, height), "clipped": True, "target": (0, 0, size, size)} | changes)


def random_view(random, width, height, size):
    """A clipped view of at least one pixel, resampled to a rectangle in size x size pixels."""
    left, top = random.integers(0, (width, height)).tolist()
    right, bottom = random.integers((left + 1, top + 1), (width + 1, height + 1)).tolist()
    x, y = random.integers(0, size, 2).tolist()
    across, down = random.integers(1, (size - x + 1, size - y + 1)).tolist()
    flip, cubic = (bool(number) for number in random.integers(2, size=2))
    view = View((left, top, right, bottom), True, (x, y, across, down), flip, cubic=cubic)
    return view if random.integers(2) else whole(width, height, size, box=view.box, flip=flip, cubic=cubic)


def decoded(jpeg, view, size):
    return view_pixels(jpeg, view, size).transpose(1, 2, 0)


@pytest.mark.parametrize("seed", range(100))
def test_resampling_is_pillows(seed):
    random = np.random.default_rng(seed)
    width, height, size = random.integers(1, (150, 150, 70)).tolist()
    pixels, view = noise(width, height, seed), random_view(random, width, height, size)
    assert (view_pixels(pixels, view, size).transpose(1, 2, 0) == look(pixels, view, size)).all()


@pytest.mark.parametrize("seed", range(30))
def test_pixels_beyond_a_box_that_is_not_clipped_have_influence(seed):
    """Pillow's argument `box` means the same; it makes the columns of some images first, but not of grey stripes."""
    random = np.random.default_rng(seed)
    width, height = random.integers(20, 100, 2)
    left, top, right, bottom = random.uniform((0, 0, width / 2, height / 2), (width / 2, height / 2, width, height))
    values = random.integers(0, 256, (height, width), np.uint8)
    values[:] = values[0] if seed % 2 else values[:, :1]
    image = Image.fromarray(values).convert("RGB")
    box = (left, top, right, bottom)
    for cubic, kind in enumerate((Image.BILINEAR, Image.BICUBIC)):
        found = view_pixels(np.asarray(image), View(box, False, (0, 0, 24, 24), cubic=bool(cubic)), 24)
        assert (found.transpose(1, 2, 0) == np.asarray(image.resize((24, 24), kind, box))).all()


def test_an_image_of_any_memory_layout():
    pixels = noise(20, 30)
    view = whole(15, 10, 8)
    expected = view_pixels(pixels[::2, 5:][:10].copy(), view, 8)
    assert (view_pixels(pixels[::2, 5:][:10], view, 8) == expected).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(64, 48), (61, 77), (17, 9), (130, 3), (1, 1)])
def test_luma_of_a_jpeg_file_is_that_of_libjpeg_resampled(kind, shape):
    jpeg, random = encode(noise(*shape), "JPEG", **KINDS[kind]), np.random.default_rng(0)
    planes = decode_planes(jpeg)
    assert jpeg_size(jpeg) == shape
    for size in (1, 20, 33):
        view = random_view(random, *shape, size)
        found, expected = decoded(jpeg, view, size), look(planes, view, size, BLACK)
        assert (found[..., 0] == expected[..., 0]).all()
        if kind == "4:4:4":
            assert (found == expected).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("short", [9, 64, 120, 190])
def test_luma_of_a_centre_includes_the_rows_around_it(kind, short):
    """They are decoded too, although only the necessary part of a file is."""
    views = center_views(InputFormat(size=8, color_space="yuv444", resize=short, resample="bilinear"))
    for height in range(100, 200):
        jpeg = encode(noise(100, height, seed=height), "JPEG", **KINDS[kind])
        found = decoded(jpeg, views(100, height, Draws(0)), 8)
        resized = resize(decode_planes(jpeg), short, short * height // 100)
        expected = v2.CenterCrop(8)(Image.fromarray(resized))
        assert (found[..., 0] == np.asarray(expected)[..., 0]).all()


@pytest.mark.parametrize("shape", [(128, 96), (61, 77)])
@pytest.mark.parametrize(("kind", "across", "down"), [("4:2:2", 2, 1), ("4:2:0", 2, 2), ("progressive", 2, 2)])
def test_chroma_is_resampled_once_from_its_own_resolution(kind, across, down, shape):
    """A pixel of chroma is the mean of the pixels that it covers, apart from its own rounding."""
    jpeg = encode(noise(*shape), "JPEG", quality=100, **KINDS[kind])
    edges = [(0, -length % step) for length, step in zip(shape[::-1], (down, across), strict=True)]
    planes = np.pad(np.asarray(Image.fromarray(noise(*shape)).convert("YCbCr")).astype(float), [*edges, (0, 0)], "edge")
    height, width, _ = planes.shape
    means = planes.reshape(height // down, down, width // across, across, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    box = (4, 8, 40, 60)
    part = means[8 // down : 60 // down, 4 // across : 40 // across]
    view = whole(*part.shape[1::-1], 32)
    error = difference(decoded(jpeg, whole(*shape, 32, box=box), 32), look(part, view, 32))[..., 1:]
    assert error.max() <= 3
    assert error.mean() < 0.7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("box", [(0, 0, 121, 83), (11, 7, 80, 60)])
def test_soft_chroma_is_that_of_libjpeg(kind, box):
    jpeg, view = encode(photo(121, 83), "JPEG", quality=95, **KINDS[kind]), whole(121, 83, 40, box=box)
    error = difference(decoded(jpeg, view, 40), look(decode_planes(jpeg), view, 40))
    assert error.max() <= 4
    assert error.mean() < 0.5


@pytest.mark.parametrize(
    ("kind", "sampling", "shape"),
    [("4:2:2", 0x12, (160, 480)), ("4:2:0", 0x41, (640, 120)), ("4:2:0", 0x14, (160, 480))],
)
def test_rare_subsampling(kind, sampling, shape):
    """An MCU with other factors and as many blocks: a file of other proportions with the same planes of chroma."""
    jpeg = bytearray(encode(photo(320, 240), "JPEG", quality=95, **KINDS[kind]))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", *shape[::-1])
    jpeg[at + 11] = sampling
    jpeg, view = bytes(jpeg), whole(*shape, 40, box=(20, 30, 151, 120))
    found, expected = decoded(jpeg, view, 40), look(decode_planes(jpeg), view, 40)
    assert (found[..., 0] == expected[..., 0]).all()
    assert difference(found, expected).max() <= 1
    assert expected.std(axis=(0, 1)).min() > 15


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_grey_jpeg_file_has_no_chroma(options):
    jpeg, view = encode(noise(37, 50)[..., 0], "JPEG", **options), whole(37, 50, 24, target=(3, 4, 20, 19))
    assert jpeg_size(jpeg) == (37, 50)
    assert (decoded(jpeg, view, 24) == look(decode_planes(jpeg), view, 24, BLACK)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduce", [2, 4, 8])
def test_a_reduced_jpeg_file_looks_like_a_whole_one(kind, reduce):
    jpeg = encode(photo(251, 187), "JPEG", quality=95, **KINDS[kind])
    for box in ((0, 0, 251, 187), (37, 11, 250, 180), (251 - 8 * reduce, 187 - 8 * reduce, 251, 187)):
        size = min(box[2] - box[0], box[3] - box[1]) // reduce
        views = [whole(251, 187, size, box=box, reduce=factor) for factor in (1, reduce)]
        error = difference(*(view_pixels(jpeg, view, size) for view in views))
        assert error.mean() < 0.6
        assert error.max() <= 3


def test_what_a_truncated_jpeg_file_lacks_is_grey():
    jpeg = encode(noise(64, 64), "JPEG", subsampling=0)
    view = whole(64, 64, 64)
    found, complete = (decoded(data, view, 64) for data in (jpeg[: len(jpeg) // 2], jpeg))
    assert (found[:16] == complete[:16]).all()
    assert (found[48:] == 128).all()


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (b"", "nothing"),
        (b"garbage" * 99, "garbage"),
        (encode(noise(9, 9)), "PNG"),
        (encode(Image.fromarray(noise(9, 9)).convert("CMYK"), "JPEG"), "CMYK"),
        (encode(noise(9, 9), "JPEG", keep_rgb=True), "JPEG of RGB"),
        (encode(noise(9, 9), "JPEG")[:100], "JPEG without a frame"),
    ],
)
def test_anything_else_is_none_of_our_jpeg_files(image, what):
    assert jpeg_size(image) is None, what


def claiming(width, height):
    """A JPEG file that claims to be larger than it is."""
    jpeg = bytearray(encode(noise(16, 16), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(jpeg)


def test_a_decompression_bomb_is_none_of_our_jpeg_files():
    assert jpeg_size(claiming(2**14, 2**13)) == (2**14, 2**13)
    assert jpeg_size(claiming(2**14, 2**13 + 1)) is None
    assert jpeg_size(claiming(65500, 65500)) is None


def test_a_jpeg_file_without_quantization_tables_is_damaged():
    jpeg = encode(noise(16, 16), "JPEG").replace(b"\xff\xdb", b"\xff\xef")
    assert jpeg_size(jpeg) == (16, 16)
    with pytest.raises(ValueError, match=r"^the image cannot be decoded: damaged JPEG data$"):
        view_pixels(jpeg, whole(16, 16, 8), 8)
    with pytest.raises(ValueError, match="damaged"):
        view_pixels(b"garbage", whole(16, 16, 8), 8)


def test_threads_do_not_disturb_each_other():
    files = [encode(noise(150, 110, seed), "JPEG", **options) for seed, options in enumerate(KINDS.values())]
    views = [whole(150, 110, 64), whole(150, 110, 64, box=(10, 50, 90, 110), flip=True)]
    work = [(file, view, 64) for file in files for view in views] * 10
    alone = [view_pixels(*each).tobytes() for each in work]
    with ThreadPoolExecutor(4) as threads:
        assert [found.tobytes() for found in threads.map(lambda each: view_pixels(*each), work)] == alone


FUZZ = """
import sys, warnings
import numpy as np, torch
from pixels.draws import Draws
from pixels.render import render
from pixels.augmentation import Augmentation, InputFormat
from pixels.views import center_views, random_views

warnings.simplefilter("ignore")
crops = {"crop": "resized", "crop_scale": (0.01, 1), "crop_ratio": (0.5, 2), "crop_padding": 0}
policy = {"policy": "trivial_augment", "policy_operations": 2, "policy_magnitude": 9, "extra": None, "erase": 0.5}
augmentation = Augmentation(**crops, **policy, flip=0.5, color_jitter=(0.4, 0.4, 0.4, 0.1))
given = InputFormat(size=24, color_space="yuv444", resize=20, resample="bilinear")
random, found = np.random.default_rng(0), {"pixels": 0, "refused": 0}
for path in sys.argv[1:]:
    whole = open(path, "rb").read()
    for number in range(100):
        data = bytearray(whole)
        for _ in range(random.integers(1, 8)):
            data[random.integers(len(data) if number % 2 else 700)] = random.integers(256)
        if number % 3 == 0:
            del data[random.integers(len(data)) :]
        views = random_views(augmentation, given) if number % 4 else center_views(given)
        try:
            assert render(bytes(data), views, given, Draws(number)).shape == (3, 24, 24)
            found["pixels"] += 1
        except ValueError:
            found["refused"] += 1
assert min(found.values()) > 50, found
"""


@pytest.mark.faults
def test_no_damage_ends_the_process(tmp_path):
    paths = [tmp_path / name for name in ("4:2:0", "progressive", "grey")]
    for path in paths:
        pixels = noise(90, 70)
        path.write_bytes(encode(pixels[..., 0] if path.name == "grey" else pixels, "JPEG", **KINDS.get(path.name, {})))
    command = [sys.executable, "-c", FUZZ, *map(str, paths)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_map_colors_rounds_down_and_clips():
    pixels = np.array([[0, 10, 255], [100, 0, 255], [3, 200, 255]], np.uint8).reshape(3, 1, 3)
    matrix = np.array([[1, 2, 0], [-1, 0, 1], [0, 0, 0.5]]) * 65536
    map_colors(pixels, matrix, np.array([0, 65536 * 5.25, 65535]))
    assert pixels[:, 0].tolist() == [[200, 10, 255], [8, 195, 5], [2, 100, 128]]


@pytest.mark.parametrize("target", ["rgb", "yuv444"])
@pytest.mark.parametrize("strength", [0.3, 1])
def test_map_colors_of_every_size_and_the_strongest_jitter(strength, target):
    random = np.random.default_rng(0)
    for width in range(1, 34):
        planes = random.integers(0, 256, (3, 1, width), np.uint8)
        factors = random.choice([1 - strength, 1 + strength], 3)
        ((matrix, *_),) = color_maps("yuv444", target, [(*factors, random.uniform(-0.5, 0.5))])
        matrix, offset = np.reshape(matrix, (3, 3)), random.integers(-(2**24), 2**24, 3)
        exact = np.einsum("ij,jyx->iyx", matrix.astype(np.int64), planes) + offset[:, None, None]
        map_colors(planes, matrix, offset)
        assert (planes == np.clip(exact >> 16, 0, 255)).all()


@pytest.mark.parametrize("size", [1, 9, 300])
def test_a_map_may_depend_on_the_mean_color(size):
    """Here each channel becomes 100 and a tenth of the mean of the next one."""
    pixels = noise(size, size)
    pixels[..., 0] = 255
    of_mean = np.roll(0.1 * np.eye(3), 1, axis=1).ravel().tolist()
    found = view_pixels(pixels, whole(size, size, size), size, ([0] * 9, [100.0] * 3, of_mean))
    means = pixels.mean(axis=(0, 1))
    assert (found == np.rint(100 + 0.1 * np.roll(means, -1))[:, None, None]).all()


def test_images_of_a_batch_do_not_disturb_each_other():
    images = [noise(40, 30), encode(noise(50, 20), "JPEG"), noise(33, 44, seed=1), encode(noise(9, 9), "JPEG")]
    views = [whole(9, 9, 24, target=(i, 2 * i, 20 - i, 10), flip=i == 1) for i in range(4)]
    maps = [None, *color_maps("yuv444", "rgb", [(1.1, 0.8, 1.2, 0.1), (1, 1, 1, -0.2)]), None]
    out = np.empty((4, 3, 24, 24), np.uint8)
    native.render_views(images, views, maps, 24, out)
    for number, each in enumerate(zip(images, views, strict=True)):
        assert (out[number] == view_pixels(*each, 24, maps[number])).all()


def test_the_first_damaged_image_of_a_batch_is_numbered():
    images = [encode(noise(9, 9), "JPEG"), noise(9, 9), b"garbage", b"garbage"]
    with pytest.raises(native.DamagedImage, match=r"^the image cannot be decoded: damaged JPEG data$") as caught:
        native.render_views(images, [whole(9, 9, 8)] * 4, [None] * 4, 8, np.empty((4, 3, 8, 8), np.uint8))
    assert caught.value.index == 2


def test_other_threads_run_while_an_image_is_made():
    image, ticks, done = noise(6000, 6000), [], Event()

    def tick():
        while not done.wait(0.001):
            ticks.append(time.monotonic())

    with ThreadPoolExecutor(1) as threads:
        threads.submit(tick)
        begun = time.monotonic()
        view_pixels(image, whole(6000, 6000, 224), 224)
        ended = time.monotonic()
        done.set()
    assert sum(begun < moment < ended for moment in ticks) > 3, f"of {1000 * (ended - begun):.0f} ms"


def forget():
    """The next call loads the module anew."""
    for module in (draws, native, resizing):
        module._native.cache_clear()


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An environment in which nothing has been built; the fixture gives the folder of its packages."""
    monkeypatch.setattr(build_native, "FOLDER", tmp_path / "packages")
    monkeypatch.setattr(build_native, "LIBRARIES", ("-lm", "-ljpeg"))  # another digest than that of the module in use
    monkeypatch.syspath_prepend(tmp_path / "packages")
    forget()
    yield tmp_path / "packages"
    forget()
    for name in [name for name in sys.modules if name.startswith(build_native.PREFIX)]:
        del sys.modules[name]


def test_the_module_is_built_once_and_alone(fresh, monkeypatch):
    build_native.build()
    monkeypatch.setattr(build_native, "subprocess", None)
    build_native.build()
    assert jpeg_size(encode(noise(17, 16), "JPEG")) == (17, 16)
    assert [path.suffix for path in fresh.iterdir()] == [".so"]


def test_a_processor_without_avx2_computes_the_same(fresh, monkeypatch):
    jpeg, view = encode(noise(90, 70), "JPEG"), whole(90, 70, 33, box=(3, 4, 80, 70), flip=True)

    def results():
        build_native.build()
        forget()
        pixels = view_pixels(jpeg, view, 33, *color_maps("yuv444", "rgb", [(1.4, 1.3, 1.4, 0.1)]))
        return pixels.tobytes() + lanczos(Image.fromarray(noise(90, 70)), (33, 20)).tobytes()

    expected = results()
    monkeypatch.setattr(build_native, "OPTIONS", [option for option in build_native.OPTIONS if option != "-mavx2"])
    assert results() == expected
    assert len(list(fresh.iterdir())) == 2, "one for each choice of options"


def other_source(folder, text, other):
    """A copy of the source with a change in it."""
    source = folder / "native.c"
    source.write_text(build_native.SOURCE.read_text().replace(text, other))
    return source


def test_what_has_not_been_built(fresh, monkeypatch, tmp_path):
    with pytest.raises(OSError, match=r"^pixels/native\.c has not been built: run make setup$"):
        jpeg_size(b"")
    build_native.build()
    changed = {
        "SOURCE": other_source(tmp_path, "#define LANES 8 ", "#define LANES 16 "),
        "OPTIONS": build_native.OPTIONS[1:],
        "INTERFACE": build_native.INTERFACE + "int more(void);",
    }
    for name, value in changed.items():
        with monkeypatch.context() as patch:
            patch.setattr(build_native, name, value)
            with pytest.raises(OSError, match=r"^pixels/native\.c has changed since it was built: run make setup$"):
                jpeg_size(b"")


def flipped(content):
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a library",
        lambda content: content[:5000],  # without the seal, loading it is a SIGBUS
        lambda content: content[:-32],
        flipped,
        lambda content: b"not a library" + hashlib.sha256(b"not a library").digest(),
    ],
)
def test_a_damaged_module_is_named_and_built_again(fresh, damage):
    build_native.build()
    (module,) = fresh.iterdir()
    content = module.read_bytes()
    module.unlink()  # a process reads a file that it has loaded only once
    module.write_bytes(damage(content))
    command = (
        "import sys; from pathlib import Path; from pixels import build_native as b; b.FOLDER = Path(sys.argv[1]); "
    )
    command += f"b.LIBRARIES = {build_native.LIBRARIES}; sys.path.insert(0, sys.argv[1]); b."
    for call, says in (("load", "cannot be loaded: "), ("build", ""), ("load", "")):
        arguments = [sys.executable, "-c", f"{command}{call}()", str(fresh)]
        done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)
        assert (says in done.stderr) and bool(done.stderr) == bool(says)
        assert done.returncode == bool(says), "not a signal"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COMPILER", "no-such-compiler", "there is no C compiler 'no-such-compiler'"),
        (
            "SOURCE",
            ("jpeglib.h", "no_such_jpeglib.h"),
            r"pixels/native\.c cannot be compiled: .*no_such_jpeglib\.h: No ",
        ),
        ("LIBRARIES", ("-lno_such_jpeg",), r"pixels/native\.c cannot be compiled: .*cannot find -lno_such_jpeg"),
        ("INTERFACE", "int jpeg_size(void);", r"pixels/native\.c cannot be compiled: .*jpeg_size"),
    ],
)
def test_what_the_compiler_lacks(fresh, monkeypatch, tmp_path, name, value, message):
    monkeypatch.setattr(build_native, name, other_source(tmp_path, *value) if name == "SOURCE" else value)
    install = "install a C compiler and the headers of Python and libjpeg-turbo, such as by apt install gcc "
    with pytest.raises(SystemExit, match=f"^error: {message}.*; {install}python3.11-dev libjpeg-dev$") as caught:
        build_native.main()
    assert "\n" not in str(caught.value)
    assert list(fresh.iterdir()) == []


def test_another_checkout_of_the_same_content_finds_the_module(tmp_path):
    for folder in ("pixels", "imagedb", "storage"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    command = "from pixels import build_native, native; build_native.subprocess = None; build_native.build(); "
    command += "print(native.jpeg_size(b''), build_native.SOURCE)"
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"None {tmp_path / 'pixels/native.c'}\n", "")


def test_many_scans_are_left_to_pillow_which_names_them():
    """Each passes over the whole picture: 500 of them in 320 KB take 20 s and 1 GB."""
    given = InputFormat(size=24, color_space="yuv444", resize=20, resample="bilinear")
    scan, scans = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00", MAX_SCANS - 10
    jpeg, one = encode(noise(40, 24), "JPEG", progressive=True), encode(noise(40, 24), "JPEG")
    assert jpeg.count(b"\xff\xda") == 10
    for hidden in (b"", b"\xff\xfe\x00\x04\xff\xd9", b"\xff\xd0", b"\xff\x01", b"\0\xff\xff\xff"):
        few, many = (jpeg[:-2] + hidden + scan * count + jpeg[-2:] for count in (scans, scans + 1))
        assert jpeg_size(few) == (40, 24)
        assert jpeg_size(many) is None
        with pytest.raises(InputError, match=r"^a JPEG file of more than 100 scans$"):
            render(many, center_views(given), given, Draws(0))
    for behind in (jpeg, one):  # such as a video that phones append
        assert jpeg_size(behind + scan * 200) == (40, 24)
    assert jpeg_size(jpeg[:-2] + scan * scans) == (40, 24), "without an end"
    for end in range(20):
        jpeg_size(jpeg[:-2] + scan + b"\xff\xda\xff"[: end % 4] + bytes(end // 4))
