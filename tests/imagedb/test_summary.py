from imagedb.record import Header
from imagedb.summary import joined_summary, summary
from imagedb.writer import Packed


def packed(annotated=False, **found):
    return Packed(Header(3, ["a", "b", "c"], "d1", annotated=annotated), 99, [1, 0, 2], **found)


def test_numbers_and_names():
    found = {"bad": {"x": "skipped: empty"}, "notes": {"CMYK": ["x", "y"], "grey": [str(i) for i in range(101)]}}
    assert summary(packed(**found)) == {
        "images": 3,
        "classes": 3,
        "images_per_class": {"min": 0, "max": 2},
        "bytes": 99,
        "digest": "d1",
        "bad_images": {"x": "skipped: empty"},
        "notes": {"CMYK": {"images": 2, "names": ["x", "y"]}, "grey": {"images": 101, "names": []}},
    }
    assert summary(packed(annotated=True))["objects_per_class"] == {"min": 0, "max": 2}


def test_what_was_found_in_shards_is_joined():
    shards = [
        summary(packed(bad={"x": "skipped"}, notes={"CMYK": ["x"], "grey": [str(i) for i in range(60)]})),
        summary(packed(bad={"z": "kept"}, notes={"grey": [str(i) for i in range(60, 100)], "animated": ["y"]})),
        summary(packed(notes={"animated": [str(i) for i in range(100)]})),
    ]
    joined = joined_summary(packed(), shards)
    assert joined == summary(packed()) | {"bad_images": {"x": "skipped", "z": "kept"}, "notes": joined["notes"]}
    assert joined["notes"] == {
        "CMYK": {"images": 1, "names": ["x"]},
        "animated": {"images": 101, "names": []},
        "grey": {"images": 100, "names": [str(i) for i in range(100)]},
    }
    assert list(joined["notes"]) == ["CMYK", "animated", "grey"]
