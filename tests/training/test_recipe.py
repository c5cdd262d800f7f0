import pytest
from pydantic import ValidationError

from training.recipe import Augmentation, InputFormat, QatRecipe, Recipe

RECIPE = {
    "lr": 0.1,
    "epochs": 2,
    "batch_size": 4,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "label_smoothing": 0.1,
    "clip_grad": None,
    "ema_decay": None,
}
AUGMENTATION = {
    "crop": "padded",
    "crop_scale": (0.1, 1),
    "crop_ratio": (0.75, 1.5),
    "crop_padding": 4,
    "flip": 0.5,
    "color_jitter": (0, 0, 0, 0),
}
INPUT = {"size": 32, "color_space": "rgb", "resize": None}
QAT = RECIPE | {"distill": 0, "temperature": 1, "augment": AUGMENTATION}


@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"warmup_epochs": 0}, {"warmup_epochs": 1.9}, {"momentum": 0}, {"weight_decay": 0}),
        *({"label_smoothing": 0}, {"optimizer": "lamb"}, {"schedule": "constant"}, {"clip_grad": 0.5}),
        *({"ema_decay": 0.999}, {"epochs": 0}, {"distill": 1, "temperature": 4}),
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
        (Recipe, RECIPE, "warmup_epochs", -1),
        (Recipe, RECIPE, "nesterov", True),
        (Recipe, RECIPE, "optimizer", "momentum"),
        (Recipe, RECIPE, "schedule", None),
        (Recipe, RECIPE, "clip_grad", 0),
        (Recipe, RECIPE, "ema_decay", 1),
        (Recipe, RECIPE, "ema_decay", -0.1),
        (QatRecipe, QAT, "distill", 1.1),
        (QatRecipe, QAT, "distill", -0.1),
        (QatRecipe, QAT, "distill", None),
        (QatRecipe, QAT, "temperature", 0),
        (QatRecipe, QAT, "augment", None),
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
    ],
)
def test_impossible_values_name_their_key(section, values, key, value):
    section(**values)
    with pytest.raises(ValidationError) as raised:
        section(**values | {key: value})
    assert [problem["loc"][0] for problem in raised.value.errors()] == [key]


def test_warmup_ends_before_the_training_does():
    with pytest.raises(ValidationError, match="warmup_epochs 2 must be below epochs 2"):
        Recipe(**RECIPE | {"warmup_epochs": 2})


def test_sections_do_not_change():
    with pytest.raises(ValidationError):
        Recipe(**RECIPE).lr = 1
