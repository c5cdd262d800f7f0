"""Damaged and hostile images: what packing calls whole is decoded everywhere, all else is named; memory is not touched
beyond its ends."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from mutated_images import mutants, whole_images

pytestmark = pytest.mark.faults

REPOSITORY = Path(__file__).parents[2]
KINDS = whole_images()
JPEG = [kind for kind in KINDS if kind.startswith("JPEG")]
EACH = 250  # mutants of each kind

CHECK = """
import json, resource, signal, sys, time
sys.path[:0] = [*sys.argv[1:3], '.']
import torch
from imagedb.images import decode_image, inspect_image
from mutated_images import mutants, whole_images
from pixels.augmentation import InputFormat
from pixels.render import render
from pixels.views import center_views
from storage.errors import InputError

resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30,) * 2)
wanted = InputFormat(size=16, color_space="yuv444", resize=20, resample="bilinear")
found, kinds = {}, whole_images()
signal.alarm(280)
for kind in kinds:
    if not kind.startswith(sys.argv[3]):
        continue
    tried = whole = 0
    start = time.process_time()
    for data in mutants(kind, kinds[kind], int(sys.argv[4]), seed=0):
        tried += 1
        try:
            image, _ = inspect_image(data, kind)
            whole += 1
        except InputError as error:
            assert "\\n" not in str(error) and len(str(error)) < 300, error
            for decode in (lambda: decode_image(data), lambda: decode_image(data, tolerant=True),
                           lambda: render(data, center_views(wanted), wanted, torch.Generator())):
                try:
                    decode()
                except InputError:
                    pass
        else:
            assert decode_image(data).tobytes() == decode_image(data, tolerant=True).tobytes() == image.tobytes()
            assert render(data, center_views(wanted), wanted, torch.Generator()).shape == (3, 16, 16)
    found[kind] = tried, whole, time.process_time() - start
print(json.dumps(found))
"""


@pytest.mark.parametrize("format", sorted({kind.split()[0] for kind in KINDS}))
def test_what_inspection_calls_whole_is_decoded_and_all_else_is_named(format):
    command = [sys.executable, "-c", CHECK, REPOSITORY, Path(__file__).parent, format, str(EACH)]
    done = subprocess.run(command, cwd=REPOSITORY / "tests", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found.keys() == {kind for kind in KINDS if kind.startswith(format)}
    for kind, (tried, whole, seconds) in found.items():
        assert tried == EACH
        assert 0 < whole < EACH, f"{kind}: some damage is in metadata or in pixels, most is not"
        assert seconds < 30, kind


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    program = tmp_path_factory.mktemp("driver") / "driver"
    sources = ["-include", str(REPOSITORY / "pixels/native.c"), str(Path(__file__).with_name("native_driver.c"))]
    checks = ["-g", "-O1", "-mavx2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["cc", "-std=gnu11", *checks, *sources, "-o", program, "-ljpeg", "-lm"], check=True)
    return program


@pytest.mark.parametrize("kind", JPEG)
def test_native_code_stays_within_its_memory(driver, kind):
    files = [KINDS[kind], *mutants(kind, KINDS[kind], EACH, seed=1)]
    stream = b"".join(struct.pack("=I", len(data)) + data for data in files)
    done = subprocess.run([driver], input=stream, capture_output=True, timeout=200)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    tried, known, decoded = map(int, done.stdout.split())
    assert tried == len(files)
    if "CMYK" not in kind:  # which Pillow decodes
        assert known > EACH // 10
        assert decoded > known
