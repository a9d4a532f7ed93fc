"""The answers of an audit: as text, tables and sheets of images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hccr_tf.audit.checks import INFO, Check, Finding
from hccr_tf.audit.merged_classes import ClassReport
from hccr_tf.data.store import splits
from hccr_tf.data.store.store import Store
from hccr_tf.images.contact_sheet import draw_sheet
from hccr_tf.utils.files import read_json, write_csv, write_json
from hccr_tf.utils.schema import FileName

FORMAT = "hccr_tf audit 1"

_ON_SHEET = 120
_SHEET_ROWS = 20  # Classes on the sheet of merged classes.


@dataclass
class Audit:
    """The answers of all checks."""

    store: Store
    split: str | None  # The split it was limited to.
    num_samples: int  # Samples looked at.
    checks: list[Check]  # In a fixed order.
    classes: list[ClassReport]  # Every class, those that may hold two characters first.
    run: str | None = None  # The trained run's path.
    agreement: dict[str, float] = field(default_factory=dict)  # Share read as labelled, by split.

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `audit.csv`, `classes.csv`, the sheets, and `summary.json` last into a folder.

        It's made if need be, and an earlier audit in it replaced, file by file.

        Raises:
            FileExistsError: The folder holds something else.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        summary = folder / "summary.json"
        if any(folder.iterdir()):
            earlier = read_json(summary) if summary.is_file() else None
            if not isinstance(earlier, dict) or earlier.get("format") != FORMAT:
                raise FileExistsError(
                    f"{folder} is not empty and holds no audit; choose another folder with --out"
                )
            # Nothing of an earlier audit may be taken for part of this one. The summary goes last,
            # as it says whose the folder is.
            earlier = read_json(summary, {"files": list[FileName]}, "choose another --out")
            for name in set(earlier["files"]) - {summary.name}:
                (folder / name).unlink(missing_ok=True)
        sheets = list(self._sheets())
        files = ["audit.csv", "classes.csv", *(f"{name}.png" for name, *_ in sheets)]
        write_json(summary, {"format": FORMAT, "state": "unfinished", "files": files})
        write_csv(folder / "audit.csv", self._finding_table())
        write_csv(folder / "classes.csv", self._class_table(), float_format="%.4f")
        for name, title, samples, texts, columns in sheets:
            images = [None if i is None else self.store.image(i) for i in samples]
            draw_sheet(images, texts, folder / f"{name}.png", columns=columns, title=title)
        write_json(summary, {**self._summary(), "files": [*files, summary.name]})
        return folder

    def text(self, folder: str | os.PathLike[str] | None = None) -> str:
        """Describes the audit for a terminal, with the folder that it was written to."""
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
        lines.append(
            "classes that may hold two characters, most suspicious first (score; spread towards "
            "the other; step in the numbering; two heaps"
            + ("; doubted by the model)" if self.run else ")")
        )
        lines += [f"  {i:>2}. {_describe(row)}" for i, row in enumerate(self.classes[:10], 1)]
        if self.run:
            lines.append("labels that the model doubts most (margin of logits):")
            lines += [
                f"  {self.store.sample_id(f.sample)}: {f.character}, {f.note} (+{f.value:.1f})"
                for f in self["likely_wrong_labels"].findings[:8]
                if f.sample is not None
            ]
        if folder is not None:
            lines.append(f"every finding in {Path(folder) / 'audit.csv'}, classes in classes.csv")
        return "\n".join(lines)

    def _finding_table(self) -> pd.DataFrame:
        store, writers = self.store, self.store.manifest["writers"]["names"]
        rows = [(c.name, c.severity, *f, c.remedy) for c in self.checks for f in c.findings]
        columns = ["check", "severity", *Finding._fields, "remedy"]
        table = pd.DataFrame(rows, columns=columns, dtype=object)
        known = table["sample"].dropna().astype(int)
        table["sample_id"] = pd.Series(store.sample_ids(known), known.index)
        table["split"] = known.map(lambda i: splits.SPLIT_NAMES[store.split[i]])
        named = known[store.writers[known] >= 0]
        table["writer"] = named.map(lambda i: writers[store.writers[i]])
        table["value"] = [f"{v:.6g}" if isinstance(v, float) else v for v in table["value"]]
        order = ["character", "sample_id", "split", "writer", "value", "note", "remedy"]
        return table[["check", "severity", *order]]

    def _class_table(self) -> pd.DataFrame:
        table = pd.DataFrame(self.classes)
        table[list(splits.SPLIT_NAMES)] = table["counts"].tolist()
        order = ["character", *splits.SPLIT_NAMES, "score", "partner", "spread", "step"]
        table = table[[*order, "bimodality", "num_images", "doubted", "read_as"]]
        names = {"partner": "may_be_merged_with", "num_images": "images_compared"}
        return table.rename(columns={**names, "read_as": "mostly_read_as"})

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

    def _sheets(self) -> Iterator[tuple[str, str, list[int | None], list[str], int]]:
        """Yields names, titles, samples, texts and columns; None leaves a place empty."""
        for check in self.checks:
            if check.sheet is not None and check.findings:
                shown = _shown(check)
                title = f"{check.name}: {len(shown)} of {len(check.findings):,}"
                texts = [check.sheet(finding) or "" for finding in shown]
                yield check.name, title, [finding.sample for finding in shown], texts, 12
        merged = [row for row in self.classes if row.ends][:_SHEET_ROWS]
        if merged:
            columns = max(len(row.ends) for row in merged)
            samples: list[int | None] = []
            texts = []
            for row in merged:
                half = len(row.ends) // 2
                samples += [*row.ends, *[None] * (columns - len(row.ends))]
                texts += [row.character] * half
                texts += [f"{row.partner or row.character}?"] * (columns - half)
            title = "classes that may hold two characters: most like the one, most like the other"
            yield "merged_classes", title, samples, texts, columns


def _describe(row: ClassReport) -> str:
    """A class's scores as one line of text, in columns."""
    partner = f"with {row.partner}?" if row.partner else ""
    measures = (row.spread, ".1f"), (row.step, ".1f"), (row.bimodality, "+.2f")
    numbers = ["" if value is None else format(value, form) for value, form in measures]
    line = f"{row.character} {partner:<8} {row.score:5.2f}" + "".join(f"  {n:>5}" for n in numbers)
    if row.doubted is not None:
        line += f"  {100 * row.doubted:5.1f} %"
        line += f" (mostly as {row.read_as})" if row.read_as else ""
    return line


def _shown(check: Check) -> Sequence[Finding]:
    """The findings on a check's sheet: the first, or as many of every class."""
    if not check.by_class:
        return check.findings[:_ON_SHEET]
    characters = pd.Series([finding.character for finding in check.findings])
    most = max(_ON_SHEET // characters.nunique(), 1)
    chosen = np.flatnonzero(characters.groupby(characters).cumcount() < most)[:_ON_SHEET]
    return [check.findings[i] for i in chosen]
