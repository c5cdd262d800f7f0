"""The guard guards: whatever form is damaged or changed, compare or the reader names it, and nothing claims success."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import StageServer, copy_of

from pipeline.forms import stored_program
from storage.model_file import load_model, save_model

pytestmark = pytest.mark.faults
SEED = 23
FLIPS = 3  # of each file
INT, QAT, FLOAT_ONNX = "artifacts/int/model.safetensors", "artifacts/qat/model.safetensors", "artifacts/onnx/float.onnx"
# Each exported form: the command that exports it from another model, and the form that validate scores, if one is.
EXPORTS = {
    "artifacts/onnx/int8_qdq.onnx": ("export_onnx --onnx-name {file} --format qdq", None),
    "artifacts/onnx/int8_qoperator.onnx": ("export_onnx --onnx-name {file} --format qoperator", "onnx_int8"),
    "artifacts/onnx/int8_integer.onnx": ("export_onnx --onnx-name {file} --format integer", None),
    "artifacts/c/network.c": ("export_c", None),
    "artifacts/litert/int8.tflite": ("export_litert", "litert"),
}
CLAIMS = ("metrics/summary.json", "metrics/summary.md", "plots/top1.csv", "artifacts/MODEL_CARD.md")


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return copy_of(finished, tmp_path / "copy")


def flips(content: bytes, name: str) -> Iterator[bytes]:
    bits = random.Random(f"{SEED} {name}")
    for _ in range(FLIPS):
        bit = bits.randrange(8 * len(content))
        yield content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def change_a_weight(model: Path, seed: int, form: str) -> str:
    """Change a weight by 2, or halve one in float, and write a whole file with it; returns its layer."""
    choice = random.Random(f"{SEED} {seed}")
    stored = load_model(model, (form,))
    program = stored_program(stored)
    layer = choice.choice([op.name for op in program.ops if f"{op.name}.weight" in program.constants])
    weight = program.constants[f"{layer}.weight"].clone()
    at = choice.randrange(weight.numel())
    old = weight.view(-1)[at]
    weight.view(-1)[at] = old / 2 if weight.is_floating_point() else old - 2 if old > 0 else old + 2  # parity stays
    constants = program.constants | {f"{layer}.weight": weight}
    save_model(model, form, constants, stored.info, stored.program)
    return layer


def nothing_is_claimed(server: StageServer, folder: Path) -> None:
    """After a compare that has failed, there is no summary, and no card can be written."""
    assert server.run("model_card", folder).line
    assert [name for name in CLAIMS if (folder / name).exists()] == []


def test_a_flipped_bit_of_any_form_is_named(folder, server, finished):
    named = 0
    for name in (*EXPORTS, FLOAT_ONNX, INT, QAT):
        path, whole = folder / name, (finished / name).read_bytes()
        for damaged in flips(whole, name):
            path.write_bytes(damaged)
            line = server.run("compare", folder).line
            assert name in line or (name.startswith("artifacts/c/") and line.startswith("artifacts/c: ")), line
            named += 1
            nothing_is_claimed(server, folder)
        path.write_bytes(whole)
        shutil.copytree(finished / "metrics", folder / "metrics", dirs_exist_ok=True)
    print(f"{named} flipped bits were named")
    assert named == 8 * FLIPS
    for command in ("compare", "model_card"):
        assert server.run(command, folder).code == 0
    assert [name for name in CLAIMS if (folder / name).read_bytes() != (finished / name).read_bytes()] == []


@pytest.mark.parametrize("name", EXPORTS)
def test_a_form_of_another_weight_is_found(name, folder, server):
    """The file is whole, and its score may be as good as before; only compare can see that its bits are others."""
    export, scored = EXPORTS[name]
    other = folder / "other.safetensors"
    shutil.copy(folder / INT, other)
    layer = change_a_weight(other, [*EXPORTS].index(name), "int")
    assert server.run(f"{export.format(file=name)} --checkpoint other.safetensors", folder).code == 0
    card = folder / "artifacts/MODEL_CARD.md"
    if scored:
        assert "not proved" in server.run(f"validate --step {scored}", folder).output
    assert server.run("model_card", folder).line.startswith(f"{name} is not the file that compare has proved")
    assert not card.exists()
    line = server.run("compare", folder).line
    unseen = f"{name} is not what is exported of {INT}, although no compared value differs"
    assert line == unseen or (line.startswith(f"{name}: {layer}[") and " and not " in line and ", for record " in line)
    nothing_is_claimed(server, folder)


@pytest.mark.parametrize(("name", "form"), [(INT, "int"), (QAT, "qat")])
def test_a_model_of_another_weight_is_found(name, form, folder, server):
    layer = change_a_weight(folder / name, 7, form)
    assert server.run("model_card", folder).code == 1
    line = server.run("compare", folder).line
    assert line.startswith(f"{name}: {layer}["), line
    assert f" in {form} and not " in line
    nothing_is_claimed(server, folder)
    assert "was not made from" in server.run("report", folder).line


def test_a_score_counts_for_its_file_alone(folder, server):
    """Another float model, after validation."""
    save_model(folder / "other.safetensors", *other_float(folder))
    export = f"export_onnx --onnx-name {FLOAT_ONNX} --format float --checkpoint other.safetensors"
    assert server.run(export, folder).code == 0
    assert server.run("model_card", folder).line.startswith(f"{FLOAT_ONNX} is not the file")
    line = server.run("compare", folder).line
    assert line == f"metrics/onnx_float.json has the score of another file than {FLOAT_ONNX}: `make validate`"
    nothing_is_claimed(server, folder)
    assert server.run("validate --step onnx_float", folder).code == 0
    for command in ("compare", "model_card"):
        assert server.run(command, folder).code == 0


def other_float(folder: Path) -> tuple:
    stored = load_model(folder / "artifacts/float/model.safetensors", ("float",))
    first = next(iter(stored.tensors))
    return stored.form, stored.tensors | {first: stored.tensors[first] + 0.125}, stored.info
