"""Names of class folders: what they stand for, also where an unpacking program broke them."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

from hccr_tf.utils.errors import HccrError

CODE_PAGES = ("cp437", "cp852", "cp866")
"""Code pages that unpacking programs take a name's UTF-8 bytes for, most frequent first."""

ENGLISH_NAMES = {
    "<": ("less_than", "less_than_sign", "lt"),
    ">": ("greater_than", "greater_than_sign", "more_than", "gt"),
    ":": ("colon",),
    '"': ("double_quote", "double_quotes", "quotation_mark", "quotation", "quote", "dquote"),
    "/": ("slash", "forward_slash", "solidus"),
    "\\": ("backslash", "back_slash", "reverse_solidus"),
    "|": ("pipe", "vertical_bar", "vertical_line", "bar"),
    "?": ("question_mark", "question"),
    "*": ("asterisk", "star"),
    ".": ("full_stop", "period", "dot", "point"),
    ",": ("comma",),
    ";": ("semicolon",),
    "'": ("apostrophe", "single_quote"),
    "!": ("exclamation_mark", "exclamation"),
    "#": ("hash", "number_sign"),
    "$": ("dollar", "dollar_sign"),
    "%": ("percent", "percent_sign"),
    "&": ("ampersand", "and"),
    "(": ("left_parenthesis", "left_bracket", "open_parenthesis"),
    ")": ("right_parenthesis", "right_bracket", "close_parenthesis"),
    "+": ("plus", "plus_sign"),
    "-": ("hyphen", "minus", "hyphen_minus", "dash"),
    "=": ("equals", "equals_sign", "equal"),
    "@": ("at", "at_sign"),
    "_": ("underscore", "low_line"),
    "`": ("backtick", "grave_accent"),
    "~": ("tilde",),
    "^": ("caret", "circumflex"),
}
"""Symbols that cannot be, or are awkward as, file names, and the names written instead."""

_SYMBOL_OF = {name: symbol for symbol, names in ENGLISH_NAMES.items() for name in names}


def _recode(text: str, encoding: str, decoding: str) -> str | None:
    """Returns a text's bytes under one encoding read under another, or None."""
    try:
        return text.encode(encoding).decode(decoding)
    except UnicodeError:
        return None


def _candidates(name: str) -> Iterator[tuple[str, str]]:
    """Yields (character, code page) for every way in which a broken name reads as one character."""
    # macOS stores names decomposed ("n" and a caron for "ň"), which no code page can encode.
    name = unicodedata.normalize("NFC", name)
    once = [(_recode(name, page, "utf-8"), page) for page in CODE_PAGES]
    # A broken name packed again without the UTF-8 flag comes out of zipfile broken twice.
    twice = [
        (_recode(text, inner, "utf-8"), f"{outer}+{inner}")
        for text, outer in once
        if text is not None and len(text) > 1
        for inner in CODE_PAGES
    ]
    # Right names packed on a Chinese Windows: GBK bytes, which zipfile takes for cp437.
    for text, page in [*once, *twice, (_recode(name, "cp437", "gbk"), "cp437+gbk")]:
        if text is not None and len(text) == 1 and not text.isascii():
            yield text, page


def repair_name(name: str, preferred: str | None = None) -> tuple[str, str | None]:
    """Finds the character that the name of a class folder stands for.

    A name of one character is right as it is. Otherwise it is taken for the character's UTF-8
    bytes read under a wrong code page (`ň«¬` is 宪 under cp852), once or twice over, the one
    `preferred` by `guess_code_page` before others, or for the English name of a symbol
    (`less_than`).

    Returns:
        The character and the code page that was undone: None where the name was right, "english"
        for an English name, "cp437+cp852" where two were undone one after the other.

    Raises:
        HccrError: The name stands for no single character.
    """
    composed = unicodedata.normalize("NFC", name)
    for text in (name, composed):
        if len(text) == 1 and text.isprintable() and not text.isspace():
            return text, None
    word = name.strip().lower().replace(" ", "_").replace("-", "_")
    if word in _SYMBOL_OF:
        return _SYMBOL_OF[word], "english"
    repaired = list(_candidates(name))
    if repaired:
        return next((pair for pair in repaired if pair[1] == preferred), repaired[0])
    raise HccrError(
        f"{name!r} is no character, no symbol's English name, and no name broken by "
        f"{', '.join(CODE_PAGES)}"
    )


def guess_code_page(names: Iterable[str]) -> str | None:
    """Returns the code page that repairs most of the names of one source, or None.

    One program unpacked them all, so a name that fits several code pages is decided by the rest.
    """
    votes: Counter[str] = Counter()
    for name in names:
        if len(name) > 1:
            votes.update({page for _, page in _candidates(name)})
    # On a tie the order in which they would be tried decides, never the order of the names.
    order = [*CODE_PAGES, *(f"{a}+{b}" for a in CODE_PAGES for b in CODE_PAGES), "cp437+gbk"]
    return min(votes, key=lambda page: (-votes[page], order.index(page)), default=None)


def break_name(character: str, code_page: str | None) -> str | None:
    """Returns the folder name under which a character was unpacked: what `repair_name` undoes.

    The code page is as `repair_name` returns it; of "cp437+cp852" the second is the one that was
    unpacked under first. None where it has no letter for one of the character's bytes, or where
    a symbol's name is English.
    """
    if code_page is None:
        return character
    if code_page == "english":
        return None
    *outer, page = code_page.split("+")
    if outer and page == "gbk":
        return _recode(character, "gbk", outer[0])
    return _recode(character, "utf-8", page)


def fold_case(name: str) -> str:
    """Returns a name as disks that ignore case compare it (NTFS, APFS): letter by letter.

    `str.casefold` makes two letters of one ("ß"), which those disks do not.
    """
    return "".join(upper if len(upper := letter.upper()) == 1 else letter for letter in name)


@cache
def _known_by_folded_name(code_page: str | None) -> dict[str, list[str]]:
    """All characters with a tag code, by their folded name under a code page."""
    known: dict[str, list[str]] = {}
    codes = (bytes([high, low]) for high in range(0x81, 0xFF) for low in range(0x40, 0xFF))
    hanzi = (code.decode("gbk", "ignore") for code in codes)
    for character in dict.fromkeys([*map(chr, range(0x21, 0x7F)), *hanzi]):
        name = break_name(character, code_page) if len(character) == 1 else None
        if name is not None:
            known.setdefault(fold_case(name), []).append(character)
    return known


def same_folder(character: str, code_page: str | None) -> tuple[str, ...]:
    """Finds the characters that share a folder with one on a disk that ignores case.

    Unpacked on such a disk, two classes whose (broken) names differ only by case fall into one
    folder: 宇 (`ň«ç` under cp852) and 宀 (`ň«Ç`), "a" and "A". The
    code page is as `repair_name` returns it.

    Returns:
        The others among ASCII and GBK (which has all of CASIA-HWDB), those of GB2312 first as
        they are likelier in a data set.
    """
    name = break_name(character, code_page)
    others = _known_by_folded_name(code_page).get(fold_case(name), []) if name else []
    others = [other for other in others if other != character]
    return tuple(sorted(others, key=lambda other: _recode(other, "gb2312", "gb2312") is None))
