"""What an audit says of classes and labels, by their images and by a trained model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from hccr_tf.audit.checks import INFO, WARNING, Check, Finding, count_samples
from hccr_tf.audit.merged_classes import CLEAR_STEP, MAX_IMAGES, SUSPICIOUS, ClassEvidence
from hccr_tf.charset import Charset
from hccr_tf.data.store import splits
from hccr_tf.data.store.store import Store
from hccr_tf.utils.errors import HccrError


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
        HccrError: The charset doesn't cover the store; the message names what it lacks.
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
            HccrError: There are not as many logits as classes.
        """
        if logits.ndim != 2 or logits.shape != (len(indices), len(self.charset)):
            raise HccrError(
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
    disagreement: Disagreement | None,
) -> list[ClassReport]:
    """A row for each class, those that may hold two characters first.

    Args:
        store: The store.
        indices: Shape (n,), int: the samples.
        evidence: Of each class, from `find_merged`.
        disagreement: A model's, or None.
    """
    table = count_samples(store, indices)
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
            len(merged),
        ),
        Check(
            "merged_images",
            WARNING,
            "images that stand together in a folder's numbering and look like the character "
            "whose name differs only by case",
            "look: they are what an overwritten folder left, or what overwrote it",
            blocks,
            len(blocks),
            lambda f: f"{f.character}→{f.note[-1]}",
            by_class=True,
        ),
        Check(
            "mergeable_names",
            INFO,
            "classes whose broken name differs from another character's only by case",
            "prepare from the archive itself, not from a disk that ignores case",
            mergeable,
            len(mergeable),
        ),
    ]


def check_labels(store: Store, indices: np.ndarray, disagreement: Disagreement) -> Check:
    """Samples of `indices` that the model reads as another class, the clearest first."""
    margins = disagreement.margin[indices]
    doubted = np.flatnonzero(margins > 0)  # NaN is not.
    order = doubted[np.argsort(-margins[doubted], kind="stable")]
    findings = [
        Finding(
            int(indices[k]),
            store.charset.char(int(store.labels[indices[k]])),
            float(margins[k]),
            f"read as {disagreement.charset.char(int(disagreement.other[indices[k]]))}",
        )
        for k in order
    ]
    return Check(
        "likely_wrong_labels",
        WARNING,
        "samples that the model reads as another class",
        "look at the first: the ranking is by doubt, the further down the more often it is the "
        "model that errs",
        findings,
        len(findings),
        lambda f: f"{f.character}→{f.note[-1]}",
    )
