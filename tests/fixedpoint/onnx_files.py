"""The int8 ONNX files of a program, and the modes of ONNX Runtime that are exact on every processor."""

from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter

WRITERS = {"qdq": QdqWriter, "qoperator": QOperatorWriter, "integer": IntegerWriter}
# The QDQ file under default options is exact only where the CPU has VNNI: nothing to assert.
EXACT = [(form, mode) for form in WRITERS for mode in ("default", "off", "int8")]
EXACT.remove(("qdq", "default"))


def save(writer, program, folder):
    path = folder / "model.onnx"
    path.write_bytes(writer.export(program, {}).SerializeToString(deterministic=True))
    return path
