"""Names of files and folders: which character each stands for, decided over all of a source.

One program or person named them all, so what one name could mean is settled by the others: a name
that's GBK bytes read as UTF-8, a code point, a number of a dictionary that isn't here.
"""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, NamedTuple

CODE_PAGES = ("cp437", "cp852", "cp866")
"""Code pages that unpacking programs take a name's UTF-8 bytes for, most frequent first."""
_PAGES = (
    *CODE_PAGES,
    *("cp1252", "latin-1"),
    # A broken name packed again without the UTF-8 flag comes out of zipfile broken twice.
    *(f"{outer}+{inner}" for outer in CODE_PAGES for inner in CODE_PAGES),
    # Right names of a Chinese Windows: GBK bytes, taken for something else or left as they are.
    *("cp437+gbk", "cp1252+gbk", "latin-1+gbk", "utf-8+gbk"),
)
_FORMS = ("", "hexadecimal", "decimal", *_PAGES)
"""How names are read: as they stand, as code points, or with a code page undone."""

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
}
"""Symbols that file systems don't take as names, and the names written instead."""

_SYMBOL_OF = {name: symbol for symbol, names in ENGLISH_NAMES.items() for name in names}


_CORE = re.compile(
    r"[ -~]*?(?<![A-Za-z])([^ -~]+|[Uu]\+[0-9A-Fa-f]{4,6})(?![A-Za-z])[ -~]*"
    r"|\d+[_ ](\D)|(\D)[_ ]\d+"
)
_CODE_POINT = re.compile(r"(?:[Uu]\+?|\\u|0x|uni)([0-9A-Fa-f]{4,6})")
_DIGITS = tuple("0123456789")
_NUMBERS = {
    "hexadecimal": (re.compile(r"[0-9A-Fa-f]{4}"), 16),
    "decimal": (re.compile(r"\d{2,6}"), 10),
}


def _byte_of(error: Any) -> tuple[bytes, int]:
    """Returns the byte of a letter that stands for one: Windows' in cp1252, Python's in UTF-8."""
    code = ord(error.object[error.start]) if isinstance(error, UnicodeEncodeError) else 0
    if 0x80 <= code < 0xA0 or (error.encoding == "utf-8" and 0xDC80 <= code < 0xDD00):
        return bytes([code & 0xFF]), error.start + 1
    raise error


codecs.register_error("hccr_tf.byte", _byte_of)


def _recode(text: str, encoding: str, decoding: str) -> str | None:
    """Returns a text's bytes under one encoding read under another, or None."""
    try:
        return text.encode(encoding, "hccr_tf.byte").decode(decoding)
    except UnicodeError:
        return None


def _undo(name: str, page: str) -> str | None:
    """Returns what a name was before its bytes were taken for a code page's, or None."""
    outer, _, inner = page.partition("+")
    if inner == "gbk":
        return _recode(name, outer, "gbk")
    text = _recode(name, outer, "utf-8")
    return _recode(text, inner, "utf-8") if text and inner else text


def core(name: str) -> str | None:
    """Returns the part of a name that may be a character: 实 of "0001_实" and "实_3"; or None."""
    match = _CORE.fullmatch(name)
    return match and next(filter(None, match.groups()))


def _is_character(text: str | None) -> bool:
    return text is not None and len(text) == 1 and text.isprintable() and not text.isspace()


def _is_chinese(text: str) -> bool:
    """Whether a character is of GBK, which has all of CASIA's, or a hanzi."""
    return _recode(text, "gbk", "gbk") is not None or "CJK" in unicodedata.name(text, "")


def _may_be_gbk(letter: str) -> bool:
    """Whether a letter's UTF-8 is two bytes, which may be a hanzi's in GBK: ʵ is 实."""
    return "\x80" <= letter < "\u0800"


def read_name(name: str, form: str = "") -> tuple[str, str | None] | None:
    """Returns the character that a name stands for, and what was undone for it.

    Args:
        name: Of a class: "实", "0001_实", "U+5B9E", "less_than", "ň«¬" (宪 under cp852).
        form: How the names of its source are read, as `decide_form` found.

    Returns:
        The character, with the code page undone or "english" where the name is another's; None
        where it stands for no character.
    """
    # macOS stores names decomposed ("n" and a caron for "ň"), which no code page can encode.
    name = unicodedata.normalize("NFC", name)
    part = core(name)
    for text in filter(None, (name, part)):
        if _is_character(text) and not (form == "utf-8+gbk" and _may_be_gbk(text)):
            return text, None
        if match := _CODE_POINT.fullmatch(text):
            character = chr(min(int(match[1], 16), 0x10FFFF))
            return (character, None) if _is_character(character) else None
        word = text.strip().lower().replace(" ", "_").replace("-", "_")
        if word in _SYMBOL_OF:
            return _SYMBOL_OF[word], "english"
    if form in _NUMBERS:
        pattern, base = _NUMBERS[form]
        if pattern.fullmatch(name):
            character = chr(int(name, base))
            if _is_character(character) and _is_chinese(character):
                return character, None
    elif form:
        for text in filter(None, (name, part)):
            if (repaired := _undo(text, form)) and _is_character(repaired):
                return (repaired, form) if not repaired.isascii() else None
    return None


class Naming(NamedTuple):
    """How a source's paths name characters.

    Attributes:
        level: Which part of a path does: 1 the folder that a file lies in, 2 the folder around
            that, …, 0 the file's own name.
        form: How it's read; see `read_name`.
        doubt: Why it can't be decided, or "".
    """

    level: int = 1
    form: str = ""
    doubt: str = ""

    def name(self, path: str, folder: str | None) -> str | None:
        """Returns the part of a path within a source that names its character, or None.

        Args:
            path: With "/" between its parts.
            folder: What the files lie in that lie in no folder of the source.
        """
        *folders, file = path.split("/")
        if self.level == 0:
            return core(file.rpartition(".")[0])
        if len(folders) >= self.level:
            return folders[-self.level]
        return folder if self.level == 1 else None


def decide_form(names: Collection[str], charset: Collection[str] = ()) -> tuple[str, str]:
    """Finds how the names of one source are read: so that most become characters, each another.

    Args:
        names: All of them, each once.
        charset: The characters that are likely, or none to take all alike.

    Returns:
        The form, as `read_name` takes it; and why it's doubtful, or "".
    """
    settled = {name: read[0] for name in names if (read := read_name(name))}
    # Others may be read otherwise in another form.
    settled = {name: c for name, c in settled.items() if not _may_be_gbk(c)}
    unsettled = sorted(set(names) - set(settled))
    readings, scores = {}, {}
    for form in _FORMS:
        readings[form] = {name: read[0] for name in unsettled if (read := read_name(name, form))}
        # A hanzi's three bytes of UTF-8 are no name of a source whose names are GBK.
        others = (c for c in settled.values() if form != "utf-8+gbk" or c.isascii())
        characters = {*others, *readings[form].values()}
        scores[form] = len(characters & {*charset}), len(characters)
    best = max(_FORMS, key=scores.__getitem__)
    numbers = [name for name in names if re.fullmatch("[0-9]+", name)]
    if best == "decimal":  # in which hanzi have five digits
        numbers = [name for name in numbers if len(name) != 5 or read_name(name, best) is None]
    if len(numbers) >= max(1, scores[best][1]) and scores[best][0] < len(names):
        return best, f"folders are numbered ({min(numbers)} …), and nothing says by what"
    rivals = [form for form in _FORMS if scores[form] == scores[best]]
    for name in unsettled:
        meant = {readings[form].get(name): form for form in rivals[::-1]}
        if len(meant) > 1:
            words = (f"{c} ({form or 'as it stands'})" for c, form in meant.items() if c)
            return best, f"the name {name!r} could mean {' or '.join(words)}"
    return best, ""


def decide_naming(
    folders: Collection[str],
    cores: Mapping[str | None, int],
    folder: str | None,
    charset: Collection[str] = (),
) -> Naming:
    """Finds which part of a source's paths names the characters, and how.

    Args:
        folders: The paths of the folders that images lie in, within the source.
        cores: How many files have which `core` of their names.
        folder: As for `Naming.name`.
        charset: As for `decide_form`.
    """
    best, most = Naming(), (-1.0, False, 0)
    for level in (1, 2, 3, 0):
        names = Counter(cores)
        if level:
            names = Counter(
                Naming(level).name(f"{path}/" if path else "", folder) for path in folders
            )
        form, doubt = decide_form([name for name in names if name], charset)
        shares: Counter[bool] = Counter()
        for name, count in names.items():
            reading = read_name(name, form) if name else None
            if reading and reading[0] not in _DIGITS:
                shares[reading[0].isascii()] += count
        # Digits and letters may be writers, a few names anything; hanzi are characters.
        share, total = shares[False] / max(1, names.total()), shares.total()
        found = (share, share > 0 and not doubt, total)
        if found > most and (level == 1 or share >= 0.5):
            best, most = Naming(level, form, doubt), found
    return best


def break_name(character: str, code_page: str | None) -> str | None:
    """Returns the folder name under which a character was unpacked: what `read_name` undoes.

    The code page is as `read_name` returns it; of "cp437+cp852" the second is the one that was
    unpacked under first. None where it has no letter for one of the character's bytes, or where
    a symbol's name is English.
    """
    if code_page is None:
        return character
    if code_page == "english":
        return None
    outer, _, inner = code_page.partition("+")
    if inner == "gbk":
        return _recode(character, "gbk", outer)
    return _recode(character, "utf-8", inner or outer)


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
    code page is as `read_name` returns it.

    Returns:
        The others among ASCII and GBK (which has all of CASIA-HWDB), those of GB2312 first as
        they are likelier in a data set.
    """
    name = break_name(character, code_page)
    others = _known_by_folded_name(code_page).get(fold_case(name), []) if name else []
    others = [other for other in others if other != character]
    return tuple(sorted(others, key=lambda other: _recode(other, "gb2312", "gb2312") is None))
