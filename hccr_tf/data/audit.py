"""The audit of a store: what a person should look at before training, found and ranked.

Nothing is changed. Every fault is a finding with the samples it concerns; checks that are about
pictures come with a sheet of them. Counts are over all samples (or those of one split), not over a
draw; memory holds a few numbers a sample and the findings, never the pictures.

With a trained model's logits (`Disagreement`), samples whose label the model doubts are ranked.
"""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hccr_tf.charset import Charset
from hccr_tf.data import splits
from hccr_tf.data.merged_classes import (
    CLEAR_STEP,
    MAX_PICTURES,
    SUSPICIOUS,
    ClassEvidence,
    find_merged,
    is_inverted,
)
from hccr_tf.data.sheet import draw_sheet
from hccr_tf.data.store import Store
from hccr_tf.files import atomic_write, read_json, write_json

FORMAT = "hccr_tf audit 1"
ERROR, WARNING, INFO = "error", "warning", "info"
"""How bad a finding is: it falsifies results; it should be looked at; it is good to know."""

_CHUNK = 4096  # Pictures at a time.
_ON_SHEET = 120
_SHEET_ROWS = 20  # Classes on the sheet of merged classes.
_FEW_LEVELS = 32
_LITTLE_INK = 0.001
_ODD = 5.0
_FEWEST_FOR_CLASS = 20  # Pictures of a class whose own sizes are known.
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
        count: What the title counts: samples, groups of copies, classes, writers.
        sheet: Texts under the pictures of the findings, by finding; None for a check without.
        by_class: Whether the sheet takes some of every class, not the first of all.
    """

    name: str
    severity: str
    title: str
    remedy: str
    findings: list[Finding]
    count: int
    sheet: Callable[[Finding], str] | None = None
    by_class: bool = False


class Disagreement:
    """What a trained model says against the labels, gathered batch by batch.

    A sample is ranked by its margin: the highest logit of another class minus the logit of its
    own. Above 0 the model reads another class. Why not the probabilities: two networks, or one at
    two temperatures, give one ranking by margins and different ones by differences of
    probabilities, which are also all close to 1 among the clearest cases, the ones looked for.

    A model trained on the same labels has learnt some of the wrong ones by heart, so what it
    disagrees with is suspicious and what it agrees with is not thereby right. Held-out splits
    speak the more plainly.

    Args:
        store: The store that was read.
        charset: The model's characters in class order.

    Attributes:
        margin: Shape (samples of the store,), float32; NaN where nothing was said.
        other: Shape (samples of the store,), int32: the other class in the model's charset.

    Raises:
        ValueError: The charset doesn't cover the store; the message names what it lacks.
    """

    def __init__(self, store: Store, charset: Charset):
        self.charset = charset
        # Of the store's own order: labels of a batch must not come from another charset's.
        self._classes = store.labels_for(charset, np.arange(len(store)))
        self.margin = np.full(len(store), np.nan, np.float32)
        self.other = np.full(len(store), -1, np.int32)

    def add(self, logits: np.ndarray, indices: np.ndarray) -> None:
        """Takes a batch.

        Args:
            logits: Shape (n, classes of the charset), float: logits or log-probabilities.
            indices: Shape (n,), the samples in the store.

        Raises:
            ValueError: There are not as many logits as classes.
        """
        if logits.ndim != 2 or logits.shape != (len(indices), len(self.charset)):
            raise ValueError(
                f"logits of shape {logits.shape} don't fit {len(indices)} samples and "
                f"{len(self.charset)} classes"
            )
        rows, own = np.arange(len(indices)), self._classes[indices]
        rest = np.array(logits, np.float32)
        given = rest[rows, own]
        rest[rows, own] = -np.inf
        other = rest.argmax(axis=1)
        self.other[indices] = other
        self.margin[indices] = rest[rows, other] - given


@dataclass(frozen=True)
class ClassReport:
    """A row of `classes.csv`.

    Attributes:
        evidence: What its pictures and name say; see `merged_classes`.
        counts: Samples by split.
        doubted: Share of its samples that the model reads as another class; None without a model.
        read_as: The class that those are mostly read as.
        score: `evidence.score`, and with a model the share it doubts beyond the median class.
    """

    character: str
    evidence: ClassEvidence
    counts: dict[str, int]
    doubted: float | None
    read_as: str | None
    score: float


@dataclass
class Audit:
    """The answers of all checks.

    Attributes:
        store: What was audited.
        split: The split it was limited to, or None.
        num_samples: Samples looked at.
        checks: In a fixed order.
        classes: Every class, those that may hold two characters first.
        run: The trained run's path, or None.
        agreement: By split: share of the samples that the model reads as labelled.
    """

    store: Store
    split: str | None
    num_samples: int
    checks: list[Check]
    classes: list[ClassReport]
    run: str | None = None
    agreement: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `audit.csv`, `classes.csv`, the sheets, and `summary.json` last.

        Args:
            folder: Made if need be; an earlier audit in it is replaced, file by file.

        Returns:
            The folder.

        Raises:
            FileExistsError: The folder holds something else.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        summary = folder / "summary.json"
        if any(folder.iterdir()):
            found = read_json(summary) if summary.is_file() else None
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                raise FileExistsError(
                    f"{folder} is not empty and holds no audit; choose another folder with --out"
                )
            # Nothing of an earlier audit may be taken for part of this one.
            for name in found["files"]:
                (folder / Path(name).name).unlink(missing_ok=True)
        files = ["audit.csv", "classes.csv"]
        _write_csv(folder / "audit.csv", _FINDING_COLUMNS, self._rows())
        _write_csv(folder / "classes.csv", _CLASS_COLUMNS, map(self._class_row, self.classes))
        files += [name for name, draw in self._sheets() if draw(folder / name)]
        write_json(summary, {**self._summary(), "files": [*files, summary.name]})
        return folder

    def text(self, folder: str | os.PathLike[str] | None = None) -> str:
        """Describes the audit for a terminal.

        Args:
            folder: Where it was written, to say where to look.
        """
        what = f"split {self.split}" if self.split else "all splits"
        lines = [
            f"audit of {self.store.path} (data hash {self.store.data_hash[:16]}): "
            f"{self.num_samples:,} samples of {what}, {len(self.classes):,} classes"
        ]
        drawn = {name for name, _ in self._sheets()}
        for check in self.checks:
            mark = check.severity if check.findings else "-"
            sheet = f" → {check.name}.png" if f"{check.name}.png" in drawn else ""
            lines.append(f"  {mark:<8}{check.name:<25}{check.count:>9,}  {check.title}{sheet}")
        remedies = [check for check in self.checks if check.findings and check.severity != INFO]
        if remedies:
            lines.append("what to do:")
            lines += [f"  {check.name}: {check.remedy}" for check in remedies]
        if self.agreement:
            shares = ", ".join(f"{name} {100 * v:.2f} %" for name, v in self.agreement.items())
            lines.append(f"{self.run} reads as labelled: {shares}")
        lines += self._worst_classes()
        lines += self._worst_labels()
        if folder is not None:
            lines.append(f"every finding in {Path(folder) / 'audit.csv'}, classes in classes.csv")
        return "\n".join(lines)

    def _worst_classes(self) -> list[str]:
        lines = [
            "classes that may hold two characters, most suspicious first (score; spread towards "
            "the other; step in the numbering; two heaps"
            + ("; doubted by the model)" if self.run else ")")
        ]
        for rank, row in enumerate(self.classes[:10], 1):
            evidence = row.evidence
            parts = [
                f"with {evidence.partner}?" if evidence.partner else "",
                _number(evidence.spread, "{:.1f}"),
                _number(evidence.step, "{:.1f}"),
                _number(evidence.bimodality, "{:+.2f}"),
            ]
            line = f"  {rank:>2}. {row.character} {parts[0]:<8} {row.score:5.2f}"
            line += f"  {parts[1]:>5}  {parts[2]:>5}  {parts[3]:>5}"
            if row.doubted is not None:
                line += f"  {100 * row.doubted:5.1f} %"
                line += f" (mostly as {row.read_as})" if row.read_as else ""
            lines.append(line)
        return lines

    def _worst_labels(self) -> list[str]:
        if not self.run:
            return []
        findings = self["likely_wrong_labels"].findings[:8]
        return ["labels that the model doubts most (margin of logits):"] + [
            f"  {self.store.sample_id(f.sample)}: {f.character}, {f.note} (+{f.value:.1f})"
            for f in findings
        ]

    def _rows(self) -> Iterator[list[Any]]:
        names = self.store.manifest["writers"]["names"]
        for check in self.checks:
            for finding in check.findings:
                where = ["", "", ""]
                if finding.sample is not None:
                    writer = int(self.store.writers[finding.sample])
                    where = [
                        self.store.sample_id(finding.sample),
                        splits.SPLIT_NAMES[self.store.split[finding.sample]],
                        names[writer] if writer >= 0 else "",
                    ]
                value = finding.value
                yield [
                    check.name, check.severity, finding.character or "", *where,
                    f"{value:.6g}" if isinstance(value, float) else "" if value is None else value,
                    finding.note, check.remedy,
                ]  # fmt: skip

    def _class_row(self, row: ClassReport) -> list[Any]:
        e = row.evidence
        return [
            row.character, *(row.counts[name] for name in splits.SPLIT_NAMES), f"{row.score:.4f}",
            e.partner or "", _number(e.spread, "{:.4f}"), _number(e.step, "{:.4f}"),
            _number(e.bimodality, "{:.4f}"), e.num_pictures, _number(row.doubted, "{:.4f}"),
            row.read_as or "",
        ]  # fmt: skip

    def _summary(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "store": str(self.store.path),
            "data_hash": self.store.data_hash,
            "split": self.split,
            "num_samples": self.num_samples,
            "run": self.run,
            "agreement": self.agreement,
            "checks": {
                check.name: {
                    "severity": check.severity if check.findings else None,
                    "count": check.count,
                    "findings": len(check.findings),
                    "title": check.title,
                    "remedy": check.remedy,
                }
                for check in self.checks
            },
            "classes": [
                {"character": row.character, "score": round(row.score, 4),
                 "may_be_merged_with": row.evidence.partner, "doubted": row.doubted}
                for row in self.classes[:100]
            ],
        }  # fmt: skip

    def _sheets(self) -> Iterator[tuple[str, Callable[[Path], Any]]]:
        """Yields the sheets there are something to draw for: (file name, function that draws)."""
        for check in self.checks:
            if check.sheet is None or not check.findings:
                continue
            shown = _shown(check)

            def draw(path: Path, check: Check = check, shown: list[Finding] = shown) -> Any:
                return _draw(
                    self.store, [f.sample for f in shown], [check.sheet(f) for f in shown], path,
                    f"{check.name}: {len(shown)} of {len(check.findings):,}", 12,
                ) is not None  # fmt: skip

            yield f"{check.name}.png", draw
        merged = [row for row in self.classes if row.evidence.ends][:_SHEET_ROWS]
        if merged:
            yield "merged_classes.png", lambda path: self._draw_merged(merged, path)

    def _draw_merged(self, rows: list[ClassReport], path: Path) -> bool:
        columns = max(len(row.evidence.ends) for row in rows)
        samples: list[int | None] = []
        texts: list[str] = []
        for row in rows:
            ends = list(row.evidence.ends)
            samples += ends + [None] * (columns - len(ends))
            other = f"{row.evidence.partner}?" if row.evidence.partner else f"{row.character}?"
            half = len(ends) // 2
            texts += [row.character] * half + [other] * (columns - half)
        title = "classes that may hold two characters: most like the one, most like the other"
        return _draw(self.store, samples, texts, path, title, columns) is not None


_FINDING_COLUMNS = [
    "check", "severity", "character", "sample_id", "split", "writer", "value", "note", "remedy",
]  # fmt: skip
_CLASS_COLUMNS = [
    "character", *splits.SPLIT_NAMES, "score", "may_be_merged_with", "spread", "step", "bimodality",
    "pictures_compared", "doubted", "mostly_read_as",
]  # fmt: skip


def audit(
    store: Store,
    split: str | None = None,
    disagreement: Disagreement | None = None,
    run: str | None = None,
    progress: bool = True,
) -> Audit:
    """Looks for faults in a store.

    Args:
        store: The store.
        split: Limits the samples to one of `Store.indices`; copies and writers are still compared
            with all others. None takes all, copies held out of training included.
        disagreement: A model's, filled; samples that it says nothing about are left out there.
        run: The name of the model's run, for the report; needed with `disagreement`.
        progress: Whether to show a progress bar, if standard error is a terminal.

    Returns:
        The audit.

    Raises:
        ValueError: There is no such split, or it is empty.
    """
    if (disagreement is None) != (run is None):
        raise ValueError("a run has a disagreement, and a disagreement a run")
    indices = np.arange(len(store)) if split is None else store.indices(split)
    with _progress_bar(2 * len(indices), progress) as advance:
        checks = [
            *_duplicates(store, indices),
            *_writers(store),
            *_listed(store),
            *_pictures(store, indices, advance),
            _odd_sizes(store, indices),
            *_balance(store, indices, split),
        ]
        evidence = find_merged(store, indices, advance)
    classes = _classes(store, indices, evidence, disagreement)
    checks += _merged(classes)
    agreement = {}
    if disagreement is not None:
        checks.append(_wrong_labels(store, indices, disagreement))
        said = indices[~np.isnan(disagreement.margin[indices])]
        for code, name in enumerate(splits.SPLIT_NAMES):
            margins = disagreement.margin[said[store.split[said] == code]]
            if len(margins):
                agreement[name] = float((margins <= 0).mean())
    return Audit(store, split, len(indices), checks, classes, run, agreement)


# === Checks over the index ===


def _duplicates(store: Store, indices: np.ndarray) -> list[Check]:
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
        return Check(name, severity, title, remedy, findings, len(found), **more)

    return [
        check(
            "duplicates_across_splits", ERROR,
            "pictures that stand in more than one split, by identical pixels",
            "prepare the store again: what it was tested on, it was trained on", across,
        ),
        check(
            "duplicates_held_out", INFO,
            "pictures of test or validation whose training copies are held out",
            "nothing: no split holds them", held_out,
        ),
        check(
            "duplicates_within_split", INFO, "pictures that occur more than once in one split",
            "none needed; a copy counts as another sample", within,
        ),
        check(
            "conflicting_duplicates", WARNING, "pictures under more than one character",
            "at most one label is right: look, and take the wrong file out of the source",
            conflicting,
            sheet=lambda f: f.character,
        ),
    ]  # fmt: skip


def _writers(store: Store) -> list[Check]:
    names = store.manifest["writers"]["names"]
    known = store.writers >= 0
    table = np.zeros((len(names), len(splits.SPLIT_NAMES)), np.int64)
    np.add.at(table, (store.writers[known], store.split[known]), 1)
    train, validation, test = table[:, :3].T
    sides = [
        ("writers_on_both_sides", WARNING, "writers of training or validation and of the test",
         "a test of unknown writers takes `hccr data prepare --split writer`",
         (train + validation > 0) & (test > 0)),
        ("writers_in_validation", INFO, "writers of training and of validation",
         "validation by writer comes with `hccr data prepare --split writer`",
         (train > 0) & (validation > 0)),
    ]  # fmt: skip
    checks = []
    for name, severity, title, remedy, there in sides:
        findings = [
            Finding(
                None, None, int(table[i].sum()),
                f"writer {names[i]}: "
                + ", ".join(f"{s} {n}" for s, n in zip(splits.SPLIT_NAMES, table[i], strict=True)),
            )
            for i in np.flatnonzero(there)
        ]  # fmt: skip
        checks.append(Check(name, severity, title, remedy, findings, len(findings)))
    unknown = int((~known).sum())
    note = "writers on both sides can't be excluded" if unknown else ""
    checks.append(
        Check(
            "writers_unknown", INFO, "samples whose writer the source doesn't tell",
            "writers are told apart in .gnt files and in Chinese MNIST",
            [Finding(None, None, unknown, note)] if unknown else [], unknown,
        )
    )  # fmt: skip
    return checks


def _listed(store: Store) -> list[Check]:
    """What `hccr data prepare` listed: names and what it could not read."""
    repaired = [
        Finding(None, row["character"], row["code_page"], f"was {row['name']}")
        for row in _read_csv(store.path / "repaired_names.csv")
    ]
    unreadable, nameless = [], []
    for row in _read_csv(store.path / "quarantine.csv"):
        finding = Finding(None, None, row["reason"], row["source"])
        (nameless if "name" in row["reason"] else unreadable).append(finding)
    return [
        Check(
            "repaired_names", INFO, "broken class names that were repaired",
            "compare some in `hccr data show` with their pictures", repaired, len(repaired),
        ),
        Check(
            "nameless", WARNING, "files whose folder's name stands for no character",
            "rename the folder to the character, and prepare again", nameless, len(nameless),
        ),
        Check(
            "unreadable", WARNING, "files and records that could not be read",
            "compare the source's size with the download page's; the rest is kept", unreadable,
            len(unreadable),
        ),
    ]  # fmt: skip


def _odd_sizes(store: Store, indices: np.ndarray) -> Check:
    """Robust outliers of width, height and proportion, in logarithms.

    A picture is odd where it lies far from the store's median and also from its own class's: 一
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
        "odd_sizes", WARNING,
        f"width, height or proportion over {_ODD:g} robust deviations off the store's and the "
        "class's median",
        "look: scraps, several characters in one picture, or uncut scans", findings,
        len(findings), lambda f: f"{f.character} {f.note.split(' ')[0]}",
    )  # fmt: skip


def _deviations(values: np.ndarray) -> np.ndarray:
    """Distances from the median in units of the standard deviation that the MAD stands for."""
    middle = np.median(values)
    # Where most sizes are equal, one of 5 % more is no outlier.
    scale = max(1.4826 * float(np.median(np.abs(values - middle))), 0.05)
    return (values - middle) / scale


def _balance(store: Store, indices: np.ndarray, split: str | None) -> list[Check]:
    kept = indices[store.split[indices] != splits.DUPLICATE]
    table = _counts(store, kept)
    totals = table.sum(axis=1)
    there = totals > 0
    middle = float(np.median(totals[there])) if there.any() else 0.0
    odd = there & ((totals * _IMBALANCE < middle) | (totals > _IMBALANCE * middle))
    order = sorted(np.flatnonzero(odd), key=lambda i: -abs(np.log(totals[i] / middle)))
    imbalance = [
        Finding(None, store.charset.char(int(i)), int(totals[i]), f"the median is {middle:g}")
        for i in order
    ]
    missing: dict[str, list[Finding]] = {name: [] for name in splits.SPLIT_NAMES[:3]}
    for code, name in enumerate(splits.SPLIT_NAMES[:3]):
        if split in (None, "all") and table[:, code].any():
            missing[name] = [
                Finding(None, store.charset.char(int(i)), 0, f"{totals[i]} samples in other splits")
                for i in np.flatnonzero(table[:, code] == 0)
            ]
    spread = f"{totals[there].min():,} to {totals[there].max():,}" if there.any() else "none"
    return [
        Check(
            "imbalance", WARNING,
            f"classes with over {_IMBALANCE:g} times more or fewer samples than the median "
            f"({spread})",
            "judge by accuracy per class (per_class.csv of `hccr fuse`) too", imbalance,
            len(imbalance),
        ),
        Check(
            "classes_without_training", ERROR, "classes without a training sample",
            "they can't be learnt: add data, or prepare with --charset of the others",
            missing["train"], len(missing["train"]),
        ),
        Check(
            "classes_without_test", INFO, "classes without a test sample",
            "the test says nothing about them", missing["test"], len(missing["test"]),
        ),
        Check(
            "classes_without_validation", INFO, "classes without a validation sample",
            "none needed", missing["validation"], len(missing["validation"]),
        ),
    ]  # fmt: skip


def _counts(store: Store, indices: np.ndarray) -> np.ndarray:
    """Shape (classes, splits): samples."""
    size = len(splits.SPLIT_NAMES)
    places = store.labels[indices].astype(np.int64) * size + store.split[indices]
    return np.bincount(places, minlength=size * len(store.charset)).reshape(-1, size)


# === Checks over the pictures ===


def _pictures(store: Store, indices: np.ndarray, advance: Callable[[int], None]) -> list[Check]:
    blank, inverted = [], []
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        for i, picture in zip(chunk.tolist(), store.images(chunk), strict=True):
            low, high = int(picture.min()), int(picture.max())
            if high - low < _FEW_LEVELS:
                blank.append((float(high - low), i, f"grey {low} to {high} only"))
                continue
            # Apart from the median, which is paper, or ink where almost all is black.
            middle = int(np.median(picture))
            apart = (picture < middle - _FEW_LEVELS / 2) | (picture > middle + _FEW_LEVELS / 2)
            share = np.count_nonzero(apart) / apart.size
            if share < _LITTLE_INK:
                blank.append((share, i, f"{100 * share:.2g} % is not of grey {middle}"))
            elif is_inverted(picture):
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
            "blank", WARNING,
            f"fewer than {_FEW_LEVELS} levels of grey, or under {100 * _LITTLE_INK:g} % of the "
            "pixels apart from the rest",
            "take them out of the source: there is nothing to read", findings(blank), len(blank),
            lambda f: f.character,
        ),
        Check(
            "inverted", WARNING,
            "light ink on dark: most pixels, and most at the border, are darker than the middle "
            "of the range" + (" (most of the store: it is of that kind)" if most else ""),
            "invert the source's pictures: every model here is trained on dark ink on white",
            findings(inverted), len(inverted), lambda f: f.character,
        ),
    ]  # fmt: skip


def _classes(
    store: Store,
    indices: np.ndarray,
    evidence: list[ClassEvidence],
    disagreement: Disagreement | None,
) -> list[ClassReport]:
    table = _counts(store, indices)
    doubted: dict[int, float] = {}
    read_as: dict[int, str] = {}
    if disagreement is not None:
        said = indices[~np.isnan(disagreement.margin[indices])]
        wrong = said[disagreement.margin[said] > 0]
        totals = np.bincount(store.labels[said], minlength=len(store.charset))
        wrongs = np.bincount(store.labels[wrong], minlength=len(store.charset))
        doubted = {int(k): float(wrongs[k] / totals[k]) for k in np.flatnonzero(totals)}
        pairs = Counter(
            zip(store.labels[wrong].tolist(), disagreement.other[wrong].tolist(), strict=True)
        )
        for (label, other), _ in pairs.most_common():
            read_as.setdefault(label, disagreement.charset.char(other))
    usual = float(np.median(list(doubted.values()))) if doubted else 0.0
    rows = [
        ClassReport(
            store.charset.char(e.label), e,
            dict(zip(splits.SPLIT_NAMES, table[e.label].tolist(), strict=True)),
            doubted.get(e.label), read_as.get(e.label),
            e.score + max(doubted.get(e.label, usual) - usual, 0.0),
        )
        for e in evidence
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.score, row.evidence.label))


def _merged(classes: list[ClassReport]) -> list[Check]:
    merged, mergeable, blocks = [], [], []
    for row in classes:
        e = row.evidence
        words = [f"may be merged with {e.partner}"] if e.partner else []
        words += [f"spread {e.spread:.2f}"] if e.spread is not None else []
        words += [f"step {e.step:.1f}"] if e.step is not None else []
        words += [f"two heaps {e.bimodality:+.2f} nats"] if e.bimodality is not None else []
        words += [f"{100 * row.doubted:.1f} % doubted"] if row.doubted is not None else []
        if e.num_pictures == MAX_PICTURES:
            words.append(f"by {MAX_PICTURES} of its pictures")
        finding = Finding(None, row.character, float(row.score), "; ".join(words))
        if row.score >= SUSPICIOUS:
            merged.append(finding)
        if e.partner:
            mergeable.append(finding)
        if (e.step or 0) >= CLEAR_STEP:
            blocks += [Finding(i, row.character, e.step, f"may be {e.partner}") for i in e.block]
    return [
        Check(
            "merged_classes", WARNING,
            "classes that may hold two characters, or one written in two ways, by name and "
            "pictures",
            "look at merged_classes.png; take such classes out, or sort their pictures by hand",
            merged, len(merged),
        ),
        Check(
            "merged_pictures", WARNING,
            "pictures that stand together in a folder's numbering and look like the character "
            "whose name differs only by case",
            "look: they are what an overwritten folder left, or what overwrote it", blocks,
            len(blocks), lambda f: f"{f.character}→{f.note[-1]}", by_class=True,
        ),
        Check(
            "mergeable_names", INFO,
            "classes whose broken name differs from another character's only by case",
            "prepare from the archive itself, not from a disk that ignores case", mergeable,
            len(mergeable),
        ),
    ]  # fmt: skip


def _wrong_labels(store: Store, indices: np.ndarray, disagreement: Disagreement) -> Check:
    margins = disagreement.margin[indices]
    doubted = np.flatnonzero(margins > 0)  # NaN is not.
    order = doubted[np.argsort(-margins[doubted], kind="stable")]
    findings = [
        Finding(
            int(indices[k]), store.charset.char(int(store.labels[indices[k]])), float(margins[k]),
            f"read as {disagreement.charset.char(int(disagreement.other[indices[k]]))}",
        )
        for k in order
    ]  # fmt: skip
    return Check(
        "likely_wrong_labels", WARNING, "samples that the model reads as another class",
        "look at the first: the ranking is by doubt, the further down the more often it is the "
        "model that errs",
        findings, len(findings), lambda f: f"{f.character}→{f.note[-1]}",
    )  # fmt: skip


# === Files and terminal ===


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _shown(check: Check) -> list[Finding]:
    """The findings on a check's sheet: the first, or as many of every class."""
    if not check.by_class:
        return check.findings[:_ON_SHEET]
    seen: Counter[str | None] = Counter()
    most = max(_ON_SHEET // len({f.character for f in check.findings}), 1)
    shown = []
    for finding in check.findings:
        seen[finding.character] += 1
        if seen[finding.character] <= most:
            shown.append(finding)
    return shown[:_ON_SHEET]


def _draw(
    store: Store, samples: list[int | None], texts: list[str], path: Path, title: str, columns: int
) -> np.ndarray:
    there = np.array([i for i in samples if i is not None], np.int64)
    pictures = dict(zip(there.tolist(), store.images(there), strict=True))
    images = [None if i is None else pictures[i] for i in samples]
    return draw_sheet(images, texts, path, columns=columns, title=title)


def _read_csv(path: Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _write_csv(path: Path, head: list[str], rows: Iterable[list[Any]]) -> None:
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


@contextlib.contextmanager
def _progress_bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with a number of pictures; it does nothing without a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking at pictures", total=total)
        yield lambda count: bar.advance(task, count)
