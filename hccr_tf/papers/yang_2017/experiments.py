"""Yang et al. 2017: table I with our rows beside the paper's, figures 1 and 5."""

import timeit
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hccr_tf.inference.cam import sample_images
from hccr_tf.inference.predictor import Predictor
from hccr_tf.inference.refinement import StepPredictor, count_steps, write_changed, write_steps
from hccr_tf.models import is_refined, model_arguments
from hccr_tf.papers.base import SCALES, Cell, register_experiment
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.papers.scores import Inputs, ScoredRun, score_runs
from hccr_tf.papers.tables import Tables, pairs_tables, paper_table, runs_table
from hccr_tf.utils.errors import HccrError

_BATCH = 32
_MOST_STEPS = 8
# Settings that have columns of their own.
_ELSEWHERE = ("epochs:", "seed:", "mixed_precision:", "preprocessing.image_size:")

_SMALL = {"image_size": 32, "epochs": 8, "mixed_precision": "bfloat16"}
_NETWORKS = ("convnet", "resnet", "mrbc", "convnet_ir", "resnet_ir", "mrbc_ir")


def _plan(scale: str) -> Sequence[Cell]:
    if scale == "full":
        return [Cell(f"yang_{network}", f"yang_{network}") for network in _NETWORKS]
    if scale == "smoke":
        size = {"image_size": 16, "model.width": 4, "epochs": 2, "batch_size": 32}
        return [Cell(network, network, size) for network in ("mrbc", "mrbc_ir")]
    cells = [Cell(network, network, _SMALL) for network in _NETWORKS]
    if scale == "hwdb100":
        cells += [
            Cell(f"{network}_seed{seed}", network, {**_SMALL, "seed": seed})
            for seed in (2, 3)
            for network in ("mrbc", "mrbc_ir")
        ]
        cells += [
            # What might be behind the gain, or the lack of one from step to step: one seed each.
            Cell("mrbc_max", "mrbc", {**_SMALL, "model.pooled": "max"}),
            Cell("mrbc_ir_last", "mrbc_ir", {**_SMALL, "loss_weights.step*": 0.0}),
            # The paper's schedule, which adds up to two epochs at its first rate.
            Cell("yang_mrbc_ir", "yang_mrbc_ir", _SMALL),
        ]
    return cells


@register_experiment(plan=_plan, scales=SCALES)
def yang_table1(inputs: Inputs) -> Tables:
    """Yang et al. 2017, table I: networks with and without refinement, beside the paper's.

    `changed` says what a run's settings are where they aren't its recipe's. Of runs with
    refinement also accuracy at each of eight steps, whatever number they were trained with
    (`steps`), and what refinement gains over the same backbone and seed, with mean and standard
    deviation over the seeds (`gain`); of every two runs how they differ on the same samples
    (`pairs`). `ms_per_image` is this machine's, in batches of 32; only its ratios mean
    something.
    """
    runs, steps = score_runs(inputs), []
    for run in runs:
        if is_refined(run.workdir.recipe.model):
            predictor = StepPredictor(run.workdir.path, _MOST_STEPS)
            counts = count_steps(predictor, inputs.store, inputs.split).table
            counts.insert(0, "run", run.name)
            steps.append(counts)
    ours = runs_table(runs, inputs, _columns)
    tables = {
        "ours": ours,
        "paper": paper_table("yang_2017", "table I").reset_index(names="method"),
        "gain": gain_of_refinement(ours),
        **pairs_tables(runs),
    }
    if steps:
        tables["steps"] = pd.concat(steps, ignore_index=True)
    return {name: table for name, table in tables.items() if len(table)}


def _columns(run: ScoredRun) -> dict[str, object]:
    """Recipe, refinement, the run's own settings and its time, as columns of a table."""
    recipe = run.workdir.recipe
    arguments = {**model_arguments(recipe.model), **recipe.model_args}
    # Such as "model_args.pooled: 'max', None": the run's value, the recipe's.
    changed = recipe.differences(get_recipe(recipe.name))
    predictor = Predictor(run.workdir.path)
    images = np.zeros((_BATCH, *predictor.preprocessing.image_shape), np.uint8)
    predictor.logits(images)  # compiles
    seconds = min(timeit.repeat(lambda: predictor.logits(images), number=1))
    return {
        "recipe": recipe.name,
        "refinement": f"T = {arguments['steps']}" if is_refined(recipe.model) else "no",
        "changed": "; ".join(line for line in changed if not line.startswith(_ELSEWHERE)),
        "ms_per_image": round(1000 * seconds / _BATCH, 3),
    }


def _plan_figures(scale: str) -> Sequence[Cell]:
    return [c for c in _plan(scale) if c.name == ("yang_mrbc_ir" if scale == "full" else "mrbc_ir")]


@register_experiment(plan=_plan_figures, scales=SCALES)
def yang_figure1(inputs: Inputs) -> Tables:
    """Yang et al. 2017, figure 1: attention at each step over two characters that look alike.

    The two that the run confuses most often, two samples each: `yang_figure1.png`. `read` says
    what was read at every step, with probabilities.
    """
    predictor = _one_run(inputs)
    counts = count_steps(predictor, inputs.store, inputs.split)
    wrong = counts.read[:, -1] != counts.labels
    chosen = np.arange(min(4, len(counts.labels)))
    if wrong.any():
        found = np.sort(np.stack([counts.labels, counts.read[:, -1]], axis=1)[wrong], axis=1)
        pairs, number = np.unique(found, axis=0, return_counts=True)
        pair = pairs[number.argmax()]
        chosen = np.concatenate([np.flatnonzero(counts.labels == label)[:2] for label in pair])
    images = sample_images(inputs.store, counts.indices[chosen])
    return {"read": write_steps(predictor, images, inputs.out, top_k=1, name="yang_figure1")}


@register_experiment(plan=_plan_figures, scales=SCALES)
def yang_figure5(inputs: Inputs) -> Tables:
    """Yang et al. 2017, figure 5: the best five characters at each step, where refinement helps.

    Of up to eight samples that are wrong at first and right at last, and of as many of which the
    reverse is true, which the paper doesn't show: `corrected.txt`, `broken.txt`, images with
    attention, and tables. `steps` counts them all.
    """
    predictor = _one_run(inputs)
    counts = count_steps(predictor, inputs.store, inputs.split)
    paper = paper_table("yang_2017", "figure 5").reset_index(names="example, rank")
    tables = {"steps": counts.table, "paper": paper}
    top_k = min(5, len(predictor.charset))
    return tables | write_changed(predictor, counts, inputs.store, inputs.out, top_k=top_k)


def _one_run(inputs: Inputs) -> StepPredictor:
    if len(inputs.runs) != 1:
        raise HccrError("Name one run with refinement: --workdir RUN.")
    return StepPredictor(inputs.runs[0])


def gain_of_refinement(rows: pd.DataFrame) -> pd.DataFrame:
    """Computes the gain of refinement over each backbone, from `ours` of `yang_table1`.

    Returns:
        A row a run with refinement, beside the backbone alone with the same changes or else with
        its recipe's settings; mean and standard deviation of the gain are over seeds.
    """
    rows = rows.assign(backbone=rows["recipe"].str.removesuffix("_ir"))
    refines = rows["backbone"] != rows["recipe"]
    same = ["backbone", "image_size", "seed"]
    plain = rows[~refines].rename(columns={"accuracy": "without"})
    plain = plain[[*same, "changed", "without"]]
    refined = rows[refines].rename(columns={"accuracy": "with"})
    table = refined[["backbone", "changed", "image_size", "seed", "with"]]
    alike = table.merge(plain, how="left", on=[*same, "changed"])["without"]
    as_recipe = plain[plain["changed"] == ""].drop(columns="changed")
    other = table.merge(as_recipe, how="left", on=same)["without"]
    table.insert(4, "without", alike.fillna(other).to_numpy())
    table = table.dropna(subset="without")
    table["gain"] = (table["with"] - table["without"]).round(3)
    groups = table.groupby(["backbone", "changed", "image_size"], sort=False)["gain"]
    spread = groups.agg(mean="mean", deviation="std").round(3).reset_index()
    return table.merge(spread, how="left")
