import numpy as np
import pytest
from PIL import Image
from sample_images import noise

from imagedb.encode import Encoding
from pixels.resize import lanczos


@pytest.mark.parametrize("seed", range(30))
def test_lanczos_is_pillows(seed):
    width, height, across, down = np.random.default_rng(seed).integers(1, (150, 150, 70, 70)).tolist()
    image = Image.fromarray(noise(width, height, seed))
    expected = image.resize((across, height), Image.LANCZOS).resize((across, down), Image.LANCZOS)
    found = lanczos(image, (across, down))
    assert found.size == (across, down)
    assert found.tobytes() == expected.tobytes()


def test_an_encoding_takes_it_and_is_described_as_before():
    image = Image.fromarray(noise(90, 60))
    encodings = [Encoding("raw", "short", 31), Encoding("raw", "short", 31, resize=lanczos)]
    assert encodings[0].describe() == encodings[1].describe() == {"type": "raw", "side": "short", "size": 31}
    found, expected = (np.frombuffer(encoding(image, b"")[-31 * 46 * 3 :], np.uint8) for encoding in encodings)
    assert np.abs(found.astype(int) - expected).max() <= 1, "Pillow may begin with the columns"
