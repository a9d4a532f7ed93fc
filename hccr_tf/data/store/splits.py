"""Who trains and who tests: pure functions over arrays, without files.

Samples with the same image form a group, and a group never stands on two sides. Where a source
itself puts one image into training and test, the test copy stays and the training copies are
held out, so that a test result never rests on an image that was trained on.
"""

from dataclasses import dataclass

import numpy as np

from hccr_tf.utils.errors import HccrError, unknown

TRAIN, VALIDATION, TEST, DUPLICATE = 0, 1, 2, 3
SPLIT_NAMES = ("train", "validation", "test", "duplicate")
"""Names of the split codes, at their code's place."""


@dataclass(frozen=True)
class SplitRule:
    """How samples are dealt out.

    Attributes:
        mode: "source" takes the source's splits; "writer" gives whole writers to the test set;
            "shuffle" draws groups of identical images, class by class; "auto" is the first of
            these that the samples allow.
        seed: Seeds the draws. Equal samples and seed give equal splits.
        test_fraction: Share of all samples (or writers) for the test set, 0 to 1; "source" does
            not use it.
        validation_fraction: Share of the training samples (or writers), 0 to below 1.
        validation_mode: "writer" takes whole writers for validation, "shuffle" draws class by
            class; "auto" is "writer" where `mode` is.

    Raises:
        HccrError: There is no such mode, or a fraction is out of range.
    """

    mode: str = "auto"
    seed: int = 1
    test_fraction: float = 0.2
    validation_fraction: float = 0.05
    validation_mode: str = "auto"

    def __post_init__(self) -> None:
        modes = ["auto", "source", "writer", "shuffle"]
        if self.mode not in modes:
            raise unknown("split", self.mode, modes)
        modes = ["auto", "writer", "shuffle"]
        if self.validation_mode not in modes:
            raise unknown("validation split", self.validation_mode, modes)
        if not 0 <= self.test_fraction <= 1:
            raise HccrError(f"test_fraction must be from 0 to 1, not {self.test_fraction}")
        if not 0 <= self.validation_fraction < 1:
            share = self.validation_fraction
            raise HccrError(f"validation_fraction must be at least 0 and below 1, not {share}")


def group_images(digests: np.ndarray) -> np.ndarray:
    """Numbers identical images.

    Args:
        digests: Shape (samples, 2), uint64: a 16-byte digest of every image.

    Returns:
        Shape (samples,), int32: the group of every sample, numbered by first occurrence.
    """
    order = np.argsort(digests[:, 0])
    ranked = digests[order]
    new = np.r_[True, ranked[1:, 0] != ranked[:-1, 0]]
    if (ranked[1:, 1] != ranked[:-1, 1])[~new[1:]].any():
        # Two images with the same first half: sorted by both halves, which takes longer.
        order = np.lexsort((digests[:, 1], digests[:, 0]))
        ranked = digests[order]
        new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    # Number by where a group occurs first, so that numbers do not depend on the hash function.
    starts = np.flatnonzero(new)
    number = np.empty(len(starts), np.int32)
    number[np.argsort(np.minimum.reduceat(order, starts))] = np.arange(len(starts))
    groups = np.empty(len(order), np.int32)
    groups[order] = number[np.cumsum(new) - 1]
    return groups


def choose_mode(mode: str, source_splits: np.ndarray, writers: np.ndarray) -> str:
    """Resolves "auto"; HccrError where samples lack what the mode needs.

    Splits and writers are as in `assign_splits`.
    """
    without_split = int((source_splits < 0).sum())
    without_writer = int((writers < 0).sum())
    if mode == "auto":
        if not without_split:
            return "source"
        return "shuffle" if without_writer else "writer"
    if mode == "source" and without_split:
        raise HccrError(
            f"{without_split} of {len(writers)} samples come without a train or test split of "
            "their source (its folder and archive names speak of none); use split 'writer' or "
            "'shuffle'"
        )
    if mode == "writer" and without_writer:
        raise HccrError(
            f"{without_writer} of {len(writers)} samples come without a writer; use split "
            "'source' or 'shuffle'"
        )
    return mode


def assign_splits(
    labels: np.ndarray,
    groups: np.ndarray,
    source_splits: np.ndarray,
    writers: np.ndarray,
    rule: SplitRule,
) -> np.ndarray:
    """Assigns a split code to every sample.

    Validation is taken from training; a validation split of the source is kept instead. A class
    keeps at least one group in training, unless all is asked for the test.

    Args:
        labels: Shape (samples,), int32: class indices.
        groups: Shape (samples,), int32: groups of identical images, from `group_images`.
        source_splits: Shape (samples,), int8: `TRAIN`, `VALIDATION`, `TEST`, or -1 for none.
        writers: Shape (samples,), int32: writers' numbers from 0, or -1 for unknown.
        rule: What is asked for.

    Returns:
        Shape (samples,), uint8: `TRAIN`, `VALIDATION`, `TEST` or `DUPLICATE`.

    Raises:
        HccrError: The mode is not possible with these samples.
    """
    mode = choose_mode(rule.mode, source_splits, writers)
    validation_mode = rule.validation_mode
    if validation_mode == "auto":
        validation_mode = "writer" if mode == "writer" else "shuffle"
    choose_mode(validation_mode, source_splits, writers)
    rng = np.random.default_rng(rule.seed)
    if mode == "source":
        split = source_splits.astype(np.uint8)
    else:
        chosen = _draw(mode, labels, groups, writers, rule.test_fraction, rng)
        split = np.where(chosen, TEST, TRAIN).astype(np.uint8)
    split = hold_out_duplicates(split, groups)
    if mode == "source" and (split == VALIDATION).any():
        if rule.validation_mode != "auto":
            raise HccrError(
                "the source has a validation split of its own; leave the validation split "
                f"{rule.validation_mode!r} out"
            )
        return split
    training = np.flatnonzero(split == TRAIN)
    columns = (labels[training], groups[training], writers[training])
    chosen = _draw(validation_mode, *columns, rule.validation_fraction, rng)
    split[training[chosen]] = VALIDATION
    return hold_out_duplicates(split, groups)


def draw_per_class(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Draws positions in `labels`, rising: some of each class, or all where a class has fewer.

    A larger number adds to what a smaller one draws.
    """
    order = np.random.default_rng((seed, 1)).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    ranked = labels[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return np.sort(order[ranks < number])


def hold_out_duplicates(split: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the splits with every group on one side.

    Of a group with test images only those stay, of one with validation and training images
    only those of validation; the others become `DUPLICATE`.
    """
    split = split.copy()
    num_groups = int(groups.max(initial=-1)) + 1
    for keep, others in ((TEST, (TRAIN, VALIDATION)), (VALIDATION, (TRAIN,))):
        there = np.zeros(num_groups, bool)
        there[groups[split == keep]] = True
        split[there[groups] & np.isin(split, others)] = DUPLICATE
    return split


def _draw(
    mode: str,
    labels: np.ndarray,
    groups: np.ndarray,
    writers: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Marks the samples of a random share of the writers, or of the groups of each class."""
    if fraction == 1:
        return np.ones(len(labels), bool)
    if mode == "writer":
        numbers = np.unique(writers)
        count = round(len(numbers) * fraction)
        if fraction > 0 and len(numbers) > 1:  # at least one on either side
            count = min(max(count, 1), len(numbers) - 1)
        return np.isin(writers, rng.permutation(numbers)[:count])
    if fraction == 0 or not len(labels):
        return np.zeros(len(labels), bool)
    names, first, member, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    # A group under two classes (a conflict) counts for the class it occurs under first.
    classes = labels[first]
    order = np.lexsort((rng.random(len(names)), classes))
    classes, sizes = classes[order], sizes[order]
    starts = np.flatnonzero(np.r_[True, classes[1:] != classes[:-1]])
    lengths = np.diff(np.r_[starts, len(classes)])
    cumulative = np.cumsum(sizes)
    before = cumulative - sizes
    before -= np.repeat(before[starts], lengths)
    totals = np.add.reduceat(sizes, starts)
    # The class's share is rarely a whole number. Rounding at a random point keeps small classes
    # right on average, where plain rounding would leave all of them without validation.
    target = totals * fraction + rng.random(len(starts)) - 0.5
    take = before + sizes / 2 <= np.repeat(target, lengths)
    take[starts + lengths - 1] = False
    chosen = np.empty(len(names), bool)
    chosen[order] = take
    return chosen[member]
