import io
import tarfile

import pytest

from imagedb.sources.tar import members
from storage.errors import InputError


def archive(*entries, form=tarfile.GNU_FORMAT):
    """A tar file of (name, content or type, attributes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content, *attributes in entries:
            info = tarfile.TarInfo(name)
            for key, value in attributes:
                setattr(info, key, value)
            if isinstance(content, bytes) and len(content) != 1:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = content
                tar.addfile(info)
    return buffer.getvalue()


def found(data, start=0, end=None):
    file = io.BytesIO(data)
    end = len(data) if end is None else end
    return {name: data[offset : offset + size] for name, offset, size in members(file, start, end, "a.tar")}


def with_size(data, field):
    """The archive with another size in its first header, and the right checksum."""
    data = bytearray(data)
    data[124:136] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def test_names_are_names_of_files_and_never_paths():
    names = {"../../x.JPEG": b"xx", "/etc/passwd": b"pp", "a/b/c.JPEG": b"ccc", "empty": b""}
    assert found(archive(*names.items())) == {"x.JPEG": b"xx", "passwd": b"pp", "c.JPEG": b"ccc", "empty": b""}


def test_folders_and_pax_headers_of_times_are_passed_over():
    data = archive(("d", tarfile.DIRTYPE), ("d/a", b"aa", ("mtime", 1.5)), form=tarfile.PAX_FORMAT)
    assert b" mtime=1.5" in data
    assert found(data) == {"a": b"aa"}


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"V", "of type b'V'"),
    ],
)
def test_what_is_no_file_is_named(kind, named):
    data = archive(("a", b"aa"), ("x\n", kind, ("linkname", "/etc/passwd")))
    with pytest.raises(InputError) as refusal:
        found(data)
    assert str(refusal.value) == f"a.tar holds 'x\\n', {named}; expected files and folders"


def test_long_names_are_named():
    with pytest.raises(InputError, match=r"^a\.tar holds '././@LongLink', a long name; expected files and folders$"):
        found(archive(("n" * 200, b"aa")))
    with pytest.raises(
        InputError, match=r"^a\.tar has a PAX header with a name, a size or sparse data; expected a plain"
    ):
        found(archive(("n" * 300, b"aa"), form=tarfile.PAX_FORMAT))


def test_pax_header_with_another_size_is_named():
    data = archive(("a", b"aa", ("pax_headers", {"size": "1"})), form=tarfile.PAX_FORMAT)
    with pytest.raises(InputError, match=r"^a\.tar has a PAX header with a name, a size or sparse data"):
        found(data)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (b"\xff" * 11 + b"\x00", r"is damaged: 'a' has -256 bytes"),  # -256 in base 256: would lead back for ever
        (b"\x80" + b"\xff" * 11, r"is truncated: a extends beyond its \d+ bytes"),
        (b"77777777777\0", r"is truncated: a extends beyond its \d+ bytes"),
        (b"not a size\0\0", r"is damaged: no tar header at byte 0 of \d+"),
    ],
)
def test_sizes_that_lie_are_named(field, message):
    with pytest.raises(InputError, match=rf"^a\.tar {message}$"):
        found(with_size(archive(("a", b"aa")), field))
