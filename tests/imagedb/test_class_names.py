import pytest

from imagedb.class_names import check_class_names, difference, look_alike
from storage.errors import InputError


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb", "\x1b[31m", "a\u2028b", "a\udcff", "a\0"])
def test_names_that_are_no_line_of_text_are_refused(name):
    with pytest.raises(InputError) as refusal:
        check_class_names(["ant", name])
    assert str(refusal.value) == f"class name {name!a} is not allowed, must be text of one line in Unicode"


def test_all_other_names_are_allowed():
    check_class_names(["a|b", "tench, Tinca tinca", "<b>", "`x`", "小狗", "Café", "Bag ", "👩‍🚀"])


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("Café", "Cafe\u0301", "'Cafe\\u0301' and 'Caf\\xe9' look alike and differ in how Unicode composes letters"),
        ("Bag", "Bag ", "'Bag' and 'Bag ' look alike and differ in blanks"),
        ("ice cream", "ice\u00a0cream", "'ice cream' and 'ice\\xa0cream' look alike and differ in blanks"),
        ("bag", "Bag", "'Bag' and 'bag' look alike and differ in capital letters"),
        ("bag", "b\u200bag", "'bag' and 'b\\u200bag' look alike and differ in invisible characters"),
        ("fish", "\ufb01sh", "'fish' and '\\ufb01sh' look alike and differ in variants of letters"),
        ("Bag\u200b", "bag ", "'Bag\\u200b' and 'bag ' look alike and differ in several ways"),
    ],
)
def test_names_that_look_alike_are_shown_with_escapes_and_the_reason(one, other, how):
    assert difference(["ant", one], ["ant", other]).startswith(how)
    assert look_alike(["ant", one, other]).startswith(how)


def test_other_differences():
    assert difference(["cat", "dog"], ["cat", "小狗"]) == "only one has dog, 小狗"
    assert difference(["cat", "a\nb"], ["cat"]) == "only one has 'a\\nb'"
    assert difference(["cat", "dog"], ["dog", "cat"]) == "in another order"
    assert difference(["cat", "cat"], ["cat"]) == "2 and 1, some of them twice"
    assert look_alike(["ant", "bee", "ant"]) is None
