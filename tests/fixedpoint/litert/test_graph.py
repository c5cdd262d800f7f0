"""The format of a .tflite file: its metadata, its digest, and its alignment."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from portable_programs import PROGRAMS, build

from fixedpoint.litert.graph import OPERATORS, LiteRtGraph, read_metadata
from fixedpoint.litert.writer import LOGIT_TYPES, litert_model
from fixedpoint.program import INPUT, Flatten, Linear, Program

CODES = {value: name for name, value in vars(schema.BuiltinOperator).items()}
FOLDER = Path(__file__).parents[3]
SMALL = litert_model(build((2, 1, 1), Flatten("f", (INPUT,), (2,)), Linear("x", ("f",), (3,))), {"seed": 1})


def parsed(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))


def test_the_file_says_what_it_needs_and_how_it_is_called():
    content = litert_model(PROGRAMS["network"], {"seed": 3, "model": {"digest": "0" * 64}})
    model = parsed(content)
    assert content[4:8] == b"TFL3"
    (signature,) = model.signatureDefs
    names = [tensor.name for tensor in model.subgraphs[0].tensors]
    assert signature.signatureKey == b"serving_default"
    for maps, indices, name in (
        (signature.inputs, model.subgraphs[0].inputs, b"input"),
        (signature.outputs, model.subgraphs[0].outputs, b"logits"),
    ):
        assert [(m.name, m.tensorIndex) for m in maps] == [(name, names.index(name))] and [*indices] == [
            names.index(name)
        ]
    entries = {entry.name: bytes(np.asarray(model.buffers[entry.buffer].data, np.uint8)) for entry in model.metadata}
    assert entries[b"min_runtime_version"] == b"2.9.0".ljust(16, b"\0")  # groups
    assert [*entries] == [b"min_runtime_version", b"network"]
    assert read_metadata(content, "x") == {
        "input_normalization": {"offset": 128, "divisor": 1},
        "logit_exponent": PROGRAMS["network"].int8_logit_exponent,
        "model": {"digest": "0" * 64},
        "seed": 3,
        "vectors": [],
    }
    assert read_metadata(litert_model(PROGRAMS["network_vectors"], {}), "x")["vectors"] == [
        *("f", "c", "both", "one", "two", "sum", "three")
    ]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("select_reflect", "1.14.0"),
        ("select_steps", "1.14.0"),
        ("select_repeat", "1.14.0"),
        ("rearrange_shuffle_channels", "1.14.0"),
        ("rearrange_shuffle_pixels", "2.3.0"),  # a transposition of five axes
    ],
)
def test_the_first_runtime_is_that_of_the_newest_operator(name, version):
    """As tensorflow/compiler/mlir/lite/tools/versioning/runtime_version.cc lists them."""
    model = parsed(litert_model(PROGRAMS[name], {}))
    (entry,) = (entry for entry in model.metadata if entry.name == b"min_runtime_version")
    assert bytes(np.asarray(model.buffers[entry.buffer].data, np.uint8)) == version.encode().ljust(16, b"\0")


def test_every_runtime_that_the_operators_need_is_known():
    versions = {code for name in PROGRAMS for logits in LOGIT_TYPES for code in codes(PROGRAMS[name], logits)}
    assert versions == set(OPERATORS)


def codes(program: Program, logits: str) -> set[tuple[str, int]]:
    return {(CODES[c.builtinCode], c.version) for c in parsed(litert_model(program, {}, logits)).operatorCodes}


def test_constants_are_aligned_to_16_bytes():
    content = litert_model(PROGRAMS["network"], {})
    model = schema.Model.GetRootAsModel(content, 0)
    starts = []
    for i in range(model.BuffersLength()):
        table = model.Buffers(i)._tab
        if offset := table.Offset(4):
            starts.append(table.Vector(offset))
    assert len(starts) > 20 and not any(start % 16 for start in starts)


def test_bytes_do_not_depend_on_the_process():
    script = (
        "import sys, hashlib; sys.path[:0] = ['.', 'tests/fixedpoint']\n"
        "from portable_programs import PROGRAMS; from fixedpoint.litert.writer import litert_model\n"
        "for logits in ('int8', 'int16'):\n"
        "    print(hashlib.sha256(litert_model(PROGRAMS['network'], {'b': 1, 'a': 2}, logits)).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=FOLDER,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [litert_model(PROGRAMS["network"], {"b": 1, "a": 2}, logits) for logits in ("int8", "int16")]
    assert done.stdout.split() == [hashlib.sha256(model).hexdigest() for model in here]
    assert litert_model(PROGRAMS["network"], {"b": 1, "a": 2}) == litert_model(PROGRAMS["network"], {"a": 2, "b": 1})


def test_every_changed_byte_is_noticed():
    assert read_metadata(SMALL, "x")["seed"] == 1
    for i in range(len(SMALL)):
        changed = bytearray(SMALL)
        changed[i] ^= 1
        with pytest.raises(ValueError, match=r"x is damaged or was edited|x is not a \.tflite file"):
            read_metadata(bytes(changed), "x")
    for other in (SMALL[:-1], SMALL + b"\0"):
        with pytest.raises(ValueError, match="x is damaged or was edited; make export-litert writes it"):
            read_metadata(other, "x")


def test_metadata_cannot_take_the_place_of_the_digest():
    content = litert_model(PROGRAMS["conv"], {"digest": "f" * 64, "a": 1})
    assert content == litert_model(PROGRAMS["conv"], {"a": 1})
    assert read_metadata(content, "x")["a"] == 1 and "digest" not in read_metadata(content, "x")


def test_a_name_that_is_taken_is_refused():
    graph = LiteRtGraph()
    graph.tensor("a", [1], np.ones(1, np.float32))
    for add in (lambda: graph.tensor("a", [2], np.ones(1, np.float32)), lambda: graph.constant("a", np.zeros(1))):
        with pytest.raises(ValueError, match=r"two tensors of the .tflite file would have the name 'a'; rename that"):
            add()


def test_a_missing_package_is_one_line_where_it_is_needed(tmp_path):
    path = tmp_path / "int8.tflite"
    path.write_bytes(SMALL)
    script = (
        "import sys; sys.modules['ai_edge_litert'] = None; sys.path[:0] = ['.', 'tests/fixedpoint']\n"
        "import stages.compare, tools.predict; from pipeline.cli import run; from portable_programs import PROGRAMS\n"
        "from fixedpoint.litert.writer import litert_model; from fixedpoint.litert.runtime import LitertModel\n"
        "for use in (lambda: litert_model(PROGRAMS['conv'], {}), lambda: LitertModel(sys.argv[1])):\n"
        "    try: run(use)\n"
        "    except SystemExit as stop: print(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=FOLDER, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["error: LiteRT is not installed: pip install ai-edge-litert"] * 2, done.stderr
