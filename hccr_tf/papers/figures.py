"""What figures of several runs share: what the runs are called, and curves over each other."""

from collections.abc import Callable, Mapping

import pandas as pd

from hccr_tf.evaluation.plots import overlay_figure, save_figure
from hccr_tf.papers.scores import Inputs
from hccr_tf.recipe import Recipe
from hccr_tf.runs.listing import same_loss
from hccr_tf.runs.workdir import Workdir


def figure_labels(inputs: Inputs, describe: Callable[[Recipe], str]) -> dict[str, str]:
    """Names runs for a figure by what their recipes differ in; by their own names where nothing."""
    runs = inputs.named_runs()
    labels = {name: describe(Workdir(path).recipe) for name, path in runs.items()}
    return (
        labels if len(set(labels.values())) == len(labels) else dict(zip(runs, runs, strict=True))
    )


def input_label(recipe: Recipe) -> str:
    """Names the input of a network: raw, or by the side of the kernel that blurs it, 3×3."""
    kernel = recipe.preprocessing.blur_kernel
    return f"{kernel}×{kernel}" if kernel else "raw"


def save_curves(
    inputs: Inputs, curves: Mapping[str, pd.DataFrame], name: str, describe: Callable[[Recipe], str]
) -> None:
    """Draws runs' curves over each other; without losses where they learnt by different ones.

    Args:
        inputs: the runs, and the folder that gets NAME.png.
        curves: `history.csv` as a frame, by the run's name.
        name: of the image.
        describe: what a run is called, as in `figure_labels`.
    """
    labels = figure_labels(inputs, describe)
    alike = same_loss(Workdir(path) for path in inputs.runs)
    figure = overlay_figure({labels[n]: c for n, c in curves.items()}, "epoch", same_loss=alike)
    save_figure(figure, inputs.out / f"{name}.png")
