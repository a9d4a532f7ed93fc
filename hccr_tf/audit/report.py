"""The answers of an audit: as text, tables and sheets of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hccr_tf.audit.checks import INFO, Check, Finding
from hccr_tf.audit.class_reports import ClassReport
from hccr_tf.data.store import splits
from hccr_tf.data.store.store import Store
from hccr_tf.images.contact_sheet import draw_sheet
from hccr_tf.utils.files import read_json, write_csv, write_json

FORMAT = "hccr_tf audit 1"

_ON_SHEET = 120
_SHEET_ROWS = 20  # Classes on the sheet of merged classes.
_FINDING_COLUMNS = [
    "check",
    "severity",
    "character",
    "sample_id",
    "split",
    "writer",
    "value",
    "note",
    "remedy",
]
_CLASS_COLUMNS = [
    "character",
    *splits.SPLIT_NAMES,
    "score",
    "may_be_merged_with",
    "spread",
    "step",
    "bimodality",
    "images_compared",
    "doubted",
    "mostly_read_as",
]


class _Sheet(NamedTuple):
    name: str
    title: str
    samples: list[int | None]
    texts: list[str]
    columns: int


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
            # Nothing of an earlier audit may be taken for part of this one. The summary goes last,
            # as it says whose the folder is.
            for name in found["files"]:
                if name != summary.name:
                    (folder / Path(name).name).unlink(missing_ok=True)
        sheets = list(self._sheets())
        files = ["audit.csv", "classes.csv", *(f"{sheet.name}.png" for sheet in sheets)]
        write_json(summary, {"format": FORMAT, "state": "unfinished", "files": files})
        write_csv(folder / "audit.csv", pd.DataFrame(self._rows(), columns=_FINDING_COLUMNS))
        rows = map(self._class_row, self.classes)
        write_csv(folder / "classes.csv", pd.DataFrame(rows, columns=_CLASS_COLUMNS))
        for sheet in sheets:
            _draw(self.store, sheet, folder / f"{sheet.name}.png")
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
        for check in self.checks:
            mark = check.severity if check.findings else "-"
            sheet = f" → {check.name}.png" if check.sheet and check.findings else ""
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
            if f.sample is not None
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
                    check.name,
                    check.severity,
                    finding.character or "",
                    *where,
                    f"{value:.6g}" if isinstance(value, float) else "" if value is None else value,
                    finding.note,
                    check.remedy,
                ]

    def _class_row(self, row: ClassReport) -> list[Any]:
        e = row.evidence
        return [
            row.character,
            *(row.counts[name] for name in splits.SPLIT_NAMES),
            f"{row.score:.4f}",
            e.partner or "",
            _number(e.spread, "{:.4f}"),
            _number(e.step, "{:.4f}"),
            _number(e.bimodality, "{:.4f}"),
            e.num_images,
            _number(row.doubted, "{:.4f}"),
            row.read_as or "",
        ]

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
        }

    def _sheets(self) -> Iterator[_Sheet]:
        for check in self.checks:
            if check.sheet is not None and check.findings:
                shown = _shown(check)
                title = f"{check.name}: {len(shown)} of {len(check.findings):,}"
                texts = [check.sheet(finding) or "" for finding in shown]
                yield _Sheet(check.name, title, [finding.sample for finding in shown], texts, 12)
        merged = [row for row in self.classes if row.evidence.ends][:_SHEET_ROWS]
        if merged:
            columns = max(len(row.evidence.ends) for row in merged)
            samples: list[int | None] = []
            texts = []
            for row in merged:
                ends = list(row.evidence.ends)
                samples += ends + [None] * (columns - len(ends))
                half = len(ends) // 2
                texts += [row.character] * half
                texts += [f"{row.evidence.partner or row.character}?"] * (columns - half)
            title = "classes that may hold two characters: most like the one, most like the other"
            yield _Sheet("merged_classes", title, samples, texts, columns)


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


def _draw(store: Store, sheet: _Sheet, path: Path) -> None:
    samples = np.array([i for i in sheet.samples if i is not None], np.int64)
    by_index = dict(zip(samples.tolist(), store.images(samples), strict=True))
    images = [None if i is None else by_index[i] for i in sheet.samples]
    draw_sheet(images, sheet.texts, path, columns=sheet.columns, title=sheet.title)
