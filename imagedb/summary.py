"""What was packed, as the metrics of a database, and of one that was joined from shards."""

from collections.abc import Sequence

from imagedb.writer import Packed

NAMED = 100  # remarkable images are named if there are at most so many of a kind


def summary(packed: Packed) -> dict:
    """JSON values: how much was packed, and what was found."""
    header = packed.header
    return {
        "images": header.count,
        "classes": len(header.class_names),
        f"{'objects' if header.annotated else 'images'}_per_class": {
            "min": min(packed.per_class),
            "max": max(packed.per_class),
        },
        "bytes": packed.bytes,
        "digest": header.digest,
        "bad_images": packed.bad,
        "notes": {kind: _note(len(names), names) for kind, names in packed.notes.items()},
    }


def joined_summary(packed: Packed, shards: Sequence[dict]) -> dict:
    """The same of a database that `merge_databases` has made; what was found is in the summaries of its shards."""
    notes = {}
    for kind in sorted({kind for shard in shards for kind in shard["notes"]}):
        parts = [shard["notes"].get(kind, _note(0, [])) for shard in shards]
        notes[kind] = _note(sum(part["images"] for part in parts), [name for part in parts for name in part["names"]])
    bad = {name: problem for shard in shards for name, problem in shard["bad_images"].items()}
    return summary(packed) | {"bad_images": bad, "notes": notes}


def _note(images: int, names: list[str]) -> dict:
    return {"images": images, "names": names if images <= NAMED else []}
