"""Classes with two characters in them, found without a model.

Unpacked on a disk that ignores case, two classes whose broken names differ only by case fall into
one folder, and nothing says so afterwards. Three traces are left, and they are used together:

- *The name.* Few classes have a name that another character's could have fallen together with
  (`folder_names.same_folder`), and for those it is known what to look for. Both are drawn
  with a font; the difference of the drawings is a direction in the space of features. Along it a
  class of one character spreads as all classes do; one that holds both spreads more. `spread` is
  the ratio of the two variances.
- *A step.* Files of one number overwrite each other, so in such a folder the one class has the
  low numbers and what is left of the larger one the high numbers. `step` is the t-statistic of the
  largest step between the two characters along the numbers of a folder, and `block` the images on
  the other character's side of it. A change of pens between the sets that a folder was filled from
  makes steps too, of up to 5.5 in HWDB.
- *Two heaps.* The images of two characters lie in two heaps. `bimodality` is how much better two
  normal distributions than one describe images that they were not fitted to, along the axis
  that parts the two best: half of the class finds axis and distributions, the other half judges.
  In nats an image; noise gives zero or less. Characters that are written in two ways have two
  heaps too (八 in Chinese MNIST), so this alone is a reason to look, not a proof.

Their sum (`score`) is ln(spread) + 2 ln(step / 5.5) + 2 · bimodality, each where it is above zero.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from hccr_tf.data.sources.folder_names import same_folder
from hccr_tf.data.store.store import Store
from hccr_tf.images.contact_sheet import text_image

SUSPICIOUS = 1.0
"""`score` from which a class is a finding, such as one of e times the usual spread."""

CLEAR_STEP = 6.5
"""`step` from which the images on its other side are findings."""

MAX_IMAGES = 2000
"""Images of a class that are looked at; of larger ones so many at even distances."""

_SIDE, _CELLS, _ORIENTATIONS = 48, 6, 8
_INK_BELOW = 240  # Lighter pixels are paper: the noise of JPEG files reaches about 245.
_POOLED_IMAGES = 20_000
_FEWEST_FOR_SPREAD, _FEWEST_FOR_HEAPS = 8, 40
_SMALLEST_HEAP = 0.05  # Of a class: a few badly written images are no second character.
_USUAL_STEP = 5.5
_SHORTEST_BLOCK = 3
_ENDS = 8  # Images kept from either end of a class, for a sheet.


@dataclass(frozen=True)
class ClassEvidence:
    """What speaks for a class holding two characters.

    Attributes:
        label: The class index in the store.
        num_images: Images looked at.
        partner: The character whose folder may have fallen together with the class's, or None.
        spread: Variance along the direction from the character to its partner, relative to all
            classes; None without a partner or with too few images.
        step: t-statistic of the largest step between the two; None as for the spread.
        block: Store indices of the images on the partner's side of that step, and of the other
            folders' clear steps (from `CLEAR_STEP`).
        bimodality: Gain of two distributions over one, nats an image; None with too few images.
        score: Both together; see the module's docstring.
        ends: Store indices of the images most like the character and most like its partner (or
            of the one heap and the other), half and half.
    """

    label: int
    num_images: int
    partner: str | None
    spread: float | None
    step: float | None
    block: tuple[int, ...]
    bimodality: float | None
    score: float
    ends: tuple[int, ...]


def folder_partners(store: Store) -> dict[int, tuple[str, ...]]:
    """Finds the classes whose folder may have fallen together with another character's.

    Args:
        store: The store; its `repaired_names.csv` says under which code page names were broken,
            and the sample ids where names were right.

    Returns:
        By class index: the other characters. A character that is a class of the store under the
        same code page is no candidate: the names were kept apart.
    """
    pages: dict[str, set[str | None]] = {}
    with open(store.path / "repaired_names.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            pages.setdefault(row["character"], set()).add(row["code_page"])
    # A right name falls together too where it has a case ("a" and "A"), but only as a folder's.
    first = dict(zip(*np.unique(store.labels, return_index=True), strict=True))
    for label, sample in first.items():
        character = store.charset.char(int(label))
        if character not in pages and character in store.sample_id(int(sample)).split("/")[:-1]:
            pages[character] = {None}
    partners = {}
    for character, code_pages in pages.items():
        others = {
            other: None
            for page in code_pages
            for other in same_folder(character, page)
            if page not in pages.get(other, ())
        }
        if others and character in store.charset:
            partners[store.charset.index(character)] = tuple(others)
    return partners


def find_merged(
    store: Store,
    indices: np.ndarray,
    advance: Callable[[int], None] = lambda count: None,
    workers: int | None = None,
) -> list[ClassEvidence]:
    """Looks for classes with two characters in them, class by class.

    Memory holds the features of one class a thread at a time.

    Args:
        store: The store.
        indices: Shape (n,), the samples to look at.
        advance: Called with the number of images that were gone through, for a progress bar.
        workers: Threads, which change nothing in the result; one a processor by default. NumPy
            and OpenCV work outside of the interpreter's lock.

    Returns:
        Every class with images among them, the most suspicious first.
    """
    indices = np.asarray(indices)
    order = np.argsort(store.labels[indices], kind="stable")
    labels, starts = np.unique(store.labels[indices][order], return_index=True)
    classes = dict(zip(labels.tolist(), np.split(indices[order], starts[1:]), strict=True))
    partners = folder_partners(store)
    covariance = _pooled_covariance(store, classes.values())
    # Directions in which writers differ most are damped. The fonts' difference is but roughly that
    # of the handwriting, so a weaker damping gains nothing: 0.1 to 3 rank the same.
    strongest = np.linalg.eigvalsh(covariance)[-1]
    damped = np.linalg.inv(covariance + 0.3 * max(strongest, 1e-9) * np.eye(len(covariance)))
    # Drawn here, as nothing says that OpenCV's font may be used in several threads at once.
    for label in classes.keys() & partners.keys():
        for character in (store.charset.char(label), *partners[label]):
            _glyph_features(character)

    def examine(label: int) -> ClassEvidence:
        others = partners.get(label, ())
        return _examine(store, label, classes[label], others, covariance, damped)

    found = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1, "hccr-audit") as pool:
        try:
            for evidence in pool.map(examine, classes):
                found.append(evidence)
                advance(len(classes[evidence.label]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(found, key=lambda evidence: (-evidence.score, evidence.label))


def _examine(
    store: Store,
    label: int,
    samples: np.ndarray,
    others: tuple[str, ...],
    covariance: np.ndarray,
    damped: np.ndarray,
) -> ClassEvidence:
    chosen = evenly(samples, MAX_IMAGES)
    features = image_features(store.images(chosen))
    best = _Direction()
    if others and len(chosen) >= _FEWEST_FOR_SPREAD:
        names = store.sample_ids(chosen)
        for other in others:
            found = _spread(features, store.charset.char(label), other, covariance, damped)
            if found is not None:
                step, block = _step(found[1], names)
                best = max(best, _Direction(other, found[0], step, chosen[block], found[1]))
    bimodality, axis = _two_heaps(features, best.along)
    along = axis if best.along is None else best.along
    ends = chosen[[]] if along is None else _both_ends(chosen[np.argsort(along)])
    return ClassEvidence(
        label,
        len(chosen),
        best.other or next(iter(others), None),
        best.spread,
        best.step,
        tuple(best.block.tolist()),
        bimodality,
        best.score + 2 * max(bimodality or 0.0, 0.0),
        tuple(ends.tolist()),
    )


@dataclass(frozen=True)
class _Direction:
    """What a class shows along the direction to one partner."""

    other: str | None = None
    spread: float | None = None
    step: float | None = None
    block: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    along: np.ndarray | None = None

    @property
    def score(self) -> float:
        if self.other is None:
            return 0.0
        step = 2 * np.log(max(self.step or 0.0, _USUAL_STEP) / _USUAL_STEP)
        return float(np.log(max(self.spread, 1.0)) + step)

    def __lt__(self, other: _Direction) -> bool:
        return (self.score, self.spread or 0.0) < (other.score, other.spread or 0.0)


def evenly(samples: np.ndarray, count: int) -> np.ndarray:
    """Returns at most `count` of the samples, at even distances."""
    if len(samples) <= count:
        return samples
    return samples[np.linspace(0, len(samples) - 1, count).astype(np.int64)]


def _both_ends(ordered: np.ndarray) -> np.ndarray:
    count = min(_ENDS, len(ordered) // 2)
    return np.concatenate([ordered[:count], ordered[len(ordered) - count :]])


# === Features ===


def image_features(images: Iterable[np.ndarray]) -> np.ndarray:
    """Describes images by the directions of their strokes, cell by cell.

    An image is cut to its ink and scaled to a square, so that margins and sizes, in which sources
    differ, don't count; a dark background is inverted. Then, as in histograms of oriented
    gradients: the gradient at every pixel, shared out over 8 directions, blurred into 6 × 6 cells.

    Args:
        images: Each of shape (height, width), uint8.

    Returns:
        Shape (n, 288), float32.
    """
    squares = np.stack([_square(image) for image in images])
    features = np.empty((len(squares), _ORIENTATIONS * _CELLS**2), np.float32)
    for start in range(0, len(squares), 64):  # Small enough for the processor's cache.
        features[start : start + 64] = _gradients(squares[start : start + 64])
    return features


def _square(image: np.ndarray) -> np.ndarray:
    """Returns the ink alone, 0 to 1 (the darkest), shape (_SIDE, _SIDE), float32."""
    import cv2

    if is_inverted(image):
        image = 255 - image
    mask = cv2.threshold(image, _INK_BELOW, 255, cv2.THRESH_BINARY_INV)[1]
    left, top, width, height = cv2.boundingRect(mask)
    if width:
        image = image[top : top + height, left : left + width]
    ink = 255 - cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    ink /= max(float(ink.max()), 1.0)
    return cv2.GaussianBlur(ink, (0, 0), 1.0)


def is_inverted(image: np.ndarray) -> bool:
    """Whether an image, shape (height, width), uint8, is light ink on a dark background.

    More than half of its outermost pixels, and of all, are darker than the middle of its own
    range. The outermost alone would not do: the strokes of 口, cut tight, lie there.
    """
    dark = image < (int(image.min()) + int(image.max())) / 2
    frame = np.concatenate([dark[0], dark[-1], dark[1:-1, 0], dark[1:-1, -1]])
    return 2 * np.count_nonzero(dark) > dark.size and 2 * np.count_nonzero(frame) > frame.size


@cache
def _pooling() -> np.ndarray:
    """Shape (_CELLS, _SIDE): how much every row of pixels counts in every row of cells."""
    centres = (np.arange(_CELLS) + 0.5) * _SIDE / _CELLS
    distance = (np.arange(_SIDE) + 0.5)[None] - centres[:, None]
    weights = np.exp(-0.5 * (distance / 3.8) ** 2)  # Cells are 8 pixels wide and overlap.
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _gradients(squares: np.ndarray) -> np.ndarray:
    right = np.zeros_like(squares)
    down = np.zeros_like(squares)
    right[:, :, 1:-1] = squares[:, :, 2:] - squares[:, :, :-2]
    down[:, 1:-1] = squares[:, 2:] - squares[:, :-2]
    strength = np.hypot(right, down)
    place = np.arctan2(down, right) * np.float32(_ORIENTATIONS / np.pi)
    pooling, cells = _pooling(), []
    for orientation in range(_ORIENTATIONS):
        # The two sides of a stroke have opposite gradients and count for one direction.
        away = np.abs(place - orientation) % _ORIENTATIONS
        share = np.maximum(0, 1 - np.minimum(away, _ORIENTATIONS - away))
        cells.append(pooling @ (strength * share) @ pooling.T)
    # The root brings cells with much and with little ink closer together.
    return np.sqrt(np.stack(cells, axis=1)).reshape(len(squares), -1)


@cache
def _glyph_features(character: str) -> np.ndarray | None:
    """The features of a character as a font draws it; None where the font does not have it."""
    drawn, missing = text_image(character, 96), text_image("\U0010fffd", 96)
    if character != "?" and np.array_equal(drawn, missing):
        return None
    return image_features([drawn])[0]


# === Spread and heaps ===


def _pooled_covariance(store: Store, classes: Iterable[np.ndarray]) -> np.ndarray:
    """Shape (features, features): how images of one class differ from each other, over all."""
    classes = [samples for samples in classes if len(samples) > 1]
    size = _ORIENTATIONS * _CELLS**2
    total, count = np.zeros((size, size)), 0
    for samples in classes:
        chosen = evenly(samples, max(_POOLED_IMAGES // len(classes), 8))
        rest = image_features(store.images(chosen)).astype(np.float64)
        rest -= rest.mean(axis=0)
        total += rest.T @ rest
        count += len(chosen) - 1
    return total / max(count, 1)


def _spread(
    features: np.ndarray, character: str, other: str, covariance: np.ndarray, damped: np.ndarray
) -> tuple[float, np.ndarray] | None:
    """The class's variance from one character to the other, relative to all classes, and places.

    None where the font lacks one of the two.
    """
    own, its = _glyph_features(character), _glyph_features(other)
    if own is None or its is None:
        return None
    direction = damped @ (its - own).astype(np.float64)
    usual = direction @ covariance @ direction
    if usual <= 0:
        return None
    along = features @ direction
    return float(along.var() / usual), along


def _step(along: np.ndarray, names: list[str]) -> tuple[float, np.ndarray]:
    """The largest step along the numbers of the files of one folder.

    Args:
        along: Shape (n,), places from the character towards its partner.
        names: The sample ids, "…/Train/ň«ç/12.png".

    Returns:
        Its t-statistic without sign, 0 where there is none, and the places in `along` on its upper
        side; with several folders the largest t, and the places of every clear step.
    """
    folders: dict[str, list[tuple[list[int], int]]] = {}
    for i, name in enumerate(names):
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(([int(n) for n in re.findall(r"\d+", file)], i))
    found = [(0.0, np.empty(0, np.int64))]
    for files in folders.values():
        order = np.array([i for _, i in sorted(files)])
        count = len(order)
        before = np.arange(_SHORTEST_BLOCK, count - _SHORTEST_BLOCK + 1)
        if not len(before):
            continue
        values = along[order].astype(np.float64)
        values -= values.mean()
        sums = np.cumsum(values)[before - 1]
        first, second = sums / before, -sums / (count - before)
        within = values @ values - before * first**2 - (count - before) * second**2
        noise = np.maximum(within, 1e-12) / (count - 2) * (1 / before + 1 / (count - before))
        t = (second - first) / np.sqrt(noise)
        largest = np.abs(t).argmax()
        cut = before[largest]
        upper = order[cut:] if t[largest] > 0 else order[:cut]
        found.append((abs(float(t[largest])), upper))
    step, block = max(found, key=lambda entry: entry[0])
    clear = [upper for t, upper in found if t >= CLEAR_STEP]
    return step, np.concatenate(clear) if clear else block


def _two_heaps(
    features: np.ndarray, along: np.ndarray | None
) -> tuple[float | None, np.ndarray | None]:
    """The gain of two normal distributions over one on held-out images, and an axis.

    Args:
        features: Shape (n, features).
        along: Shape (n,), places on a direction that may part them, or None.

    Returns:
        Nats an image (None for too few images), and the places on the axis that parts all
        images best (None where nothing does).
    """
    count = len(features)
    if count < _FEWEST_FOR_HEAPS:
        return None, None
    features = features - features.mean(axis=0, dtype=np.float64)
    dimensions = min(20, count // 4)
    axes, lengths, _ = np.linalg.svd(features, full_matrices=False)
    points = axes[:, :dimensions] * (lengths[:dimensions] / max(lengths[0], 1e-9)) * count**0.5
    # Where two folders became one, their files mostly come one after the other.
    starts = [np.arange(count) < count * share for share in (0.3, 0.5, 0.7)]
    starts += [points[:, k] > np.median(points[:, k]) for k in range(min(6, dimensions))]
    if along is not None:
        starts += [along > np.quantile(along, share) for share in (0.3, 0.5, 0.7)]
    half = np.random.default_rng(0).permutation(count) % 2 == 0
    gains = []
    for fitted in (half, ~half):
        axis = _best_axis(points[fitted], [start[fitted] for start in starts])
        if axis is None:
            gains.append(0.0)
            continue
        known, new = points[fitted] @ axis[0], points[~fitted] @ axis[0]
        gains.append(_log_density(new, *axis[1]) - _log_normal(new, known.mean(), known.var()))
    axis = _best_axis(points, starts)
    return float(np.mean(gains)), None if axis is None else points @ axis[0]


def _best_axis(points: np.ndarray, starts: list[np.ndarray]):
    """The direction that parts points into the two clearest heaps, and their distributions."""
    best = None
    for start in starts:
        found = _part(points - points.mean(axis=0), start)
        if found is None:
            continue
        direction, belongs = found
        places = points @ direction
        heaps = _fit_two(places, belongs)
        if heaps[0].min() < _SMALLEST_HEAP:
            continue
        gain = _log_density(places, *heaps) - _log_normal(places, places.mean(), places.var())
        if best is None or gain > best[0]:
            best = (gain, direction, heaps)
    return best and best[1:]


def _part(points: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Parts centred points by two normal distributions of one shape, from a first guess."""
    belongs = np.where(start, 0.95, 0.05)
    scatter = points.T @ points / len(points)
    for _ in range(40):
        share = belongs.mean()
        if not _SMALLEST_HEAP / 2 < share < 1 - _SMALLEST_HEAP / 2:
            return None
        one = belongs @ points / belongs.sum()
        other = (1 - belongs) @ points / (1 - belongs).sum()
        within = scatter - share * np.outer(one, one) - (1 - share) * np.outer(other, other)
        size = np.trace(within) / len(within)
        # A share of a round shape, as few images don't determine that of 20 dimensions.
        within = 0.7 * within + (0.3 * size + 1e-9) * np.eye(len(within))
        direction = np.linalg.solve(within, one - other)
        odds = points @ direction - (one + other) @ direction / 2 + np.log(share / (1 - share))
        updated = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
        done = np.abs(updated - belongs).max() < 1e-3
        belongs = updated
        if done:
            break
    return direction, belongs


def _fit_two(places: np.ndarray, belongs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Shares, means and variances of two normal distributions in one dimension."""
    belongs = np.stack([1 - belongs, belongs], axis=1)
    floor = 0.02 * places.var() + 1e-12  # A heap of equal images would have no width.
    for _ in range(20):
        count = belongs.sum(axis=0) + 1e-9
        shares, means = count / len(places), (belongs * places[:, None]).sum(axis=0) / count
        rest = (places[:, None] - means) ** 2
        variances = np.maximum((belongs * rest).sum(axis=0) / count, floor)
        logs = np.log(shares / np.sqrt(variances)) - rest / (2 * variances)
        logs -= logs.max(axis=1, keepdims=True)
        belongs = np.exp(logs)
        belongs /= belongs.sum(axis=1, keepdims=True)
    return shares, means, variances


def _log_density(
    places: np.ndarray, shares: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> float:
    """Mean log density under two normal distributions, up to a constant."""
    logs = np.log(shares / np.sqrt(variances)) - (places[:, None] - means) ** 2 / (2 * variances)
    highest = logs.max(axis=1)
    return float((highest + np.log(np.exp(logs - highest[:, None]).sum(axis=1))).mean())


def _log_normal(places: np.ndarray, mean: float, variance: float) -> float:
    """Mean log density under one normal distribution, up to the same constant."""
    variance = max(float(variance), 1e-12)
    return float((-0.5 * np.log(variance) - (places - mean) ** 2 / (2 * variance)).mean())
