"""Networks beside each other on one data set."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hccr_tf.models import list_models
from hccr_tf.papers.base import Cell, register_experiment
from hccr_tf.papers.scores import Inputs, score_runs
from hccr_tf.papers.tables import Tables, beginnings, check_distinct, runs_table

# Three seeds of those that take the least time, and of ConvNet.
_CHEAPEST = ("googlenet", "compact_net", "improved_googlenet", "brick_net", "convnet")
_SHARED = {
    **{"stages": (), "epochs": 6, "image_size": 32, "mixed_precision": "bfloat16"},
    **{"samples_per_class": 200, "validation_per_class": 70},
}
_OWN: dict[str, dict[str, Any]] = {
    "brick_net": {"model.num_bricks": 3},  # as many as this size allows
    # Depthwise convolutions are slower in half precision on a CPU, all others faster.
    "efficientnet_v2s": {"mixed_precision": None},
}


def _plan(scale: str) -> Sequence[Cell]:
    cells = []
    for network in list_models():
        for seed in (1, 2, 3) if network in _CHEAPEST else (1,):
            settings = {**_SHARED, "model": network, "seed": seed, **_OWN.get(network, {})}
            cells.append(Cell(f"all_{network}_{seed}", "transfer", settings))
    return cells


@register_experiment(plan=_plan, scales=["real-small"])
def networks(inputs: Inputs) -> Tables:
    """Any runs beside each other: parameters, cost, accuracy over seeds, time relative.

    A row a run (`ours`), and one for all seeds of a network (`summary`): mean and standard
    deviation of the accuracy, and training time in proportion to the fastest's.
    """
    ours = runs_table(score_runs(inputs), inputs, beginnings)
    return {"ours": ours, "summary": summary(ours)}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each network, size, subset and beginning in `networks`' rows, best first."""
    same = ["network", "image_size", "samples_per_class", "begins_with", "stages", "epochs_asked"]
    check_distinct(rows, [*same, "seed"])
    groups = rows.groupby(same, sort=False)
    table = groups.agg(
        parameters=("parameters", "first"),
        gmac=("gmac", "first"),
        seeds=("seed", "nunique"),
        accuracy=("accuracy", "mean"),
        deviation=("accuracy", "std"),
        minutes=("train_minutes", "mean"),
    ).reset_index()
    table["relative_time"] = (table["minutes"] / table["minutes"].min()).round(2)
    return table.round(3).sort_values("accuracy", ascending=False, ignore_index=True)
