"""Every kind of operation has all its parts; a test names what is missing."""

import re
from pathlib import Path

import oracle
import portable_programs
import pytest
from programs import PROGRAMS, hard_inputs, numpy_constants

from fixedpoint.c.source import CWriter
from fixedpoint.litert.writer import LiteRtWriter
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.graph import Writer
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.program import OPS, AvgPool, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator
from fixedpoint.quantize.qat import FakeQuantModel

IMPLEMENTATIONS = [
    FloatEvaluator,
    FakeQuantModel,
    IntegerEvaluator,
    FloatWriter,
    QdqWriter,
    QOperatorWriter,
    IntegerWriter,
    CWriter,
]
QUANTIZED_KINDS = {kind for kind, op in OPS.items() if op.quantized}
NOT_PORTABLE = {kind for kind, op in OPS.items() if op.not_portable} | {AvgPool.kind}  # refused, and made a convolution
TEXT = Path(__file__).parents[2] / "docs" / "arithmetic.md"


def has_method(implementation: type, kind: str) -> bool:
    """Whether the class, or a base class of this repository, defines it."""
    method = getattr(implementation, kind, None)
    return getattr(method, "__module__", "").startswith("fixedpoint.") and not hasattr(method, "__isabstractmethod__")


def oracle_knows(program: Program) -> bool:
    try:
        oracle.run(program.to_json(), numpy_constants(program), hard_inputs(program, 1))
    except NotImplementedError:
        return False
    return True


def with_kind(programs: dict[str, Program], kind: str) -> list[Program]:
    return [program for program in programs.values() if kind in {op.kind for op in program.ops}]


def places_without(kind: str) -> list[str]:
    missing = [f"a method of {c.__name__}" for c in IMPLEMENTATIONS if not has_method(c, kind)]
    programs = with_kind(PROGRAMS, kind)
    if not programs:
        missing.append("a program in tests/fixedpoint/programs.py")
    if not any(map(oracle_knows, programs)):
        missing.append("a branch of tests/fixedpoint/oracle.py")
    section = TEXT.read_text(encoding="utf-8").partition("## Operations")[2].partition("\n## ")[0]
    table = section.partition("|---|")[2]
    kinds = ", ".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)).split(", ")
    if kind not in kinds:
        missing.append("a row of the table of operations in docs/arithmetic.md")
    if kind not in NOT_PORTABLE and not has_method(LiteRtWriter, kind):
        missing.append("a method of LiteRtWriter")
    if kind not in NOT_PORTABLE and not with_kind(portable_programs.PROGRAMS, kind):
        missing.append("a program in tests/fixedpoint/portable_programs.py")
    return missing


@pytest.mark.parametrize("kind", sorted(QUANTIZED_KINDS))
def test_each_kind_of_operation_is_known_everywhere(kind):
    missing = places_without(kind)
    assert not missing, f"the operation {kind} lacks " + ", ".join(missing)


@pytest.mark.parametrize("kind", ["softmax", "half", "kind"])  # half and kind are other things that classes have
def test_a_kind_that_nobody_knows_is_missing_everywhere(kind):
    assert len(places_without(kind)) == len(IMPLEMENTATIONS) + 5


def test_an_abstract_method_is_no_implementation():
    assert not any(has_method(Writer, kind) for kind in QUANTIZED_KINDS)


def test_what_portable_arithmetic_has_not_needs_no_place_in_litert():
    assert NOT_PORTABLE < QUANTIZED_KINDS
    assert not any(
        has_method(LiteRtWriter, kind) or with_kind(portable_programs.PROGRAMS, kind) for kind in NOT_PORTABLE
    )


@pytest.mark.parametrize("kind", sorted(QUANTIZED_KINDS - NOT_PORTABLE))
def test_what_litert_lacks_is_named(kind, monkeypatch):
    monkeypatch.setattr(LiteRtWriter, kind, None)
    monkeypatch.setattr(portable_programs, "PROGRAMS", {})
    wanted = ["a method of LiteRtWriter", "a program in tests/fixedpoint/portable_programs.py"]
    assert places_without(kind) == wanted
