"""The audit's questions to a store's index and images, and what an answer consists of."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hccr_tf.audit.features import is_inverted
from hccr_tf.data.sources.image_folder import NAMELESS
from hccr_tf.data.store import splits
from hccr_tf.data.store.format import SKIPPED_FILE
from hccr_tf.data.store.store import Store
from hccr_tf.utils.schema import read_table

ERROR, WARNING, INFO = "error", "warning", "info"
"""How bad a finding is: it falsifies results; it should be looked at; it is good to know."""

_CHUNK = 4096  # Images at a time.
_FEW_LEVELS = 32
_LITTLE_INK = 0.001
_ODD = 5.0
_FEWEST_FOR_CLASS = 20  # Images of a class whose own sizes are known.
_IMBALANCE = 4.0


class Finding(NamedTuple):
    """One row of the audit."""

    sample: int | None  # The store index; None where it concerns no single sample.
    character: str | None  # The class.
    value: float | int | str | None  # What was measured, in the unit of the check's title.
    note: str = ""  # The rest in words: another class, a writer's name, a file.


@dataclass(frozen=True)
class Check:
    """One question to the store, and its answer."""

    name: str  # For tables: "odd_sizes".
    severity: str  # Of its findings.
    title: str  # What was looked for, with its rule.
    remedy: str  # What to do about a finding.
    findings: list[Finding]  # The worst first.
    sheet: Callable[[Finding], str | None] | None = None  # Text under a finding's image.
    by_class: bool = False  # Whether the sheet takes some of every class, not the first of all.
    counted: int | None = None  # What the title counts, such as groups; None for the findings.

    @property
    def count(self) -> int:
        """Samples, groups of copies, classes or writers."""
        return len(self.findings) if self.counted is None else self.counted


def find_sample(store: Store, index: int, value: float, note: str) -> Finding:
    """Makes the finding of a sample under its own label."""
    return Finding(int(index), store.charset.char(int(store.labels[index])), value, note)


def read_rows(path: Path) -> list[dict[Hashable, str]]:
    """Reads one of a store's lists, such as `repaired_names.csv`."""
    return read_table(path, dtype=str, keep_default_na=False).to_dict("records")


def count_by_split(keys: np.ndarray, split: np.ndarray, size: int) -> np.ndarray:
    """Counts samples; shape (size, splits)."""
    sides = len(splits.SPLIT_NAMES)
    counts = np.bincount(keys.astype(np.int64) * sides + split, minlength=size * sides)
    return counts.reshape(size, sides)


# === Over the index ===


def check_duplicates(store: Store, indices: np.ndarray) -> list[Check]:
    """Finds copies of the samples `indices`, by identical pixels, in all of the store."""
    copied = np.bincount(store.groups) > 1
    copied &= np.bincount(store.groups[indices], minlength=len(copied)) > 0
    members = np.flatnonzero(copied[store.groups])
    across, held_out, within, conflicting = [], [], [], []
    for places in pd.Series(members).groupby(store.groups[members]).indices.values():
        group = [find_sample(store, i, int(store.groups[i]), "") for i in members[places]]
        sides = sorted({splits.SPLIT_NAMES[store.split[f.sample]] for f in group})
        classes = sorted({str(f.character) for f in group})
        if len(classes) > 1:
            conflicting.append((group, f"labelled {' and '.join(classes)}"))
        if len(sides) == 1:
            within.append((group, f"{len(group)} times in {sides[0]}"))
        elif "duplicate" in sides and len(sides) == 2:
            held_out.append((group, f"in {', '.join(sides)}"))
        else:
            across.append((group, f"in {', '.join(sides)}"))

    def check(name, severity, title, remedy, groups, sheet=None) -> Check:
        findings = [f._replace(note=note) for group, note in groups for f in group]
        return Check(name, severity, title, remedy, findings, sheet, counted=len(groups))

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
            lambda f: f.character,
        ),
    ]


def check_writers(store: Store) -> list[Check]:
    """Finds writers in more than one split, and samples of unknown ones; of the whole store."""
    names = store.manifest["writers"]["names"]
    known = store.writers >= 0
    table = count_by_split(store.writers[known], store.split[known], len(names))
    train, validation, test = table[:, :3].T > 0

    def findings(chosen: np.ndarray) -> list[Finding]:
        rows = []
        for i in np.flatnonzero(chosen):
            counts = zip(splits.SPLIT_NAMES, table[i], strict=True)
            note = f"writer {names[i]}: " + ", ".join(f"{side} {n}" for side, n in counts)
            rows.append(Finding(None, None, int(table[i].sum()), note))
        return rows

    unknown = int((~known).sum())
    note = "writers on both sides can't be excluded"
    return [
        Check(
            "writers_on_both_sides",
            WARNING,
            "writers of training or validation and of the test",
            "a test of unknown writers takes `hccr data prepare --split writer`",
            findings((train | validation) & test),
        ),
        Check(
            "writers_in_validation",
            INFO,
            "writers of training and of validation",
            "validation by writer comes with `hccr data prepare --split writer`",
            findings(train & validation),
        ),
        Check(
            "writers_unknown",
            INFO,
            "samples whose writer the source doesn't tell",
            "writers are told apart in .gnt files and in Chinese MNIST",
            [Finding(None, None, unknown, note)] if unknown else [],
            counted=unknown,
        ),
    ]


def check_listed(store: Store) -> list[Check]:
    """Takes over what `hccr data prepare` listed: names, and what it could not read."""
    repaired = [
        Finding(None, row["character"], row["code_page"], f"was {row['name']}")
        for row in read_rows(store.path / "repaired_names.csv")
    ]
    skipped = [
        Finding(None, None, row["reason"], row["source"])
        for row in read_rows(store.path / SKIPPED_FILE)
    ]
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
            "files whose name or folder stands for no character",
            "name folders by characters, or prepare again with --labels",
            [finding for finding in skipped if finding.value == NAMELESS],
        ),
        Check(
            "unreadable",
            WARNING,
            "files and records that could not be read",
            "compare the source's size with the download page's; the rest is kept",
            [finding for finding in skipped if finding.value != NAMELESS],
        ),
    ]


def check_sizes(store: Store, indices: np.ndarray) -> Check:
    """Finds robust outliers of width, height and proportion, in logarithms.

    An image is odd where it lies far from the store's median and also from its own class's: 一
    is flat by nature.
    """
    width, height = (np.log(sides[indices], dtype=float) for sides in (store.widths, store.heights))
    measures = {"width": width, "height": height, "width / height": width - height}
    classes = pd.Series(indices).groupby(store.labels[indices]).indices.values()
    away = np.stack([_deviations(values) for values in measures.values()])
    for values, deviations in zip(measures.values(), away, strict=True):
        for members in classes:
            if len(members) >= _FEWEST_FOR_CLASS:
                own = _deviations(values[members])
                deviations[members] = np.minimum(deviations[members], own)
    worst, which = away.max(axis=0), away.argmax(axis=0)
    findings = []
    for k in np.argsort(-worst, kind="stable")[: np.count_nonzero(worst > _ODD)]:
        i = indices[k]
        size = f"{store.widths[i]}×{store.heights[i]} pixels, {list(measures)[which[k]]}"
        findings.append(find_sample(store, i, float(worst[k]), size))
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
    distances = np.abs(values - np.median(values))
    # Where most sizes are equal, one of 5 % more is no outlier.
    return distances / max(1.4826 * float(np.median(distances)), 0.05)


def check_balance(store: Store, indices: np.ndarray, split: str | None) -> list[Check]:
    """Finds classes with far more or fewer samples than the median, and splits without them.

    Of samples limited to one split, others can't be said to lack any.
    """
    labels, split_codes = store.labels[indices], store.split[indices]
    table = count_by_split(labels, split_codes, len(store.charset))[:, : splits.DUPLICATE]
    totals = table.sum(axis=1)
    there = totals[totals > 0]
    middle = float(np.median(there)) if len(there) else 0.0
    spread = f"{there.min():,} to {there.max():,}" if len(there) else "none"
    odd = (totals > 0) & ((totals * _IMBALANCE < middle) | (totals > _IMBALANCE * middle))
    order = sorted(np.flatnonzero(odd), key=lambda i: -abs(np.log(totals[i] / middle)))
    note = f"the median is {middle:g}"
    checks = [
        Check(
            "imbalance",
            WARNING,
            f"classes with over {_IMBALANCE:g} times more or fewer samples than the median "
            f"({spread})",
            "judge by accuracy per class (per_class.csv of `hccr fuse`) too",
            [Finding(None, store.charset.char(int(i)), int(totals[i]), note) for i in order],
        )
    ]
    remedies = {
        "training": "they can't be learnt: add data, or prepare with --charset of the others",
        "validation": "none needed",
        "test": "the test says nothing about them",
    }
    for (name, remedy), counts in zip(remedies.items(), table.T, strict=True):
        judged = split in (None, "all") and counts.any()
        lacking = [
            Finding(None, store.charset.char(int(i)), 0, f"{totals[i]} samples in other splits")
            for i in np.flatnonzero(judged & (counts == 0))
        ]
        severity = ERROR if name == "training" else INFO
        title = f"classes without a {name} sample"
        checks.append(Check(f"classes_without_{name}", severity, title, remedy, lacking))
    return checks


# === Over the images ===


def check_images(store: Store, indices: np.ndarray, advance: Callable[[int], None]) -> list[Check]:
    """Finds images with nothing on them, and with light ink on dark, among the samples."""
    blank, inverted = [], []
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        for i, image in zip(chunk, store.images(chunk), strict=True):
            low, high = int(image.min()), int(image.max())
            if high - low < _FEW_LEVELS:
                note = f"grey {low} to {high} only"
                blank.append(find_sample(store, i, float(high - low), note))
                continue
            # Apart from the median, which is paper, or ink where almost all is black.
            middle = int(np.median(image))
            apart = (image < middle - _FEW_LEVELS / 2) | (image > middle + _FEW_LEVELS / 2)
            share = np.count_nonzero(apart) / apart.size
            if share < _LITTLE_INK:
                note = f"{100 * share:.2g} % is not of grey {middle}"
                blank.append(find_sample(store, i, share, note))
            elif is_inverted(image):
                inverted.append(find_sample(store, i, share, f"paper of grey {middle}"))
        advance(len(chunk))
    most = 2 * len(inverted) > len(indices)
    return [
        Check(
            "blank",
            WARNING,
            f"fewer than {_FEW_LEVELS} levels of grey, or under {100 * _LITTLE_INK:g} % of the "
            "pixels apart from the rest",
            "take them out of the source: there is nothing to read",
            blank,
            lambda f: f.character,
        ),
        Check(
            "inverted",
            WARNING,
            "light ink on dark: most pixels, and most at the border, are darker than the middle "
            "of the range" + (" (most of the store: it is of that kind)" if most else ""),
            "invert the source's images: every model here is trained on dark ink on white",
            inverted,
            lambda f: f.character,
        ),
    ]
