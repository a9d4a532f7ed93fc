"""A file of labels: which character a path, a folder or a number stands for.

CSV or TSV of path and label, such as Kaggle's, JSON, `label.txt` (a character a line, or with its
number), the `char_dict` of tutorials for CASIA-HWDB.
"""

import csv
import io
import json
import os
import pickletools
import re
from collections.abc import Collection
from pathlib import Path

from hccr_tf.data.sources.folder_names import decide_form, read_name
from hccr_tf.images.decoding import SUFFIXES
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.schema import decoding


class Labels:
    """The characters that a file of labels gives.

    Args:
        path: Of the file.
        charset: The characters that are likely; see `decide_form`.

    Attributes:
        of_number: By number, where the file is a list of classes.

    Raises:
        OSError: The file can't be opened.
        HccrError: It names no characters, or two for one path.
    """

    def __init__(self, path: str | os.PathLike[str], charset: Collection[str] = ()):
        rows = _rows(Path(path))
        for number, row in enumerate(rows, 1):
            if len(row) != len(rows[0]):
                raise HccrError(f"{path}, row {number}: {len(row)} cells, not {len(rows[0])}.")
        columns = list(zip(*rows, strict=True))
        best, most, characters = -1, (len(rows) - 1) / 2, []  # all but a head, or most
        for i, column in enumerate(columns):
            form, doubt = decide_form(set(column), charset)
            read = [(read_name(cell, form) or ("",))[0] for cell in column]
            if (number := sum(map(str.isalpha, read))) > most and not doubt:
                best, most, characters = i, number, read
        others = [column for i, column in enumerate(columns) if i != best]
        if best < 0 or not others:
            raise HccrError(f"{path} has no column of characters beside one of paths or numbers.")
        # The one with most paths, or else with most cells that differ.
        keys = max(others, key=lambda c: (sum(x.lower().endswith(SUFFIXES) for x in c), len({*c})))
        self._of: dict[str, str] = {}
        for key, character in zip(keys, characters, strict=True):
            key = _key(key)
            if character and self._of.setdefault(key, character) != character:
                raise HccrError(f"{path} says both {self._of[key]} and {character} of {key}.")
        self.of_number = {int(key): c for key, c in self._of.items() if key.isdecimal()}
        # Of paths on another machine what's behind the folder that was moved; None if of several.
        self._of_tail: dict[str, str | None] = {}
        for key, character in self._of.items():
            parts = key.split("/")
            for i in range(1, len(parts)):
                tail = "/".join(parts[i:])
                same = self._of_tail.setdefault(tail, character) == character
                self._of_tail[tail] = character if same else None

    def of(self, name: str, source: str) -> str | None:
        """Returns the character of a file, or None.

        Args:
            name: Its path within the source.
            source: The same with the source's name before it.
        """
        parts = source.split("/")
        for i in range(len(parts)):
            if character := self._of.get("/".join(parts[i:])):
                return character
        for folder in reversed(parts[:-1]):
            if (key := _key(folder)) in self._of or (self.of_number and key.isdecimal()):
                return self._of.get(key)
        stem = _key(os.path.splitext(parts[-1])[0])
        return self._of_tail.get(name) or self._of.get(stem)


def _key(text: str) -> str:
    """A path with "/" between its parts, a number without zeros before it."""
    text = text.strip().replace("\\", "/").removeprefix("./")
    return str(int(text)) if text.isascii() and text.isdecimal() else text


def _rows(path: Path) -> list[list[str]]:
    """Returns the cells of a file of labels."""
    data = path.read_bytes()
    with decoding(path, "give a CSV of path and label"):
        if data[:1] in (b"\x80", b"(", b"}", b"]") and data.endswith(b"."):
            # A pickle's texts and numbers are listed; nothing in it is made or run.
            values = [
                str(value)
                for operation, value, _ in pickletools.genops(data)
                if re.search("UNICODE|INT|LONG", operation.name)
            ]
            if not any(map(str.isdecimal, values)):
                return [[str(number), value] for number, value in enumerate(values)]
            return [list(pair) for pair in zip(values[::2], values[1::2], strict=True)]
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("gb18030")
        if text.lstrip()[:1] in ("{", "["):
            content = json.loads(text)
            pairs = content.items() if isinstance(content, dict) else enumerate(content)
            return [[str(key), str(value)] for key, value in pairs]
        first = text.lstrip().partition("\n")[0]
        delimiter = next((d for d in "\t,;" if d in first), " ")
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        rows = [[cell.strip() for cell in row] for row in lines if any(row)]
        return rows if len(rows[0]) > 1 else [[str(i), row[0]] for i, row in enumerate(rows)]
