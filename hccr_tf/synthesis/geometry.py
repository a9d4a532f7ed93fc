"""What both ways of drawing strokes share: the sample's, writer by writer, and the batches'.

Points are complex numbers, columns + 1j * rows in sides of the character about its centre: to turn
and scale a stroke is one multiplication.
"""

import numpy as np

GRID = 1024  # side of the strokes' grid, whose y grows upwards: rows are 900 - y
POINTS = 32  # equally spaced along a stroke: enough for the hook of a long one to survive
ALONG = np.linspace(0, 1, POINTS)

_CENTRE = 512 + 388j  # the middle of the grid; 388 is 900 - 512


def from_grid(points: np.ndarray) -> np.ndarray:
    """complex128 (points,) of x and y (points, 2) in the grid."""
    return np.conj(points[:, 0] + 1j * points[:, 1] - _CENTRE) / GRID


def swell(first: np.ndarray, second: np.ndarray, lift: np.ndarray, along=ALONG) -> np.ndarray:
    """How pressure changes along strokes, in parts of its range: (strokes, POINTS).

    Args:
        first, second: (strokes, 1), how much more at the end than at the beginning, and at both
            than in the middle.
        lift: (strokes, 1), how much a stroke thins where the pen leaves.
        along: ALONG in the type of what comes out.
    """
    return first * (along - 0.5) + 0.5 * second * np.cos(2 * np.pi * along) - lift * along**4


def bridges(start: np.ndarray, stop: np.ndarray, bow: np.ndarray, along=ALONG) -> np.ndarray:
    """Bowed lines (lines, POINTS) from `start` to `stop` (lines, 1), by `bow` of their length."""
    middle = (start + stop) / 2 + (stop - start) * bow
    return (1 - along) ** 2 * start + 2 * along * (1 - along) * middle + along**2 * stop


def smoothing(sigma: float) -> np.ndarray:
    """float64 (POINTS, POINTS): the matrix that smooths along strokes, by `sigma` points."""
    index = np.arange(POINTS)
    kernel = np.exp(-0.5 * ((index[:, None] - index) / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    # Only the deviation from the chord is smoothed, so that no stroke becomes shorter.
    chord = np.zeros((POINTS, POINTS))
    chord[:, 0], chord[:, -1] = 1 - ALONG, ALONG
    return chord + kernel @ (np.eye(POINTS) - chord)
