"""Classes of a store by their images, their names and a trained run's doubts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hccr_tf.audit.checks import INFO, WARNING, Check, Finding, count_samples
from hccr_tf.audit.merged_classes import CLEAR_STEP, MAX_IMAGES, SUSPICIOUS, ClassEvidence
from hccr_tf.data.store import splits
from hccr_tf.data.store.store import Store

if TYPE_CHECKING:  # it reads with Keras
    from hccr_tf.audit.label_issues import LabelIssues


@dataclass(frozen=True)
class ClassReport:
    """A row of `classes.csv`.

    Attributes:
        evidence: What its images and name say; see `merged_classes`.
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


def report_classes(
    store: Store,
    indices: np.ndarray,
    evidence: list[ClassEvidence],
    label_issues: LabelIssues | None,
) -> list[ClassReport]:
    """A row for each class, those that may hold two characters first.

    Args:
        store: The store.
        indices: Shape (n,), int: the samples.
        evidence: Of each class, from `find_merged`.
        label_issues: A model's, or None.
    """
    table = count_samples(store, indices)
    doubted: dict[int, float] = {}
    read_as: dict[int, str] = {}
    if label_issues is not None:
        said = indices[~np.isnan(label_issues.margin[indices])]
        wrong = said[label_issues.margin[said] > 0]
        totals = np.bincount(store.labels[said], minlength=len(store.charset))
        wrongs = np.bincount(store.labels[wrong], minlength=len(store.charset))
        doubted = {int(k): float(wrongs[k] / totals[k]) for k in np.flatnonzero(totals)}
        pairs = Counter(
            zip(store.labels[wrong].tolist(), label_issues.other[wrong].tolist(), strict=True)
        )
        for (label, other), _ in pairs.most_common():
            read_as.setdefault(label, label_issues.charset.char(other))
    usual = float(np.median(list(doubted.values()))) if doubted else 0.0
    rows = [
        ClassReport(
            store.charset.char(e.label),
            e,
            dict(zip(splits.SPLIT_NAMES, table[e.label].tolist(), strict=True)),
            doubted.get(e.label),
            read_as.get(e.label),
            e.score + max(doubted.get(e.label, usual) - usual, 0.0),
        )
        for e in evidence
    ]
    return sorted(rows, key=lambda row: (-row.score, row.evidence.label))


def check_merged(classes: list[ClassReport]) -> list[Check]:
    """Classes that may hold two characters, which of their images are the other, and by name."""
    merged, mergeable, blocks = [], [], []
    for row in classes:
        e = row.evidence
        words = [f"may be merged with {e.partner}"] if e.partner else []
        words += [f"spread {e.spread:.2f}"] if e.spread is not None else []
        words += [f"step {e.step:.1f}"] if e.step is not None else []
        words += [f"two heaps {e.bimodality:+.2f} nats"] if e.bimodality is not None else []
        words += [f"{100 * row.doubted:.1f} % doubted"] if row.doubted is not None else []
        if e.num_images == MAX_IMAGES:
            words.append(f"by {MAX_IMAGES} of its images")
        finding = Finding(None, row.character, float(row.score), "; ".join(words))
        if row.score >= SUSPICIOUS:
            merged.append(finding)
        if e.partner:
            mergeable.append(finding)
        if (e.step or 0) >= CLEAR_STEP:
            blocks += [Finding(i, row.character, e.step, f"may be {e.partner}") for i in e.block]
    return [
        Check(
            "merged_classes",
            WARNING,
            "classes that may hold two characters, or one written in two ways, by name and images",
            "look at merged_classes.png; take such classes out, or sort their images by hand",
            merged,
        ),
        Check(
            "merged_images",
            WARNING,
            "images that stand together in a folder's numbering and look like the character "
            "whose name differs only by case",
            "look: they are what an overwritten folder left, or what overwrote it",
            blocks,
            lambda f: f"{f.character}→{f.note[-1]}",
            by_class=True,
        ),
        Check(
            "mergeable_names",
            INFO,
            "classes whose broken name differs from another character's only by case",
            "prepare from the archive itself, not from a disk that ignores case",
            mergeable,
        ),
    ]
