"""Characters and their class indices: the one place where order lives.

A class index means nothing without its charset. Everything that holds indices (a store, a trained
model) therefore holds the characters in order too, and their hash, and refuses another order.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from hccr_tf.utils.errors import HccrError, unknown
from hccr_tf.utils.files import read_json, write_json
from hccr_tf.utils.schema import Sha256, check, decoding

_FORMAT = "hccr_tf charset 1"
_STORE_FORMAT = "hccr_tf store "
STORED_CHARSET = {"sha256": Sha256, "characters": str}  # in a store's manifest

NUMERALS = "零一二三四五六七八九十百千万亿"
"""The classes of Chinese MNIST in the order of its codes 1 to 15."""


@cache
def _gb2312(end_row: int) -> str:
    """The hanzi of the GB2312 table up to a row, in code order; unassigned places are left out."""
    codes = (bytes([0xA0 + row, low]) for row in range(16, end_row) for low in range(0xA1, 0xFF))
    return "".join(code.decode("gb2312", "ignore") for code in codes)


_NAMED = {
    "gb2312-1": lambda: _gb2312(56),  # level 1: 啊 to 座
    "gb2312": lambda: _gb2312(88),  # levels 1 and 2: 啊 to 齄
    "chinese-mnist": lambda: NUMERALS,
}


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
            if not isinstance(character, str) or len(character) != 1:
                raise HccrError(f"{character!r} is not exactly one character (one code point)")
            if 0xD800 <= ord(character) <= 0xDFFF:
                raise HccrError(f"{character!r} is half of a surrogate pair, not a character")
        if len(self._index) != len(self.characters):
            twice = [c for c, count in Counter(self.characters).items() if count > 1]
            raise HccrError(f"characters occur more than once: {' '.join(twice[:10])}")

    @classmethod
    def sorted(cls, characters: Iterable[str]) -> Charset:
        """Makes a charset ordered by code point; repeated characters are taken once."""
        return cls(tuple(sorted(set(characters))))

    @classmethod
    def from_text(cls, text: Iterable[str]) -> Charset:
        """Makes a charset of a string's or other characters, in their order; nothing is skipped."""
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
            try:
                # The second byte of an ASCII symbol is zero.
                characters.append(int(code).to_bytes(2, "big").rstrip(b"\0").decode("gbk"))
            except UnicodeDecodeError:
                raise HccrError(f"tag code {int(code):04x} is no GBK code") from None
        return cls(tuple(characters))

    @classmethod
    def named(cls, name: str) -> Charset:
        """Makes "gb2312-1", "gb2312" or "chinese-mnist", in code order; HccrError for another name.

        Example:
            >>> Charset.named("gb2312-1").text[:3], len(Charset.named("gb2312"))
            ('啊阿埃', 6763)
        """
        if name not in _NAMED:
            raise unknown("charset", name, _NAMED)
        return cls.from_text(_NAMED[name]())

    @classmethod
    def open(cls, source: str | os.PathLike[str]) -> Charset:
        """Makes or reads a charset, whatever it is given as.

        Args:
            source: A name that `named` takes (`./gb2312` is a file of that name); a charset file;
                or the folder of a training run or store. A `.txt` file holds the characters in
                their order, white space between them or not; an `.npy` file holds GBK codes, as
                `from_tag_codes` takes them.

        Raises:
            FileNotFoundError: It is neither a name nor a path that exists.
            HccrError: What lies at the path holds no charset, or an altered one.
        """
        if source in _NAMED:
            return cls.named(str(source))
        path = Path(source)
        if path.is_dir():
            for file in (path / "charset.json", path / "manifest.json"):
                if file.is_file():
                    return cls.load(file)
            raise HccrError(
                f"{path} is the folder of neither a training run nor a store: it has no "
                "charset.json and no manifest.json"
            )
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is neither a charset's name ({', '.join(_NAMED)}) nor a file or folder"
            )
        if path.suffix.lower() not in (".txt", ".npy"):
            return cls.load(path)
        try:
            with decoding("its content"):
                if path.suffix.lower() == ".txt":
                    return cls.from_text("".join(path.read_text("utf-8-sig").split()))
                import numpy as np

                codes = np.load(path, mmap_mode="r", allow_pickle=False)
                if not isinstance(codes, np.memmap) or codes.dtype.kind not in "iuf":
                    raise HccrError("it is no array of numbers")
                return cls.from_tag_codes(codes.ravel().tolist())
        except HccrError as error:
            raise HccrError(f"{path} does not hold a valid charset: {error}") from error

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
        """Writes the charset atomically as JSON, a character a line, for tools that compare."""
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
        kind = data.get("format") if isinstance(data, dict) else None
        if is_store := str(kind).startswith(_STORE_FORMAT):
            data = data.get("charset")
        elif kind != _FORMAT:
            raise HccrError(f"{path} is not a charset file ({_FORMAT!r} expected)")
        check(
            data, STORED_CHARSET if is_store else {**STORED_CHARSET, "characters": list[str]}, path
        )
        try:
            charset = cls(tuple(data["characters"]))
        except HccrError as error:
            raise HccrError(f"{path} does not hold a valid charset: {error}") from error
        if charset.sha256 != data["sha256"]:
            raise HccrError(f"{path} was altered: its characters do not have the SHA-256 it names")
        return charset

    def difference(self, other: Charset) -> str:
        """Says in one line how `other` differs from this charset; empty if it does not."""
        if self.characters == other.characters:
            return ""
        parts = []
        for word, one, two in (("lacks", self, other), ("adds", other, self)):
            if characters := [c for c in one if c not in two]:
                more = " …" if len(characters) > 10 else ""
                parts.append(f"{word} {len(characters)} ({' '.join(characters[:10])}{more})")
        for i, (a, b) in enumerate(zip(self, other, strict=False)):
            if a != b:
                parts.append(f"first differs in order at index {i} ({b!r} instead of {a!r})")
                break
        return f"{len(other)} characters instead of {len(self)}: {', '.join(parts)}"
