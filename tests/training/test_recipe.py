import pytest
from pydantic import ValidationError

from pixels.augmentation import Augmentation, InputFormat
from training.recipe import FloatTraining, QatRecipe, Recipe, Start

RECIPE = {
    "lr": 0.1,
    "epochs": 2,
    "batch_size": 4,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "decay_epochs": 30,
    "decay_rate": 0.1,
    "warmup_epochs": 1,
    "loss": "cross_entropy",
    "target_threshold": None,
    "label_smoothing": 0.1,
    "mixup": 0,
    "cutmix": 0,
    "clip_grad": None,
    "accumulate": 1,
    "ema_decay": None,
    "processes": 1,
}
AUGMENTATION = {
    "crop": "padded",
    "crop_scale": (0.1, 1),
    "crop_ratio": (0.75, 1.5),
    "crop_padding": 4,
    "flip": 0.5,
    "color_jitter": (0, 0, 0, 0),
    "policy": None,
    "policy_operations": 2,
    "policy_magnitude": 9,
    "extra": None,
    "erase": 0,
}
INPUT = {"size": 32, "color_space": "rgb", "resize": None, "resample": "bilinear"}
START = {"file": "weights.pt", "sha256": "5c10", "new_layers": ("fc",)}
FLOAT = {name: value for name, value in RECIPE.items() if name not in ("lr", "epochs", "batch_size")}
FLOAT |= {"init_from": START, "freeze": ("stem",), "sizes": {1: 16, 8: 24}}
QAT = RECIPE | {"distill": 0, "temperature": 1, "augment": AUGMENTATION}


@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"warmup_epochs": 0}, {"warmup_epochs": 1.9}, {"momentum": 0}, {"weight_decay": 0}),
        *({"label_smoothing": 0}, {"optimizer": "lamb"}, {"schedule": "constant"}, {"clip_grad": 0.5}),
        *({"ema_decay": 0.999}, {"epochs": 0}, {"distill": 1, "temperature": 4}, {"loss": "binary_cross_entropy"}),
        *({"schedule": "step", "decay_epochs": 0.5}, {"schedule": "plateau"}, {"mixup": 0.2, "cutmix": 1}),
        {"loss": "binary_cross_entropy", "target_threshold": 0.2},
    ],
)
def test_possible_recipes(changes):
    assert QatRecipe(**QAT | changes).model_dump() == QAT | changes


@pytest.mark.parametrize(
    ("section", "values", "key", "value"),
    [
        (Recipe, RECIPE, "lr", 0),
        (Recipe, RECIPE, "lr", float("nan")),
        (Recipe, RECIPE, "lr", float("inf")),
        (Recipe, RECIPE, "epochs", -1),
        (Recipe, RECIPE, "epochs", 1.5),
        (Recipe, RECIPE, "batch_size", 0),
        (Recipe, RECIPE, "momentum", 1),
        (Recipe, RECIPE, "weight_decay", -0.1),
        (Recipe, RECIPE, "label_smoothing", 1),
        (Recipe, RECIPE, "target_threshold", 0),
        (Recipe, RECIPE, "target_threshold", 1),
        (Recipe, RECIPE, "warmup_epochs", -1),
        (Recipe, RECIPE, "nesterov", True),
        (Recipe, RECIPE, "optimizer", "momentum"),
        (Recipe, RECIPE, "schedule", None),
        (Recipe, RECIPE, "decay_epochs", 0),
        (Recipe, RECIPE, "decay_rate", 0),
        (Recipe, RECIPE, "decay_rate", 1),
        (Recipe, RECIPE, "loss", "focal"),
        (Recipe, RECIPE, "mixup", -0.1),
        (Recipe, RECIPE, "cutmix", float("inf")),
        (Recipe, RECIPE, "accumulate", 0),
        (Recipe, RECIPE, "processes", 0),
        (Recipe, RECIPE, "clip_grad", 0),
        (Recipe, RECIPE, "ema_decay", 1),
        (Recipe, RECIPE, "ema_decay", -0.1),
        (QatRecipe, QAT, "distill", 1.1),
        (QatRecipe, QAT, "distill", -0.1),
        (QatRecipe, QAT, "distill", None),
        (QatRecipe, QAT, "temperature", 0),
        (QatRecipe, QAT, "augment", None),
        (FloatTraining, FLOAT, "lr", 0.1),
        (FloatTraining, FLOAT, "sizes", 24),
        (FloatTraining, FLOAT, "sizes", {1.5: 24}),
        (FloatTraining, FLOAT, "freeze", None),
        (FloatTraining, FLOAT, "init_from", "weights.pt"),
        (Start, START, "new_layers", None),
        (Start, START, "sha256", None),
        (InputFormat, INPUT, "size", 0),
        (InputFormat, INPUT, "color_space", "yuv420"),
        (InputFormat, INPUT, "resize", 0),
        (Augmentation, AUGMENTATION, "crop", "none"),
        (Augmentation, AUGMENTATION, "crop_padding", -1),
        (Augmentation, AUGMENTATION, "crop_scale", (0.1,)),
        (Augmentation, AUGMENTATION, "crop_scale", (1, 0.1)),
        (Augmentation, AUGMENTATION, "crop_scale", (0, 1)),
        (Augmentation, AUGMENTATION, "crop_scale", (0.5, 1.5)),
        (Augmentation, AUGMENTATION, "crop_ratio", (1.5, 0.75)),
        (Augmentation, AUGMENTATION, "crop_ratio", (-1, 1)),
        (Augmentation, AUGMENTATION, "flip", 1.1),
        (Augmentation, AUGMENTATION, "color_jitter", (-0.1, 0, 0, 0)),
        (Augmentation, AUGMENTATION, "color_jitter", (0, 0, 0, 0.6)),
        (Augmentation, AUGMENTATION, "policy", "augmix"),
        (Augmentation, AUGMENTATION, "policy_operations", 0),
        (Augmentation, AUGMENTATION, "policy_magnitude", 31),
        (Augmentation, AUGMENTATION, "extra", "nets/noise.py"),
        (Augmentation, AUGMENTATION, "erase", 1.1),
    ],
)
def test_impossible_values_name_their_key(section, values, key, value):
    section(**values)
    with pytest.raises(ValidationError) as raised:
        section(**values | {key: value})
    assert [problem["loc"][0] for problem in raised.value.errors()] == [key]


@pytest.mark.parametrize(("epochs", "asked", "warmup"), [(2, 1, 1), (2, 2, 1), (1, 5, 0.5), (3, 1.4, 1.4), (0, 5, 0)])
def test_the_warmup_is_at_most_half_of_the_training(epochs, asked, warmup):
    assert Recipe(**RECIPE | {"epochs": epochs, "warmup_epochs": asked}).warmup == warmup


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({}, 1),
        ({"mixup": 0.2}, 2),
        ({"cutmix": 1}, 2),
        ({"accumulate": 3}, 6),
        ({"processes": 4}, 8),
        ({"processes": 2, "accumulate": 3, "mixup": 0.2}, 12),
    ],
)
def test_a_batch_has_equal_parts_of_whole_pairs(changes, unit):
    sizes = range(1, 49)
    allowed = [size for size in sizes if _is_possible(RECIPE | changes | {"batch_size": size})]
    assert allowed == [size for size in sizes if size % unit == 0]


def _is_possible(values: dict) -> bool:
    try:
        Recipe(**values)
    except ValidationError as error:
        assert "must be a multiple of" in str(error)
        return False
    return True


def test_sections_do_not_change():
    with pytest.raises(ValidationError):
        Recipe(**RECIPE).lr = 1
