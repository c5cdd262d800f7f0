"""List the scripts: python -m stages."""

from pathlib import Path

from pipeline.cli import no_arguments, run
from pipeline.commands import commands


def main() -> None:
    no_arguments(__doc__)
    print(*commands(Path(__file__).parent), "\n--help of each says more", sep="\n")


if __name__ == "__main__":
    run(main)
