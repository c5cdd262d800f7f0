import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from reports.templates import environment, joined, number


def test_lines_are_joined_as_html_means_them():
    html = "\n<p>\n  one <b>two</b> three\n  four\n</p>\n<p>\n  {}\n</p>\n"
    assert joined(Markup(html).format("<x>")) == "<p>one <b>two</b> three four</p><p>&lt;x&gt;</p>"


def test_numbers_are_signs_of_html():
    assert [number(each) for each in (-3, "-inf", "inf", "<0.001")] == [
        *("&minus;3", "&minus;&infin;", "&infin;", "&lt;0.001"),
    ]


def test_only_html_is_escaped_and_a_missing_name_is_an_error():
    text = "{{ name }}, {{ 1234567 | thousands }}"
    assert environment(autoescape=True).from_string(text).render(name="<a>") == "&lt;a&gt;, 1,234,567"
    assert environment(autoescape=False).from_string(text).render(name="<a>") == "<a>, 1,234,567"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        environment(autoescape=False).from_string(text).render()
