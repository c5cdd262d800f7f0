"""Jinja's templates in this folder: an undefined name is an error, and a line with only a tag leaves no line."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape


def environment(autoescape: bool) -> Environment:
    """The environment of templates for HTML (`autoescape`) or other text."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"joined": joined, "number": number, "thousands": thousands}
    return templates


def joined(html: Markup) -> Markup:
    """HTML in one line: a line end between words becomes a space, one beside a tag is removed."""
    return Markup(re.sub(r"\s*\n\s*", " ", re.sub(r"(?<=>)\s*\n\s*|\s*\n\s*(?=<)", "", html.strip())))


def number(value: object) -> Markup:
    """A number as HTML, with a minus sign and the sign of infinity."""
    return Markup(str(escape(value)).replace("-", "&minus;").replace("inf", "&infin;"))


def thousands(value: int) -> str:
    """A number with commas between thousands."""
    return f"{value:,}"
