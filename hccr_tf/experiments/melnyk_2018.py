"""Melnyk, You & Li 2018: tables 2 and 3 with our rows beside the paper's."""

from itertools import combinations

import pandas as pd

from hccr_tf.evaluation import Evaluation, mcnemar
from hccr_tf.experiments.paper_results import paper_table
from hccr_tf.experiments.registry import Inputs, register_experiment
from hccr_tf.experiments.scored_runs import ScoredRun, evaluate, labels_of, score_runs
from hccr_tf.plots import draw_size_against_accuracy

_PAPER = "melnyk-2018"
_TEST_SET = "ICDAR-2013"  # the paper's


@register_experiment
def melnyk_table2(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Melnyk et al. 2018, table 2: parameters, accuracy, and accuracy without the last bias.

    Our accuracies are of whole pictures, with 95 % intervals (Wilson); `changed` counts the
    samples that are read otherwise once the classifier's bias is 0. Besides: every pair of runs
    compared on the same samples (`pairs`, McNemar's exact test).
    """
    runs = score_runs(inputs)
    labels = labels_of(runs[0])
    rows, right = [], {}
    for run in runs:
        with_bias, read = evaluate([run])
        without, read_without = evaluate([run], without_bias=True)
        right[run.name] = read == labels
        rows.append(
            {
                "model": run.name,
                "network": run.workdir.recipe.model,
                "image_size": run.workdir.preprocessing.image_size,
                "parameters": run.parameters,
                "size_mb": round(run.size_mb, 2),
                "gmac": round(run.macs / 1e9, 4),
                **_with_interval(with_bias),
                "accuracy_without_bias": round(_percent(without), 5),
                "accuracy_drop": round(_percent(with_bias) - _percent(without), 5),
                "changed": int((read != read_without).sum()),
                **_provenance(run, inputs),
            }
        )
    pairs = []
    for a, b in combinations(right, 2):
        only_a, only_b, p = mcnemar(right[a], right[b])
        pairs.append(
            {
                "first": a,
                "second": b,
                "difference": round(100 * (right[b].mean() - right[a].mean()), 3),
                "only_first_right": only_a,
                "only_second_right": only_b,
                "p": float(f"{p:.3g}"),
            }
        )
    paper = paper_table(_PAPER, "table 2").reset_index(names="model")
    tables = {"ours": pd.DataFrame(rows), "paper": paper}
    return {**tables, "pairs": pd.DataFrame(pairs)} if pairs else tables


@register_experiment
def melnyk_table3(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Melnyk et al. 2018, table 3: size, accuracy, ensemble and raw data of all methods.

    Literature as the paper prints it, then our runs and, of several, their mean logits. Our
    rows are of the data that was given: `test_set` says which. Draws size against accuracy.
    """
    runs = score_runs(inputs)
    literature = paper_table(_PAPER, "table 3").reset_index(names="method")
    literature = literature.rename(columns={"size": "size_mb", "raw data": "raw_data"})
    literature["test_set"] = _TEST_SET
    groups = [(run.name, [run]) for run in runs]
    if len(runs) > 1:
        groups.append((f"mean logits of {len(runs)}", runs))
    ours = []
    for name, members in groups:
        result, _ = evaluate(members)
        ours.append(
            {
                "method": name,
                "size_mb": f"{sum(m.size_mb for m in members):.1f}",
                **_with_interval(result),
                "ensemble": "no" if len(members) == 1 else f"yes ({len(members)})",
                "raw_data": "yes",
                "reference": "this package",
                "test_set": _name_of(inputs),
            }
        )
    table = pd.concat([literature, pd.DataFrame(ours)], ignore_index=True)
    draw_size_against_accuracy(table, inputs.out / "melnyk_table3.png")
    return {"table": table.fillna("")}


def _percent(result: Evaluation) -> float:
    return 100 * result.correct[1] / result.total


def _with_interval(result: Evaluation) -> dict[str, float]:
    low, high = result.metrics()["top1_interval95"]
    return {
        "accuracy": round(_percent(result), 3),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
    }


def _name_of(inputs: Inputs) -> str:
    return f"{inputs.store.path.name} {inputs.split}, {len(inputs.store.charset)} classes"


def _provenance(run: ScoredRun, inputs: Inputs) -> dict[str, object]:
    facts = run.workdir.read_run()
    machine = run.workdir.read_environment()
    return {
        "samples": len(inputs.store.indices(inputs.split)),
        "data_hash": inputs.store.data_hash[:16],
        "seed": facts["seed"],
        "epochs": facts.get("epochs_done"),
        "epochs_asked": run.workdir.recipe.epochs,
        "best_epoch": facts.get("best_epoch"),
        "train_minutes": round(facts.get("train_seconds", 0) / 60, 1),
        "hardware": f"{machine['cpu']}, {machine['cpu_count']} cores, {machine['backend']}",
        "train_command": facts["command"],
    }
