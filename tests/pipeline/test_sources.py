from typing import get_args

import pytest

from pipeline.pack_params import Pack
from pipeline.sources import open_source


@pytest.mark.parametrize("kind", get_args(Pack.model_fields["source"].annotation))
def test_every_kind_that_params_allow_opens_and_looks_for_its_files(kind, tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match=str(tmp_path)):
        open_source(kind, str(tmp_path / "absent"), "val", "FashionMNIST" if kind == "torchvision" else None)


def test_a_folder_and_a_database_are_what_they_are_called(tmp_path, database):
    (tmp_path / "val/ant").mkdir(parents=True)
    (tmp_path / "val/ant/1.png").write_bytes(b"?")
    assert [item.name for item in open_source("folder", str(tmp_path), "val", None)] == ["ant/1.png"]
    packed = open_source("database", str(database.path.parent), database.path.name, None)
    assert [item.name for item in packed] == [record.name for record in database]


def test_mistakes():
    with pytest.raises(ValueError, match=r"^pack\.dataset is null: name a class of torchvision\.datasets there or "):
        open_source("torchvision", "data", "val", None)
    with pytest.raises(ValueError, match=r"^there is no source tar$"):
        open_source("tar", "data", "val", None)
