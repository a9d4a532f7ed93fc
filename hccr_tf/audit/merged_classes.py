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

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

from hccr_tf.audit.checks import INFO, WARNING, Check, Finding, read_rows
from hccr_tf.audit.features import NUM_FEATURES, glyph_features, image_features
from hccr_tf.data.sources.folder_names import same_folder
from hccr_tf.data.store.splits import SPLIT_NAMES
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
class ClassReport:
    """What speaks for a class holding two characters; None where too little is known."""

    label: int  # The class index in the store.
    character: str
    counts: tuple[int, ...]  # Samples by split.
    num_images: int  # Images looked at.
    partner: str | None  # The character whose folder may have fallen together with the class's.
    spread: float | None  # Variance towards the partner, relative to all classes.
    step: float | None  # t-statistic of the largest step between the two.
    block: tuple[int, ...]  # Store indices on the partner's side of it, or of all clear steps.
    bimodality: float | None  # Gain of two distributions over one, nats an image.
    score: float  # All together, see above; with a model also its doubts.
    ends: tuple[int, ...]  # Store indices, half most like the character, half like its partner.
    doubted: float | None = None  # Share of the samples that a model reads as another class.
    read_as: str | None = None  # The class that those are mostly read as.


def folder_partners(store: Store) -> dict[int, tuple[str, ...]]:
    """Finds the characters whose folder may have fallen together with a class's, by its index.

    `repaired_names.csv` says under which code page names were broken, and the sample ids where
    names were right. A character that is a class of the store under the same code page is no
    candidate: the names were kept apart.
    """
    pages: dict[str, set[str | None]] = {}
    for row in read_rows(store.path / "repaired_names.csv"):
        pages.setdefault(row["character"], set()).add(row["code_page"])
    # A right name falls together too where it has a case ("a" and "A"), but only as a folder's.
    for label, sample in zip(*np.unique(store.labels, return_index=True), strict=True):
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
) -> list[ClassReport]:
    """Looks for classes with two characters among the samples `indices`, the likeliest first.

    One class's features are held at a time; `advance` gets the number of images gone through.
    """
    places = pd.Series(indices).groupby(store.labels[indices]).indices
    classes = [indices[members] for members in places.values()]
    partners = folder_partners(store)
    covariance = _pooled_covariance(store, classes)
    # Directions in which writers differ most are damped. The fonts' difference is but roughly that
    # of the handwriting, so a weaker damping gains nothing: 0.1 to 1 rank the same.
    strongest = np.linalg.eigvalsh(covariance)[-1]
    damped = np.linalg.inv(covariance + max(strongest, 1e-9) * np.eye(len(covariance)))
    reports = []
    for samples in classes:
        reports.append(_examine(store, samples, partners, covariance, damped))
        advance(len(samples))
    return sorted(reports, key=lambda row: (-row.score, row.label))


def _examine(
    store: Store,
    samples: np.ndarray,
    partners: dict[int, tuple[str, ...]],
    covariance: np.ndarray,
    damped: np.ndarray,
) -> ClassReport:
    """Gathers the three traces of a class, the first two towards its likeliest partner."""
    label = int(store.labels[samples[0]])
    others = partners.get(label, ())
    chosen = _evenly(samples, MAX_IMAGES)
    features = image_features(store.images(chosen))
    bimodality, along = _two_heaps(features)
    score, spread, step, block = 0.0, None, None, chosen[[]]
    character, partner = store.charset.char(label), others[0] if others else None
    for other in others if len(chosen) >= _FEWEST_FOR_SPREAD else ():
        drawn, its = glyph_features(character), glyph_features(other)
        if drawn is None or its is None:
            continue
        direction = damped @ (its - drawn).astype(np.float64)
        if not (usual := direction @ covariance @ direction) > 0:
            continue
        places = features @ direction
        ratio = float(places.var() / usual)
        height, upper = _step(places, store.sample_ids(chosen))
        named = np.log(max(ratio, 1.0)) + 2 * np.log(max(height / _USUAL_STEP, 1.0))
        if (named, ratio) > (score, spread or 0.0):
            score, spread, step, block = float(named), ratio, height, chosen[upper]
            partner, along = other, places
    ends = chosen[[]]
    if along is not None:
        count = min(_ENDS, len(chosen) // 2)
        ordered = chosen[np.argsort(along)]
        ends = np.concatenate([ordered[:count], ordered[len(chosen) - count :]])
    return ClassReport(
        label,
        character,
        tuple(np.bincount(store.split[samples], minlength=len(SPLIT_NAMES)).tolist()),
        len(chosen),
        partner,
        spread,
        step,
        tuple(block.tolist()),
        bimodality,
        score + 2 * max(bimodality or 0.0, 0.0),
        tuple(ends.tolist()),
    )


def _evenly(samples: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the samples, at even distances."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples)))
    return samples[places.astype(np.int64)]


# === Findings ===


def add_doubts(
    classes: list[ClassReport], doubted: dict[int, float], read_as: dict[int, str]
) -> list[ClassReport]:
    """Adds to scores the share of a class that a model doubts beyond the median class's."""
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


# === Spread and steps ===


def _pooled_covariance(store: Store, classes: list[np.ndarray]) -> np.ndarray:
    """Shape (features, features): how images of one class differ from each other, over all."""
    total, count = np.zeros((NUM_FEATURES, NUM_FEATURES)), 0
    several = [samples for samples in classes if len(samples) > 1]
    for samples in several:
        chosen = _evenly(samples, max(_POOLED_IMAGES // len(several), 8))
        rest = image_features(store.images(chosen)).astype(np.float64)
        rest -= rest.mean(axis=0)
        total += rest.T @ rest
        count += len(chosen) - 1
    return total / max(count, 1)


def _step(along: np.ndarray, names: list[str]) -> tuple[float, np.ndarray]:
    """The largest step along the numbers of the files of one folder, "…/Train/ň«ç/12.png".

    Its t-statistic without sign, 0 where there is none, and the places in `along` on its upper
    side; with several folders the largest t, and the places of every clear step.
    """
    folders, files = zip(*(os.path.split(name) for name in names), strict=True)
    numbers = [[int(n) for n in re.findall(r"\d+", file)] for file in files]
    ordered = sorted(range(len(names)), key=numbers.__getitem__)
    steps: list[tuple[float, np.ndarray]] = [(0.0, np.empty(0, np.int64))]
    for _, members in pd.Series(ordered).groupby([folders[i] for i in ordered], sort=False):
        order = members.to_numpy()
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
        steps.append((abs(float(t[largest])), upper))
    step, block = max(steps, key=lambda entry: entry[0])
    clear = [upper for t, upper in steps if t >= CLEAR_STEP]
    return step, np.concatenate(clear) if clear else block


# === Heaps ===


def _two_heaps(features: np.ndarray) -> tuple[float | None, np.ndarray | None]:
    """The gain of two normal distributions over one on held-out images, in nats an image.

    Beside it, the images' places along the axis that parts them best; None for too few images.
    """
    count = len(features)
    if count < _FEWEST_FOR_HEAPS:
        return None, None
    points = PCA(min(20, count // 4), random_state=0).fit_transform(features)
    points /= max(float(points[:, 0].std()), 1e-9)
    half = np.random.default_rng(0).permutation(count) % 2 == 0
    gains = []
    for fitted in (half, ~half):
        axis = _best_axis(points[fitted])
        if axis is None:
            gains.append(0.0)
            continue
        known, new = ((points[half] @ axis)[:, None] for half in (fitted, ~fitted))
        one, two = (_mixture(number).fit(known).score(new) for number in (1, 2))
        gains.append(two - one)
    axis = _best_axis(points)
    return float(np.mean(gains)), None if axis is None else points @ axis


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
