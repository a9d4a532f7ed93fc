"""The audit's questions to a store's index and images, and what an answer consists of."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hccr_tf.audit.features import is_inverted
from hccr_tf.data.sources.image_folder import NAMELESS
from hccr_tf.data.store import splits
from hccr_tf.data.store.store import Store

ERROR, WARNING, INFO = "error", "warning", "info"
"""How bad a finding is: it falsifies results; it should be looked at; it is good to know."""

_CHUNK = 4096  # Images at a time.
_FEW_LEVELS = 32
_LITTLE_INK = 0.001
_ODD = 5.0
_FEWEST_FOR_CLASS = 20  # Images of a class whose own sizes are known.
_IMBALANCE = 4.0


class Finding(NamedTuple):
    """One row of the audit.

    Attributes:
        sample: The store index, or None where it concerns no single sample.
        character: The class, or None.
        value: What was measured; its unit is in the check's title.
        note: The rest in words: another class, a writer's name, a file.
    """

    sample: int | None
    character: str | None
    value: float | int | str | None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One question to the store, and its answer.

    Attributes:
        name: For tables: "odd_sizes".
        severity: "error", "warning" or "info", where there are findings.
        title: What was looked for, with its rule.
        remedy: What to do about a finding.
        findings: The worst first.
        sheet: Texts under the images of the findings, by finding; None for a check without.
        by_class: Whether the sheet takes some of every class, not the first of all.
        counted: What the title counts, such as groups of copies; None where it's the findings.
    """

    name: str
    severity: str
    title: str
    remedy: str
    findings: list[Finding]
    sheet: Callable[[Finding], str | None] | None = None
    by_class: bool = False
    counted: int | None = None

    @property
    def count(self) -> int:
        """Samples, groups of copies, classes or writers."""
        return len(self.findings) if self.counted is None else self.counted


# === Over the index ===


def check_duplicates(store: Store, indices: np.ndarray) -> list[Check]:
    """Images with identical pixels: across splits, within one, under several characters.

    Args:
        store: The store; copies of the samples are looked for in all of it.
        indices: Shape (n,), int: the samples.
    """
    sizes = np.bincount(store.groups)
    wanted = np.zeros(len(sizes), bool)
    wanted[store.groups[indices]] = True
    wanted &= sizes > 1
    members = np.flatnonzero(wanted[store.groups])
    members = members[np.argsort(store.groups[members], kind="stable")]
    groups = np.split(members, np.flatnonzero(np.diff(store.groups[members])) + 1)
    across, held_out, within, conflicting = [], [], [], []
    for group in groups if len(members) else ():
        sides = {splits.SPLIT_NAMES[code] for code in store.split[group]}
        classes = {store.charset.char(int(label)) for label in store.labels[group]}
        if len(classes) > 1:
            conflicting.append((group, f"labelled {' and '.join(sorted(classes))}"))
        if len(sides - {"duplicate"}) > 1:
            across.append((group, f"in {', '.join(sorted(sides))}"))
        elif len(sides) > 1:
            held_out.append((group, f"in {', '.join(sorted(sides))}"))
        else:
            within.append((group, f"{len(group)} times in {sides.pop()}"))

    def check(name, severity, title, remedy, found, **more) -> Check:
        findings = [
            Finding(int(i), store.charset.char(int(store.labels[i])), int(store.groups[i]), note)
            for group, note in found
            for i in group
        ]
        return Check(name, severity, title, remedy, findings, counted=len(found), **more)

    return [
        check(
            "duplicates_across_splits",
            ERROR,
            "images that stand in more than one split, by identical pixels",
            "prepare the store again: what it was tested on, it was trained on",
            across,
        ),
        check(
            "duplicates_held_out",
            INFO,
            "images of test or validation whose training copies are held out",
            "nothing: no split holds them",
            held_out,
        ),
        check(
            "duplicates_within_split",
            INFO,
            "images that occur more than once in one split",
            "none needed; a copy counts as another sample",
            within,
        ),
        check(
            "conflicting_duplicates",
            WARNING,
            "images under more than one character",
            "at most one label is right: look, and take the wrong file out of the source",
            conflicting,
            sheet=lambda f: f.character,
        ),
    ]


def check_writers(store: Store) -> list[Check]:
    """Writers in more than one split, and samples whose writer isn't known; of the whole store."""
    names = store.manifest["writers"]["names"]
    known = store.writers >= 0
    table = np.zeros((len(names), len(splits.SPLIT_NAMES)), np.int64)
    np.add.at(table, (store.writers[known], store.split[known]), 1)
    train, validation, test = table[:, :3].T
    sides = [
        (
            "writers_on_both_sides",
            WARNING,
            "writers of training or validation and of the test",
            "a test of unknown writers takes `hccr data prepare --split writer`",
            (train + validation > 0) & (test > 0),
        ),
        (
            "writers_in_validation",
            INFO,
            "writers of training and of validation",
            "validation by writer comes with `hccr data prepare --split writer`",
            (train > 0) & (validation > 0),
        ),
    ]
    checks = []
    for name, severity, title, remedy, there in sides:
        findings = [
            Finding(
                None,
                None,
                int(table[i].sum()),
                f"writer {names[i]}: "
                + ", ".join(f"{s} {n}" for s, n in zip(splits.SPLIT_NAMES, table[i], strict=True)),
            )
            for i in np.flatnonzero(there)
        ]
        checks.append(Check(name, severity, title, remedy, findings))
    unknown = int((~known).sum())
    note = "writers on both sides can't be excluded" if unknown else ""
    checks.append(
        Check(
            "writers_unknown",
            INFO,
            "samples whose writer the source doesn't tell",
            "writers are told apart in .gnt files and in Chinese MNIST",
            [Finding(None, None, unknown, note)] if unknown else [],
            counted=unknown,
        )
    )
    return checks


def what_was_listed(store: Store) -> list[Check]:
    """What `hccr data prepare` listed: names and what it could not read."""
    repaired = [
        Finding(None, row["character"], row["code_page"], f"was {row['name']}")
        for row in _read_csv(store.path / "repaired_names.csv")
    ]
    unreadable: list[Finding] = []
    nameless: list[Finding] = []
    for row in _read_csv(store.skipped_path):
        finding = Finding(None, None, row["reason"], row["source"])
        (nameless if row["reason"] == NAMELESS else unreadable).append(finding)
    return [
        Check(
            "repaired_names",
            INFO,
            "broken class names that were repaired",
            "compare some in `hccr data show` with their images",
            repaired,
        ),
        Check(
            "nameless",
            WARNING,
            "files whose folder's name stands for no character",
            "rename the folder to the character, and prepare again",
            nameless,
        ),
        Check(
            "unreadable",
            WARNING,
            "files and records that could not be read",
            "compare the source's size with the download page's; the rest is kept",
            unreadable,
        ),
    ]


def _read_csv(path: Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def check_sizes(store: Store, indices: np.ndarray) -> Check:
    """Robust outliers of width, height and proportion, in logarithms.

    An image is odd where it lies far from the store's median and also from its own class's: 一
    is flat by nature.
    """
    labels = store.labels[indices]
    order = np.argsort(labels, kind="stable")
    classes = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    widths = np.log(store.widths[indices].astype(np.float64))
    heights = np.log(store.heights[indices].astype(np.float64))
    worst = np.zeros(len(indices))
    which = np.zeros(len(indices), np.int64)
    kinds = ("width", "height", "width / height")
    for kind, values in enumerate((widths, heights, widths - heights)):
        away = np.abs(_deviations(values))
        if (away > _ODD).any():
            for members in classes:
                if len(members) >= _FEWEST_FOR_CLASS and (away[members] > _ODD).any():
                    own = np.abs(_deviations(values[members]))
                    away[members] = np.minimum(away[members], own)
        which[away > worst] = kind
        worst = np.maximum(worst, away)
    findings = []
    for k in np.flatnonzero(worst > _ODD)[np.argsort(-worst[worst > _ODD], kind="stable")]:
        i = int(indices[k])
        size = f"{store.widths[i]}×{store.heights[i]} pixels, {kinds[which[k]]}"
        findings.append(Finding(i, store.charset.char(int(labels[k])), float(worst[k]), size))
    return Check(
        "odd_sizes",
        WARNING,
        f"width, height or proportion over {_ODD:g} robust deviations off the store's and the "
        "class's median",
        "look: scraps, several characters in one image, or uncut scans",
        findings,
        lambda f: f"{f.character} {f.note.split(' ')[0]}",
    )


def _deviations(values: np.ndarray) -> np.ndarray:
    """Distances from the median in units of the standard deviation that the MAD stands for."""
    middle = np.median(values)
    # Where most sizes are equal, one of 5 % more is no outlier.
    scale = max(1.4826 * float(np.median(np.abs(values - middle))), 0.05)
    return (values - middle) / scale


def check_balance(store: Store, indices: np.ndarray, split: str | None) -> list[Check]:
    """Classes with far more or fewer samples than the median, and splits that lack classes.

    Args:
        store: The store.
        indices: Shape (n,), int: the samples.
        split: What they were limited to; other splits can then not be said to lack any.
    """
    kept = indices[store.split[indices] != splits.DUPLICATE]
    table = count_samples(store, kept)
    totals = table.sum(axis=1)
    there = totals > 0
    middle = float(np.median(totals[there])) if there.any() else 0.0
    odd = there & ((totals * _IMBALANCE < middle) | (totals > _IMBALANCE * middle))
    order = sorted(np.flatnonzero(odd), key=lambda i: -abs(np.log(totals[i] / middle)))
    imbalance = [
        Finding(None, store.charset.char(int(i)), int(totals[i]), f"the median is {middle:g}")
        for i in order
    ]
    lacking = [
        (
            "training",
            ERROR,
            "they can't be learnt: add data, or prepare with --charset of the others",
        ),
        ("validation", INFO, "none needed"),
        ("test", INFO, "the test says nothing about them"),
    ]
    without = []
    for code, (name, severity, remedy) in enumerate(lacking):
        judged = split in (None, "all") and table[:, code].any()
        findings = [
            Finding(None, store.charset.char(int(i)), 0, f"{totals[i]} samples in other splits")
            for i in np.flatnonzero(judged & (table[:, code] == 0))
        ]
        title = f"classes without a {name} sample"
        without.append(Check(f"classes_without_{name}", severity, title, remedy, findings))
    spread = f"{totals[there].min():,} to {totals[there].max():,}" if there.any() else "none"
    return [
        Check(
            "imbalance",
            WARNING,
            f"classes with over {_IMBALANCE:g} times more or fewer samples than the median "
            f"({spread})",
            "judge by accuracy per class (per_class.csv of `hccr fuse`) too",
            imbalance,
        ),
        *without,
    ]


def count_samples(store: Store, indices: np.ndarray) -> np.ndarray:
    """Shape (classes, splits): samples."""
    size = len(splits.SPLIT_NAMES)
    places = store.labels[indices].astype(np.int64) * size + store.split[indices]
    return np.bincount(places, minlength=size * len(store.charset)).reshape(-1, size)


# === Over the images ===


def check_images(store: Store, indices: np.ndarray, advance: Callable[[int], None]) -> list[Check]:
    """Images with nothing on them, and with light ink on dark.

    Args:
        store: The store.
        indices: Shape (n,), int: the samples, all of whose images are read.
        advance: Called with the number of images after each piece.
    """
    blank, inverted = [], []
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        for i, image in zip(chunk.tolist(), store.images(chunk), strict=True):
            low, high = int(image.min()), int(image.max())
            if high - low < _FEW_LEVELS:
                blank.append((float(high - low), i, f"grey {low} to {high} only"))
                continue
            # Apart from the median, which is paper, or ink where almost all is black.
            middle = int(np.median(image))
            apart = (image < middle - _FEW_LEVELS / 2) | (image > middle + _FEW_LEVELS / 2)
            share = np.count_nonzero(apart) / apart.size
            if share < _LITTLE_INK:
                blank.append((share, i, f"{100 * share:.2g} % is not of grey {middle}"))
            elif is_inverted(image):
                inverted.append((share, i, f"paper of grey {middle}"))
        advance(len(chunk))

    def findings(found) -> list[Finding]:
        return [
            Finding(i, store.charset.char(int(store.labels[i])), value, note)
            for value, i, note in found
        ]

    most = 2 * len(inverted) > len(indices)
    return [
        Check(
            "blank",
            WARNING,
            f"fewer than {_FEW_LEVELS} levels of grey, or under {100 * _LITTLE_INK:g} % of the "
            "pixels apart from the rest",
            "take them out of the source: there is nothing to read",
            findings(blank),
            lambda f: f.character,
        ),
        Check(
            "inverted",
            WARNING,
            "light ink on dark: most pixels, and most at the border, are darker than the middle "
            "of the range" + (" (most of the store: it is of that kind)" if most else ""),
            "invert the source's images: every model here is trained on dark ink on white",
            findings(inverted),
            lambda f: f.character,
        ),
    ]
