import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo

from pipeline.mistakes import MOST
from pipeline.params import Normalization, Params, load_params
from pixels.section import Section
from storage.errors import InputError
from training.recipe import Start

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY / "params.yaml"


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Loads params.yaml with one key, e.g. "qat.lr", set to a value or, without one, taken out."""
    monkeypatch.chdir(tmp_path)

    def load(name: str, *value):
        values = yaml.safe_load(SAMPLE.read_text())
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


def leaves(block: type[Section], prefix: str = "") -> dict[str, FieldInfo]:
    """The fields that hold values by their full names."""
    found = {}
    for name, field in block.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        found |= leaves(field.annotation, f"{prefix}{name}.") if nested else {prefix + name: field}
    return found


def comment_of(field: FieldInfo) -> str:
    """The comment of a parameter in params.yaml: its allowed values if they have names, and its description."""
    types = {get_origin(each): each for each in (field.annotation, *get_args(field.annotation))}
    if Literal not in types:
        return field.description
    *others, last = map(str, get_args(types[Literal]))
    return f"{', '.join(others)} or {last}; {field.description}"


def lines(text: str) -> dict[str, str | None]:
    """The comment beside each value of a parameter file, None without one, by the value's full name."""
    found, blocks = {}, []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            indent, key, value, comment = re.fullmatch(r"( *)(\w+):(?: (.+?))?(?:  # (.+))?", line).groups()
            blocks[len(indent) // 2 :] = [key]
            if value:
                found[".".join(blocks)] = comment
    return found


FIELDS = leaves(Params)


def test_params_yaml_has_each_field_on_a_line_of_its_own_and_no_other():
    assert lines(SAMPLE.read_text()).keys() == FIELDS.keys()


def test_each_field_has_a_description():
    assert [name for name, field in FIELDS.items() if not field.description] == []
    inner = {
        f"{block.__name__}.{name}": field for block in (Start, Normalization) for name, field in leaves(block).items()
    }
    assert [name for name, field in inner.items() if not field.description] == []


def test_params_yaml_says_of_each_parameter_what_its_field_says():
    """Parameters of QAT that float training has, too, have no comment."""
    texts, shared = lines(SAMPLE.read_text()), {name.removeprefix("train.") for name in FIELDS}
    expected = {
        name: None if name.startswith("qat.") and name.removeprefix("qat.") in shared else comment_of(field)
        for name, field in FIELDS.items()
    }
    assert texts == expected
    assert [name for name in texts if name.startswith("qat.") and texts[name]] == ["qat.distill", "qat.temperature"]
    assert max(map(len, SAMPLE.read_text().splitlines())) <= 120


def test_params_yaml_is_the_recipe_that_others_change():
    assert SAMPLE.read_text() == (REPOSITORY / "recipes" / "fashion_mnist.yaml").read_text()


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


def test_what_changes_no_result_is_in_a_block_of_its_own(params):
    assert params("machine.workers", 3).execution == params("machine.workers", 0).execution
    assert params("execution.threads", 3).execution.model_dump().keys() == {
        *("device", "threads", "algorithms", "precision", "compile", "decode")
    }


@pytest.mark.parametrize("name", ["epochs", "qat.epochs"])
def test_no_epochs_need_no_other_warm_up(params, name):
    values = params(name, 0)
    assert 0 in (values.float_recipe.epochs, values.qat.epochs)


def test_numbers_without_a_point_are_those_that_dvc_writes(params):
    text = SAMPLE.read_text().replace("arguments: {}", "arguments: {bn_eps: 1e-05}").replace("lr: 0.1 ", "lr: 1e-3 ")
    Path("params.yaml").write_text(text)
    assert (load_params().lr, load_params().model.arguments) == (0.001, {"bn_eps": 0.00001})


def test_keys_of_other_kinds_and_many_mistakes_are_one_short_line(params):
    text = SAMPLE.read_text()
    Path("params.yaml").write_text(f"5: 1\n{text}")
    with pytest.raises(InputError, match=r"^params.yaml: 5 is not a parameter; allowed: augment, batch_size, "):
        load_params()
    Path("params.yaml").write_text("".join(f"key{number}: 1\n" for number in range(5000)) + text)
    with pytest.raises(InputError, match=r"^params.yaml: key0 is not a parameter; .*; …$") as raised:
        load_params()
    assert str(raised.value).count("is not a parameter") == MOST


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
            "execution.zzz",
            "allowed: algorithms, compile, decode, device, precision, threads",
        ),
        (
            "zzz",
            "allowed: augment, batch_size, calibrate, card, compare, epochs, execution, gate, golden, input, litert, "
            "lr, machine, model, pack, qat, report, seed, train, validation",
        ),
    ],
)
def test_unknown_keys_get_a_suggestion(params, name, hint):
    with pytest.raises(ValueError) as raised:
        params(name, 1)
    assert str(raised.value) == f"params.yaml: {name} is not a parameter; {hint}"


@pytest.mark.parametrize(
    "name", ["lr", "qat", "qat.lr", "train.mixup", "train.init_from.sha256", "execution.precision"]
)
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
        ("augment.crop_scale", [True, 1], "true is not allowed, no parameter is a switch"),
        ("model.normalization", {"mean": [True, 0.5, 0.5], "std": [1, 1, 1]}, "true is not allowed"),
        ("model.normalization", {"mean": [0.5, 0.5, 0.5], "std": [1, True, 1]}, "true is not allowed"),
        ("train.sizes", {1: 32, 2: True}, "true is not allowed, no parameter is a switch"),
        ("model.name", 5, "5 is not allowed, must be a valid string"),
        ("model.arguments", [1], r"\[1\] is not allowed, must be a valid dictionary"),
        ("qat", 3, "3 is not allowed, must be a block of parameters"),
        ("train", None, "None is not allowed, must be a block of parameters"),
        ("augment.crop_scale", 0.5, "0.5 is not allowed, must be a valid tuple"),
    ],
)
def test_wrong_types(params, name, value, expected):
    with pytest.raises(ValueError, match=f"^params.yaml: {name}[a-z.]*: {expected}[^;]*$"):
        params(name, value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", -1, "seed: -1 is not allowed, must be greater than or equal to 0"),
        ("lr", 0, "lr: 0 is not allowed, must be greater than 0"),
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
            "execution.precision",
            "fp8",
            "execution.precision: 'fp8' is not allowed, must be 'auto', 'float32', 'tf32', 'bf16' or 'fp16'",
        ),
        (
            "train.target_threshold",
            0.009,
            "train.target_threshold 0.009 is not allowed, must be between the smoothed labels of an absent class, "
            "0.01, and of a present one, 0.91",
        ),
        (
            "augment.crop_padding",
            32,
            "augment.crop_padding 32 is not allowed, must be below input.size, which is 32",
        ),
        (
            "augment.color_jitter",
            [0] * 5,
            "augment.color_jitter: [0, 0, 0, 0, 0] is not allowed, must have at most 4",
        ),
        ("qat.augment.crop_padding", 40, "qat.augment.crop_padding 40 is not allowed, must be below input.size"),
        ("input.size", 4, "augment.crop_padding 4 is not allowed, must be below input.size, which is 4; qat.augment."),
        (
            "train.init_from",
            {"file": "artifacts/float/model.safetensors", "sha256": "0", "new_layers": []},
            "train.init_from.file artifacts/float/model.safetensors is not allowed, must lie outside artifacts, whose ",
        ),
        ("card.digest", "XY", "card.digest: 'XY' is not allowed, must match pattern"),
        ("qat.target_threshold", 0.92, "qat.target_threshold 0.92 is not allowed, must be between the smoothed labels"),
        ("execution.decode", "cuda", "execution: execution.decode is cuda, but execution.device is cpu"),
        ("qat.distill", True, "qat.distill: true is not allowed, no parameter is a switch"),
        ("model.num_classes", 1, "model.num_classes: 1 is not allowed, must be greater than or equal to 2"),
        ("input.color_space", "yuv", "input.color_space: 'yuv' is not allowed, must be 'yuv444' or 'rgb'"),
        ("execution.device", "gpu", "execution.device: 'gpu' is not allowed, must be 'cpu' or 'cuda'"),
        ("pack.encoding.type", "resized", "pack.encoding: size null does not go with type resized, which needs a size"),
        ("pack.encoding.size", 256, "pack.encoding: size 256 does not go with type original, which has size null"),
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
        ("execution.threads", 10**6, "execution.threads: 1000000 is not allowed, must be less than or equal to 1024"),
        ("machine.workers", 10**6, "machine.workers: 1000000 is not allowed, must be less than or equal to 1024"),
        (
            "model.num_classes",
            10**9,
            "model.num_classes: 1000000000 is not allowed, must be less than or equal to",
        ),
        (
            "model.normalization",
            {"mean": [0, 0, 127.5], "std": [1, 1, 1e-320]},
            "model.normalization.mean: 127.5 is not allowed, pixels are from 0 to 1 here: 127.5 / 255 = 0.5; "
            "model.normalization.std.2: 1e-320 is not allowed, must be greater than or equal to 0.001",
        ),
        ("lr", "x" * 10**5, f"lr: '{'x' * 299}… is not allowed, must be a valid number"),
        (
            "model.arguments",
            {"bn_eps": float("nan")},
            "model.arguments.bn_eps: nan is not allowed, must be",
        ),
        ("train.processes", 3, "batch_size 64 is not allowed, must be a multiple of 6"),
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
        "execution.device: 'tpu' is not allowed, must be 'cpu' or 'cuda'"
    )


def test_what_two_blocks_say_together_is_named_beside_other_mistakes(tmp_path):
    values = yaml.safe_load(SAMPLE.read_text())
    values["train"]["processes"], values["qat"]["accumulate"], values["lrr"] = 3, 5, 1
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError) as raised:
        load_params(path)
    start = "batch_size 64 is not allowed, must be a multiple of"
    assert f"qat: {start} 10" in str(raised.value) and f"; {start} 6" in str(raised.value)
    assert "lrr is not a parameter; did you mean lr?" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lr: [", "is not valid YAML: while parsing a flow node"),
        (b"lr: {{lr}}", "is not valid YAML: .* found unhashable key"),
        (b"\xff\xfe\x00", "is not valid YAML: 'utf-8' codec"),
        (b"# nothing\n", "is empty; `make recipe` puts a complete one in its place$"),
        (b"lr: 1\nqat:\n  lr: 1\n  lr: 2\n", "is not valid YAML: lr occurs twice, again in line 4, column 3$"),
        (b"qat:\n\tlr: 1\n", "is not valid YAML: .* found character .* in line 2, column 1$"),
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
