"""The parameters that fit a user's images: each with the reason for its value."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagedb.looks import Look
from imagedb.sizes import Size
from pipeline.framing import FAR, LARGE, SMALL, photographs, resize_for, short_side
from storage.errors import InputError
from storage.files import sha256

STEPS = 2400  # of float training, as the sample and recipes/solar_cells.yaml have
EPOCHS = 15, 100  # at least and at most
FURTHER_STEPS, FURTHER_EPOCHS = 400, (5, 30)  # the same for trained weights
FURTHER_LR, FURTHER_BATCH = 0.001, 32  # AdamW's learning rate, and the batch below which it is smaller
FURTHER_QAT = 50  # by which QAT's learning rate for random weights is divided
MANY = 100  # classes
SIDES = {"left", "right"}  # words in names of classes that a flip exchanges
STRIDE = 32  # of vargconvnet_32 with a stem of stride 2


class Choice(NamedTuple):
    """A value of a parameter, by its full name, and why it has it."""

    key: str
    value: Any
    reason: str


class Prepared(NamedTuple):
    """How images were prepared when weights were trained.

    Attributes:
        source: Who says so.
        size: Height and width of the input in pixels.
        crop: The part of the resized image's short side that the input is.
        resample, color_space, normalization: As in params.yaml.
    """

    source: str
    size: int
    crop: float
    resample: str
    color_space: str
    normalization: dict[str, Any] | None


class Weights(NamedTuple):
    """Trained weights of the network.

    Attributes:
        file: That holds them.
        classes: The number of classes that they are for; None: they have no last layer.
        last: The layers that the number of classes decides.
        prepared: The images that they know.
    """

    file: Path
    classes: int | None
    last: list[str]
    prepared: Prepared


def choices(
    train: Sequence[Look],
    val: Sequence[Look],
    classes: Sequence[str],
    base: Mapping[str, Any],
    size: int | None = None,
    weights: Weights | None = None,
) -> Iterator[Choice]:
    """The values that fit images, beside where they are.

    Args:
        train, val: The images of each split.
        classes: Their names.
        base: The values of params.yaml that are changed.
        size: The side of the input; None: chosen by the images.
        weights: Those to start from; None: random ones.

    Raises:
        InputError: If no image could be decoded.
    """
    prepared = weights.prepared if weights else None
    looks = [*train, *val]
    decoded = [each for each in looks if each.size]
    sizes = [each.size for each in looks if each.size]
    if not sizes:
        raise InputError("no image could be decoded")
    side = short_side(sizes)
    source = f"half of the short sides are {side} pixels or more"
    if size is not None:
        source = "as asked for"
    elif not prepared:
        size = STRIDE if side < SMALL else 2 * STRIDE if side < LARGE else 4 * STRIDE
    elif side >= prepared.size:
        size, source = prepared.size, f"that of {prepared.source}"
    else:
        size = max(STRIDE, side // STRIDE * STRIDE)
    yield Choice("input.size", size, source)
    yield from _resize(sizes, size, prepared)
    if weights:
        yield from _start(weights, len(classes))
    elif size % STRIDE == 0 and size > STRIDE and base["model"]["name"] == "vargconvnet_32":
        yield Choice(
            "model.arguments", {"stem_strides": [2, 1, 1]}, f"a quarter of the work; its stride is {STRIDE} then"
        )
    yield Choice("model.num_classes", None, f"those of the database, now {len(classes)}")
    if len(classes) >= MANY:
        yield Choice("litert.logits", "int16", f"int8 logits of {len(classes)} classes often tie")
    colors = not all(each.grey for each in decoded)
    if not prepared and colors and 2 * sum(each.format == "JPEG" for each in looks) < len(looks):
        yield Choice("input.color_space", "rgb", "most files store RGB, and not YUV as JPEG does")
    if side >= FAR * size:
        yield Choice("pack.encoding.type", "resized", f"half of the short sides are {side} pixels or more")
        yield Choice("pack.encoding.size", 2 * size, "twice the input, for crops; smaller databases load faster")
    if len(decoded) < len(looks):
        bad = sum(each.problem is not None for each in looks)
        reason = f"{bad} damaged images" if bad else f"{len(decoded)} of {len(looks)} images were decoded"
        yield Choice("pack.on_bad_image", "skip", f"{reason}; metrics/pack_*.json names what is left out")
    if photographs(sizes) and colors:
        yield Choice("augment.color_jitter", [0.4, 0.4, 0.4, 0.1], "light and colours differ between photographs")
    yield from _training(sizes, classes, len(train), base, weights is not None)
    yield from _counts(len(train), len(val), base)
    yield Choice("card.data", None, "you know whose the images are: write it here")
    yield Choice("card.digest", None, "make model-card prints it")


def of_imagenet(
    train: int,
    val: int,
    classes: Sequence[str],
    base: Mapping[str, Any],
    size: int | None = None,
    weights: Weights | None = None,
) -> Iterator[Choice]:
    """What the recipe of ImageNet, `base`, needs for this many images of these classes, and for what else is asked."""
    if weights:
        yield from _start(weights, len(classes))
    if size is not None:
        yield Choice("input.size", size, "as asked for")
        yield Choice("input.resize", resize_for(size), f"of photographs, the centre {size} pixels are seen")
    yield Choice("model.num_classes", len(classes), "those of the devkit")
    yield from _counts(train, val, base)


def _start(weights: Weights, classes: int) -> Iterator[Choice]:
    """Which weights training starts from, and the images that they know."""
    file, theirs, last, prepared = weights
    new = [] if theirs == classes else last
    kept = (
        f"all but {', '.join(new)}, for your {classes} classes" if new else f"all, since they are for {classes} classes"
    )
    path = file.absolute()
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    yield Choice(
        "train.init_from", {"file": str(path), "sha256": sha256(file), "new_layers": new}, f"its weights: {kept}"
    )
    for name in ("resample", "color_space"):
        yield Choice(f"input.{name}", getattr(prepared, name), f"that of {prepared.source}")
    yield Choice("model.normalization", prepared.normalization, f"that of {prepared.source}")


def _resize(sizes: Collection[Size], size: int, prepared: Prepared | None) -> Iterator[Choice]:
    one = len({*sizes}) == 1
    largest = max(map(max, sizes))
    if photographs(sizes):
        resize = resize_for(size, prepared.crop) if prepared else resize_for(size)
        yield Choice("input.resize", resize, f"of photographs, the centre {size} pixels are seen")
    elif one and 3 * size <= 4 * largest <= 4 * size:
        yield Choice("input.resize", None, f"all images are {largest} pixels wide or high, which fit")
    else:
        yield Choice("input.resize", size, "so that the whole short side is seen")


def _training(
    sizes: Collection[Size], classes: Sequence[str], count: int, base: Mapping[str, Any], is_trained: bool
) -> Iterator[Choice]:
    if photographs(sizes):
        for block in ("augment", "qat.augment"):
            yield Choice(f"{block}.crop", "resized", "objects in photographs are anywhere and of any size")
            yield Choice(f"{block}.crop_scale", [0.35, 1.0], "smaller parts need hundreds of epochs")
    words = {word for name in classes for word in name.lower().split()}
    if all(len(name) == 1 for name in classes) or SIDES & words:
        for block in ("augment", "qat.augment"):
            yield Choice(f"{block}.flip", 0, "a mirror changes letters, digits and sides")
    batch = next((size for least, size in ((2000, 64), (500, 32)) if count >= least), 16)
    batch = min(batch, 2 ** (count.bit_length() - 1))
    share = batch / base["batch_size"]
    steps = count // batch
    wanted, (least, most) = (FURTHER_STEPS, FURTHER_EPOCHS) if is_trained else (STEPS, EPOCHS)
    epochs = min(most, max(least, round(wanted / steps)))
    yield Choice("batch_size", batch, f"{steps} steps in an epoch of {count} images")
    yield Choice("epochs", epochs, f"about {steps * epochs} steps")
    if is_trained:
        yield Choice("train.optimizer", "adamw", "from trained weights, steadier than sgd")
        lr = FURTHER_LR * min(1, batch / FURTHER_BATCH)
        yield Choice("lr", lr, f"{FURTHER_LR:g} of adamw, less for batches below {FURTHER_BATCH}")
        yield Choice("train.weight_decay", 0.05, "usual for adamw")
    else:
        yield Choice("lr", base["lr"] * share, "in proportion to the batch")
        yield Choice("train.weight_decay", 0.0005, "as in recipes/cifar10.yaml and solar_cells.yaml")
    yield Choice("train.warmup_epochs", max(1, epochs // 12), "a twelfth of the epochs")
    yield Choice("qat.batch_size", batch, "as in float training")
    part, more = (FURTHER_QAT, f", a {FURTHER_QAT}th for trained weights") if is_trained else (1, "")
    yield Choice("qat.lr", base["qat"]["lr"] * share / part, f"in proportion to the batch{more}")


def _counts(train: int, val: int, base: Mapping[str, Any]) -> Iterator[Choice]:
    calibrate = [f"calibrate.{name}" for name in ("images", "refinement", "bias_correction", "reconstruction")]
    of_val = ["compare.intermediate_images", "golden.images", "report.images"]
    for split, count, keys in (("training", train, calibrate), ("validation", val, of_val)):
        for key in keys:
            block, name = key.split(".")
            if base[block][name] > count:
                yield Choice(key, count, f"all {split} images that there are")
    for name in ("quantization_drop", "regression"):
        if (two := round(200 / val, 1)) > base["gate"][name]:
            yield Choice(f"gate.{name}", two, f"two of {val} validation images")
