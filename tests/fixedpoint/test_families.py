"""Families of timm's networks through every form: `make test-networks`; NETWORKS=all, or names, writes the table."""

import os

import pytest
from families import CONVOLUTIONAL, OTHERS, read_rows, try_family, write_rows

# Light ones, which have all kinds of operations of the table between them, and one that is refused.
SAMPLE = ["CSPNeXt", "Darknet", "ECA-ResNeXt", "FasterNet", "InceptionNeXt", "MobileNetV3, TensorFlow"]
ALL = CONVOLUTIONAL | OTHERS
ASKED = os.environ.get("NETWORKS", "").replace(",", " ").split()
if unknown := {*ASKED} - {"all", *(network for network, _ in ALL.values())}:
    raise ValueError(f"NETWORKS has {', '.join(sorted(unknown))}, must be all or networks of docs/families.md")
CHOSEN = [family for family, (network, _) in ALL.items() if ASKED == ["all"] or network in ASKED] if ASKED else SAMPLE


@pytest.mark.networks
@pytest.mark.parametrize("family", CHOSEN)
def test_a_family_is_exact_or_refused_as_the_table_says(family, tmp_path):
    row = try_family(family, tmp_path)
    if ASKED:
        write_rows(read_rows() | {family: row})
    else:
        assert row == read_rows()[family]


def test_the_table_is_of_these_families():
    rows = read_rows()
    assert {family: (row.network, int(row.size)) for family, row in rows.items()}.items() <= ALL.items()
    assert not any(rows[family].arithmetic for family in OTHERS if family in rows)
    exact = [family for family in CONVOLUTIONAL if rows[family].arithmetic]  # none is missing
    assert len(exact) >= 0.9 * len(CONVOLUTIONAL)


def test_the_sample_has_all_kinds_of_operations_and_a_refusal():
    rows = read_rows()
    chosen = [rows[family] for family in SAMPLE]
    kinds = [{kind for row in some for kind in row.kinds.split()} for some in (rows.values(), chosen)]
    assert kinds[0] == kinds[1]
    assert {bool(row.arithmetic) for row in chosen} == {True, False}
