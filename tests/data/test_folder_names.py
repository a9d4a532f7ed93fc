import unicodedata

import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources.folder_names import (
    CODE_PAGES,
    ENGLISH_NAMES,
    break_name,
    fold_case,
    guess_code_page,
    repair_name,
    same_folder,
)

HANZI = Charset.named("gb2312").characters


@pytest.mark.parametrize("page", CODE_PAGES)
def test_every_broken_name_is_repaired(page):
    for character in [*HANZI, "￥", "·", "—", "é", "《"]:
        broken = character.encode().decode(page)
        # Some names read alike under two code pages; the character is the same.
        assert repair_name(broken)[0] == character
        assert repair_name(broken, preferred=page) == (character, page)
        assert break_name(character, page) == broken
    assert break_name("宪", f"cp437+{page}") == "宪".encode().decode(page)


def test_names_from_the_wild():
    for name, character, page in (
        ("ň«¬", "宪", "cp852"),
        ("я┐е", "￥", "cp866"),
        ("宪", "宪", None),
        ("A", "A", None),
        ("less_than", "<", "english"),
        ("Full Stop", ".", "english"),
        # As macOS decomposes it.
        (unicodedata.normalize("NFD", "ň«Ą"), "室", "cp852"),
        # A right name packed on a Chinese Windows.
        ("宪".encode("gbk").decode("cp437"), "宪", "cp437+gbk"),
        # Broken on unpacking, packed without the UTF-8 flag, read by Python's zipfile.
        *(
            ("宪".encode().decode(inner).encode().decode("cp437"), "宪", f"cp437+{inner}")
            for inner in CODE_PAGES
        ),
    ):
        assert repair_name(name) == (character, page)


@pytest.mark.parametrize("name", ["", " ", "ab", "00017", "宪法", "ň«", "unknown_symbol", "\n"])
def test_names_that_stand_for_nothing(name):
    with pytest.raises(ValueError):
        repair_name(name)


def test_english_names_are_unambiguous():
    names = [name for names in ENGLISH_NAMES.values() for name in names]
    assert len(names) == len(set(names))
    for symbol, spellings in ENGLISH_NAMES.items():
        assert all(repair_name(spelling)[0] == symbol for spelling in spellings)


def test_the_code_page_of_a_source_is_the_one_most_names_fit():
    hanzi = HANZI[:50]
    for page in CODE_PAGES:
        names = [c.encode().decode(page) for c in hanzi]
        assert guess_code_page([*names, "A", "less_than"]) == page
        assert guess_code_page(reversed(names)) == page
    assert guess_code_page(["宪", "A", "colon"]) is None
    assert guess_code_page([]) is None


# === Names on disks that ignore case ===


def test_names_that_are_broken_otherwise_or_not_at_all():
    assert break_name("宪", "cp437+gbk") == "宪".encode("gbk").decode("cp437")
    assert break_name("宪", None) == "宪"
    assert break_name("<", "english") is None


def test_case_is_folded_letter_by_letter():
    assert fold_case("ňç") == fold_case("ŇÇ")
    assert fold_case("ß") == "ß" != fold_case("ss")
    assert fold_case("п") == "П"


def test_characters_that_fell_into_one_folder():
    # The five of the Kaggle repack that are known.
    for character, other in ("宇宀", "寥寤", "垫垍", "庵庠", "庀庇"):
        assert same_folder(character, "cp852") == (other,)
        assert same_folder(other, "cp852") == (character,)
    assert same_folder("宪", "cp852") == ()
    assert same_folder("a", None) == ("A",)
    assert same_folder("宇", None) == ()
    assert same_folder("<", "english") == ()


def test_whoever_shares_a_folder_has_a_name_that_differs_by_case_only():
    for page in CODE_PAGES:
        for character in HANZI[::40]:
            for other in same_folder(character, page):
                names = break_name(character, page), break_name(other, page)
                assert names[0] != names[1] and fold_case(names[0]) == fold_case(names[1])
