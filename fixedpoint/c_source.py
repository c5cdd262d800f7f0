"""The C form of a program: C99 on integers of at most 32 bits, without allocation, recursion or any library.

`fixedpoint/c/kernels.c` holds a function for each kind of operation; the source gets those that it calls, the constants
as arrays, and `network_run`, one call an operation. Maps are [height, width, channels] there.
"""

import json
import re
import textwrap
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import torch

from fixedpoint.bounds import check_exactness
from fixedpoint.memory_plan import is_depthwise, is_view, plan, shapes
from fixedpoint.program import INPUT, QUANTIZED_KINDS, AvgPool, Conv, MaxPool, Op, Pad, Program

FOLDER = Path(__file__).parent / "c"
C_TYPES = {"int8": "int8_t", "int32": "int32_t"}
# beyond, an accumulator below 2**24 saturates (unless it is zero), or rounds to zero
MIN_SHIFT, MAX_SHIFT = -8, 25


def c_source(program: Program, metadata: Mapping[str, object]) -> dict[str, str]:
    """The files network.c, network.h and main.c of an integer program, by name.

    Args:
        program: Integer.
        metadata: What its user has to know, as JSON values; they end up in a comment.

    Raises:
        ValueError: If an operation of the program is not exact (`bounds.check_exactness`) or not quantized.
    """
    writer = CWriter(program)
    return {
        "network.c": writer.source(),
        "network.h": writer.header(metadata),
        "main.c": (FOLDER / "main.c").read_text(),
    }


def flash_bytes(program: Program) -> int:
    """Bytes of the arrays of constants in network.c; raises as `c_source` does."""
    return CWriter(program).flash_bytes


class CWriter:
    """Turns a program into C: one method an operation kind, which adds its constants and its call."""

    def __init__(self, program: Program):
        check_exactness(program)
        self.program, self.plan, self.shapes = program, plan(program), shapes(program)
        self._arrays: dict[str, np.ndarray] = {}
        self._structs: list[str] = []
        self._body: list[str] = []
        self._places = {INPUT: "input"} | dict.fromkeys(program.raw, "logits")
        self._places |= {name: f"arena + {offset}" for name, offset in self.plan.offsets.items()}
        for index, op in enumerate(program.ops):
            if op.kind not in QUANTIZED_KINDS:
                raise ValueError(f"{op.name} is a {op.kind}, which has no C form: fold the program first")
            self._body.append(f"    /* {index}: {_comment(f'{op.kind} {op.name} {list(op.shape)}')} */")
            getattr(self, op.kind)(index, op)
            self._trace(index, op)

    @property
    def flash_bytes(self) -> int:
        """Bytes of the arrays of constants."""
        return sum(array.nbytes for array in [*self._arrays.values(), self._logit_exponent])

    def source(self) -> str:
        """network.c."""
        arrays = (_array(f"static const {C_TYPES[a.dtype.name]} {name}", a) for name, a in self._arrays.items())
        arena = ["    int8_t *const arena = (int8_t *)memory;"] if self.plan.offsets else []
        run = ["void network_run(const int8_t *input, int32_t *logits)", "{", *arena, *self._body, "}"]
        calls = "\n".join([*self._structs, *run])
        exponents = _array("const int8_t network_logit_exponent[NETWORK_CLASSES]", self._logit_exponent)
        return "\n\n".join(
            [
                '/* See network.h. */\n#include <string.h>\n\n#include "network.h"',
                TRACE,
                *_kernels(calls),
                "\n".join([*arrays, exponents, *self._structs]),
                "/* 16 bits wide, because some of it holds such values. */\n"
                "static int16_t memory[NETWORK_ACTIVATION_BYTES / 2];",
                "\n".join(run) + "\n",
            ]
        )

    def header(self, metadata: Mapping[str, object]) -> str:
        """network.h."""
        about = [f"{key}: {json.dumps(value)}" for key, value in metadata.items()]
        channels, height, width = self.program.input_shape
        return HEADER.format(
            about="".join(f" * {line}\n" for text in about for line in textwrap.wrap(_comment(text), 116)),
            channels=channels,
            height=height,
            width=width,
            size=channels * height * width,
            classes=len(self._logit_exponent),
            activations=self._memory_bytes,
            constants=self.flash_bytes,
        )
