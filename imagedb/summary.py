"""The metrics of a packed database, also of one that was merged from shards."""

from collections.abc import Sequence

from imagedb.writer import Packed

NAMED = 100  # images of an unusual kind are named if there are at most this many


def summary(packed: Packed) -> dict:
    """How much was packed and what was found, as JSON values."""
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
    """The summary of a database made by `merge_databases`; what was found comes from the summaries of its shards."""
    notes = {}
    for kind in sorted({kind for shard in shards for kind in shard["notes"]}):
        parts = [shard["notes"].get(kind, _note(0, [])) for shard in shards]
        notes[kind] = _note(sum(part["images"] for part in parts), [name for part in parts for name in part["names"]])
    bad = {name: problem for shard in shards for name, problem in shard["bad_images"].items()}
    return summary(packed) | {"bad_images": bad, "notes": notes}


def _note(images: int, names: list[str]) -> dict:
    return {"images": images, "names": names if images <= NAMED else []}
