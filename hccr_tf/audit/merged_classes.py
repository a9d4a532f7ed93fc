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
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

from hccr_tf.audit.features import NUM_FEATURES, glyph_features, image_features
from hccr_tf.data.sources.folder_names import same_folder
from hccr_tf.data.store.store import Store

SUSPICIOUS = 1.0
"""`score` from which a class is a finding, such as one of e times the usual spread."""

CLEAR_STEP = 6.0
"""`step` from which the images on its other side are findings."""

MAX_IMAGES = 2000
"""Images of a class that are looked at; of larger ones so many at even distances."""

_POOLED_IMAGES = 6_000
_FEWEST_FOR_SPREAD, _FEWEST_FOR_HEAPS = 8, 40
_SMALLEST_HEAP = 0.1  # Of a class: a few badly written images are no second character.
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
    store: Store, indices: np.ndarray, advance: Callable[[int], None] = lambda count: None
) -> list[ClassEvidence]:
    """Looks for classes with two characters in them, class by class.

    Memory holds the features of one class at a time.

    Args:
        store: The store.
        indices: Shape (n,), the samples to look at.
        advance: Called with the number of images that were gone through, for a progress bar.

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
    # of the handwriting, so a weaker damping gains nothing: 0.1 to 1 rank the same.
    strongest = np.linalg.eigvalsh(covariance)[-1]
    damped = np.linalg.inv(covariance + max(strongest, 1e-9) * np.eye(len(covariance)))
    evidence = []
    for label, samples in classes.items():
        others = partners.get(label, ())
        evidence.append(_examine(store, label, samples, others, covariance, damped))
        advance(len(samples))
    return sorted(evidence, key=lambda row: (-row.score, row.label))


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
    bimodality, axis = _two_heaps(features)
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
        return float(np.log(max(self.spread or 0.0, 1.0)) + step)

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


# === Spread and heaps ===


def _pooled_covariance(store: Store, classes: Iterable[np.ndarray]) -> np.ndarray:
    """Shape (features, features): how images of one class differ from each other, over all."""
    classes = [samples for samples in classes if len(samples) > 1]
    total, count = np.zeros((NUM_FEATURES, NUM_FEATURES)), 0
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
    own, its = glyph_features(character), glyph_features(other)
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


def _two_heaps(features: np.ndarray) -> tuple[float | None, np.ndarray | None]:
    """The gain of two normal distributions over one on held-out images, and an axis.

    Args:
        features: Shape (n, features).

    Returns:
        Nats an image (None for too few images), and the places on the axis that parts all
        images best (None where nothing does).
    """
    count = len(features)
    if count < _FEWEST_FOR_HEAPS:
        return None, None
    points = PCA(min(20, count // 4), random_state=0).fit_transform(features)
    points /= max(float(points[:, 0].std()), 1e-9)
    half = np.random.default_rng(0).permutation(count) % 2 == 0
    gains = [_gain(points[fitted], points[~fitted]) for fitted in (half, ~half)]
    axis = _best_axis(points)
    return float(np.mean(gains)), None if axis is None else points @ axis


def _gain(known: np.ndarray, new: np.ndarray) -> float:
    axis = _best_axis(known)
    if axis is None:
        return 0.0
    places, held_out = (known @ axis)[:, None], (new @ axis)[:, None]
    one, two = (_mixture(number).fit(places).score(held_out) for number in (1, 2))
    return two - one


def _mixture(number: int) -> GaussianMixture:
    # A heap of equal images would have no width.
    return GaussianMixture(number, reg_covar=0.02, random_state=0, init_params="k-means++")


def _best_axis(points: np.ndarray) -> np.ndarray | None:
    """The direction, of unit spread, that parts points into the two clearest heaps."""
    count = len(points)
    # Where two folders became one, their files mostly come one after the other.
    heaps = [np.arange(count) < count * share for share in (0.3, 0.5, 0.7)]
    heaps += [column > np.median(column) for column in points.T[:6]]
    best, best_score = None, -np.inf
    for heap in heaps:
        if min(heap.sum(), count - heap.sum()) < _SMALLEST_HEAP * count:
            continue
        # A share of a round shape, as few images don't determine that of 20 dimensions.
        parted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(points, heap)
        axis = parted.coef_[0] / max(float((points @ parted.coef_[0]).std()), 1e-9)
        places = (points @ axis)[:, None]
        mixture = _mixture(2).fit(places)
        score = mixture.score(places)
        if mixture.weights_.min() >= _SMALLEST_HEAP and score > best_score:
            best, best_score = axis, score
            heaps += [mixture.predict(places) == 1] * (len(heaps) < 16)
    return best
