import json

import pytest

from pipeline.latency import latencies
from storage.errors import InputError

RESULT = {"case": "net, 32 px", "column": "1 image, 1 thread", "unit": "images/s", "contestant": "int8.tflite, LiteRT"}
RESULT |= {"values": [100.0, 500.0, 400.0]}


def write(path, *results):
    path.write_text(json.dumps({"parts": {"data": {}, "deploy": {"results": results}}}))
    return path


def test_the_median_of_our_files_on_one_thread(tmp_path):
    others = [{"contestant": "a peer"}, {"case": "net, 64 px"}, {"column": "1 image, 2 threads"}, {"unit": "MiB"}]
    path = write(tmp_path / "a", RESULT, *(RESULT | each for each in [*others, {"values": []}]))
    assert latencies("net", 32, [path]) == [("int8.tflite, LiteRT", 2.5, str(path))]


def test_the_first_file_that_has_some(tmp_path):
    empty, full = write(tmp_path / "a"), write(tmp_path / "b", RESULT)
    assert [each.source for each in latencies("net", 32, [tmp_path / "none", empty, full])] == [str(full)]
    assert latencies("other", 32, [full]) == []


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"parts": {"deploy": {"results": [{}]}}}', '{"parts": []}'])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "benchmarks.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"^{path}"):
        latencies("net", 32, [path])
