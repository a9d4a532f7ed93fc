"""What every reader yields, and the split that folder and archive names speak of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable image of one character.

    Attributes:
        image: Shape (height, width), uint8 grey; background and ink as in the source, for the
            sources at hand background 255 and ink darker.
        character: One code point.
        writer: Who wrote it, or None where the source does not say.
        source: Where it comes from, unique within a store and written as the source writes it, so
            that it can be found again: "Train.zip/Train/ň«¬/12.png", "1001-f.gnt#17".
        split: "train", "validation" or "test" as the source gives it, else None.
    """

    image: np.ndarray
    character: str
    writer: str | None
    source: str
    split: str | None


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Many images of one file at once: what a reader yields where one by one would be slow.

    Attributes:
        buffer: uint8 bytes that the images lie in; valid until the reader goes on.
        starts: Shape (n,), int64: first byte of each image within the buffer.
        heights, widths: Shape (n,), int64: pixels; an image's bytes lie row by row.
        characters: Shape (n,), int64: code points.
        first: Number of the first image among the samples of its file; the others follow.
        writer, source, split: As in `Sample`, for all of them; the source is the file's.
    """

    buffer: memoryview
    starts: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    characters: np.ndarray
    first: int
    writer: str | None
    source: str
    split: str | None

    def samples(self) -> list[Sample]:
        """The same as single samples, with images of their own."""
        columns = np.stack([self.starts, self.heights, self.widths, self.characters], axis=1)
        samples = []
        for i, (start, height, width, code) in enumerate(columns.tolist(), self.first):
            image = np.ndarray((height, width), np.uint8, self.buffer, start).copy()
            samples.append(Sample(image, chr(code), self.writer, f"{self.source}#{i}", self.split))
        return samples


@dataclass(frozen=True, slots=True)
class Skipped:
    """A stretch of a source that is not used.

    Attributes:
        source: The file, named as in `Sample.source`.
        offset: The first byte concerned within that file, or None for the file as a whole.
        num_bytes: The number of bytes concerned.
        reason: A fixed phrase without numbers or names, so that reasons can be counted.
    """

    source: str
    offset: int | None
    num_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class RepairedName:
    """A class name that was read as something else than it says; see `folder_names.repair_name`."""

    name: str
    character: str
    code_page: str


Record = Sample | SampleBlock | Skipped | RepairedName

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SPLIT_WORDS = re.compile(
    r"(?P<train>train[a-z]*|trn)|(?P<test>test(s|ing|set|data|part)?|tst|competition)"
    r"|(?P<validation>val|valid[a-z]*)",
    re.IGNORECASE,
)


def split_of_path(parts: Sequence[str]) -> str | None:
    """Returns the split that folder and archive names speak of, the innermost (last) deciding.

    "train", "validation", "test" or None. A name speaks of a split if one of its words is train or
    trn, test or tst or competition (the ICDAR-2013 test set), or val; words are told apart by
    case, digits and punctuation, so "latest" does not speak of one.
    """
    for part in reversed(parts):
        for word in _WORDS.findall(part):
            if match := _SPLIT_WORDS.fullmatch(word):
                return next(name for name, found in match.groupdict().items() if found)
    return None
