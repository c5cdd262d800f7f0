"""What `import pipeline` makes of the user's environment, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.environment import PINNED

REPOSITORY = Path(__file__).parents[2]
USUAL = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(REPOSITORY)}


def imported(code: str = "import pipeline", **variables: str) -> tuple[dict[str, str], list[str], int]:
    """The environment after `code`, the lines on stderr and the exit status."""
    command = [sys.executable, "-c", f"{code}; import os, json; print(json.dumps(dict(os.environ)))"]
    environment = {name: value for name, value in (USUAL | variables).items() if value}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return json.loads(done.stdout or "{}"), done.stderr.splitlines(), done.returncode


def test_instructions_are_pinned_without_a_word_where_nothing_else_is_asked_for():
    found, lines, _ = imported(OMP_NUM_THREADS="3", **PINNED)
    assert PINNED.items() <= found.items() and lines == [] and found["OMP_NUM_THREADS"] == "3"
    assert (found["HF_HUB_OFFLINE"], found["ORT_DISABLE_TELEMETRY"]) == ("1", "1")


def test_another_choice_is_named_once_and_not_used_by_torch():
    asked = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "AVX2", "OMP_DYNAMIC": "TRUE", "NVIDIA_TF32_OVERRIDE": "1"}
    code = "import pipeline, torch; assert torch.backends.cpu.get_cpu_capability() == 'AVX2'"
    found, lines, status = imported(code, ONEDNN_DEFAULT_FPMATH_MODE="BF16", TORCHINDUCTOR_CACHE_DIR="/x", **asked)
    assert PINNED.items() <= found.items() and found["TORCHINDUCTOR_CACHE_DIR"] == "/x"
    assert not {"OMP_DYNAMIC", "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE"} & found.keys()
    assert lines == [
        "note: 'ATEN_CPU_CAPABILITY=default, MKL_CBWR=AVX2, NVIDIA_TF32_OVERRIDE=1, OMP_DYNAMIC=TRUE, "
        "ONEDNN_DEFAULT_FPMATH_MODE=BF16' of the environment is not used: results do not depend on it"
    ]
    assert status == 0 and imported(**found)[1] == [], "a process that this one starts says nothing"


def test_torch_that_was_imported_too_early_ends_the_process():
    early = "import sys; sys.modules['torch'] = sys; import pipeline"
    error = "error: torch has been imported before `pipeline`, which pins its instructions: import pipeline first"
    assert imported(early)[1:] == ([error], 1)
    assert imported(early, MKL_DYNAMIC="1", **PINNED)[1:] == ([error], 1)
    assert imported(early, **PINNED)[1:] == ([], 0)


def test_a_user_without_a_name_or_a_home_gets_both(tmp_path):
    """User 12345 of `docker --user`, and a home that is missing; the second process finds the first one's folder."""
    nobody = "import os, pwd; os.getuid = lambda: 12345; pwd.getpwall = lambda: []; import pipeline"
    own = "import os, pwd; pwd.getpwall = lambda: []; import pipeline"
    assert imported(nobody)[0]["USER"] == "12345"
    for home in ("", "/nonexistent", __file__):
        found, lines, _ = imported(own, HOME=home, TMPDIR=str(tmp_path))
        assert (found["HOME"], lines) == (str(tmp_path / f"home-{os.getuid()}"), [])
    assert (tmp_path / f"home-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    assert imported(HOME=str(tmp_path))[0]["HOME"] == str(tmp_path)


@pytest.mark.parametrize("kind", ["file", "another user's"])
def test_no_folder_for_caches_is_one_line(tmp_path, kind):
    taken = tmp_path / "home-12345"
    taken.touch() if kind == "file" else taken.mkdir()
    code = "import os, pwd; os.getuid = lambda: 12345; import pipeline"
    _, lines, status = imported(code, HOME="/nonexistent", TMPDIR=str(tmp_path))
    assert status == 1 and len(lines) == 1
    assert lines[0].startswith("error: there is no folder for caches: ") and str(taken) in lines[0]
