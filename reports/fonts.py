"""Fonts for drawings with text in any script: Pillow's own has little more than ASCII."""

import shutil
import subprocess
import warnings
from collections.abc import Iterable, Sequence

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

ANY = 12  # pixels; a font has the same characters in all sizes
NO_CHARACTER = "\U0010fffd"  # of private use: a font draws it as it does all that it lacks


def font_for(texts: Iterable[str], size: int) -> Font | None:
    """A font of `size` pixels that has all characters of the texts: Pillow's own, or fontconfig's choice of the system.

    Returns:
        The font; None if neither has them, or fontconfig is not installed.
    """
    characters = {each for text in texts for each in text if each.isprintable() and each != " "}
    own = ImageFont.load_default(size)
    if _has(own, characters):
        return own
    if not shutil.which("fc-match"):
        return None
    wanted = f"sans:scalable=true:charset={' '.join(f'{ord(each):x}' for each in sorted(characters))}"
    matched = subprocess.run(["fc-match", "--format", "%{file}", wanted], capture_output=True, text=True)
    font = ImageFont.truetype(matched.stdout, size) if matched.stdout else None
    return font if font and _has(font, characters) else None


def _has(font: Font, characters: Iterable[str]) -> bool:
    lacking = bytes(font.getmask(NO_CHARACTER))
    return all(bytes(font.getmask(each)) != lacking for each in characters)


def legible(names: Sequence[str]) -> list[str]:
    """The names of classes as a drawing can show them: "class 3" and so on, with a warning, if no font has them all."""
    if font_for(names, ANY):
        return [*names]
    example = next((name for name in names if not font_for([name], ANY)), names[0])
    warnings.warn(
        f"no font has all characters of the names of the classes, such as {example}, so drawings show their numbers; "
        "install fontconfig and a font, e.g. fonts-noto-cjk",
        stacklevel=2,
    )
    return [f"class {label}" for label in range(len(names))]
