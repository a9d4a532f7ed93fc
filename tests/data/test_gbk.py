import contextlib

import pytest

from hccr_tf.charset import Charset
from hccr_tf.data.sources.gbk import decode_tag, encode_tag


def test_every_decodable_tag_round_trips():
    characters = {}
    for code in range(1 << 16):
        with contextlib.suppress(ValueError):
            characters[code.to_bytes(2, "big")] = decode_tag(code.to_bytes(2, "big"))
    assert len(characters) > 21000 + 94
    assert all(encode_tag(character) == tag for tag, character in characters.items())


def test_hanzi_have_the_code_of_gb2312_and_symbols_a_zero():
    assert all(encode_tag(c) == c.encode("gb2312") for c in Charset.named("gb2312"))
    assert decode_tag(b"A\0") == "A"
    assert encode_tag("~") == b"~\0"


def test_gbk_and_gb2312_disagree_on_two_codes():
    for tag, character in ((b"\xa1\xa4", "\u00b7"), (b"\xa1\xaa", "\u2014")):
        assert decode_tag(tag) == character != tag.decode("gb2312")


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
