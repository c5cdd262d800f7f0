"""The LMDB file of a database under limits of the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource
from pathlib import Path
from imagedb.lmdb_file import LmdbReader, LmdbWriter
from imagedb.record import Header, Record, pack_record

def limit(mib):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + mib * 2**20, resource.RLIM_INFINITY))

def write(path):
    writer = LmdbWriter(Path(path))
    for index in range(3000):
        record = Record(bytes(10_000), 0, str(index))
        writer.put(record, pack_record(record))
    writer.finish(Header(3000, ["a"], ""))
"""


def run(code, folder):
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", CODE + code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("mib", "needed"), [(8, "16.8"), (30, "33.6")])
def test_map_that_cannot_be_had_is_named_with_both_sizes(tmp_path, mib, needed):
    code = f"""
limit({mib})
try:
    write("a.lmdb")
except MemoryError as error:
    print(error, resource.getrlimit(resource.RLIMIT_AS)[0])
"""
    message, limit = run(code, tmp_path).rsplit(maxsplit=1)
    allowed = f"{int(limit) / 1e6:,.1f}"
    assert message == f"LMDB needs {needed} MB of addresses for a.lmdb, `ulimit -v` allows {allowed} in all"


def test_a_database_is_read_in_less_memory_than_it_is_long(tmp_path):
    code = """
write("a.lmdb")
size = Path("a.lmdb").stat().st_size
limit(8)
reader = LmdbReader(Path("a.lmdb"))
print(size > 30e6, {reader.record(index).name == str(index) for index in range(3000)})
"""
    assert run(code, tmp_path) == "True {True}\n"
