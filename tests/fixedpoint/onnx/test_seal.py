"""Which ONNX files are run: those that are as a writer of this package wrote them."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from programs import PROGRAMS

from fixedpoint.errors import QuantizationError
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.seal import read_sealed, seal

PROGRAM = PROGRAMS["mul_features"]


def content() -> bytes:
    return IntegerWriter.export(PROGRAM, {"note": "x"}).SerializeToString(deterministic=True)


def test_every_changed_bit_is_noticed():
    whole, rng = content(), np.random.default_rng(0)
    assert read_sealed(whole, "x").SerializeToString(deterministic=True) == whole
    for place in rng.permutation(len(whole))[:400]:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        with pytest.raises(QuantizationError, match=r"^x (is damaged or was edited|is not an ONNX file)"):
            read_sealed(bytes(changed), "x")
    for other in (whole[:-1], whole + b"\0", whole[:200], b""):
        with pytest.raises(QuantizationError, match=r"^x (is damaged or was edited|is not an ONNX file)"):
            read_sealed(other, "x")


def test_metadata_cannot_take_the_place_of_the_digest():
    model = IntegerWriter.export(PROGRAM, {"digest": "f" * 64})
    (digest,) = [json.loads(entry.value) for entry in model.metadata_props if entry.key == "digest"]
    assert digest != "f" * 64 and read_sealed(model.SerializeToString(), "x")


def test_constants_that_look_like_a_digest_are_none():
    """The last match is the entry of the metadata, which stand behind the graph in the file."""
    model = onnx.load_from_string(content())
    trap = b'\n\x06digest\x12B"' + b"1" * 64 + b'"'
    model.graph.initializer.append(numpy_helper.from_array(np.frombuffer(trap, np.uint8), "trap"))
    seal(model)
    assert read_sealed(model.SerializeToString(), "x").graph.initializer[-1].name == "trap"


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "true"], ["y"], body=body))


def nested(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "body", [], [])))


def domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def external(model: onnx.ModelProto) -> None:
    constant = model.graph.initializer[0]
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/passwd")


def function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("d", "f", [], [], [], []))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (loop, "the operator 'Loop'"),
        (nested, "a graph within an operator"),
        (domain, "an operator of another domain"),
        (external, "constants in another file"),
        (function, "functions"),
    ],
)
def test_what_no_writer_writes_is_refused_though_it_is_sealed(change, what):
    model = onnx.load_from_string(content())
    change(model)
    seal(model)
    with pytest.raises(QuantizationError, match=f"^x has {what}, which no file of this repository has$"):
        read_sealed(model.SerializeToString(), "x")
