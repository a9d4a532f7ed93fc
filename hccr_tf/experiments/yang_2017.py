"""Yang et al. 2017: table I with our rows beside the paper's."""

import time

import numpy as np
import pandas as pd

from hccr_tf.experiments.paper_results import paper_table
from hccr_tf.experiments.registry import Inputs, register_experiment
from hccr_tf.experiments.scored_runs import (
    ScoredRun,
    compare_pairs,
    evaluate,
    labels_of,
    provenance,
    score_runs,
    test_set,
    with_interval,
)
from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.refine import StepPredictor, count_steps
from hccr_tf.models import model_arguments

_BATCH = 32
_MOST_STEPS = 8


@register_experiment
def yang_table1(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Yang et al. 2017, table I: networks with and without refinement, beside the paper's.

    Of runs with refinement also accuracy at each of eight steps, whatever number they were
    trained with (`steps`), and of every two runs how they differ on the same samples (`pairs`).
    `ms_per_picture` is this machine's, in batches of 32; only its ratios mean something.
    """
    runs = score_runs(inputs)
    labels = labels_of(runs[0])
    rows, right, steps = [], {}, []
    for run in runs:
        result, read = evaluate([run])
        right[run.name] = read == labels
        recipe = run.workdir.recipe
        refines = "attention_outputs" in model_arguments(recipe.model)
        rows.append(
            {
                "run": run.name,
                "network": recipe.model,
                "refinement": f"T = {recipe.model_args.get('steps', 4)}" if refines else "no",
                "image_size": run.workdir.preprocessing.image_size,
                "parameters": run.parameters,
                "gmac": round(run.macs / 1e9, 4),
                "ms_per_picture": round(_milliseconds(run), 3),
                **with_interval(result),
                "test_set": test_set(inputs),
                **provenance(run, inputs),
            }
        )
        if refines:
            predictor = StepPredictor(run.workdir.path, _MOST_STEPS)
            counts = count_steps(predictor, inputs.store, inputs.split).table
            counts.insert(0, "run", run.name)
            steps.append(counts)
    tables = {
        "ours": pd.DataFrame(rows),
        "paper": paper_table("yang-2017", "table I").reset_index(names="method"),
    }
    if steps:
        tables["steps"] = pd.concat(steps, ignore_index=True)
    if len(runs) > 1:
        tables["pairs"] = compare_pairs(right)
    return tables


def _milliseconds(run: ScoredRun) -> float:
    predictor = Predictor(run.workdir.path)
    images = np.zeros((_BATCH, *predictor.preprocessing.image_shape), np.uint8)
    predictor.logits(images)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        predictor.logits(images)
        times.append(time.perf_counter() - begin)
    return 1000 * min(times) / _BATCH
