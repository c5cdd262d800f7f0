"""A kind of operation is known everywhere, or a test says where it is missing."""

import re
from pathlib import Path

import oracle
import pytest
from programs import PROGRAMS, hard_inputs, numpy_constants

from fixedpoint.c_source import CWriter
from fixedpoint.floating import FloatEvaluator
from fixedpoint.integer import IntegerEvaluator
from fixedpoint.onnx_float import FloatWriter
from fixedpoint.onnx_graph import Writer
from fixedpoint.onnx_integer import IntegerWriter
from fixedpoint.onnx_qdq import QdqWriter
from fixedpoint.onnx_qoperator import QOperatorWriter
from fixedpoint.program import QUANTIZED_KINDS, Program
from fixedpoint.qat import FakeQuantModel

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
TEXT = Path(__file__).parents[2] / "docs" / "arithmetic.md"


def has_method(implementation: type, kind: str) -> bool:
    """Whether the class or one that it inherits from, libraries' excepted, defines it."""
    method = getattr(implementation, kind, None)
    return getattr(method, "__module__", "").startswith("fixedpoint.") and not hasattr(method, "__isabstractmethod__")


def oracle_knows(program: Program) -> bool:
    try:
        oracle.run(program.to_json(), numpy_constants(program), hard_inputs(program, 1))
    except NotImplementedError:
        return False
    return True


def places_without(kind: str) -> list[str]:
    missing = [f"a method of {c.__name__}" for c in IMPLEMENTATIONS if not has_method(c, kind)]
    programs = [program for program in PROGRAMS.values() if kind in {op.kind for op in program.ops}]
    if not programs:
        missing.append("a program in tests/fixedpoint/programs.py")
    if not any(map(oracle_knows, programs)):
        missing.append("a branch of tests/fixedpoint/oracle.py")
    section = TEXT.read_text(encoding="utf-8").partition("## Operations")[2].partition("\n## ")[0]
    table = section.partition("|---|")[2]
    kinds = ", ".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)).split(", ")
    if kind not in kinds:
        missing.append("a row of the table of operations in docs/arithmetic.md")
    return missing


@pytest.mark.parametrize("kind", sorted(QUANTIZED_KINDS))
def test_each_kind_of_operation_is_known_everywhere(kind):
    missing = places_without(kind)
    assert not missing, f"the operation {kind} lacks " + ", ".join(missing)


@pytest.mark.parametrize("kind", ["softmax", "half", "kind"])  # half and kind are other things that classes have
def test_a_kind_that_nobody_knows_is_missing_everywhere(kind):
    assert len(places_without(kind)) == len(IMPLEMENTATIONS) + 3


def test_an_abstract_method_is_no_implementation():
    assert not any(has_method(Writer, kind) for kind in QUANTIZED_KINDS)
