"""The parameters that fit images: values worked out by hand for small sets, and all of them allowed together."""

import pytest
import yaml
from project import REPOSITORY

from imagedb.looks import Look
from imagedb.sizes import Size
from pipeline.framing import unfitting
from pipeline.params import check_params
from pipeline.survey import Prepared, Weights, choices, of_imagenet
from tools.new import unfolded
from tools.recipe import merged

BASE = yaml.safe_load((REPOSITORY / "recipes/fashion_mnist.yaml").read_text())
PHOTOS = [(640, 480), (480, 640), (500, 375)]


def looks(count: int, sizes: list[Size], suffix: str = "jpg", grey: bool = False) -> list[Look]:
    return [Look(f"{n}.{suffix}", n % 3, b"%d" % n, sizes[n % len(sizes)], grey) for n in range(count)]


def chosen(
    train: list[Look], val: list[Look], classes=("a b", "bee", "cat"), size=None, base=BASE, weights=None
) -> dict:
    found = [*choices(train, val, classes, base, size, weights)]
    values = base
    for choice in found:
        assert choice.reason
        values = merged(values, unfolded(choice))
    params = check_params(values, "params.yaml")
    for images in (train, val):
        sizes = {each.name: each.size for each in images if each.size}
        if params.pack.encoding.type == "original" and sizes:
            assert [*unfitting(sizes, params)] == []
    return {choice.key: choice.value for choice in found}


def test_photographs():
    values = chosen(looks(480, PHOTOS), looks(120, PHOTOS))
    assert (values["input.size"], values["input.resize"]) == (128, 146)
    assert values["model.arguments"] == {"stem_strides": [2, 1, 1]}  # a stride of 32, of which 128 is a multiple
    assert values["augment.crop"] == values["qat.augment.crop"] == "resized"
    assert "input.color_space" not in values and "augment.flip" not in values and "pack.encoding.type" not in values
    assert (values["batch_size"], values["epochs"], values["lr"]) == (16, 80, 0.025)  # 30 steps, 2400 / 30
    assert (values["qat.batch_size"], values["qat.lr"]) == (16, 0.0025)
    assert {key: value for key, value in values.items() if key.startswith("calibrate.")} == {
        "calibrate.images": 480,
        "calibrate.reconstruction": 480,
    }
    assert values["report.images"] == 120 and "golden.images" not in values
    assert values["gate.quantization_drop"] == 1.7  # 2 of 120


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "lr"),
    [(9, 8, 100, 0.0125), (40, 16, 100, 0.025), (500, 32, 100, 0.05), (2000, 64, 77, 0.1), (50_000, 64, 15, 0.1)],
)
def test_steps_of_larger_and_smaller_sets(count, batch, epochs, lr):
    values = chosen(looks(count, PHOTOS), looks(12, PHOTOS))
    assert (values["batch_size"], values["epochs"], values["lr"]) == (batch, epochs, lr)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)], (32, None)),
        ([(32, 32)], (32, None)),
        ([(20, 20)], (32, 32)),
        ([(30, 40), (40, 30)], (32, 32)),
        ([(64, 64)], (64, None)),
        ([(60, 80), (80, 60)], (64, 73)),
        ([(300, 300)], (128, 146)),
    ],
)
def test_the_input_by_the_sizes(sizes, expected):
    values = chosen(looks(60, sizes), looks(12, sizes))
    assert (values["input.size"], values["input.resize"]) == expected
    assert ("augment.crop" in values) == (expected[1] in (73, 146))


def test_large_photographs_are_stored_smaller():
    values = chosen(looks(60, [(4000, 3000), (3000, 4000)]), looks(12, [(4000, 3000)]))
    assert (values["pack.encoding.type"], values["pack.encoding.size"]) == ("resized", 256)


def test_colours():
    assert chosen(looks(60, PHOTOS, "png"), looks(12, PHOTOS, "png"))["input.color_space"] == "rgb"
    grey = chosen(looks(60, PHOTOS, "png", True), looks(12, PHOTOS, "png", True))
    assert not {"input.color_space", "augment.color_jitter"} & grey.keys()
    assert chosen(looks(60, PHOTOS), looks(12, PHOTOS))["augment.color_jitter"] == [0.4, 0.4, 0.4, 0.1]
    assert "augment.color_jitter" not in chosen(looks(60, [(64, 64)]), looks(12, [(64, 64)]))


def test_a_network_and_a_size_of_the_users_own():
    base = merged(BASE, {"model": {"name": "resnet18", "arguments": {}}})
    values = chosen(looks(60, PHOTOS), looks(12, PHOTOS), size=224, base=base)
    assert (values["input.size"], values["input.resize"]) == (224, 256) and "model.arguments" not in values


RESNET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PREPARED = Prepared("timm's resnet18", 224, 0.95, "bicubic", "rgb", RESNET)


@pytest.fixture
def weights(tmp_path) -> Weights:
    (tmp_path / "w.pt").write_bytes(b"abc")
    return Weights(tmp_path / "w.pt", 1000, ["fc"], PREPARED)


def test_trained_weights(weights):
    values = chosen(looks(600, PHOTOS, "png"), looks(120, PHOTOS, "png"), weights=weights)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", in FIPS 180-2
    assert values["train.init_from"] == {"file": str(weights.file), "sha256": digest, "new_layers": ["fc"]}
    assert (values["input.size"], values["input.resize"], values["input.resample"]) == (224, 235, "bicubic")
    assert (values["model.normalization"], values["input.color_space"]) == (RESNET, "rgb")
    assert (values["batch_size"], values["epochs"]) == (32, 22)  # 18 steps, 400 / 18 = 22
    assert (values["train.optimizer"], values["lr"], values["qat.lr"]) == ("adamw", 0.001, 0.0001)  # 0.005 / 50
    few = chosen(looks(60, PHOTOS), looks(12, PHOTOS), weights=weights)
    assert (few["batch_size"], few["epochs"], few["lr"]) == (16, 30, 0.0005)


def test_as_many_classes_keep_the_last_layer(weights):
    same = chosen(looks(60, PHOTOS), looks(12, PHOTOS), weights=weights._replace(classes=3))
    assert same["train.init_from"]["new_layers"] == []
    headless = chosen(looks(60, PHOTOS), looks(12, PHOTOS), weights=weights._replace(classes=None))
    assert headless["train.init_from"]["new_layers"] == ["fc"]


@pytest.mark.parametrize(
    ("side", "size", "expected"), [(224, None, 224), (200, None, 192), (20, None, 32), (500, 160, 160)]
)
def test_the_size_is_that_of_the_weights_if_images_are_as_large(weights, side, size, expected):
    sizes = [(side, side), (side, side + 1)]
    values = chosen(looks(60, sizes), looks(12, sizes), size=size, weights=weights)
    assert values["input.size"] == expected and "model.arguments" not in values


@pytest.mark.parametrize("classes", ["0123456789", ["turn left", "turn right", "stop"]])
def test_what_a_mirror_changes_is_not_flipped(classes):
    values = chosen(looks(60, PHOTOS), looks(12, PHOTOS), classes)
    assert values["augment.flip"] == values["qat.augment.flip"] == 0


def test_damaged_images_do_not_stop_packing():
    damaged = Look("x.jpg", 0, problem="truncated")
    assert chosen([*looks(60, PHOTOS), damaged], looks(12, PHOTOS))["pack.on_bad_image"] == "skip"
    assert "pack.on_bad_image" not in chosen(looks(60, PHOTOS), looks(12, PHOTOS))


def test_the_card_says_nothing_of_other_images():
    values = chosen(looks(60, PHOTOS), looks(12, PHOTOS))
    assert values["card.data"] is values["card.digest"] is None


def test_miniatures_of_imagenet():
    recipe = yaml.safe_load((REPOSITORY / "recipes/imagenet.yaml").read_text())
    found = {choice.key: choice.value for choice in of_imagenet(72, 24, ["a", "b", "c"], merged(BASE, recipe))}
    assert found["model.num_classes"] == 3 and found["calibrate.images"] == 72 and found["report.images"] == 24
    smaller = of_imagenet(72, 24, ["a", "b", "c"], merged(BASE, recipe), 128)
    assert [choice[:2] for choice in smaller][:2] == [("input.size", 128), ("input.resize", 146)]
    whole = {choice.key for choice in of_imagenet(1_281_167, 50_000, [*map(str, range(1000))], merged(BASE, recipe))}
    assert whole == {"model.num_classes"}
