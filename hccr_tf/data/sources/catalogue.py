"""The data sets that people have, by the names of their files, and how large each one is.

A store can say by them whether everything was read: 1,680,258 images of 420 writers are all of
HWDB1.0, fewer are a part of it or a damaged download.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from hccr_tf.charset import Charset


class KnownSet(NamedTuple):
    """A data set in numbers, None where nobody counted; symbols are classes too.

    `names` is the pattern of its files' names in lower case, without endings; the groups `split`
    and `number` say what a file holds. Today's downloads bring the training set in `train_files`.
    """

    title: str
    num_writers: int | None
    num_samples: int | None
    num_classes: int
    names: str
    train_files: int = 1


def _hwdb(version: str) -> str:
    # Gnt1.0TrainPart1.zip … of today, and HWDB1.0trn_gnt.zip of earlier years. The latter without
    # _gnt are features, no images.
    version = re.escape(version)
    return (
        rf"(gnt{version}(?=t)|hwdb{version}(?=t..[_-]))(?P<split>train|test|trn|tst)"
        r"(part(?P<number>[1-9])|[_-]gnt)?"
    )


KNOWN_SETS = {
    "hwdb1.0": KnownSet("HWDB1.0", 420, 1_680_258, 4_037, _hwdb("1.0"), 3),
    "hwdb1.1": KnownSet("HWDB1.1", 300, 1_172_907, 3_926, _hwdb("1.1"), 2),
    "hwdb1.2": KnownSet("HWDB1.2", 300, 1_041_970, 3_490, _hwdb("1.2"), 2),
    "icdar2013": KnownSet("ICDAR-2013 competition", 60, 224_419, 3_755, "competition[_-]gnt"),
    "repack": KnownSet(
        "the Kaggle repack of CASIA-HWDB", None, None, 7_330, "casia-hwdb[_-](?P<split>train|test)"
    ),
    "chinese-mnist": KnownSet("Chinese MNIST", 100, 15_000, 15, "chinese[_-]mnist"),
}

# The sets overlap, so their classes cannot be added up: 3,740 of the 3,755 hanzi of GB2312 level 1
# are in HWDB1.0 and the other 15 in HWDB1.2; the three share 171 symbols. Together 7,356.
_CLASS_BLOCKS = {
    "hwdb1.0": {"level 1": 3_740, "others in 1.0": 126, "symbols": 171},
    "hwdb1.1": {"level 1": 3_740, "rest of level 1": 15, "symbols": 171},
    "hwdb1.2": {"rest of level 1": 15, "others in 1.2": 3_304, "symbols": 171},
    "icdar2013": {"level 1": 3_740, "rest of level 1": 15},
}
_SPLITS = {"train": "train", "trn": "train", "test": "test", "tst": "test", None: "all"}
_ENDINGS = re.compile(r"(\.(zip|alz|rar|7z|tar|tgz|gz))?( ?\(\d+\)| - copy)?(\.(zip|alz|rar))?$")

_FEATURES = (
    "CASIA feature file (512 numbers a character), no images",
    "These are the features of HWDB1.xtrn.zip and HWDB1.xtst.zip. The images are in the archives "
    "with gnt in their names: Gnt1.0TrainPart1.zip …, in older downloads HWDB1.0trn_gnt.zip …",
)
_PAGES = (
    "CASIA text page, no single characters",
    "Those are the sets HWDB2.x. Single characters are in HWDB1.x (Gnt1.0TrainPart1.zip …)",
)
_MOVEMENTS = (
    "CASIA online handwriting (pen movements), no images",
    "Those are the sets OLHWDB. Images are in HWDB1.x (Gnt1.0TrainPart1.zip …)",
)
OTHER_KINDS = {
    ".mpf": _FEATURES,
    **dict.fromkeys((".dgr", ".dgrl"), _PAGES),
    **dict.fromkeys((".pot", ".ptts"), _MOVEMENTS),
}
"""By ending: what such a file holds, and where the images are instead."""

OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".egg", ".z01")


KnownFile = tuple[str, str]
"""A key of `KNOWN_SETS` and what a file of the set holds: "train", "test" or "all"; of a training
set in several files "train 1" …."""


def known_file(name: str) -> KnownFile | None:
    """Recognises an archive or folder of a known data set by its name.

    Args:
        name: Such as "Gnt1.0TrainPart1.zip", "HWDB1.1tst_gnt", "downloads/competition-gnt.zip";
            only the last part of a path counts, upper and lower case do not, nor does what a
            browser appends to a second download ("… (1).zip").

    Returns:
        Its set and content, or None. "HWDB1.0trn.zip" is None: it holds features, not images.
    """
    stem = _ENDINGS.sub("", re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower())
    for key, known in KNOWN_SETS.items():
        if match := re.fullmatch(known.names, stem):
            groups = match.groupdict()
            content, number = _SPLITS[groups.get("split")], groups.get("number")
            return key, f"{content} {number}" if number else content
    return None


def is_whole(key: str, contents: set[str]) -> bool:
    """Whether files with such contents make up the data set named by a key of `KNOWN_SETS`."""
    train = {f"train {n + 1}" for n in range(KNOWN_SETS[key].train_files)}
    return "all" in contents or ("test" in contents and ("train" in contents or train <= contents))


class CountCheck(NamedTuple):
    """One number of a store beside that of the complete data sets, and both in words, one line.

    `what` is "samples", "writers", "classes", or "level 1" for the hanzi of GB2312 level 1.
    """

    what: str
    found: int
    expected: int
    complete: bool
    text: str


def check_counts(
    files: Iterable[KnownFile], num_writers: int, num_samples: int, charset: Charset
) -> list[CountCheck]:
    """Compares what was read with what the data sets are known to have.

    Args:
        files: The files that were read, as of `known_file`, if no other data was read too.
        num_writers: Writers found, 0 where the source does not tell.
        num_samples: Images found, copies included.
        charset: The characters found.

    Returns:
        A result for each number that the sets are known by, and for CASIA sets that of GB2312
        level 1, with the characters that are missing.
    """
    contents: dict[str, set[str]] = {}
    for key, content in files:
        contents.setdefault(key, set()).add(content)
    keys = [key for key in KNOWN_SETS if key in contents]
    sets = [KNOWN_SETS[key] for key in keys]
    if not sets:
        return []
    title = " + ".join(known.title for known in sets)
    missing = "; ".join(
        f"{KNOWN_SETS[key].title}: {', '.join(sorted(contents[key]))} only"
        for key in keys
        if not is_whole(key, contents[key])
    )
    num_classes = sets[0].num_classes if len(sets) == 1 else None
    if _CLASS_BLOCKS.keys() >= set(keys):
        blocks = {name: n for key in keys for name, n in _CLASS_BLOCKS[key].items()}
        num_classes = sum(blocks.values())
    numbers = [
        ("samples", num_samples, [known.num_samples for known in sets]),
        # The repack has lost its writers.
        ("writers", num_writers, [known.num_writers if num_writers else None for known in sets]),
        ("classes", len(charset), [num_classes]),
    ]
    checks = [
        _compare(what, count, sum(filter(None, counts)), title, missing)
        for what, count, counts in numbers
        if None not in counts
    ]
    if {"hwdb1.1", "icdar2013"} & set(keys):
        checks.append(_check_level1(charset, title))
    return checks


def _compare(what: str, count: int, expected: int, title: str, missing: str) -> CountCheck:
    if count == expected:
        text = f"{count:,} {what}: {title}, complete"
    elif count > expected:
        text = f"{count:,} {what}: {count - expected:,} more than the {expected:,} of {title}"
    elif missing or what == "classes":
        text = f"{count:,} {what} of {expected:,}, a part of {title}"
        text += f" ({missing})" if missing else ""
    else:
        text = (
            f"{count:,} {what}: {expected - count:,} {what} short of {title} ({expected:,}); see "
            "skipped.csv, and compare the files' sizes with the download page's"
        )
    return CountCheck(what, count, expected, count == expected, text)


def _check_level1(charset: Charset, title: str) -> CountCheck:
    level1 = Charset.named("gb2312-1")
    missing = [character for character in level1 if character not in charset]
    text = f"GB2312 level 1: all {len(level1):,} hanzi"
    if missing:
        names = " ".join(missing[:20]) + (" …" if len(missing) > 20 else "")
        text = f"GB2312 level 1: {len(missing):,} of {len(level1):,} hanzi missing, which {title} "
        text += f"has: {names}"
    return CountCheck("level 1", len(level1) - len(missing), len(level1), not missing, text)
