"""The geometry of strokes: the grid they lie in, and smoothing.

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


def gaussian(length: int, sigma: float) -> np.ndarray:
    """float64 (length, length): the matrix that smooths so many points by `sigma` of them."""
    index = np.arange(length)
    kernel = np.exp(-0.5 * ((index[:, None] - index) / max(sigma, 1e-3)) ** 2)
    return kernel / kernel.sum(1, keepdims=True)


def smoothing(sigma: float) -> np.ndarray:
    """float64 (POINTS, POINTS): the matrix that smooths along strokes, by `sigma` points."""
    # Only the deviation from the chord is smoothed, so that no stroke becomes shorter.
    chord = np.zeros((POINTS, POINTS))
    chord[:, 0], chord[:, -1] = 1 - ALONG, ALONG
    return chord + gaussian(POINTS, sigma) @ (np.eye(POINTS) - chord)
