"""Intervals of accuracies, and whether two readings of the same samples differ by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

from hccr_tf.utils.errors import HccrError

_CONFIDENCE_Z = 1.959963985  # two-sided 95 %


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Returns the 95 % interval of a proportion (Wilson 1927): 0.826 to 0.945 for 90 of 100."""
    if total < 1:
        raise HccrError("An interval needs at least one sample.")
    z, p = _CONFIDENCE_Z, correct / total
    centre = p + z * z / (2 * total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Test whether two models that read the same samples differ (McNemar 1947, exact).

    Args:
        first: bool (N,), which samples the one reads rightly.
        second: bool (N,), which ones the other does.

    Returns:
        Columns of a table: by how many points the second is better (`difference`), the samples
        that only one of them reads rightly, and the two-sided probability `p` of a difference at
        least as great if both were equally good.
    """
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, i) for i in range(fewer + 1))
    return {
        "difference": round(100 * float(second.mean() - first.mean()), 3),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "p": float(f"{min(1.0, 2 * tail / 2**total):.3g}"),
    }


def compare_pairs(right: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Compare every two runs on the same samples, by McNemar's exact test.

    Args:
        right: bool (N,) by run, which samples each reads rightly.

    Returns:
        A row a pair: the runs, `first` and `second`, and what `paired` says of them.
    """
    import pandas as pd  # half a second, which reading an image doesn't have

    return pd.DataFrame(
        [{"first": a, "second": b, **paired(right[a], right[b])} for a, b in combinations(right, 2)]
    )


def beyond_chance(pairs: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Say which of several pairs differ by more than chance (Holm 1979).

    Args:
        pairs: rows of `compare_pairs`.
        alpha: probability of one wrong verdict among all of them.

    Returns:
        The rows by `p`, with a column "beyond chance".
    """
    table = pairs.sort_values("p", ignore_index=True)
    limits = alpha / np.arange(len(table), 0, -1)
    table["beyond chance"] = np.logical_and.accumulate(table["p"].to_numpy() <= limits)
    return table
