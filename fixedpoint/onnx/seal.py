"""Which ONNX files are ours: a digest of the whole file in its metadata, and no operators but those of the writers."""

import hashlib
import json
import re

from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, TensorProto, load_from_string

from fixedpoint.errors import QuantizationError

KEY, BLANK = "digest", "0" * 64
DIGEST = re.compile(rb'\n\x06digest\x12B"([0-9a-f]{64})"')  # the entry of metadata_props, in protobuf's encoding
OPERATORS = {
    "Abs", "Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvInteger", "DequantizeLinear", "Div", "Elu",
    "Erf", "Flatten", "Gather", "Gemm", "HardSwish", "LeakyRelu", "MatMulInteger", "MaxPool", "Min", "Mod", "Mul",
    "Pad", "QLinearConv", "QuantizeLinear", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Sign", "Slice", "Softplus",
    "Sub", "Tanh", "Transpose",
}  # fmt: skip
NUMBERS = {AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT}  # the types of attributes: no graph is one


def seal(model: ModelProto) -> None:
    """Put the digest of a model into its metadata, where BLANK stands for it, by which `read_sealed` knows the file.

    The file is `model.SerializeToString(deterministic=True)`.
    """
    (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
    entry.value = json.dumps(BLANK)
    entry.value = json.dumps(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())


def read_sealed(content: bytes, path: object) -> ModelProto:
    """The model in a file that `seal` has sealed.

    Args:
        content: The content of the file.
        path: Its path, for messages.

    Raises:
        QuantizationError: If a byte of it has changed, or it has what no writer of this package writes.
    """
    found = [*DIGEST.finditer(content)]
    if not found:
        raise QuantizationError(f"{path} is not an ONNX file of this repository, or of an earlier version of it")
    start, end = found[-1].span(1)  # behind the constants, which may hold anything
    parts = (memoryview(content)[:start], BLANK.encode(), memoryview(content)[end:])
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    if digest.hexdigest().encode() != found[-1][1]:
        raise QuantizationError(f"{path} is damaged or was edited; make export-onnx writes it again")
    try:
        model = load_from_string(content)
    except DecodeError:
        raise QuantizationError(f"{path} is not an ONNX file") from None
    for odd in _foreign(model):
        raise QuantizationError(f"{path} has {odd}, which no file of this repository has")
    return model


def _foreign(model: ModelProto) -> list[str]:
    """What a model has that no writer writes, such as loops and paths of other files."""
    graph = model.graph
    odd = [f"the operator {node.op_type[:40]!r}" for node in graph.node if node.op_type not in OPERATORS]
    odd += ["an operator of another domain" for node in graph.node if node.domain]
    odd += ["a graph within an operator" for node in graph.node for a in node.attribute if a.type not in NUMBERS]
    odd += ["constants in another file" for t in graph.initializer if t.data_location != TensorProto.DEFAULT]
    lists = {"functions": model.functions, "a training": model.training_info, "constants": graph.sparse_initializer}
    return odd + [name for name, entries in lists.items() if entries]
