import re

import pytest

from imagedb.record import Annotation, Object
from imagedb.sources.voc import VocSource
from storage.errors import InputError

# The elements of the real files, in the different orders that occur in them.
XML = """<annotation>
	<folder>VOC2012</folder>
	<filename>2007_000027.jpg</filename>
	<size><width>486</width><height>500</height><depth>3</depth></size>
	<segmented>1</segmented>
	<object>
		<name>person</name>
		<pose>Unspecified</pose>
		<truncated>1</truncated>
		<difficult>1</difficult>
		<bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox>
		<part>
			<name>head</name>
			<bndbox><xmin>169</xmin><ymin>104</ymin><xmax>209</xmax><ymax>146</ymax></bndbox>
		</part>
	</object>
	<object>
		<bndbox><xmax>45.7</xmax><xmin>1</xmin><ymax>500</ymax><ymin>2.5</ymin></bndbox>
		<difficult>0</difficult>
		<name>aeroplane</name>
		<occluded>1</occluded>
		<truncated>0</truncated>
	</object>
</annotation>
"""
EMPTY = "<annotation></annotation>"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def root(tmp_path):
    """Three images; 2007_000027 has masks; the lists are not in the order of names."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name, xml in {"2007_000027": XML, "2008_000001": EMPTY, "2008_000002": EMPTY}.items():
        write(root / "JPEGImages" / f"{name}.jpg", f"image {name}")
        write(root / "Annotations" / f"{name}.xml", xml)
    write(root / "SegmentationClass" / "2007_000027.png", b"class mask")
    write(root / "SegmentationObject" / "2007_000027.png", b"instance mask")
    write(root / "ImageSets" / "Main" / "train.txt", "2008_000001\n2007_000027\n")
    write(root / "ImageSets" / "Main" / "person_train.txt", "2008_000001 -1\n2007_000027  1\n")
    write(root / "ImageSets" / "Segmentation" / "train.txt", "2007_000027\n")
    return root


def refused(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_images_of_the_list_in_its_order_with_bytes_untouched(root):
    source = VocSource(root, "train")
    assert source.annotated
    assert len(source.class_names) == 20
    assert source.class_names == sorted(source.class_names)
    items = list(source.images())
    assert [(item.name, item.label) for item in items] == [("2008_000001", None), ("2007_000027", None)]
    assert [item.image() for item in items] == [b"image 2008_000001", b"image 2007_000027"]
    assert items[0].file == root / "JPEGImages" / "2008_000001.jpg"
    assert [item.name for item in VocSource(root, "Segmentation/train").images()] == ["2007_000027"]


def test_boxes_begin_at_0_and_end_where_the_pixel_ends(root):
    annotation = VocSource(root, "train")[1].annotation()
    assert annotation.objects == (
        Object(14, (173, 100, 349, 351), ("difficult", "truncated")),
        Object(0, (0, 1.5, 45.7, 500), ("occluded",)),
    )


def test_masks_where_they_exist(root):
    empty, masked = VocSource(root, "train").images()
    assert empty.annotation() == Annotation()
    assert masked.annotation().masks == {"class": b"class mask", "instance": b"instance mask"}


def test_missing_files_are_named(root):
    lists = root / "ImageSets"
    expected = "expected a list of ids there, in a folder such as VOCdevkit/VOC2012"
    with refused(FileNotFoundError, f"{lists}/Main/val.txt does not exist; {expected}"):
        VocSource(root, "val")
    segmented = root / "SegmentationObject" / "2007_000027.png"
    segmented.unlink()
    with refused(FileNotFoundError, f"{segmented} does not exist; {lists}/Segmentation/train.txt names 2007_000027"):
        VocSource(root, "Segmentation/train")
    xml = root / "Annotations" / "2007_000027.xml"
    xml.unlink()
    with refused(FileNotFoundError, f"{xml} does not exist; {lists}/Main/train.txt names 2007_000027"):
        VocSource(root, "train")
    image = root / "JPEGImages" / "2008_000001.jpg"
    image.unlink()
    with refused(FileNotFoundError, f"{image} does not exist; {lists}/Main/train.txt names 2008_000001"):
        VocSource(root, "train")


def test_lists_of_other_kinds_are_refused(root):
    file = root / "ImageSets" / "Main" / "person_train.txt"
    line = "'2008_000001 -1'; expected one id a line, as in Main/train.txt"
    with refused(ValueError, f"{file} holds the line {line}"):
        VocSource(root, "person_train")
    file.write_text("\n")
    with refused(ValueError, f"{file} holds no ids"):
        VocSource(root, "person_train")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "no element found: line 25, column 0"),
        ("aeroplane", "head", "an object of class 'head', allowed: aeroplane, bicycle, .*, tvmonitor"),
        (
            r"<xmin>1</xmin>",
            "",
            r"an object of class 'aeroplane' with bndbox \['', '2.5', '45.7', '500'\], must be four numbers",
        ),
        ("annotation>", "html>", "the root is <html>, expected <annotation>"),
    ],
)
def test_bad_annotations_name_the_file(root, old, new, message):
    file = root / "Annotations" / "2007_000027.xml"
    file.write_text(XML.replace(old, new))
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: {message}$"):
        VocSource(root, "train")[1].annotation()


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "a/b", "a\0b"])
def test_ids_are_no_paths(root, line):
    file = root / "ImageSets" / "Main" / "val.txt"
    write(file, line)
    with refused(InputError, f"{file} holds the line {line!r}; expected one id a line, as in Main/train.txt"):
        VocSource(root, "val")


def test_list_that_is_not_unicode_is_named(root):
    file = root / "ImageSets" / "Main" / "val.txt"
    write(file, b"\xff\n")
    with refused(InputError, f"{file} is not UTF-8"):
        VocSource(root, "val")


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
BOX = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"


@pytest.mark.parametrize(
    "content",
    [
        f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l11;</annotation>',
        '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        '<?xml version="1.0" encoding="nonsense"?><annotation/>',
        b"\xff\xfe\0\0",
        "<a>" * 100_000 + "</a>" * 100_000,
        *(
            f"<annotation><object><name>cat</name>{BOX.format(x)}</object></annotation>"
            for x in ("nan", "inf", "1e99", "9")
        ),
    ],
)
def test_hostile_annotations_are_one_line(root, content):
    file = root / "Annotations" / "2008_000001.xml"
    write(file, content)
    with pytest.raises(InputError, match=f"^{re.escape(str(file))}: .+$"):
        VocSource(root, "train")[0].annotation()


def test_deep_annotations_are_read(root):
    write(root / "Annotations" / "2008_000001.xml", f"<annotation>{'<a>' * 100_000}{'</a>' * 100_000}</annotation>")
    assert VocSource(root, "train")[0].annotation() == Annotation()
