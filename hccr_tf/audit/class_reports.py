"""Classes that may hold two characters, as findings, and what a trained run says to them."""

from dataclasses import replace

import numpy as np

from hccr_tf.audit.checks import INFO, WARNING, Check, Finding
from hccr_tf.audit.merged_classes import CLEAR_STEP, MAX_IMAGES, SUSPICIOUS, ClassReport


def add_doubts(
    classes: list[ClassReport], doubted: dict[int, float], read_as: dict[int, str]
) -> list[ClassReport]:
    """Adds to scores the share of a class that a model doubts beyond the median class's.

    `LabelIssues.by_class` gives shares and characters; the most suspicious class comes first.
    """
    usual = float(np.median(list(doubted.values()))) if doubted else 0.0
    rows = []
    for row in classes:
        share, other = doubted.get(row.label), read_as.get(row.label)
        score = row.score + max((share or 0.0) - usual, 0.0)
        rows.append(replace(row, score=score, doubted=share, read_as=other))
    return sorted(rows, key=lambda row: (-row.score, row.label))


def check_merged(classes: list[ClassReport]) -> list[Check]:
    """Finds classes that may hold two characters, which images are the other, and by name."""
    merged, mergeable, blocks = [], [], []
    for row in classes:
        words = [f"may be merged with {row.partner}"] if row.partner else []
        words += [f"spread {row.spread:.2f}"] if row.spread is not None else []
        words += [f"step {row.step:.1f}"] if row.step is not None else []
        words += [f"two heaps {row.bimodality:+.2f} nats"] if row.bimodality is not None else []
        words += [f"{100 * row.doubted:.1f} % doubted"] if row.doubted is not None else []
        words += [f"by {MAX_IMAGES} of its images"] if row.num_images == MAX_IMAGES else []
        finding = Finding(None, row.character, row.score, "; ".join(words))
        if row.score >= SUSPICIOUS:
            merged.append(finding)
        if row.partner:
            mergeable.append(finding)
        if (row.step or 0) >= CLEAR_STEP:
            note = f"may be {row.partner}"
            blocks += [Finding(i, row.character, row.step, note) for i in row.block]
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
