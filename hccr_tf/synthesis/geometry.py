"""The geometry of strokes: the grid they lie in, smoothing, and the pen's pressure along them.

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
    """Changes of pressure along strokes.

    Args:
        first: (strokes, 1), how much more at the end than at the beginning.
        second: (strokes, 1), how much more at both ends than in the middle.
        lift: (strokes, 1), how much a stroke thins where the pen leaves.
        along: ALONG in the type of the result.

    Returns:
        (strokes, POINTS), in parts of the pressure's range.
    """
    return first * (along - 0.5) + 0.5 * second * np.cos(2 * np.pi * along) - lift * along**4


def smoothing(sigma: float) -> np.ndarray:
    """float64 (POINTS, POINTS): the matrix that smooths along strokes, by `sigma` points."""
    index = np.arange(POINTS)
    kernel = np.exp(-0.5 * ((index[:, None] - index) / max(sigma, 1e-3)) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    # Only the deviation from the chord is smoothed, so that no stroke becomes shorter.
    chord = np.zeros((POINTS, POINTS))
    chord[:, 0], chord[:, -1] = 1 - ALONG, ALONG
    return chord + kernel @ (np.eye(POINTS) - chord)
