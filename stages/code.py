"""List the code and packages that each stage depends on: artifacts/code/<script>.txt.

python -m stages.code

Each other stage runs again if its file changes. `make repro` runs this one each time, to see what is installed.
"""

import argparse
from pathlib import Path

from pipeline.cli import run
from pipeline.code import dependencies
from pipeline.params import load_params
from storage.files import whole_file

FOLDER = Path("artifacts/code")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    extras = {"train_float": params.augment.extra, "train_qat": params.qat.augment.extra}
    scripts = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py") if path != Path(__file__))
    texts = {script: dependencies(script, params.model.name, extras.get(script)) for script in scripts}
    for script, text in texts.items():
        with whole_file(FOLDER / f"{script}.txt") as partial:
            partial.write_text(text, encoding="utf-8")
    print(f"the code of {len(scripts)} scripts in {FOLDER}")


if __name__ == "__main__":
    run(main)
