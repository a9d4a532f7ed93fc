"""How far a run has come, by its history alone: the best epoch, the stage, the end."""

import keras

from hccr_tf.recipe import Recipe, Stage
from hccr_tf.utils.errors import HccrError

MONITOR = "val_main_output_accuracy"
_LOSS = "val_main_output_loss"


def best_epoch(history: list[dict]) -> int:
    """Finds the row, of at least one, with the highest monitored value.

    Of several such it's the one with the lowest validation loss, the first if these are equal too.
    """
    return max(range(len(history)), key=lambda i: (history[i][MONITOR], -history[i][_LOSS], -i))


def current_stage(history: list[dict], recipe: Recipe) -> tuple[int, int]:
    """Finds the stage that the next epoch belongs to, and the epoch it began with, both from 0.

    A pure function of the rows of the epochs that are done, so a run that was interrupted goes on
    and stops as one that wasn't. A stage ends with its epochs, or when the recipe's patience is at
    its end. Where all are done, the stage is their number.
    """
    *stages, last = recipe.all_stages()
    first = 0
    for index, stage in enumerate(stages):
        lengths = range(1, len(history) - first + 1)
        done = [n for n in lengths if _is_over(history[first : first + n], stage, recipe.patience)]
        if not done:
            return index, first
        first += done[0]
    over = _is_over(history[first:], last, recipe.patience)
    return len(stages) + over, first


def is_finished(history: list[dict], recipe: Recipe) -> bool:
    """Returns whether the recipe's epochs are done or its patience is at its end."""
    return current_stage(history, recipe)[0] == len(recipe.all_stages())


def freeze(layers: list[keras.layers.Layer], frozen: str | int) -> None:
    """Lets a backbone's layers learn, or not: `frozen` of them, or all of the "backbone".

    Raises:
        HccrError: more than there are.
    """
    number = len(layers) if frozen == "backbone" else int(frozen)
    if number > len(layers):
        raise HccrError(
            f"A stage freezes {number} layers, and the backbone has {len(layers)}; --stages "
            "sets another number."
        )
    for i, layer in enumerate(layers):
        layer.trainable = i >= number


def _is_over(history: list[dict], stage: Stage, patience: int) -> bool:
    if not history:
        return False
    accuracies = [row[MONITOR] for row in history]
    flat = len(history) - 1 - accuracies.index(max(accuracies))
    return len(history) >= stage.epochs or flat >= patience
