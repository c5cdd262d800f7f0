"""What attacks share: copies of a finished small project, and stages that run in them under limits."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from project import REPOSITORY, environment


@dataclass(frozen=True)
class Ended:
    """How a process ended: `code` is minus the signal that killed it, None if it hung and was killed for that."""

    code: int | None
    output: str
    errors: str

    @property
    def line(self) -> str:
        """The one line, without "error: ", by which it failed; an AssertionError if it ended in any other way."""
        lines = [
            line for line in self.errors.splitlines() if not line.startswith(("warning: ", "INFO: "))
        ]  # INFO: LiteRT
        assert self.code == 1, f"{self.code}: {self.errors}"
        assert len(lines) == 1, self.errors
        assert lines[0].startswith("error: "), self.errors
        return lines[0].removeprefix("error: ")


def copy_of(project: Path, folder: Path) -> Path:
    """A copy of a project with its git and DVC, to be spoiled; the file system shares the contents if it can."""
    subprocess.run(["cp", "-a", "--reflink=auto", project, folder], check=True)
    return folder


def start(
    command: str,
    folder: Path,
    seconds: float = 120,
    before: Callable[[], object] | None = None,
    prefix: tuple[str, ...] = (),
    **variables: str,
) -> Ended:
    """Run a script, such as "stages.validate --step int", as a user does: by `python -m`, in a process of its own.

    Args:
        before: Called in the new process, before Python starts there.
        prefix: Words of a command that starts it, such as `setpriv --reuid 1`.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *command.split()],
            cwd=folder,
            env=environment(folder) | variables,
            stdout=out,
            stderr=err,
            preexec_fn=before,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        texts = [file.seek(0) or file.read() for file in (out, err)]
    return Ended(code, *texts)


class StageServer:
    """Runs stages in forks of one process (stage_server.py), each within a fraction of a second.

    Args:
        prefix: Words of a command that starts it, such as `taskset -c 0`.
        variables: Further variables of its environment, such as LD_PRELOAD; None: not set.
    """

    def __init__(self, *prefix: str, **variables: str | None):
        modules = [f"stages.{path.stem}" for path in sorted((REPOSITORY / "stages").glob("[!_]*.py"))]
        path = {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
        self._process = subprocess.Popen(
            [*prefix, sys.executable, Path(__file__).with_name("stage_server.py"), json.dumps(modules)],
            env={
                key: value for key, value in (environment(REPOSITORY) | path | variables).items() if value is not None
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        command: str,
        folder: Path,
        seconds: float = 60,
        limits: Mapping[str, int] | None = None,
        extra_memory: int | None = None,
        signals: Sequence[tuple[float, int]] = (),
        **variables: str,
    ) -> Ended:
        """As `start`, such as "validate --step int"; `limits` by name: RLIMIT_FSIZE and others.

        `extra_memory` is a limit of the address space, beyond what the imports have taken. `signals` are those that it
        gets, with the seconds from its start, in that order.
        """
        assert self._process.stdin and self._process.stdout
        module, *arguments = command.split()
        with tempfile.TemporaryDirectory() as texts:
            task = {
                "module": f"stages.{module}",
                "arguments": arguments,
                "folder": str(folder),
                "environment": variables,
                "limits": dict(limits or {}),
                "extra_memory": extra_memory,
                "signals": list(signals),
                "seconds": seconds,
                "out": f"{texts}/out",
                "err": f"{texts}/err",
            }
            for name in ("out", "err"):  # a signal may come before the process opens them
                Path(texts, name).touch()
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            code = json.loads(self._process.stdout.readline())["code"]
            return Ended(code, *(Path(texts, name).read_text(errors="replace") for name in ("out", "err")))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
