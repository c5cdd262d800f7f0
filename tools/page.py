"""Write the results on one page that needs no network: artifacts/index.html.

python -m tools.page                  those of the workspace
python -m tools.page --against main   beside those of another revision

It shows what the stages have written to metrics/ and plots/, DVC's table of experiments, what `make bench`
has measured, and links to the files.
"""

import argparse
import os
from pathlib import Path

from pipeline.cli import run
from storage.files import whole_file

PAGE = Path("artifacts/index.html")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REVISION", help="a commit of git that stands beside the workspace")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from pipeline.experiments import experiments
from pipeline.forms import FORMS, ONNX, C
from pipeline.latency import latencies
from pipeline.params import load_params
from pipeline.results import read_metrics
from pipeline.revision import WORKSPACE, commit, results, workspace
from reports.results_page import Link, page
from reports.summary import Headline

# Files that are worth a link, and their labels.
FILES = {
    Path("artifacts/int/report.html"): "what quantization costs in each layer",
    Path("artifacts/MODEL_CARD.md"): "model card",
    Path("metrics/summary.md"): "all tables",
    **{form.path: form.label for form in FORMS.values()},
    **{ONNX / f"int8_{kind}.onnx": f"ONNX int8 ({label})" for kind, label in (("qdq", "QDQ"), ("integer", "integer"))},
    C / "network.c": "C source",
}


def main() -> None:
    against = parse_arguments().against
    read_metrics("summary", "validate", Headline)  # so that it is there, and whole
    revisions = [results(WORKSPACE, workspace)]
    if against:
        revisions.append(results(against, commit(against)))
    links = [
        Link(os.path.relpath(path, PAGE.parent), f"{path.name}: {label}", path.stat().st_size)
        for path, label in FILES.items()
        if path.is_file()
    ]
    params = load_params()
    text = page(revisions, experiments(), links, latencies(params.model.name, params.input.size))
    with whole_file(PAGE) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    run(main)
