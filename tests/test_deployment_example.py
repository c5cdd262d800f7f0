"""The NumPy example of docs/deployment.md prepares images as the pipeline does, to the bit, for every kind of input."""

import io
import re
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from project import REPOSITORY

from pixels.augmentation import InputFormat
from pixels.render import render
from pixels.views import center_views

PAGE = (REPOSITORY / "docs/deployment.md").read_text()
RANDOM = np.random.default_rng(0)
INPUTS = [*product((32, 48), ("yuv444", "rgb"), (None, 40), ("bilinear", "bicubic"))]


def example(input_format: InputFormat) -> dict:
    """The names that the example defines, for an input; a runtime is not needed for the preparation."""
    code = next(
        text for text in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "RESIZE" in text
    )
    code = code[code.index("RESIZE = None") : code.index("paths = ")].replace("RESIZE = None", "RESIZE = resize")
    code = re.sub(r"^(session|about) = .*\n", "", code, flags=re.MULTILINE)
    about = {
        "image_size": input_format.size,
        "class_names": ["a"],
        "color_space": input_format.color_space,
        "resample": input_format.resample,
    }
    names = {"about": about, "resize": input_format.resize, "np": np, "Image": Image}
    exec(code, names)
    return names


@pytest.mark.parametrize(("size", "color_space", "resize", "resample"), INPUTS)
def test_the_example_is_the_pipelines_preparation(tmp_path, size, color_space, resize, resample):
    input_format = InputFormat(size=size, color_space=color_space, resize=resize, resample=resample)
    prepare = example(input_format)["prepare"]
    for number, (shape, kind) in enumerate([((45, 61, 3), "PNG"), ((28, 20, 3), "PNG"), ((50, 40), "JPEG")]):
        buffer = io.BytesIO()
        Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8)).save(buffer, kind)
        path = tmp_path / str(number)
        path.write_bytes(buffer.getvalue())
        ours = render(buffer.getvalue(), center_views(input_format), input_format, torch.Generator())
        np.testing.assert_array_equal(prepare(path), ours.numpy())
