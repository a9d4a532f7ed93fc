import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hccr_tf.charset import Charset
from hccr_tf.utils.files import write_json

CHARACTERS = st.characters(exclude_categories=["Cs"])

# === Charset ===


@settings(deadline=None)
@given(st.lists(CHARACTERS, unique=True))
def test_a_charset_numbers_its_characters_in_order(characters):
    charset = Charset.from_text(characters)
    assert list(charset) == characters and charset.text == "".join(characters)
    assert [charset.index(c) for c in characters] == list(range(len(charset)))
    assert [charset.char(i) for i in range(len(charset))] == characters
    assert Charset.from_text(charset.text) == charset
    assert Charset.sorted([*characters, *characters]).characters == tuple(sorted(characters))
    assert charset.difference(Charset.from_text(characters)) == ""
    backwards = Charset.from_text(characters[::-1])
    assert (charset.sha256 == backwards.sha256) == (len(characters) < 2)
    assert bool(charset.difference(backwards)) == (len(characters) > 1)


@pytest.mark.parametrize("bad", ["", "ab", "e\u0301", "\ud800", 3])
def test_an_entry_is_exactly_one_character_and_occurs_once(bad):
    with pytest.raises(ValueError):
        Charset.from_text(["中", bad])
    with pytest.raises(ValueError, match="more than once: 中"):
        Charset.from_text("中一中")


def test_unknown_characters_and_indices_are_errors():
    charset = Charset.from_text("中一")
    with pytest.raises(ValueError, match="二"):
        charset.index("二")
    for index in (-1, 2):
        with pytest.raises(IndexError, match=str(index)):
            charset.char(index)


@settings(deadline=None)
@given(st.sets(CHARACTERS | st.sampled_from('\n\r\t"\\,\u2028\u3000\u00a0')))
def test_save_and_load_keep_awkward_characters(tmp_path_factory, characters):
    path = tmp_path_factory.mktemp("charset") / "charset.json"
    Charset.from_text(characters).save(path)
    assert list(Charset.load(path)) == list(characters)


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


def test_charsets_by_name_have_their_tables_order():
    level1, both = Charset.named("gb2312-1"), Charset.named("gb2312")
    assert (len(level1), len(both)) == (3755, 6763)
    assert both.characters[:3755] == level1.characters
    assert (level1.text[0], level1.text[-1], both.text[3755], both.text[-1]) == tuple("啊座亍齄")
    codes = [c.encode("gb2312") for c in both]
    assert codes == sorted(codes)
    # Models carry these hashes: they must never change.
    assert level1.sha256.startswith("b2f00100") and both.sha256.startswith("e25cb237")
    assert Charset.named("chinese-mnist").text == "零一二三四五六七八九十百千万亿"
    with pytest.raises(
        ValueError, match="No charset is called 'gbk'. There are: gb2312-1, gb2312, chinese-mnist"
    ):
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
    with pytest.raises(ValueError, match=r"manifest\.json: its content is 3, not an object"):
        Charset.open(tmp_path)


def test_a_text_file_is_a_charset(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("座 啊\n阿\n", "utf-8-sig")
    assert Charset.open(path).text == "座啊阿"
    path.write_text("座座")
    with pytest.raises(ValueError, match="labels.txt does not hold a valid charset"):
        Charset.open(path)


def test_codes_of_a_numpy_file_are_a_charset(tmp_path):
    path = tmp_path / "label2tagcode.npy"
    for kind in (np.uint16, np.float64):
        np.save(path, np.array([[0xD7F9], [0xB0A1], [0x4100]], kind))
        assert Charset.open(path).text == "座啊A"
    bad = ([0xFFFF], [70000], [0.5], [0xB0A1, 0xB0A1], [1j], [np.inf], ["a"], [{"a": 1}])
    for codes in bad:
        np.save(path, np.array(codes))
        with pytest.raises(ValueError, match=r"label2tagcode\.npy does not hold a valid charset"):
            Charset.open(path)
    with open(path, "wb") as file:
        np.savez(file, a=np.array([0xB0A1]))
    with pytest.raises(ValueError, match="no array of numbers"):
        Charset.open(path)
