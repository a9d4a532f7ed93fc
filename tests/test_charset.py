import unicodedata

import numpy as np
import pytest

from hccr_tf.charset import (
    CODE_PAGES,
    ENGLISH_NAMES,
    Charset,
    break_name,
    decode_tag,
    encode_tag,
    fold_case,
    guess_code_page,
    list_charsets,
    repair_name,
    same_folder,
)
from hccr_tf.utils.files import write_json


def gb2312_hanzi():
    """The 6,763 hanzi of GB2312, levels 1 and 2, in the order of the code."""
    hanzi = []
    for high in range(0xB0, 0xF8):
        for low in range(0xA1, 0xFF):
            try:
                hanzi.append(bytes([high, low]).decode("gb2312"))
            except UnicodeDecodeError:
                continue
    assert len(hanzi) == 6763
    return hanzi


def all_tags():
    tags = []
    for code in range(1 << 16):
        tag = code.to_bytes(2, "big")
        try:
            decode_tag(tag)
        except ValueError:
            continue
        tags.append(tag)
    return tags


# === Charset ===


def test_order_is_kept_or_by_code_point():
    assert Charset.from_characters("中一A").characters == ("中", "一", "A")
    assert Charset.sorted("中一A一").characters == ("A", "一", "中")
    charset = Charset.from_text("中一")
    assert (len(charset), list(charset), charset.text) == (2, ["中", "一"], "中一")
    assert [charset.index(c) for c in charset] == [0, 1]
    assert [charset.char(i) for i in range(2)] == ["中", "一"]
    assert "中" in charset and "二" not in charset


@pytest.mark.parametrize("bad", ["", "ab", "e\u0301", "\ud800", 3])
def test_an_entry_is_exactly_one_character(bad):
    with pytest.raises(ValueError):
        Charset.from_characters(["中", bad])


def test_a_character_occurs_once():
    with pytest.raises(ValueError, match="more than once: 中"):
        Charset.from_characters("中一中")


def test_unknown_characters_and_indices_are_errors():
    charset = Charset.from_text("中一")
    with pytest.raises(ValueError, match="二"):
        charset.index("二")
    for index in (-1, 2):
        with pytest.raises(IndexError, match=str(index)):
            charset.char(index)


def test_the_hash_depends_on_the_order_and_is_fixed():
    assert Charset.from_text("一中").sha256 != Charset.from_text("中一").sha256
    # Trained models carry this hash: it must never change.
    expected = "a567bdaa11367f260f0708391f4d10766b5962f565d9e432f17981a3584fe1e2"
    assert Charset.from_text("中").sha256 == expected


def test_save_and_load_keep_awkward_characters(tmp_path):
    charset = Charset.from_text('中 \n\r\t"\\,\u2028\u3000\u00a0\U00020000A')
    charset.save(tmp_path / "charset.json")
    assert Charset.load(tmp_path / "charset.json") == charset


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "hccr_tf charset 1"}', "no JSON"])
def test_load_refuses_other_files(tmp_path, text):
    path = tmp_path / "charset.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"charset\.json"):
        Charset.load(path)


def test_load_notices_an_altered_order(tmp_path):
    path = tmp_path / "charset.json"
    Charset.from_text("一中").save(path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("一", "X").replace("中", "一").replace("X", "中"), "utf-8")
    with pytest.raises(ValueError, match="altered"):
        Charset.load(path)


def test_difference_names_what_differs():
    charset = Charset.from_text("一二三")
    assert charset.difference(Charset.from_text("一二三")) == ""
    message = charset.difference(Charset.from_text("一四二"))
    assert "lacks 1 (三)" in message and "adds 1 (四)" in message and "index 1" in message
    assert "\n" not in message
    assert "index 0 ('二' instead of '一')" in charset.difference(Charset.from_text("二一三"))


# === Charsets by name ===


def test_gb2312_by_name_is_in_code_order():
    level1, both = Charset.named("gb2312-1"), Charset.named("gb2312")
    assert (len(level1), len(both)) == (3755, 6763)
    assert both.text == "".join(gb2312_hanzi())
    assert both.characters[:3755] == level1.characters
    assert (level1.text[0], level1.text[-1], both.text[3755], both.text[-1]) == tuple("啊座亍齄")
    codes = [c.encode("gb2312") for c in both]
    assert codes == sorted(codes)
    # Models carry these hashes: they must never change.
    assert level1.sha256.startswith("b2f00100") and both.sha256.startswith("e25cb237")


def test_chinese_mnist_by_name_is_in_the_order_of_its_codes():
    assert Charset.named("chinese-mnist").text == "零一二三四五六七八九十百千万亿"


def test_digits_by_name_are_in_the_order_of_the_labels():
    assert Charset.named("digits").text == "0123456789"


def test_names_of_charsets():
    assert list(list_charsets()) == ["gb2312-1", "gb2312", "chinese-mnist", "digits"]
    with pytest.raises(ValueError, match="'gbk'; there are gb2312-1, gb2312, chinese-mnist"):
        Charset.named("gbk")


def test_a_charset_is_opened_by_name_file_run_or_store(tmp_path, sample_store):
    charset = Charset.from_text("二一")
    run = tmp_path / "run"
    run.mkdir()
    charset.save(run / "charset.json")
    assert Charset.open("gb2312-1") == Charset.named("gb2312-1")
    for source in (run, str(run), run / "charset.json"):
        assert Charset.open(source) == charset
    for source in (sample_store.path, sample_store.path / "manifest.json"):
        assert Charset.open(source) == sample_store.charset
    with pytest.raises(FileNotFoundError, match="gb2313 is neither a charset's name"):
        Charset.open("gb2313")
    with pytest.raises(ValueError, match="neither a training run nor a store"):
        Charset.open(tmp_path)
    write_json(tmp_path / "manifest.json", {"format": "hccr_tf store 9", "charset": 3})
    with pytest.raises(ValueError, match=r"manifest\.json does not hold a valid charset"):
        Charset.open(tmp_path)


# === Tag codes ===


def test_every_decodable_tag_round_trips():
    tags = all_tags()
    assert len(tags) > 21000 + 94
    assert all(encode_tag(decode_tag(tag)) == tag for tag in tags)


def test_gb2312_hanzi_have_their_own_code():
    for character in gb2312_hanzi():
        assert encode_tag(character) == character.encode("gb2312")


def test_gbk_and_gb2312_disagree_on_two_codes():
    assert decode_tag(b"\xa1\xa4") == "\u00b7" != b"\xa1\xa4".decode("gb2312")
    assert decode_tag(b"\xa1\xaa") == "\u2014" != b"\xa1\xaa".decode("gb2312")
    assert encode_tag("\u00b7") == b"\xa1\xa4"
    assert encode_tag("\u2014") == b"\xa1\xaa"


def test_symbols_are_ascii_and_a_zero():
    assert decode_tag(b"A\0") == "A"
    assert encode_tag("~") == b"~\0"


@pytest.mark.parametrize(
    "tag", [b"", b"A", b"A\0\0", b"\0A", b"\0\0", b" \0", b"\x80\0", b"AB", b"\xff\xff"]
)
def test_undecodable_tags(tag):
    with pytest.raises(ValueError):
        decode_tag(tag)


@pytest.mark.parametrize("character", ["", "ab", " ", "\n", "\u30fb", "\U00020000"])
def test_characters_without_a_tag(character):
    with pytest.raises(ValueError):
        encode_tag(character)


# === Broken names ===


@pytest.mark.parametrize("page", CODE_PAGES)
def test_every_broken_name_is_repaired(page):
    for character in [*gb2312_hanzi(), "￥", "·", "—", "é", "《"]:
        broken = character.encode().decode(page)
        # Some names read alike under two code pages; the character is the same.
        assert repair_name(broken)[0] == character
        assert repair_name(broken, preferred=page) == (character, page)


def test_names_from_the_wild():
    assert repair_name("ň«¬") == ("宪", "cp852")
    assert repair_name("я┐е") == ("￥", "cp866")
    assert repair_name("宪") == ("宪", None)
    assert repair_name("A") == ("A", None)
    assert repair_name("less_than") == ("<", "english")
    assert repair_name("Full Stop") == (".", "english")


def test_a_name_decomposed_by_macos():
    decomposed = unicodedata.normalize("NFD", "ň«Ą")
    assert decomposed != "ň«Ą"
    assert repair_name(decomposed) == ("室", "cp852")


@pytest.mark.parametrize("inner", CODE_PAGES)
def test_a_name_broken_twice(inner):
    # Broken on unpacking, packed without the UTF-8 flag, read by Python's zipfile.
    broken = "宪".encode().decode(inner).encode().decode("cp437")
    assert repair_name(broken) == ("宪", f"cp437+{inner}")


def test_a_right_name_packed_on_a_chinese_windows():
    assert repair_name("宪".encode("gbk").decode("cp437")) == ("宪", "cp437+gbk")


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
    hanzi = gb2312_hanzi()[:50]
    for page in CODE_PAGES:
        names = [c.encode().decode(page) for c in hanzi]
        assert guess_code_page([*names, "A", "less_than"]) == page
        assert guess_code_page(reversed(names)) == page
    assert guess_code_page(["宪", "A", "colon"]) is None
    assert guess_code_page([]) is None


# === Names on disks that ignore case ===


@pytest.mark.parametrize("page", CODE_PAGES)
def test_breaking_is_what_repairing_undoes(page):
    for character in gb2312_hanzi()[::50]:
        assert repair_name(break_name(character, page), preferred=page) == (character, page)
    assert break_name("宪", "cp437+gbk") == "宪".encode("gbk").decode("cp437")
    assert break_name("宪", f"cp437+{page}") == "宪".encode().decode(page)
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
        for character in gb2312_hanzi()[::40]:
            for other in same_folder(character, page):
                names = break_name(character, page), break_name(other, page)
                assert names[0] != names[1] and fold_case(names[0]) == fold_case(names[1])


def test_a_text_file_is_a_charset(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("座 啊\n阿\n", "utf-8-sig")
    assert Charset.open(path).text == "座啊阿"
    path.write_text("座座")
    with pytest.raises(ValueError, match="labels.txt does not hold a valid charset"):
        Charset.open(path)


def test_codes_of_a_numpy_file_are_a_charset(tmp_path):
    path = tmp_path / "label2tagcode.npy"
    np.save(path, np.array([[0xD7F9], [0xB0A1]], np.uint16))
    assert Charset.open(path).text == "座啊"
    np.save(path, np.array([0xD7F9, 0xB0A1], np.float64))
    assert Charset.open(path).text == "座啊"
    for bad in ([0xFFFF], [70000], [0.5], [0xB0A1, 0xB0A1]):
        np.save(path, np.array(bad))
        with pytest.raises(ValueError, match="does not hold a valid charset"):
            Charset.open(path)
    for bad in (np.array([1j]), np.array([np.inf]), np.array(["a"])):
        np.save(path, bad)
        with pytest.raises(ValueError, match="label2tagcode.npy does not hold a valid charset"):
            Charset.open(path)
    with open(path, "wb") as file:
        np.savez(file, a=np.array([0xB0A1]))
    with pytest.raises(ValueError, match="no array of numbers"):
        Charset.open(path)
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="does not hold a valid charset"):
        Charset.open(path)
