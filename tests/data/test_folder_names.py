import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources.folder_names import (
    CODE_PAGES,
    ENGLISH_NAMES,
    break_name,
    core,
    decide_form,
    decide_naming,
    fold_case,
    read_name,
    same_folder,
)

HANZI = Charset.named("gb2312").characters


@pytest.mark.parametrize("page", CODE_PAGES)
def test_every_broken_name_is_repaired(page):
    names = {c: c.encode().decode(page) for c in [*HANZI[::5], "￥", "·", "—", "é", "《"]}
    assert decide_form([*names.values(), "A", "0", "less_than"]) == (page, "")
    for character, broken in names.items():
        assert read_name(broken, page) == (character, page)
        assert break_name(character, page) == broken
    assert break_name("宪", f"cp437+{page}") == "宪".encode().decode(page)


def windows(data: bytes) -> str:
    """Bytes as a Windows program shows them in cp1252: what it lacks are control characters."""
    return "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in data)


BROKEN = {
    "cp1252": lambda c: windows(c.encode()),
    "latin-1+gbk": lambda c: c.encode("gbk").decode("latin-1"),
    "cp1252+gbk": lambda c: windows(c.encode("gbk")),
    "cp437+gbk": lambda c: c.encode("gbk").decode("cp437"),
    "utf-8+gbk": lambda c: os.fsdecode(c.encode("gbk")),
    "cp437+cp852": lambda c: c.encode().decode("cp852").encode().decode("cp437"),
    "hexadecimal": lambda c: f"{ord(c):04x}",
    "decimal": lambda c: str(ord(c)),
    "": lambda c: f"U+{ord(c):04X}",
}


@pytest.mark.parametrize("form", BROKEN)
def test_names_are_decided_over_all_of_a_source(form):
    characters = "永字八法点横竖撇捺钩挑折小"  # 小's bytes in GBK are the UTF-8 of С
    names = {BROKEN[form](c): c for c in characters}
    found, doubt = decide_form(names)
    assert not doubt
    assert {name: read_name(name, found)[0] for name in names} == names
    # ASCII and an odd folder more change nothing.
    assert decide_form([*names, "A", "what is this"]) == (found, "")


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
        *(
            (name, "实", None)
            for name in ("0001_实", "实 (2)", "实-w3", "U+5B9E", "u5b9e", "0x5B9E")
        ),
        ("0170_A", "A", None),
        ("0001_ň«¬", "宪", "cp852"),
    ):
        assert read_name(name, decide_form([name])[0]) == (character, page)


@pytest.mark.parametrize(
    "name",
    ["", " ", "ab", "00017", "宪法", "ň«", "unknown_symbol", "\n", "café", "1001-f", "U+D800"],
)
def test_names_that_stand_for_nothing(name):
    assert read_name(name, decide_form([name])[0]) is None


def test_english_names_are_unambiguous():
    names = [name for names in ENGLISH_NAMES.values() for name in names]
    assert len(names) == len(set(names))
    for symbol, spellings in ENGLISH_NAMES.items():
        assert all(read_name(spelling)[0] == symbol for spelling in spellings)


def test_doubt_names_the_candidates_and_a_charset_settles_it():
    for name, one, other in (("ʵ", "ʵ", "实"), ("Öæ", "檻", "宙")):
        _, doubt = decide_form([name])
        assert name in doubt and one in doubt and other in doubt
        form, doubt = decide_form([name], other)
        assert not doubt and read_name(name, form)[0] == other
    for numbers in (["00000", "00001"], ["0", "1", "14"], ["5000", "5001"], list("0123456789")):
        assert "numbered" in decide_form(numbers)[1]
    assert decide_form("0123456789", "0123456789") == ("", "")
    assert decide_form([]) == ("", "")
    assert decide_form(HANZI) == ("", "")
    # Letters of two bytes among names that are UTF-8 for sure.
    assert decide_form("永字·×éα") == ("", "")


@pytest.mark.parametrize(
    ("paths", "level", "name"),
    [
        (["Train/实/1.png", "Train/宙/2.png"], 1, "宙"),
        (["实/writer1/1.png", "宙/writer1/2.png"], 2, "宙"),
        (["实/1/a.png", "宙/2/b.png"], 2, "宙"),
        (["实/8001/train/1.png", "宙/8002/train/1.png"], 3, "宙"),
        (["实_3.png", "宙_4.png"], 0, "宙"),
        (["1/实_3.png", "2/宙 (2).png"], 0, "宙"),
    ],
)
def test_the_part_of_a_path_that_names_the_class(paths, level, name):
    cores = Counter(core(Path(path).stem) for path in paths)
    folders = {path.rpartition("/")[0] for path in paths}
    naming = decide_naming(folders, cores, "photos")
    assert (naming.level, naming.doubt) == (level, "")
    assert naming.name(paths[-1], "photos") == name


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
