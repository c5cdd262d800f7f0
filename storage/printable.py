"""Names from files, of classes and images, as text that a terminal, a table or a drawing can show."""

LONGEST = 80


def printable(text: str, longest: int | None = LONGEST) -> str:
    """A text in one line, in which what is no sign or blank, such as ESC, is escaped.

    Args:
        longest: Characters of it after which it is cut; None: it is not.
    """
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return shown if longest is None or len(text) <= longest else f"{shown}…"
