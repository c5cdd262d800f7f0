import io
from pathlib import Path

import pytest
from PIL import Image

from imagedb.record import Annotation, Object
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from pipeline.cli import run
from reports.contact_sheet import contact_sheet
from tools import view

CLASSES = ["T-shirt/top", "Sandal", "Bag"]


class Images(IndexedSource):
    """40 images; number i has the class i % 2, or where annotated, objects of the classes i % 2 and 0."""

    class_names = CLASSES

    def __init__(self, annotated):
        self.annotated = annotated
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
        self.image = buffer.getvalue()

    def __len__(self):
        return 40

    def __getitem__(self, index):
        objects = Object(index % 2, (0, 0, 4, 4)), Object(0, (1, 1, 8, 8))
        annotation = (lambda: Annotation(objects)) if self.annotated else None
        return SourceImage(f"image {index}", None if self.annotated else index % 2, self.image, annotation=annotation)


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    write_database(Images(annotated=False), folder / "labels.lmdb")
    write_database(Images(annotated=True), folder / "boxes.lmdb")
    return folder


@pytest.fixture
def stage(databases, tmp_path, monkeypatch):
    """Runs the stage in an empty folder, and returns what it draws: indices, columns, tile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNS_DIR", raising=False)

    def run_stage(database, *arguments):
        drawn = []

        def draw(database, indices, columns, tile):
            drawn.append((list(indices), columns, tile))
            return contact_sheet(database, indices, columns, tile)

        monkeypatch.setattr(view, "contact_sheet", draw)
        monkeypatch.setattr("sys.argv", ["view", str(databases / database), *arguments])
        run(view.main)
        return drawn[0]

    return run_stage


def test_records_of_each_class_go_to_runs(stage, capsys):
    indices, columns, tile = stage("labels.lmdb")
    assert (len(indices), columns, tile) == (36, 6, 160)
    assert capsys.readouterr().out == "runs/view_labels.png\n"
    assert [str(path) for path in Path().rglob("*.*")] == ["runs/view_labels.png"]
    image = Image.open("runs/view_labels.png")
    assert (image.format, image.width) == ("PNG", 6 * 168 + 8)
    indices, *layout = stage("labels.lmdb", "-n", "4")  # evenly spaced records would be of one class
    assert ([index % 2 for index in sorted(indices, key=lambda index: index % 2)], layout) == ([0, 0, 1, 1], [4, 160])


def test_output_and_layout(stage, monkeypatch, capsys):
    assert stage("labels.lmdb", "-n", "5", "--columns", "3", "--tile", "20", "--output", "a/b.png")[1:] == (3, 20)
    assert Path("a/b.png").is_file()
    monkeypatch.setenv("RUNS_DIR", "elsewhere")
    stage("boxes.lmdb", "-n", "1")
    assert capsys.readouterr().out == "a/b.png\nelsewhere/view_boxes.png\n"
    assert Path("elsewhere/view_boxes.png").is_file()


def test_records_from_a_number_on(stage):
    assert stage("labels.lmdb", "-n", "3", "--start", "7")[0] == [7, 8, 9]
    assert stage("labels.lmdb", "--start", "38")[0] == [38, 39]


def test_random_records_depend_on_the_seed(stage):
    first, again, other = (stage("labels.lmdb", "-n", "10", "--random", seed)[0] for seed in "112")
    assert first == again == sorted(set(first))
    assert first != other
    assert len(first) == len(other) == 10
    assert set(first + other) < set(range(40))


@pytest.mark.parametrize(
    ("database", "name", "expected"),
    [
        ("labels.lmdb", "Sandal", [1, 3, 5]),
        ("labels.lmdb", "T-shirt/top", [0, 2, 4]),
        ("boxes.lmdb", "Sandal", [1, 3, 5]),
        ("boxes.lmdb", "T-shirt/top", [0, 1, 2]),
    ],
)
def test_the_first_records_of_a_class(stage, database, name, expected):
    assert stage(database, "-n", "3", "--label", name)[0] == expected


def test_a_class_of_fewer_records_is_shown_whole(stage):
    assert stage("labels.lmdb", "-n", "36", "--label", "Sandal")[0] == list(range(1, 40, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("labels.lmdb -n 41", "-n 41 is not allowed, must be 1 to 40, the records of {database}"),
        ("labels.lmdb -n 0", "-n 0 is not allowed, must be 1 to 40, the records of {database}"),
        ("labels.lmdb --start 40", "--start 40 is not allowed, must be 0 to 39, a record of {database}"),
        ("labels.lmdb --start -1", "--start -1 is not allowed, must be 0 to 39, a record of {database}"),
        ("labels.lmdb --label sandels", "{database} has no class 'sandels'; the nearest is 'Sandal'"),
        ("boxes.lmdb --label Bag", "{database} has no record of class 'Bag'"),
        ("labels.lmdb --columns 0", "0 columns of 160 pixels are not allowed, must be at least 1 of 16"),
        ("labels.lmdb --tile 9999999", "6 columns of 9999999 pixels are not allowed, at most 32768 in all"),
        ("none.lmdb", "{database} does not exist; `python -m stages.pack` makes it"),
    ],
)
def test_mistakes_are_one_line(stage, databases, arguments, message):
    name, *rest = arguments.split()
    with pytest.raises(SystemExit) as stop:
        stage(name, *rest)
    assert stop.value.code == f"error: {message.format(database=databases / name)}"
    assert not list(Path().iterdir())


def test_only_one_choice_of_records(stage, capsys):
    with pytest.raises(SystemExit):
        stage("labels.lmdb", "--start", "1", "--label", "Bag")
    assert "not allowed with argument --start" in capsys.readouterr().err
