"""A disk that is full for one call: full_disk.c, preloaded into the server of stages."""

import mmap
import struct
import subprocess
from pathlib import Path

from attacks import Ended, StageServer

WORDS = struct.Struct("qq4096s")  # of full_disk.c


class FullDisk:
    """Runs stages of which one call that changes a file below `folder` fails with "no space left".

    Args:
        folder: Everything that stages write to lies below it; also temporary files and caches.
    """

    def __init__(self, folder: Path):
        self.folder, self.page = folder, folder.with_suffix(".page")
        library = folder.with_suffix(".so")
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self.server = StageServer(LD_PRELOAD=str(library))
        self.places = {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")}
        for place in self.places.values():
            Path(place).mkdir(parents=True, exist_ok=True)

    def run(self, command: str, project: Path, at: int) -> tuple[Ended, Path | None]:
        """Run a stage, whose call number `at` fails (0: none); returns how it ended and the path of that call."""
        self.log.unlink(missing_ok=True)
        self.page.write_bytes(WORDS.pack(0, at, b"").ljust(mmap.PAGESIZE * 2, b"\0"))
        watched = {"FULL_DISK": str(self.page), "FULL_DISK_BELOW": str(self.folder)}
        ended = self.server.run(command, project, **watched, **self.places)
        failed = WORDS.unpack(self.page.read_bytes()[: WORDS.size])[2].rstrip(b"\0").decode()
        return ended, Path(failed) if failed else None

    @property
    def log(self) -> Path:
        return self.page.with_suffix(".page.log")

    def calls(self) -> list[str]:
        """The calls of the last run: "write /a/path"; call number `at` is item `at - 1`."""
        return self.log.read_text().splitlines()
