"""What is wrong with values of parameters, in words that name each key and what is allowed."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pipeline.yaml_file import one_line

MOST = 20  # mistakes that one line names


def explained(problems: Sequence[ErrorDetails], schema: type[BaseModel]) -> str:
    """The mistakes that pydantic has found in values for `schema`, on one line."""
    shown = [_explain(problem, schema) for problem in problems[:MOST]]
    return "; ".join([*shown, *["…"] * (len(problems) > MOST)])


def _explain(problem: ErrorDetails, schema: type[BaseModel]) -> str:
    name = one_line(".".join(str(part) for part in problem["loc"] if part != "[key]"))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        *parents, key = map(str, problem["loc"])
        allowed = sorted(_section(parents, schema).model_fields)
        near = get_close_matches(key, allowed, n=1)
        hint = f"did you mean {'.'.join([*parents, near[0]])}?" if near else f"allowed: {', '.join(allowed)}"
        return f"{name} is not a parameter; {hint}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":  # an error of several values together
        return f"{name}: {message}" if name else message
    must = "be a block of parameters" if problem["type"] == "model_type" else message.partition(" should ")[2]
    return f"{name or 'the file'}: {one_line(repr(problem['input']))} is not allowed, must {must or message}"


def _section(path: list[str], schema: type[BaseModel]) -> type[BaseModel]:
    section = schema
    for name in path:
        if name not in section.model_fields:
            continue  # a key of a dictionary
        annotation = section.model_fields[name].annotation
        section = next(
            (t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, BaseModel)),
            section,
        )
    return section
