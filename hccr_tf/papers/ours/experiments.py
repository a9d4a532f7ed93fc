"""Networks beside each other on one data set."""

import pandas as pd

from hccr_tf.papers.base import Inputs, register_experiment
from hccr_tf.papers.tables import (
    beginnings,
    check_distinct,
    evaluate,
    provenance,
    score_runs,
    test_set,
    with_interval,
)


@register_experiment
def networks(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Any runs beside each other: parameters, cost, accuracy over seeds, time relative.

    A row a run (`ours`), and one for all seeds of a network (`summary`): mean and standard
    deviation of the accuracy, and training time in proportion to the fastest's.
    """
    rows = []
    for run in score_runs(inputs):
        rows.append(
            {
                "run": run.name,
                "network": run.workdir.recipe.model,
                "image_size": run.workdir.preprocessing.image_size,
                "parameters": run.parameters,
                "size_mb": round(run.size_mb, 2),
                "gmac": round(run.macs / 1e9, 4),
                **beginnings(run),
                **with_interval(evaluate([run]).evaluation),
                "test_set": test_set(inputs),
                **provenance(run, inputs),
            }
        )
    ours = pd.DataFrame(rows)
    return {"ours": ours, "summary": summary(ours)}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each network, size, subset and beginning in `networks`' rows, best first.

    Raises:
        HccrError: two of them differ in nothing, not even the seed.
    """
    same = ["network", "image_size", "samples_per_class", "begins_with", "stages"]
    check_distinct(rows, [*same, "epochs_asked", "seed"])
    groups = rows.groupby([*same, "epochs_asked"], sort=False)
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
