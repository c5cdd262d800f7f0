"""Parses HTML into a tree, to find the text of a page."""

from html.parser import HTMLParser
from xml.etree.ElementTree import Element, TreeBuilder

VOID = {"meta", "br", "wbr", "img"}
ASCII = str.maketrans({"\u2212": "-", "\u2013": "--", "\u00d7": "x", "\u2026": "..", "\u221e": "inf", "\u2002": " "})


class _Parser(HTMLParser):
    """Fails where tags are not closed in order."""

    def __init__(self):
        super().__init__()
        self.builder, self.open = TreeBuilder(), []

    def handle_starttag(self, tag, attributes):
        self.builder.start(tag, {name: value or "" for name, value in attributes})
        if tag in VOID:
            self.builder.end(tag)
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.builder.end(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_data(self, data):
        if self.open:
            self.builder.data(data)


def tree(html: str) -> Element:
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.builder.close()


def text(element: Element) -> str:
    """The text of an element in ASCII; a line break is a space."""
    for line_break in element.iter("br"):
        line_break.text = " "
    return "".join(element.itertext()).translate(ASCII)


def section(page: Element, heading: str) -> Element:
    """The section with this heading."""
    (found,) = (each for each in page.iter("section") if text(each.find("h2")) == heading)
    return found


def rows(table: Element) -> list[list[str]]:
    """The text of the cells of a table's body."""
    return [[text(cell) for cell in row] for row in table.find("tbody")]


def of_class(element: Element, name: str) -> list[Element]:
    return [each for each in element.iter() if name in each.get("class", "").split()]
