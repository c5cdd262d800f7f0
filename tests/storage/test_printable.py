import pytest

from storage.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("T-shirt/top é 猫 🐈", "T-shirt/top é 猫 🐈"),
        ("\x1b[2Jred", r"\x1b[2Jred"),
        ("a\nb\r\x00", r"a\nb\r\x00"),
        ("\u202egpj.exe", r"\u202egpj.exe"),  # written from right to left
        (b"\xff.png".decode(errors="surrogateescape"), r"\udcff.png"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(text, None) == shown


def test_a_long_text_is_cut():
    assert printable("x" * 80) == "x" * 80
    assert printable("x" * 81) == "x" * 80 + "…"
    assert printable("x" * 10_000, 5) == "xxxxx…"
    assert printable("x" * 10_000, None) == "x" * 10_000
