"""Builds .tflite files of tensors, operators and constants, with metadata and a digest."""

import hashlib
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np

from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT

OUTPUT = "logits"
# By operator and version: the first runtime that has it, as LiteRT's converter writes it to a file, and its options.
OPERATORS = {
    ("ADD", 2): ("1.14.0", "AddOptions"),
    ("CONCATENATION", 2): ("1.14.0", "ConcatenationOptions"),
    ("CONV_2D", 3): ("1.14.0", "Conv2DOptions"),
    ("CONV_2D", 4): ("2.3.0", "Conv2DOptions"),  # 16-bit activations
    ("CONV_2D", 6): ("2.9.0", "Conv2DOptions"),  # groups
    ("DEPTHWISE_CONV_2D", 3): ("1.14.0", "DepthwiseConv2DOptions"),
    ("GATHER", 2): ("1.14.0", "GatherOptions"),
    ("MAXIMUM", 2): ("1.14.0", "MaximumMinimumOptions"),
    ("MAX_POOL_2D", 2): ("1.14.0", "Pool2DOptions"),
    ("MINIMUM", 2): ("1.14.0", "MaximumMinimumOptions"),
    ("PAD", 2): ("1.14.0", "PadOptions"),
    ("PADV2", 2): ("1.14.0", "PadV2Options"),
    ("QUANTIZE", 2): ("1.15.0", "QuantizeOptions"),
    ("RELU", 2): ("2.1.0", None),
    ("RELU6", 2): ("1.14.0", None),
    ("RESHAPE", 1): ("1.5.0", "ReshapeOptions"),
    ("RESIZE_NEAREST_NEIGHBOR", 2): ("1.14.0", "ResizeNearestNeighborOptions"),
    ("STRIDED_SLICE", 2): ("1.14.0", "StridedSliceOptions"),
    ("TRANSPOSE", 2): ("1.14.0", "TransposeOptions"),
    ("TRANSPOSE", 4): ("2.3.0", "TransposeOptions"),  # five axes
}
IDENTIFIER = b"TFL3"
DIGEST = re.compile(rb'\{"digest": "([0-9a-f]{64})"')


def litert_module(name: str) -> Any:
    """A module of the package of LiteRT.

    Raises:
        OSError: If it is not installed.
    """
    try:
        return importlib.import_module(f"ai_edge_litert.{name}")
    except ModuleNotFoundError:
        raise OSError("LiteRT is not installed: pip install ai-edge-litert") from None


class LiteRtGraph:
    """The tensors and operators of a file, each tensor with a unique name and an index.

    Raises:
        OSError: If LiteRT, whose package has the schema of the format, is not installed.
    """

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self._schema = litert_module("schema_py_generated")
        self._tensors: list[Any] = []
        self._buffers = [self._schema.BufferT()]  # the first is empty: that of tensors without constants
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(
        self, name: str, shape: Sequence[int], scale: np.ndarray, dtype: str = "int8", per_image: int = 1
    ) -> int:
        """Add an activation [batch * per_image, *shape] of one scale (float32 [1]).

        Raises:
            QuantizationError: If the name is taken.
        """
        return self._add(name, [per_image, *shape], dtype, self._quantization(scale), shapeSignature=[-1, *shape])

    def constant(self, name: str, value: np.ndarray, scale: np.ndarray | None = None, dimension: int = 0) -> int:
        """Add a constant; `scale` (float32) has one value, or one for each index of `dimension`."""
        quantization = None if scale is None else self._quantization(scale, dimension)
        buffer = self._buffer(value.astype(value.dtype.newbyteorder("<")).tobytes())
        return self._add(name, value.shape, value.dtype.name, quantization, buffer=buffer)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of an activation without the batch dimension."""
        return tuple(self._tensors[tensor].shape[1:])

    def operator(self, kind: str, inputs: Sequence[int], output: int, version: int = 2, **options: Any) -> int:
        """Add an operator of OPERATORS, whose result is the tensor `output`, and return that.

        Args:
            options: Its options as LiteRT names them; a padding or an activation is given by its name.
        """
        code = self._codes.setdefault((kind, version), len(self._codes))
        operator = self._schema.OperatorT(code, [*inputs], [output])
        _, name = OPERATORS[kind, version]
        if name:
            named = {"padding": "Padding", "fusedActivationFunction": "ActivationFunctionType"}
            for option in named.keys() & options.keys():
                options[option] = getattr(getattr(self._schema, named[option]), options[option])
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(self._schema, f"{name}T")(**options)
        self._operators.append(operator)
        return output

    def finish(self, metadata: Mapping[str, object]) -> bytes:
        """The content of the file; its input and output are the tensors INPUT and OUTPUT.

        Args:
            metadata: JSON values, for `read_metadata`.
        """
        version = max((OPERATORS[code][0] for code in self._codes), key=lambda v: [*map(int, v.split("."))])
        # the digest comes first, where DIGEST finds it
        entries = {"digest": "", **dict(sorted(metadata.items()))} | {"digest": "0" * 64}
        notes = {
            "min_runtime_version": version.encode().ljust(16, b"\0"),
            "network": json.dumps(entries).encode("ascii"),
        }
        schema, ends = self._schema, [self.index[name] for name in (INPUT, OUTPUT)]
        maps = [[schema.TensorMapT(name, self.index[name])] for name in (INPUT, OUTPUT)]
        model = schema.ModelT(
            version=3,
            operatorCodes=[self._operator_code(kind, version) for kind, version in self._codes],
            subgraphs=[schema.SubGraphT(self._tensors, [ends[0]], [ends[1]], self._operators, "main")],
            description="vargconvnet-int8",
            metadata=[schema.MetadataT(name, self._buffer(note)) for name, note in notes.items()],
            buffers=self._buffers,
            signatureDefs=[schema.SignatureDefT(*maps, "serving_default", 0)],
        )
        builder = _Builder(2**16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        content = bytes(builder.Output())
        found = DIGEST.search(content)
        assert found
        return content[: found.start(1)] + _digest(content) + content[found.end(1) :]

    def _add(self, name: str, shape: Sequence[int], dtype: str, quantization: Any, **fields: Any) -> int:
        if name in self.index:
            raise QuantizationError(f"two tensors of the .tflite file would have the name {name!r}; rename that module")
        self.index[name] = len(self._tensors)
        self._tensors.append(
            self._schema.TensorT(
                shape=[*shape],
                type=getattr(self._schema.TensorType, dtype.upper()),
                name=name,
                quantization=quantization,
                hasRank=True,
                **fields,
            )
        )
        return self.index[name]

    def _buffer(self, content: bytes) -> int:
        self._buffers.append(self._schema.BufferT(np.frombuffer(content, np.uint8)))
        return len(self._buffers) - 1

    def _quantization(self, scale: np.ndarray, dimension: int = 0) -> Any:
        zeros = np.zeros(len(scale), np.int64)
        return self._schema.QuantizationParametersT(scale=scale, zeroPoint=zeros, quantizedDimension=dimension)

    def _operator_code(self, kind: str, version: int) -> Any:
        code = getattr(self._schema.BuiltinOperator, kind)
        return self._schema.OperatorCodeT(min(code, 127), version=version, builtinCode=code)  # old readers: the first


class _Builder(flatbuffers.Builder):
    """Aligns constants as LiteRT's schema asks for; flatbuffers' Python code ignores that."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


def read_metadata(content: bytes, path: object) -> dict[str, Any]:
    """The metadata that `LiteRtGraph.finish` wrote into a file.

    Args:
        content: The content of the file.
        path: Its path, for messages.

    Raises:
        QuantizationError: If this module did not write the file, or a byte of it has changed.
    """
    found = DIGEST.search(content)
    if content[4:8] != IDENTIFIER or not found:
        raise QuantizationError(f"{path} is not a .tflite file of this repository")
    blank = content[: found.start(1)] + b"0" * 64 + content[found.end(1) :]
    if _digest(blank) != found[1]:
        raise QuantizationError(f"{path} is damaged or was edited; make export-litert writes it again")
    try:
        entries, _ = json.JSONDecoder().raw_decode(content[found.start() :].decode("latin-1"))
        del entries["digest"]
    except (ValueError, RecursionError):
        raise QuantizationError(f"{path} has metadata that are no JSON") from None
    return entries


def check_operators(content: bytes, path: object) -> None:
    """Refuse what `LiteRtGraph` does not write: other operators, further graphs, as of a loop, constants elsewhere.

    Raises:
        OSError: If LiteRT is not installed.
        QuantizationError: If the file has such, or is no .tflite file.
    """
    schema = litert_module("schema_py_generated")
    try:
        model = schema.Model.GetRootAs(content)
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        found = {(code.BuiltinCode(), code.Version()) for code in codes}
        graphs = model.SubgraphsLength()
        elsewhere = any(model.Buffers(i).Offset() for i in range(model.BuffersLength()))
    except Exception as error:  # what a wrong offset makes flatbuffers raise has no common class
        raise QuantizationError(f"{path} is not a whole .tflite file: {type(error).__name__}") from None
    known = {(getattr(schema.BuiltinOperator, kind), version) for kind, version in OPERATORS}
    if graphs != 1 or elsewhere or not found <= known:
        raise QuantizationError(f"{path} has operators or parts that no .tflite file of this repository has")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")
