"""A self-check for TensorFlow Lite for Microcontrollers (TFLM): a .tflite file, golden images and their logits.

The program prints PASS or FAIL. `fixedpoint.c.selfcheck` is the same for the C form.
"""

import bisect
from math import prod
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from fixedpoint.c.selfcheck import golden_values
from fixedpoint.c.text import c_array
from fixedpoint.litert.graph import litert_module

TFLM_FOLDER = Path(__file__).parent / "tflm"
TEMPLATES = ("main.cc", "model_data.h", "model_data.cc", "golden_data.h", "golden_data.cc")
VERBATIM = ("Makefile", "README.md")
# What TFLM keeps besides the tensors, in bytes, with pointers of 64 bits; with those of 32 bits it is less.
FIXED_BYTES, TENSOR_BYTES, OPERATOR_BYTES, CHANNEL_BYTES = 1024, 24, 256, 8
PLANNING_BYTES = 32 + 36  # for each tensor, while it plans where they lie


def tflm_selfcheck(model: bytes, images: np.ndarray, logits: np.ndarray) -> dict[str, str]:
    """The files of a self-check for TFLM, by name.

    Args:
        model: The content of a .tflite file, as `litert_model` gives it.
        images: Pixels p - 128, int8 [n, channels, height, width].
        logits: The network's logits for them, int8 or int16 as in the file, [n, classes].

    Raises:
        QuantizationError: If an array is of another type or shape.
    """
    graph, kinds, sizes = _read(model)
    source, result = (graph.tensors[ends[0]] for ends in (graph.inputs, graph.outputs))
    height, width, channels = map(int, source.shape[1:])
    dtype = f"int{8 * sizes[result.type]}"
    operators = sorted(set(kinds))  # in whatever versions
    values = golden_values(images, logits, (channels, height, width), int(result.shape[1]), dtype) | {
        "arena_bytes": arena_bytes(model),
        "operators": len(operators),
        "registrations": "\n".join(f"  resolver.{_registration(name)}();" for name in operators),
        "model": c_array("alignas(16) const unsigned char model_data[]", np.frombuffer(model, np.uint8)),
    }
    texts = {name: (TFLM_FOLDER / name).read_text(encoding="utf-8") for name in (*TEMPLATES, *VERBATIM)}
    return texts | {name: Template(texts[name]).substitute(values) for name in TEMPLATES}


def arena_bytes(model: bytes) -> int:
    """An upper bound of the memory that TFLM needs for a .tflite file, with its reference kernels or CMSIS-NN's.

    It counts the tensors and the kernels' patches, which TFLM places as `_planned` does, and TFLM's records of each
    tensor, operator and channel. main.cc prints how much is used.
    """
    graph, kinds, item_sizes = _read(model)
    lives = {int(graph.inputs[0]): (0, 0)}  # of each tensor in memory, the first step and the last
    patches, channels = [], 0
    for step, operator in enumerate(graph.operators, start=1):
        lives[int(operator.outputs[0])] = (step, step)
        lives |= {int(t): (lives[int(t)][0], step) for t in operator.inputs if int(t) in lives}
        kind = kinds[operator.opcodeIndex]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            x, weight = (tuple(map(int, graph.tensors[t].shape)) for t in operator.inputs[:2])
            patches.append((_patch(kind, x[-1], weight[1:3]), step, step))
            channels += int(graph.tensors[operator.outputs[0]].shape[-1])
    sizes = {t: item_sizes[graph.tensors[t].type] * prod(map(int, graph.tensors[t].shape)) for t in sorted(lives)}
    plan = _planned([(_aligned(size), *lives[t]) for t, size in sizes.items()] + patches)
    planning = PLANNING_BYTES * (len(graph.tensors) + len(patches))
    records = TENSOR_BYTES * len(graph.tensors) + OPERATOR_BYTES * len(graph.operators) + CHANNEL_BYTES * channels
    return _aligned(FIXED_BYTES + records + max(plan, planning))


def _patch(kind: str, depth: int, kernel: tuple[int, ...]) -> int:
    """At least what CMSIS-NN asks for: arm_convolve_s8_get_buffer_size, arm_depthwise_conv_s8_opt_get_buffer_size."""
    if kind == "CONV_2D":
        return 4 * _aligned(prod(kernel) * depth)
    return _aligned(4 * prod(kernel) * max(depth, 124))


def _planned(buffers: list[tuple[int, int, int]]) -> int:
    """The memory of `buffers` (size, first step, last step) as TFLM's GreedyMemoryPlanner places them.

    The largest comes first, and the last of equal ones; each goes into the first gap between those that live with it.
    """
    placed: list[tuple[int, int, int, int]] = []
    for _, (size, first, last) in sorted(enumerate(buffers), key=lambda b: (b[1][0], b[0]), reverse=True):
        offset = 0
        for other, length, since, until in placed:
            if since <= last and first <= until:
                if other - offset >= size:
                    break
                offset = max(offset, other + length)
        bisect.insort(placed, (offset, size, first, last))
    return max(offset + size for offset, size, *_ in placed)


def _read(model: bytes) -> tuple[Any, list[str], dict[int, int]]:
    """The graph of a .tflite file, the kinds of its operators by their index, and the bytes of a value by its type."""
    schema = litert_module("schema_py_generated")
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    kinds = [names[code.builtinCode] for code in content.operatorCodes]
    return content.subgraphs[0], kinds, {schema.TensorType.INT8: 1, schema.TensorType.INT16: 2}


def _aligned(size: int) -> int:
    return -(-size // 16) * 16


def _registration(operator: str) -> str:
    """The method of TFLM's MicroMutableOpResolver that adds an operator: AddConv2D for CONV_2D."""
    return f"Add{operator.title().replace('_', '')}".replace("Padv2", "PadV2")
