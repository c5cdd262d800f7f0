import shutil
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw

from reports.fonts import font_for, legible

needs_fontconfig = pytest.mark.skipif(not shutil.which("fc-match"), reason="fontconfig is not installed")


def drawn(text, font):
    image = Image.new("L", (60, 30))
    ImageDraw.Draw(image).text((2, 2), text, 255, font)
    return np.asarray(image)


def test_ascii_has_pillows_own_font():
    font = font_for(["T-shirt/top (0)", ""], 12)
    assert font is not None and font.getname() == ("Aileron", "Regular")


@needs_fontconfig
def test_other_letters_have_a_font_of_the_system():
    font = font_for(["кошка", "café"], 16)
    if font is None:
        pytest.skip("no font of this system has Cyrillic letters")
    assert font.size == 16 and len({drawn(letter, font).tobytes() for letter in "кшéc"}) == 4


def test_names_that_a_font_has_stay():
    with warnings.catch_warnings(action="error"):
        assert legible(["ant", "bee"]) == ["ant", "bee"]


@pytest.mark.parametrize("installed", [True, False])
def test_names_that_no_font_has_are_numbers_and_a_warning_says_why(monkeypatch, tmp_path, installed):
    if installed:  # and finds no font
        (tmp_path / "fc-match").write_text("#!/bin/sh\n")
        (tmp_path / "fc-match").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(UserWarning, match="such as 猫, .*; install fontconfig and a font, e.g. fonts-noto-cjk"):
        assert legible(["ant", "猫"]) == ["class 0", "class 1"]
