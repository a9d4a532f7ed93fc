"""Characters, class indices, tag codes and broken names: the one place where order lives.

A class index means nothing without the charset that it was made under. Everything that holds
indices (a store, a trained model) therefore holds the charset's characters in order too, and its
hash, and refuses to work with another order.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import read_json, write_json

_FORMAT = "hccr_tf charset 1"
_STORE_FORMAT = "hccr_tf store "

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

NUMERALS = "零一二三四五六七八九十百千万亿"
"""The classes of Chinese MNIST in the order of its codes 1 to 15."""

DIGITS = "0123456789"
"""The classes of MNIST in the order of its labels, and by their numbers those of Fashion-MNIST."""

_LEVEL1_ROWS, _LEVEL2_ROWS = range(16, 56), range(56, 88)


@cache
def _gb2312(rows: range) -> str:
    """The characters of rows of the GB2312 table in code order; unassigned places are left out."""
    codes = (bytes([0xA0 + row, 0xA0 + place]) for row in rows for place in range(1, 95))
    return "".join(code.decode("gb2312", "ignore") for code in codes)


_NAMED = {
    "gb2312-1": ("GB2312 level 1 in code order: 啊 to 座", lambda: _gb2312(_LEVEL1_ROWS)),
    "gb2312": (
        "GB2312 levels 1 and 2 in code order: 啊 to 齄",
        lambda: _gb2312(_LEVEL1_ROWS) + _gb2312(_LEVEL2_ROWS),
    ),
    "chinese-mnist": ("Chinese MNIST in the order of its codes: 零 to 亿", lambda: NUMERALS),
    "digits": ("the digits 0 to 9, the classes of MNIST", lambda: DIGITS),
}


def list_charsets() -> dict[str, str]:
    """Returns the names that `Charset.named` knows, each with a description."""
    return {name: description for name, (description, _) in _NAMED.items()}


def _check_character(character: str) -> str:
    if not isinstance(character, str) or len(character) != 1:
        raise HccrError(f"{character!r} is not exactly one character (one code point)")
    if 0xD800 <= ord(character) <= 0xDFFF:
        raise HccrError(f"{character!r} is half of a surrogate pair, not a character")
    return character


@dataclass(frozen=True)
class Charset:
    """An ordered set of characters; a character's place in it is its class index.

    Attributes:
        characters: One code point each, without repetition.

    Raises:
        HccrError: An entry is not exactly one code point, or occurs twice.
    """

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "characters", tuple(self.characters))
        for character in self.characters:
            _check_character(character)
        if len(self._index) != len(self.characters):
            twice = [c for c, count in Counter(self.characters).items() if count > 1]
            raise HccrError(f"characters occur more than once: {' '.join(twice[:10])}")

    @classmethod
    def from_characters(cls, characters: Iterable[str]) -> Charset:
        """Makes a charset in the order given."""
        return cls(tuple(characters))

    @classmethod
    def sorted(cls, characters: Iterable[str]) -> Charset:
        """Makes a charset ordered by code point; repeated characters are taken once."""
        return cls(tuple(sorted(set(characters))))

    @classmethod
    def from_text(cls, text: str) -> Charset:
        """Makes a charset of a string's characters, in their order; nothing is skipped."""
        return cls(tuple(text))

    @classmethod
    def from_tag_codes(cls, codes: Iterable[int]) -> Charset:
        """Makes a charset of GBK codes as big-endian numbers, in their order.

        Such is `label2tagcode.npy` beside the weights that Melnyk et al. 2018 published.

        Example:
            >>> Charset.from_tag_codes([0xB0A1, 0xD7F9]).text
            '啊座'

        Raises:
            HccrError: A number is no code of two bytes, or a character occurs twice.
        """
        characters = []
        for code in codes:
            if not 0 < code < 1 << 16 or code != int(code):
                raise HccrError(f"{code!r} is no code of two bytes")
            characters.append(decode_tag(int(code).to_bytes(2, "big")))
        return cls(tuple(characters))

    @classmethod
    def named(cls, name: str) -> Charset:
        """Makes one of the charsets of `list_charsets`.

        Example:
            >>> Charset.named("gb2312-1").text[:3], len(Charset.named("gb2312"))
            ('啊阿埃', 6763)

        Raises:
            HccrError: There is no charset of that name; the message lists those there are.
        """
        if name not in _NAMED:
            raise HccrError(f"no charset is named {name!r}; there are {', '.join(_NAMED)}")
        return cls.from_text(_NAMED[name][1]())

    @classmethod
    def open(cls, source: str | os.PathLike[str]) -> Charset:
        """Makes or reads a charset, whatever it is given as.

        Args:
            source: A name of `list_charsets`; or a charset file; or the folder of a training run
                or a store, whose charset is meant. A name goes before a file that is called so;
                write `./gb2312` for the file. A `.txt` file holds the characters in their order,
                white space between them or not; an `.npy` file holds GBK codes as numbers, as
                `from_tag_codes` takes them.

        Raises:
            FileNotFoundError: It is neither a name nor a path that exists.
            HccrError: What lies at the path holds no charset, or an altered one.
        """
        if source in _NAMED:
            return cls.named(str(source))
        path = Path(source)
        if path.is_dir():
            for name in ("charset.json", "manifest.json"):
                if (path / name).is_file():
                    return cls.load(path / name)
            raise HccrError(
                f"{path} is the folder of neither a training run nor a store: it has no "
                "charset.json and no manifest.json"
            )
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is neither a charset's name ({', '.join(_NAMED)}) nor a file or folder"
            )
        if path.suffix.lower() == ".txt":
            try:
                return cls.from_text("".join(path.read_text("utf-8-sig").split()))
            except ValueError as error:
                raise HccrError(f"{path} does not hold a valid charset: {error}") from error
        if path.suffix.lower() == ".npy":
            import numpy as np

            try:
                codes = np.load(path, allow_pickle=False)
                if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iuf":
                    raise HccrError("it is no array of numbers")
                return cls.from_tag_codes(codes.ravel().tolist())
            except (ValueError, EOFError) as error:
                raise HccrError(f"{path} does not hold a valid charset: {error}") from error
        return cls.load(path)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def __iter__(self) -> Iterator[str]:
        return iter(self.characters)

    def __contains__(self, character: object) -> bool:
        return character in self._index

    def index(self, character: str) -> int:
        """Returns the class index of a character; ValueError where it has none."""
        try:
            return self._index[character]
        except KeyError:
            raise HccrError(
                f"{character!r} is not among the {len(self)} characters of the charset"
            ) from None

    def char(self, index: int) -> str:
        """Returns the character of a class index; IndexError outside 0 … len − 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"class index {index} is outside 0 … {len(self) - 1}")
        return self.characters[index]

    @property
    def text(self) -> str:
        """All characters in order as one string."""
        return "".join(self.characters)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of `text` in UTF-8, which identifies characters and order."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the charset atomically as JSON.

        JSON keeps white space and quotes apart from the file's own lines, and with one character
        a line the order can be read and compared with a text tool.
        """
        write_json(
            path, {"format": _FORMAT, "sha256": self.sha256, "characters": list(self.characters)}
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Charset:
        """Reads what `save` wrote, or the charset in a store's manifest.

        Raises:
            FileNotFoundError: There is no such file.
            HccrError: The file is no charset, or its content does not have the hash it states.
        """
        data = read_json(path)
        found = data.get("format") if isinstance(data, dict) else None
        if str(found).startswith(_STORE_FORMAT):
            data = data.get("charset")
        elif found != _FORMAT:
            raise HccrError(f"{path} is not a charset file ({_FORMAT!r} expected)")
        try:
            charset = cls(tuple(data["characters"]))
        except (KeyError, TypeError, ValueError) as error:
            raise HccrError(f"{path} does not hold a valid charset: {error}") from error
        if charset.sha256 != data.get("sha256"):
            raise HccrError(f"{path} was altered: its characters do not have the SHA-256 it names")
        return charset

    def difference(self, other: Charset) -> str:
        """Says in one line how `other` differs from this charset; empty if it does not."""
        if self.characters == other.characters:
            return ""
        parts = []
        for word, characters in (
            ("lacks", [c for c in self if c not in other]),
            ("adds", [c for c in other if c not in self]),
        ):
            if characters:
                more = " …" if len(characters) > 10 else ""
                parts.append(f"{word} {len(characters)} ({' '.join(characters[:10])}{more})")
        pairs = zip(self.characters, other.characters, strict=False)
        for i, (a, b) in enumerate(pairs):
            if a != b:
                parts.append(f"first differs in order at index {i} ({b!r} instead of {a!r})")
                break
        return f"{len(other)} characters instead of {len(self)}: {', '.join(parts)}"


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
    if tag[1] == 0:
        if 0x21 <= tag[0] <= 0x7E:
            return chr(tag[0])
        raise HccrError(f"tag code {tag.hex()} is no printable ASCII symbol")
    try:
        character = tag.decode("gbk")
    except UnicodeDecodeError:
        raise HccrError(f"tag code {tag.hex()} is no GBK code") from None
    if len(character) != 1:
        raise HccrError(f"tag code {tag.hex()} stands for {len(character)} characters")
    return character


def encode_tag(character: str) -> bytes:
    """Returns the two bytes of a character's `.gnt` tag code; see `decode_tag`.

    Raises:
        HccrError: The character has no tag code (it is not in GBK).
    """
    _check_character(character)
    if character.isascii():
        if not 0x21 <= ord(character) <= 0x7E:
            raise HccrError(f"{character!r} is no printable ASCII symbol and has no tag code")
        return bytes([ord(character), 0])
    try:
        tag = character.encode("gbk")
    except UnicodeEncodeError:
        raise HccrError(f"{character!r} (U+{ord(character):04X}) is not in GBK") from None
    return tag


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
