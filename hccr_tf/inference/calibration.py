"""Confidence that is true to frequencies: one temperature for a run (Guo et al. 2017).

Of the images that are read with a probability of 0.8, eight in ten should be read rightly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hccr_tf.utils.files import read_json, write_json

FILE = "calibration.json"
_BINS = 15


def read_temperature(workdir: Path) -> float:
    """A run's temperature; 1 where it wasn't calibrated."""
    path = Path(workdir) / FILE
    return float(read_json(path)["temperature"]) if path.exists() else 1.0


def write_calibration(workdir: Path, temperature: float, **about) -> None:
    """Keeps a run's temperature, and what it was found on."""
    write_json(Path(workdir) / FILE, {"temperature": round(temperature, 4), **about})


def log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Mean logarithm of the true classes' probabilities.

    Args:
        logits: float (N, C); -inf for classes that don't compete.
        labels: int (N,).
        temperature: above 0.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    highest = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - highest).sum(axis=1)) + highest[:, 0]
    return float((scaled[np.arange(len(labels)), labels] - total).mean())


def find_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that makes the true classes most likely, from 0.1 to 10.

    A few images that are all read rightly would ask for a probability of 1: below 1, the
    temperature isn't lower than it takes to claim on the average (right + 1) / (N + 2), Laplace's
    rule of succession.

    Args:
        logits: float (N, C).
        labels: int (N,).
    """
    # The likelihood has one maximum: golden section on the temperature's logarithm.
    low, high = np.log(0.1), np.log(10.0)
    ratio = (np.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    values = [log_likelihood(logits, labels, np.exp(t)) for t in inner]
    while high - low > 1e-3:
        if values[0] > values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - ratio * (high - low)
            values[0] = log_likelihood(logits, labels, np.exp(inner[0]))
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + ratio * (high - low)
            values[1] = log_likelihood(logits, labels, np.exp(inner[1]))
    temperature = float(np.exp((low + high) / 2))
    right = int((np.asarray(logits).argmax(axis=1) == labels).sum())
    most = (right + 1) / (len(labels) + 2)
    if temperature >= 1 or _mean_confidence(logits, temperature) <= most:
        return temperature
    low, high = temperature, 1.0  # claims fall as the temperature rises
    while high - low > 1e-3:
        middle = (low + high) / 2
        if _mean_confidence(logits, middle) > most:
            low = middle
        else:
            high = middle
    return high


def _mean_confidence(logits: np.ndarray, temperature: float) -> float:
    scaled = np.asarray(logits, np.float64) / temperature
    highest = scaled.max(axis=1, keepdims=True)
    return float((1 / np.exp(scaled - highest).sum(axis=1)).mean())


def reliability(probabilities: np.ndarray, right: np.ndarray) -> tuple[pd.DataFrame, float]:
    """How often images are read rightly, by the probability that was claimed.

    Args:
        probabilities: float (N,) of what each image was read as, 0 to 1.
        right: bool (N,).

    Returns:
        A row for each of fifteen equal ranges that isn't empty (`low`, `high`, `samples`,
        `confidence`, `accuracy`), and the expected calibration error: the mean difference of
        the last two, by samples.

    Example:
        >>> table, error = reliability(np.array([0.9, 0.9]), np.array([True, False]))
        >>> round(error, 3)
        0.4
    """
    edges = np.linspace(0, 1, _BINS + 1)
    place = np.clip(np.digitize(probabilities, edges) - 1, 0, _BINS - 1)
    rows = []
    for i in range(_BINS):
        chosen = place == i
        if chosen.any():
            rows.append(
                {
                    "low": edges[i],
                    "high": edges[i + 1],
                    "samples": int(chosen.sum()),
                    "confidence": float(probabilities[chosen].mean()),
                    "accuracy": float(right[chosen].mean()),
                }
            )
    table = pd.DataFrame(rows).round(4)
    gaps = abs(table["confidence"] - table["accuracy"])
    return table, float((gaps * table["samples"]).sum() / len(right))
