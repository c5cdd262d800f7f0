"""From which model file another was made."""

from fixedpoint.program import Program
from fixedpoint.quantize.convert import convert
from pipeline.forms import FLOAT, INT, PTQ, QAT
from storage.errors import InputError


def check_origins(reference: Program, programs: dict[str, Program]) -> None:
    """Make sure that each program was made from the one before.

    Raises:
        InputError: If one was not; names both files.
    """
    for file in (PTQ, QAT, INT):
        if programs[file.name].ops != reference.ops:
            raise InputError(f"{file.path} was not made from {FLOAT.path}: its operations differ")
    for name, value in convert(programs["qat"]).constants.items():
        if not value.equal(programs["int"].constants[name]):
            raise InputError(f"{INT.path} was not made from {QAT.path}: {name} differs")
