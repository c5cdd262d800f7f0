from pathlib import Path

import pytest
import yaml

from pipeline.params import load_params

REPOSITORY = Path(__file__).parents[2]
RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Loads params.yaml with one key, e.g. "qat.lr", set to a value or, without one, taken out."""
    monkeypatch.chdir(tmp_path)

    def load(name: str, *value):
        values = yaml.safe_load((REPOSITORY / "recipes" / "fashion_mnist.yaml").read_text())
        *parents, key = name.split(".")
        section = values
        values["train"]["init_from"] = {"file": "weights.pt", "sha256": "5c10", "new_layers": []}
        for parent in parents:
            section = section[parent]
        section.pop(key, None)
        if value:
            section[key] = value[0]
        Path("params.yaml").write_text(yaml.safe_dump(values))
        return load_params()

    return load


def keys(section: dict, prefix: str = "") -> set[str]:
    """The names of all parameters, those of a value that may be null left out."""
    names = set()
    for name, value in section.items():
        nested = isinstance(value, dict) and name not in ("arguments", "normalization", "sizes", "init_from")
        names |= keys(value, f"{prefix}{name}.") if nested else {prefix + name}
    return names


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_complete(path):
    assert load_params(path)
    recipe, default = (yaml.safe_load(p.read_text()) for p in (path, REPOSITORY / "params.yaml"))
    assert keys(recipe) == keys(default)


def test_the_modern_recipe_averages_as_torchvision_does_and_trains_at_multiples_of_the_stride():
    params = load_params(REPOSITORY / "recipes" / "imagenet_modern.yaml")
    once_in_32_steps = 1 - (1 - 0.99998) * 32 * params.batch_size / params.epochs
    assert params.train.ema_decay == pytest.approx(once_in_32_steps ** (1 / 32), abs=5e-7)
    assert [size % 32 for size in params.train.sizes.values()] == [0]


def test_the_default_is_the_recipe_for_fashion_mnist():
    assert (REPOSITORY / "params.yaml").read_text() == (REPOSITORY / "recipes" / "fashion_mnist.yaml").read_text()


def test_values_arrive_as_written(params):
    values = params("qat.lr", 0.25)
    assert (values.qat.lr, values.pack.splits.val, values.augment.crop_scale) == (0.25, "test", (0.08, 1.0))
    values = params("qat.augment.flip", 0.25)
    assert (values.augment.flip, values.qat.augment.flip) == (0.5, 0.25)
    recipe = values.float_recipe
    assert (recipe.lr, recipe.epochs, recipe.batch_size, recipe.warmup_epochs) == (values.lr, values.epochs, 64, 1)
    values = params("train.sizes", {1: 16, 8: 24})
    assert (values.train.sizes, values.train.init_from.file) == ({1: 16, 8: 24}, "weights.pt")
    assert params("train.init_from", None).train.init_from is None


def test_the_float_recipe_is_the_optimization_of_train_and_not_where_it_starts(params):
    values = params("train.mixup", 0.5)
    recipe = values.float_recipe
    assert (recipe.mixup, recipe.mixes, values.qat.mixes) == (0.5, True, False)
    assert values.train.model_dump().keys() - recipe.model_dump().keys() == {"sizes", "init_from", "freeze"}


def test_what_changes_no_result_is_not_of_the_results(params):
    names = params("machine.threads", 3).machine.of_results.keys()
    assert names == {"device", "threads", "decode", "precision", "compile", "algorithms"}


@pytest.mark.parametrize("name", ["epochs", "qat.epochs"])
def test_no_epochs_need_no_other_warm_up(params, name):
    values = params(name, 0)
    assert 0 in (values.float_recipe.epochs, values.qat.epochs)


def test_exponent_without_a_point_is_a_number(params):
    assert params("lr", "1e-3").lr == 0.001, "for YAML 1.1 it is a string"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("epoch", "did you mean epochs?"),
        ("batchsize", "did you mean batch_size?"),
        ("qat.lrr", "did you mean qat.lr?"),
        ("qat.augment.color_jiter", "did you mean qat.augment.color_jitter?"),
        ("train.ema_decy", "did you mean train.ema_decay?"),
        ("input.colour_space", "did you mean input.color_space?"),
        ("pack.splits.vall", "did you mean pack.splits.val?"),
        ("train.init_from.checkpoint", "allowed: file, new_layers, sha256"),
        ("train.init_from.files", "did you mean train.init_from.file?"),
        (
            "machine.zzz",
            "allowed: algorithms, checkpoint_minutes, checkpoints, compile, decode, device, precision, threads, "
            "workers",
        ),
        (
            "zzz",
            "allowed: augment, batch_size, calibrate, card, compare, epochs, gate, golden, input, litert, lr, machine, "
            "model, pack, qat, report, seed, train, validation",
        ),
    ],
)
def test_unknown_keys_get_a_suggestion(params, name, hint):
    with pytest.raises(ValueError) as raised:
        params(name, 1)
    assert str(raised.value) == f"params.yaml: {name} is not a parameter; {hint}"


@pytest.mark.parametrize("name", ["lr", "qat", "qat.lr", "train.mixup", "train.init_from.sha256", "machine.precision"])
def test_missing_keys(params, name):
    with pytest.raises(ValueError, match=f"^params.yaml: {name} is missing$"):
        params(name)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", "fast", "'fast' is not allowed, must be a valid number"),
        ("lr", None, "None is not allowed, must be a valid number"),
        ("epochs", 1.5, "1.5 is not allowed, must be a valid integer"),
        ("epochs", True, "true is not allowed, no parameter is a switch"),
        ("augment.flip", False, "false is not allowed, no parameter is a switch"),
        ("model.name", 5, "5 is not allowed, must be a valid string"),
        ("model.arguments", [1], r"\[1\] is not allowed, must be a valid dictionary"),
        ("qat", 3, "3 is not allowed, must be a block of parameters"),
        ("train", None, "None is not allowed, must be a block of parameters"),
        ("augment.crop_scale", 0.5, "0.5 is not allowed, must be a valid tuple"),
    ],
)
def test_wrong_types(params, name, value, expected):
    with pytest.raises(ValueError, match=f"^params.yaml: {name}: {expected}[^;]*$"):
        params(name, value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", -1, "seed: -1 is not allowed, must be greater than or equal to 0"),
        ("lr", 0, "lr: 0.0 is not allowed, must be greater than 0"),
        ("lr", float("inf"), "lr: inf is not allowed, must be a finite number"),
        ("batch_size", 0, "batch_size: 0 is not allowed, must be greater than or equal to 1"),
        ("train.momentum", 1, "train.momentum: 1 is not allowed, must be less than 1"),
        (
            "calibrate.arithmetic",
            "exact",
            "calibrate.arithmetic: 'exact' is not allowed, must be 'portable' or 'exact8'",
        ),
        ("calibrate.weight_bits", 7, "calibrate: weight_bits 7 needs arithmetic exact8; portable weights have 7 "),
        ("litert.logits", "int32", "litert.logits: 'int32' is not allowed, must be 'int8' or 'int16'"),
        ("qat.epochs", -1, "qat.epochs: -1 is not allowed, must be greater than or equal to 0"),
        (
            "train.optimizer",
            "SGD",
            "train.optimizer: 'SGD' is not allowed, must be 'sgd', 'nesterov', 'adamw' or 'lamb'",
        ),
        ("train.ema_decay", 1, "train.ema_decay: 1 is not allowed, must be less than 1"),
        ("train.init_from.new_layers", "fc", "train.init_from.new_layers: 'fc' is not allowed, must be a valid tuple"),
        ("train.freeze", "stem", "train.freeze: 'stem' is not allowed, must be a valid tuple"),
        ("train.processes", 3, "batch_size 64 is not allowed, must be a multiple of 6: processes 3 times accumulate 1"),
        ("qat.accumulate", 5, "qat: batch_size 64 is not allowed, must be a multiple of 10: processes 1 times "),
        (
            "machine.precision",
            "fp8",
            "machine.precision: 'fp8' is not allowed, must be 'auto', 'float32', 'tf32', 'bf16' or 'fp16'",
        ),
        (
            "train.target_threshold",
            0.009,
            "train.target_threshold 0.009 is not allowed, must be between the smoothed labels of a class that is not "
            "there, 0.01, and of one that is, 0.91",
        ),
        ("qat.target_threshold", 0.92, "qat.target_threshold 0.92 is not allowed, must be between the smoothed labels"),
        ("machine.decode", "cuda", "machine: machine.decode is cuda, but machine.device is cpu"),
        ("qat.distill", True, "qat.distill: true is not allowed, no parameter is a switch"),
        ("model.num_classes", 1, "model.num_classes: 1 is not allowed, must be greater than or equal to 2"),
        ("input.color_space", "yuv", "input.color_space: 'yuv' is not allowed, must be 'yuv444' or 'rgb'"),
        ("machine.device", "gpu", "machine.device: 'gpu' is not allowed, must be 'cpu' or 'cuda'"),
        ("pack.encoding.type", "resized", "pack.encoding: size null does not go with type resized"),
        ("pack.encoding.size", 256, "pack.encoding: size 256 does not go with type original"),
        ("pack.source", "web", "pack.source: 'web' is not allowed, must be 'torchvision', 'folder', 'imagenet', "),
        (
            "augment.crop_scale",
            [1, 0.1],
            "augment.crop_scale: [1.0, 0.1] is not allowed, the smaller value comes first",
        ),
        (
            "augment.color_jitter",
            [0, 0, 0, 0.6],
            "augment.color_jitter.3: 0.6 is not allowed, must be less than or equal",
        ),
        ("qat.warmup_epochs", 3, "qat: warmup_epochs 3 must be below epochs 3"),
        ("epochs", 1, "warmup_epochs 1 must be below epochs 1"),
    ],
)
def test_impossible_values(params, name, value, expected):
    with pytest.raises(ValueError) as raised:
        params(name, value)
    assert str(raised.value).startswith(f"params.yaml: {expected}")


def test_all_mistakes_in_one_line(tmp_path):
    text = (REPOSITORY / "params.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("num_classes:", "classes:").replace("device: cpu", "device: tpu"))
    with pytest.raises(ValueError) as raised:
        load_params(path)
    assert str(raised.value) == (
        f"{path}: model.num_classes is missing; model.classes is not a parameter; did you mean model.num_classes?; "
        "machine.device: 'tpu' is not allowed, must be 'cpu' or 'cuda'"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lr: [", "is not valid YAML: while parsing a flow node"),
        (b"lr: {{lr}}", "is not valid YAML: .* found unhashable key"),
        (b"\xff\xfe\x00", "is not valid YAML: 'utf-8' codec"),
        (b"# nothing\n", "is empty; `make recipe` puts a complete one in its place$"),
        (b"lr: 1\nqat:\n  lr: 1\n  lr: 2\n", "is not valid YAML: lr stands there twice in .* line 4, column 3$"),
        (b"qat:\n\tlr: 1\n", r"is not valid YAML: .* found character '\\t' .* line 2, column 1$"),
        (b"lr: !!python/object/apply:os.getcwd []\n", "is not valid YAML: could not determine a constructor"),
        (b"[1, 2]", r": the file: \[1, 2\] is not allowed, must be a block of parameters"),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path} ?{message}") as raised:
        load_params(path)
    assert "\n" not in str(raised.value)


def test_no_file(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(FileNotFoundError, match=f"^there is no {path} in {Path.cwd()}; stages are started"):
        load_params(path)
