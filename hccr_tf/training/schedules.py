"""Learning rates: by step alone, or by how training has gone so far."""

from collections.abc import Sequence

import keras

from hccr_tf.recipe import Recipe, Stage

# Melnyk et al. 2018, section 4.2; the last two from the released code.
_DIVISOR = 10.0
_LEAST_GAIN = 1e-4
_FLOOR = 1e-6


def learning_rate(recipe: Recipe, steps_per_epoch: int, stage: Stage):
    """Returns what an optimiser takes as its learning rate in a stage: a number, or a schedule.

    Under the schedule "stall" it's the number to begin with, in whose place those of `stall_rate`
    are set.
    """
    peak = stage.learning_rate or recipe.learning_rate
    if recipe.schedule == "stall" or (recipe.schedule == "constant" and not recipe.warmup_steps):
        return peak
    if recipe.schedule == "halve":
        return keras.optimizers.schedules.ExponentialDecay(
            peak, decay_steps=steps_per_epoch, decay_rate=0.5, staircase=True
        )
    total = stage.epochs * steps_per_epoch
    # A run too short for its warm-up spends half of its steps on it.
    warmup = min(recipe.warmup_steps, total // 2)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else peak,
        decay_steps=max(1, total - warmup),
        # A cosine that ends where it begins is the constant rate after a warm-up.
        alpha=0.0 if recipe.schedule == "cosine" else 1.0,
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


def stall_rate(
    peak: float,
    first_steps: int | None,
    accuracies: Sequence[float],
    steps_per_epoch: int,
    step: int,
) -> float:
    """Computes the rate of one step under the schedule "stall".

    The peak for `first_steps`, then a tenth; after each later epoch whose training accuracy
    isn't above the best before it by 0.0001, another tenth; never under 1e-6. A pure function
    of the history, so a run that was interrupted goes on with the rates of one that wasn't.
    With no first steps (None: those of an epoch) the peak lasts until the first stall.
    `accuracies` are those of training in the epochs that are done; steps count from 0.

    Example:
        >>> stall_rate(0.1, 10, [], 10, 0), stall_rate(0.1, 10, [0.5], 10, 10)
        (0.1, 0.01)
        >>> stall_rate(0.1, 10, [0.5, 0.4], 10, 20)
        0.001
    """
    if first_steps is None:
        first_steps = steps_per_epoch
    if step < first_steps:
        return peak
    divisions, best = int(first_steps > 0), float("-inf")
    for epoch, accuracy in enumerate(accuracies):
        if epoch * steps_per_epoch >= first_steps and accuracy <= best + _LEAST_GAIN:
            divisions += 1
        best = max(best, accuracy)
    return max(peak / _DIVISOR**divisions, min(peak, _FLOOR))
