"""Export the integer model to C: network.c, network.h and main.c, whose comments say how to use them; selfcheck.c.

python -m stages.export_c [--checkpoint artifacts/int/model.safetensors] [--output artifacts/c] [--name network]

With another name, it stands in the place of `network` in the names of files, functions, arrays and macros, so that one
C program can hold several networks; main.c is <name>_main.c then.
"""

import argparse
from pathlib import Path

from fixedpoint.c.files import NAME, file_name
from pipeline.cli import run
from pipeline.forms import GOLDEN, INT, C, metadata, stored_program
from pipeline.paths import require
from storage.files import whole_file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=INT.path, help="an integer model (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", default=C, help="default: %(default)s")
    parser.add_argument("--name", default=NAME, help="what names of files, functions and macros begin with")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from fixedpoint.analysis.golden import golden_input
from fixedpoint.c.source import c_source, memory_bytes
from pipeline.c_check import c_check


def main() -> None:
    arguments = parse_arguments()
    stored = INT.load(arguments.checkpoint)
    program = stored_program(stored)
    sources = c_source(program, metadata(stored.info), arguments.name)
    images = golden_input(require(GOLDEN, "make golden"), program)
    sources[file_name("selfcheck.c", arguments.name)] = c_check(program, images, arguments.name)
    for name, text in sources.items():
        with whole_file(arguments.output / name) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    needed = memory_bytes(program)
    print(
        f"{arguments.output}: {needed['ram']:,} bytes of activations (RAM), {needed['flash']:,} bytes of constants "
        f"(flash), at most {needed['stack']:,} bytes of stack"
    )


if __name__ == "__main__":
    run(main)
