"""Melnyk, You & Li 2018: tables 1 to 3 with our rows beside the paper's, and figure 2."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hccr_tf.evaluation.complexity import layer_costs
from hccr_tf.evaluation.plots import draw_size_against_accuracy
from hccr_tf.inference.cam import images_of_characters, write_cams
from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.recognizer import Recognizer
from hccr_tf.models import create_model
from hccr_tf.papers.base import SCALES, Cell, register_experiment
from hccr_tf.papers.scores import Fusion, Inputs, ScoredRun, score_fusions, score_runs
from hccr_tf.papers.tables import Tables, pairs_tables, paper_table, runs_table
from hccr_tf.utils.errors import HccrError

_PAPER = "melnyk_2018"
_TEST_SET = "ICDAR-2013"  # the paper's
_FIGURE_2 = "己已鲍吗"
_LISTED = ("Conv2D", "Pooling2D", "Dense")  # ends of the kinds of layers in table 1

_SMALL = {"image_size": 48, "mixed_precision": "bfloat16"}
_SCALES: dict[str, dict[str, object]] = {
    "full": {},
    "hwdb100": _SMALL,
    "real-small": {**_SMALL, "epochs": 10},
    "smoke": {"image_size": 32, "model.width": 8, "epochs": 2, "batch_size": 32},
}


def _plan(scale: str) -> Sequence[Cell]:
    recipe = "melnyk_{}" if scale == "full" else "melnyk_net_{}"
    return [Cell(recipe.format(c), recipe.format(c), _SCALES[scale]) for c in "abc"]


def _plan_table2(scale: str) -> Sequence[Cell]:
    if scale != "hwdb100":
        return _plan(scale)
    return [
        *_plan(scale),
        Cell("melnyk_net_a_seed2", "melnyk_net_a", {**_SMALL, "seed": 2}),
        # The full size, in as many epochs as there is time for.
        Cell("melnyk_net_c_96", "melnyk_net_c", {"mixed_precision": "bfloat16", "epochs": 3}),
        # The paper's schedule; smaller batches, as its epoch has 10,462 steps and this one 361.
        Cell("melnyk_c", "melnyk_c", {**_SMALL, "batch_size": 64, "epochs": 10}),
    ]


@register_experiment(plan=lambda scale: ())
def melnyk_table1(inputs: Inputs) -> Tables:
    """Melnyk et al. 2018, table 1: the layers of the three networks, with what each costs.

    At 96×96 pixels and 3,755 classes; a convolution's parameters are with its normalisation's.
    Takes no runs.
    """
    paper = paper_table(_PAPER, "table 1")
    columns: dict[str, list] = {"layer": list(paper.index[1:]), "output_shape": [], "mac": []}
    for letter in "abc":
        model = create_model(f"melnyk_net_{letter}", num_classes=3755, image_shape=(96, 96, 1))
        rows: list[list] = []
        for cost in layer_costs(model):
            if cost.kind.endswith(_LISTED):
                rows.append([cost.output_shape, cost.parameters, cost.macs])
            elif cost.parameters:
                rows[-1][1] += cost.parameters
        columns["output_shape"] = [" x ".join(map(str, shape)) for shape, _, _ in rows]
        columns["mac"] = [macs for _, _, macs in rows]
        columns[f"parameters_{letter}"] = [parameters for _, parameters, _ in rows]
    ours = pd.DataFrame(columns)
    total = ours.drop(columns=["layer", "output_shape"]).sum()
    ours.loc[len(ours)] = {"layer": "all", "output_shape": "", **total}
    return {"ours": ours, "paper": paper.reset_index(names="layer")}


@register_experiment(plan=_plan, scales=SCALES)
def melnyk_figure2(inputs: Inputs) -> Tables:
    """Melnyk et al. 2018, figure 2: class activation maps of the three networks side by side.

    Of 己, 已, 鲍 and 吗 as in the paper; the charset's first characters stand in for those that the
    data lack. Of each a sample that all runs read rightly. `hccr cam` draws any others.
    """
    store, predictors = inputs.store, [Predictor(path) for path in inputs.named_runs().values()]
    tested = store.labels_for(store.charset, store.indices(inputs.split))
    there = [store.charset.char(int(label)) for label in np.unique(tested)]
    chosen = [c for c in _FIGURE_2 if c in there]
    chosen += [c for c in there if c not in chosen][: len(_FIGURE_2) - len(chosen)]
    images = images_of_characters(store, inputs.split, "".join(chosen), predictors)
    table = write_cams([Recognizer(p) for p in predictors], images, inputs.out)
    return {"maps": table.drop(columns="overlay")}


@register_experiment(plan=_plan_table2, scales=SCALES)
def melnyk_table2(inputs: Inputs) -> Tables:
    """Melnyk et al. 2018, table 2: parameters, accuracy, and accuracy without the last bias.

    Our accuracies are of whole images, with 95 % intervals (Wilson); `changed` counts the
    samples that are read otherwise once the classifier's bias is 0. Besides: every pair of runs
    compared on the same samples (`pairs`, McNemar's exact test).
    """
    runs = score_runs(inputs)
    ours = runs_table(runs, inputs, _without_bias).rename(columns={"run": "model"})
    paper = paper_table(_PAPER, "table 2").reset_index(names="model")
    return {"ours": ours, "paper": paper, **pairs_tables(runs)}


def _without_bias(run: ScoredRun) -> dict[str, float]:
    if run.bias is None:
        raise HccrError("The bias is reset in networks that end in a dense layer only.")
    (without,) = score_fusions([Fusion([run.logits], bias=run.bias)])
    return {
        "accuracy_without_bias": round(without.accuracy, 5),
        "accuracy_drop": round(run.score.accuracy - without.accuracy, 5),
        "changed": int((run.score.read != without.read).sum()),
    }


@register_experiment(plan=_plan, scales=SCALES)
def melnyk_table3(inputs: Inputs) -> Tables:
    """Melnyk et al. 2018, table 3: size, accuracy, ensemble and raw data of all methods.

    Literature as the paper prints it, then our runs and, of several, their mean logits. Our
    rows are of the data that was given: `test_set` says which. Draws size against accuracy.
    """
    runs = score_runs(inputs)
    literature = paper_table(_PAPER, "table 3").reset_index(names="method")
    literature = literature.rename(columns={"size": "size_mb", "raw data": "raw_data"})
    groups = [(run.name, [run], run.score) for run in runs]
    if len(runs) > 1:
        (score,) = score_fusions([Fusion([run.logits for run in runs])])
        groups.append((f"mean logits of {len(runs)}", runs, score))
    ours = [
        {
            "method": name,
            "size_mb": f"{sum(run.size_mb for run in members):.1f}",
            **score.columns(),
            "ensemble": "no" if len(members) == 1 else f"yes ({len(members)})",
            "raw_data": "yes",
            "reference": "this package",
            "test_set": inputs.test_set(),
        }
        for name, members, score in groups
    ]
    tables = [literature.assign(test_set=_TEST_SET), pd.DataFrame(ours)]
    table = pd.concat(tables, ignore_index=True)
    draw_size_against_accuracy(table, inputs.out / "melnyk_table3.png")
    return {"table": table}
