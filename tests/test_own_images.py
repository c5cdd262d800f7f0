"""Three classes of pictures, two commands: `make new`, `make repro`, and every form of the model is exact."""

import json
import re
import subprocess

import pytest
from photographs import write_photographs
from project import REPOSITORY, environment, make_project, shell

pytestmark = pytest.mark.experiments
NAMES = ("hot trousers", "sneaker, low", "7")  # with a blank, with a comma, and a number


def test_own_images_are_right_the_first_time(tmp_path):
    folder = make_project(tmp_path / "project")
    (folder / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    write_photographs(folder / "my photos", 40, NAMES)
    made = subprocess.run(
        ["python", "-m", "tools.new", "my photos"], cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    done = subprocess.run(["dvc", "repro"], cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not re.search(
        r"warning: (the network sees|half of|the images seem)|all are used for", done.stdout + done.stderr
    )
    metrics = {path.stem: json.loads(path.read_text()) for path in (folder / "metrics").glob("*.json")}
    assert (metrics["pack_train"]["images"], metrics["pack_val"]["images"]) == (96, 24)
    assert metrics["overlap"]["val_in_train"] == 0
    assert metrics["summary"]["mismatches"] == 0
    assert metrics["float"]["top1"] >= 75 and metrics["int"]["top1"] >= 70  # a third by chance
    card = (folder / "artifacts/MODEL_CARD.md").read_text()
    assert '| classes | 7, hot trousers, "sneaker, low" |' in card
    assert "Whose the images are, and on which terms they may be used, is not stated." in card
    shell(folder, "python -m tools.gate")
