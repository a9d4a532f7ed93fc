"""Names of class folders: what they stand for, also where an unpacking program broke them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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


def _undo(name: str, code_page: str, encoding: str = "utf-8") -> str | None:
    try:
        return name.encode(code_page).decode(encoding)
    except UnicodeError:
        return None


def _candidates(name: str, code_pages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (character, code page) for every way in which a broken name reads as one character."""
    # macOS stores names decomposed ("n" and a caron for "ň"), which no code page can encode.
    name = unicodedata.normalize("NFC", name)
    once = [(page, _undo(name, page)) for page in code_pages]
    for page, text in once:
        if text is not None and len(text) == 1 and not text.isascii():
            yield text, page
    # A broken name packed again without the UTF-8 flag comes out of zipfile broken twice.
    for outer, text in once:
        if text is not None and len(text) > 1 and not text.isascii():
            for inner in code_pages:
                twice = _undo(text, inner)
                if twice is not None and len(twice) == 1 and not twice.isascii():
                    yield twice, f"{outer}+{inner}"
    # Right names packed on a Chinese Windows: GBK bytes, which zipfile takes for cp437.
    text = _undo(name, "cp437", "gbk")
    if text is not None and len(text) == 1 and not text.isascii():
        yield text, "cp437+gbk"


def repair_name(
    name: str, code_pages: Sequence[str] = CODE_PAGES, preferred: str | None = None
) -> tuple[str, str | None]:
    """Finds the character that the name of a class folder stands for.

    A name of one character is right as it is. Otherwise it is taken for the character's UTF-8
    bytes read under a wrong code page (`ň«¬` is 宪 under cp852), once or twice over, or for the
    English name of a symbol (`less_than`).

    Args:
        name: The folder's name, without its path.
        code_pages: The code pages to try, in order.
        preferred: A code page to try first, from `guess_code_page`.

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
    found = list(_candidates(name, code_pages))
    for character, page in found:
        if page == preferred:
            return character, page
    if found:
        return found[0]
    raise HccrError(
        f"{name!r} is no character, no symbol's English name, and no name broken by "
        f"{', '.join(code_pages)}"
    )


def guess_code_page(names: Iterable[str], code_pages: Sequence[str] = CODE_PAGES) -> str | None:
    """Returns the code page that repairs most of the names of one source, or None.

    One program unpacked them all, so a name that fits several code pages is decided by the rest.
    """
    votes: Counter[str] = Counter()
    for name in names:
        if len(name) > 1:
            votes.update({page for _, page in _candidates(name, code_pages)})
    if not votes:
        return None
    # On a tie the order in which they would be tried decides, never the order of the names.
    order = [*code_pages, *(f"{a}+{b}" for a in code_pages for b in code_pages), "cp437+gbk"]
    return min(votes, key=lambda page: (-votes[page], order.index(page)))


def break_name(character: str, code_page: str | None) -> str | None:
    """Returns the folder name under which a character was unpacked: what `repair_name` undoes.

    Args:
        character: One code point.
        code_page: As `repair_name` returns it: None for the right name; of "cp437+cp852" the
            second is the one that was unpacked under first, and its result is returned.

    Returns:
        The name, or None where the code page has no letter for one of the character's bytes, or
        where a symbol's name is English.
    """
    if code_page is None:
        return character
    if code_page == "english":
        return None
    *outer, page = code_page.split("+")
    try:
        if outer and page == "gbk":
            return character.encode("gbk").decode(outer[0])
        return character.encode("utf-8").decode(page)
    except UnicodeError:
        return None


def fold_case(name: str) -> str:
    """Returns a name as disks that ignore case compare it (NTFS, APFS): letter by letter.

    `str.casefold` makes two letters of one ("ß"), which those disks do not.
    """
    return "".join(upper if len(upper := letter.upper()) == 1 else letter for letter in name)


@cache
def _known_by_folded_name(code_page: str | None) -> dict[str, tuple[str, ...]]:
    """All characters with a tag code, by their folded name under a code page."""
    found: dict[str, list[str]] = {}
    known = [chr(code) for code in range(0x21, 0x7F)]
    for high in range(0x81, 0xFF):
        known += (bytes([high, low]).decode("gbk", "ignore") for low in range(0x40, 0xFF))
    for character in dict.fromkeys(known):
        if len(character) == 1:
            name = break_name(character, code_page)
            if name is not None:
                found.setdefault(fold_case(name), []).append(character)
    return {name: tuple(characters) for name, characters in found.items() if len(characters) > 1}


def same_folder(character: str, code_page: str | None) -> tuple[str, ...]:
    """Finds the characters that share a folder with one on a disk that ignores case.

    Unpacked on such a disk, two classes whose (broken) names differ only by case fall into one
    folder: 宇 (`ň«ç` under cp852) and 宀 (`ň«Ç`), "a" and "A".

    Args:
        character: One code point.
        code_page: The code page that its name was broken under, from `repair_name`; None for a
            name that is right.

    Returns:
        The others among ASCII and GBK (which has all of CASIA-HWDB), those of GB2312 first as
        they are likelier in a data set.
    """
    name = break_name(character, code_page)
    others = _known_by_folded_name(code_page).get(fold_case(name), ()) if name else ()
    return tuple(sorted((c for c in others if c != character), key=lambda c: not _in_gb2312(c)))


def _in_gb2312(character: str) -> bool:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True
