"""Tag codes of `.gnt` files: which two bytes stand for which character."""

from hccr_tf.utils.errors import HccrError


def decode_tag(tag: bytes) -> str:
    """Returns the character of a `.gnt` tag code.

    The two bytes, in file order, are GBK for a hanzi or a full-width symbol; an ASCII symbol is its
    byte followed by 0x00. GBK and the older GB2312 table disagree on two codes: A1A4 is U+00B7
    MIDDLE DOT in GBK and U+30FB in GB2312, A1AA is U+2014 EM DASH in GBK and U+2015 in GB2312. GBK
    is followed for both, so that `encode_tag(decode_tag(tag)) == tag` for every decodable tag.

    Raises:
        HccrError: The bytes are no tag code.
    """
    if len(tag) != 2:
        raise HccrError(f"a tag code has 2 bytes, not {len(tag)}")
    if tag[1] == 0 and not 0x21 <= tag[0] <= 0x7E:
        raise HccrError(f"tag code {tag.hex()} is no printable ASCII symbol")
    try:
        character = tag.rstrip(b"\0").decode("gbk")
    except UnicodeDecodeError:
        raise HccrError(f"tag code {tag.hex()} is no GBK code") from None
    if len(character) != 1:
        raise HccrError(f"tag code {tag.hex()} stands for {len(character)} characters")
    return character


def encode_tag(character: str) -> bytes:
    """Returns the two bytes of a character's `.gnt` tag code; see `decode_tag`.

    Raises:
        HccrError: The character has no tag code.
    """
    tag = character.encode("gbk", "replace").ljust(2, b"\0")
    try:
        if decode_tag(tag) == character:
            return tag
    except HccrError:
        pass
    raise HccrError(
        f"{character!r} has no tag code: it is no printable ASCII symbol and not in GBK"
    )
