"""The data sets that people have, by the names of their files, and how large each one is.

A store can say by them whether everything was read: 1,680,258 images of 420 writers are all of
HWDB1.0, fewer are a part of it or a damaged download.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hccr_tf.charset import Charset
from hccr_tf.utils.errors import HccrError

NUM_SYMBOLS = 171
"""Letters, digits and signs in each of HWDB1.0, 1.1 and 1.2."""


@dataclass(frozen=True)
class KnownSet:
    """A data set in numbers; None where the set does not say.

    Attributes:
        title: Its name for people.
        num_writers: Writers.
        num_samples: Images.
        num_classes: Characters, symbols included.
        parts: What its files hold: "train" and "test" for a set that comes in two, else "all".
    """

    title: str
    num_writers: int | None
    num_samples: int | None
    num_classes: int
    parts: tuple[str, ...] = ("train", "test")


KNOWN_COUNTS = {
    "hwdb1.0": KnownSet("HWDB1.0", 420, 1_680_258, 3_866 + NUM_SYMBOLS),
    "hwdb1.1": KnownSet("HWDB1.1", 300, 1_172_907, 3_755 + NUM_SYMBOLS),
    "hwdb1.2": KnownSet("HWDB1.2", 300, 1_041_970, 3_319 + NUM_SYMBOLS),
    "icdar2013": KnownSet("ICDAR-2013 competition", 60, 224_419, 3_755, ("all",)),
    "repack": KnownSet("the Kaggle repack of CASIA-HWDB", None, None, 7_330),
    "chinese-mnist": KnownSet("Chinese MNIST", 100, 15_000, 15, ("all",)),
    "mnist": KnownSet("MNIST", None, 70_000, 10, ("all",)),
    "fashion-mnist": KnownSet("Fashion-MNIST", None, 70_000, 10, ("all",)),
}
"""By the name that `known_set` gives."""

HWDB_CLASSES = 7_185 + NUM_SYMBOLS
"""Classes of HWDB1.0, 1.1 and 1.2 together: 7,356."""

# The sets overlap, so their classes cannot be added up. HWDB1.0 has 3,740 of the 3,755 hanzi of
# GB2312 level 1 and 126 others; HWDB1.2 has what is left to 7,185, level 1's last 15 included;
# HWDB1.1 and the competition have level 1 exactly.
_BLOCKS = {
    "level 1 in 1.0": 3_740,
    "others in 1.0": 126,
    "level 1 outside of 1.0": 15,
    "others in 1.2": 3_304,
    "symbols": NUM_SYMBOLS,
}
_BLOCKS_OF = {
    "hwdb1.0": {"level 1 in 1.0", "others in 1.0", "symbols"},
    "hwdb1.1": {"level 1 in 1.0", "level 1 outside of 1.0", "symbols"},
    "hwdb1.2": {"level 1 outside of 1.0", "others in 1.2", "symbols"},
    "icdar2013": {"level 1 in 1.0", "level 1 outside of 1.0"},
}


class Part(NamedTuple):
    """One file of a known data set.

    Attributes:
        set: A key of `KNOWN_COUNTS`.
        part: "train", "test" or "all"; of a training set in several files "train 1", "train 2" ….
    """

    set: str
    part: str


_SPLITS = {"train": "train", "trn": "train", "test": "test", "tst": "test"}
_TRAIN_FILES = {"hwdb1.0": 3, "hwdb1.1": 2, "hwdb1.2": 2}
"""In how many files the newer downloads bring the training sets."""
_PATTERNS = (
    # Gnt1.0TrainPart1.zip … Gnt1.2Test.zip: the downloads of today.
    re.compile(r"gnt(?P<hwdb>1\.[012])(?P<split>train|test)(?:part(?P<number>[1-9]))?"),
    # HWDB1.0trn_gnt.zip …: those of earlier years. Without _gnt they are features, no images.
    re.compile(r"hwdb(?P<hwdb>1\.[012])(?P<split>trn|tst)[_-]gnt"),
    re.compile(r"(?P<icdar2013>competition)[_-]gnt"),
    re.compile(r"(?P<repack>casia-hwdb)[_-](?P<split>train|test)"),
    re.compile(r"(?P<chinesemnist>chinese[_-]mnist)"),
    re.compile(r"(?P<fashionmnist>fashion[_-]?mnist)"),
    re.compile(r"(?P<mnist>mnist)"),
)
_NAMES = {"chinesemnist": "chinese-mnist", "fashionmnist": "fashion-mnist"}
"""By the groups of the patterns, whose names cannot have a hyphen."""
_ARCHIVE = re.compile(r"\.(zip|alz|rar|7z|tar|tgz|gz|npz)$")
_COPY = re.compile(r"( ?\(\d+\)| - copy)$")


def known_set(name: str) -> Part | None:
    """Recognises an archive or folder of a known data set by its name.

    Args:
        name: Such as "Gnt1.0TrainPart1.zip", "HWDB1.1tst_gnt", "downloads/competition-gnt.zip";
            only what follows the last "/" or "\\" counts, upper and lower case do not, nor does
            what a browser appends to a second download ("… (1).zip").

    Returns:
        The set and part, or None. "HWDB1.0trn.zip" is None: it holds features, not images.
    """
    name = re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()
    name = _COPY.sub("", _ARCHIVE.sub("", name))
    for pattern in _PATTERNS:
        match = pattern.fullmatch(name)
        if match is None:
            continue
        found = match.groupdict()
        part = _SPLITS.get(found.get("split") or "", "all")
        if found.get("number"):
            part += f" {found['number']}"
        if "hwdb" in found:
            return Part(f"hwdb{found['hwdb']}", part)
        group = next(iter(found))
        return Part(_NAMES.get(group, group), part)
    return None


def is_whole(set_name: str, parts: Iterable[str]) -> bool:
    """Whether the parts given make up a data set.

    Args:
        set_name: A key of `KNOWN_COUNTS`.
        parts: Second members of its `Part`s.
    """
    parts = set(parts)
    files = {f"train {n + 1}" for n in range(_TRAIN_FILES.get(set_name, 0))}
    if files and files <= parts:
        parts.add("train")
    return "all" in parts or set(KNOWN_COUNTS[set_name].parts) <= parts


@dataclass(frozen=True)
class CountCheck:
    """One number of a store beside what the data sets are known to have.

    Attributes:
        what: "samples", "writers", "classes", or "level 1" for the hanzi of GB2312 level 1.
        found: In the store.
        expected: In the complete data sets.
        complete: Whether the two are equal.
        text: The comparison in words, one line.
    """

    what: str
    found: int
    expected: int
    complete: bool
    text: str

    def __str__(self) -> str:
        return self.text


def check_counts(
    sets: Iterable[Part | tuple[str, str] | str],
    num_writers: int,
    num_samples: int,
    charset: Charset,
) -> list[CountCheck]:
    """Compares what was read with what the data sets are known to have.

    Args:
        sets: The data sets that were read: `Part`s of `known_set`, or keys of `KNOWN_COUNTS`,
            which stand for all of a set. If other data was read too, the counts say nothing and
            the caller leaves this out.
        num_writers: Writers found, 0 where the source does not tell.
        num_samples: Images found, copies included.
        charset: The characters found.

    Returns:
        One result for each number that the sets are known by: samples, writers, classes, and for
        CASIA sets the characters of GB2312 level 1 that are missing, by name.

    Raises:
        HccrError: A set is unknown; the message lists those there are.
    """
    parts: dict[str, set[str]] = {}
    for entry in sets:
        name, part = (entry, "all") if isinstance(entry, str) else entry
        if name not in KNOWN_COUNTS:
            raise HccrError(
                f"no known data set is named {name!r}; there are {', '.join(KNOWN_COUNTS)}"
            )
        parts.setdefault(name, set()).add(part)
    if not parts:
        return []
    names = [name for name in KNOWN_COUNTS if name in parts]
    title = " + ".join(KNOWN_COUNTS[name].title for name in names)
    missing_files = [
        f"{KNOWN_COUNTS[name].title}: {', '.join(sorted(parts[name]))} only"
        for name in names
        if not is_whole(name, parts[name])
    ]
    checks = []
    for what, found, counts in (
        ("samples", num_samples, [KNOWN_COUNTS[name].num_samples for name in names]),
        ("writers", num_writers, [KNOWN_COUNTS[name].num_writers for name in names]),
    ):
        if None not in counts and (what != "writers" or num_writers):
            checks.append(_compare(what, found, sum(counts), title, missing_files))
    num_classes = _num_classes(names)
    if num_classes is not None:
        checks.append(_compare("classes", len(charset), num_classes, title, missing_files))
    if "hwdb1.1" in names or "icdar2013" in names:
        checks.append(_level1(charset, title))
    return checks


def _num_classes(names: list[str]) -> int | None:
    """Classes of sets together; None where it is not known how they overlap."""
    if len(names) == 1:
        return KNOWN_COUNTS[names[0]].num_classes
    if not all(name in _BLOCKS_OF for name in names):
        return None
    return sum(_BLOCKS[block] for block in set().union(*(_BLOCKS_OF[name] for name in names)))


def _compare(
    what: str, found: int, expected: int, title: str, missing_files: list[str]
) -> CountCheck:
    if found == expected:
        text = f"{found:,} {what}: {title}, complete"
    elif found > expected:
        text = f"{found:,} {what}: {found - expected:,} more than the {expected:,} of {title}"
    elif missing_files:
        text = f"{found:,} {what} of {expected:,}, a part of {title} ({'; '.join(missing_files)})"
    elif what == "classes":
        text = f"{found:,} classes of {expected:,}, a part of {title}"
    else:
        text = (
            f"{found:,} {what}: {expected - found:,} {what} short of {title} ({expected:,}); see "
            "quarantine.csv, and compare the files' sizes with the download page's"
        )
    return CountCheck(what, found, expected, found == expected, text)


def _level1(charset: Charset, title: str) -> CountCheck:
    level1 = Charset.named("gb2312-1")
    missing = [character for character in level1 if character not in charset]
    text = f"GB2312 level 1: all {len(level1):,} hanzi"
    if missing:
        more = " …" if len(missing) > 20 else ""
        text = (
            f"GB2312 level 1: {len(missing):,} of {len(level1):,} hanzi missing, which {title} "
            f"has: {' '.join(missing[:20])}{more}"
        )
    return CountCheck("level 1", len(level1) - len(missing), len(level1), not missing, text)
