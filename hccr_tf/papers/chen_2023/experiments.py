"""Chen, Xiao & Meng 2023: tables 1 and 2, figures 2 to 5, and what pre-training brings."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hccr_tf.evaluation.plots import curves_figure, draw_grid, save_figure
from hccr_tf.papers.base import Cell, register_experiment
from hccr_tf.papers.figures import save_curves
from hccr_tf.papers.scores import Inputs, ScoredRun, score_runs
from hccr_tf.papers.tables import (
    Tables,
    beginnings,
    check_distinct,
    histories,
    outcome,
    pairs_tables,
    paper_table,
    runs_table,
)
from hccr_tf.recipe import Stage

_PAPER = "chen_2023"
# Section 4: images a class; of the second network's 40, 80, 160 a fifth again validates.
_SUBSETS = {"efficientnet_v2s": (70, 140, 210), "inception_v3_gru": (40, 80, 160)}


def _cell(name: str, network: str, scale: str, **settings) -> Cell:
    if scale == "full":
        return Cell(name, f"chen_{network}", settings)
    if scale == "real-small":
        # On CPUs depthwise convolutions are slower in half precision.
        size: dict[str, Any] = {"image_size": 64}
        if network != "efficientnet_v2s":
            size = {"image_size": 107, "mixed_precision": "bfloat16"}
        return Cell(name, network, {**size, **settings})
    # The large backbones take minutes to compile; a small one stands for them.
    model = {"model": "applications:MobileNetV3Small", "image_size": 32, "epochs": 2}
    subset = {"samples_per_class": 10, "validation_per_class": 2}
    return Cell(name, network, {**model, **settings, **subset, "model.enlarge": 2})


def _plan_table1(scale: str) -> Sequence[Cell]:
    cells = []
    for network, numbers in _SUBSETS.items():
        for number in numbers:
            held_out = 70 if network == "efficientnet_v2s" else number // 4
            subset = {"samples_per_class": number, "validation_per_class": held_out}
            cells.append(_cell(f"{network}_{number}", network, scale, **subset))
    return cells[:1] if scale == "smoke" else cells


def _plan_table2(scale: str) -> Sequence[Cell]:
    name, subset = "inception_v3_gru", {"samples_per_class": 40, "validation_per_class": 10}
    settings: dict[str, Any] = subset
    if scale == "real-small":
        settings = {**subset, "epochs": 6, "schedule": "constant", "warmup_steps": 0}
    cells = []
    for rate in (1e-4, 2e-4, 1e-3):
        for size in (10, 20, 40):
            own = {**settings, "learning_rate": rate, "batch_size": size}
            cells.append(_cell(f"{name}_rate{rate:g}_batch{size}", name, scale, **own))
    return cells[-2:] if scale == "smoke" else cells


@register_experiment(plan=_plan_table1)
def chen_table1(inputs: Inputs) -> Tables:
    """Chen et al. 2023, table 1: both networks on subsets of several sizes.

    Losses and accuracies of the best epoch, training and validation as shares of 1; `accuracy`
    is in percent on the split that was asked for, which the paper doesn't have.
    """
    table = paper_table(_PAPER, "table 1").reset_index(names="subset")
    text = paper_table(_PAPER, "section 4.1").reset_index(names="subset")
    table.insert(0, "network", "InceptionV3 + GRU")
    text.insert(0, "network", "EfficientNetV2-S")
    shares = text["validation accuracy"].astype(float) / 100
    text["validation accuracy"] = shares.map("{:.4f}".format)
    paper = pd.concat([table, text], ignore_index=True)
    return {"ours": _ours(score_runs(inputs), inputs), "paper": paper}


@register_experiment(plan=_plan_table2)
def chen_table2(inputs: Inputs) -> Tables:
    """Chen et al. 2023, table 2: learning rate against batch size, on one device or several.

    Takes the runs of `hccr sweep chen_inception_v3_gru --learning-rate 1e-4 2e-4 1e-3
    --batch-size 10 20 40`. Several GPUs share a batch wherever TensorFlow finds them; `GPUs` says
    how many there were, 0 for none. Draws the grid.
    """
    runs = score_runs(inputs)
    devices = [run.workdir.read_environment()["devices"] for run in runs]
    ours = _ours(runs, inputs)
    gpus = [sum(device.startswith(("gpu", "cuda")) for device in some) for some in devices]
    ours.insert(1, "GPUs", gpus)
    varied = ["learning_rate", "batch_size", "GPUs", "samples_per_class", "image_size", "seed"]
    draw_grid(ours, varied, "val_accuracy", inputs.out / "chen_table2.png")
    return {"ours": ours, "paper": paper_table(_PAPER, "table 2").reset_index(names="model")}


@register_experiment(
    plan=lambda s: [c for c in _plan_table1(s) if s == "smoke" or c.name.startswith("inception")]
)
def chen_figures2to4(inputs: Inputs) -> Tables:
    """Chen et al. 2023, figures 2 to 4: accuracy and loss of training, a row of curves a run.

    The paper's are of the small, median and large subset.
    """
    curves, history = histories(inputs)
    save_figure(curves_figure(curves), inputs.out / "chen_figures2to4.png")
    return {"history": history}


@register_experiment(
    plan=lambda s: [c for c in _plan_table1(s) if c.name.startswith("efficientnet")]
)
def chen_figure5(inputs: Inputs) -> Tables:
    """Chen et al. 2023, figure 5: validation loss and accuracy of runs over each other.

    The paper's are of EfficientNetV2-S on 70, 140 and 210 images a class.
    """
    curves, history = histories(inputs)
    save_curves(
        inputs, curves, "chen_figure5", lambda r: f"{r.samples_per_class or 'all'} images a class"
    )
    return {"history": history}


def _plan_pretraining(scale: str) -> Sequence[Cell]:
    subset = {"samples_per_class": 100, "epochs": 5}
    return [_cell(f"hwdb_{network}", network, "real-small", **subset) for network in _SUBSETS]


@register_experiment(plan=_plan_pretraining, scales=["hwdb100"])
def chen_pretraining(inputs: Inputs) -> Tables:
    """Chen et al. 2023, left open: both networks on other handwriting, for transfer to begin with.

    `chen_transfer` takes these runs at the same scale, on Chinese MNIST.
    """
    return {"ours": _ours(score_runs(inputs), inputs)}


def _plan_transfer(scale: str) -> Sequence[Cell]:
    staged = {"stages": (Stage(4, "backbone"), Stage(6, 100, 3e-4))}
    fresh = {"stages": (), "epochs": 10}
    at_70 = [(70, seed, kind) for seed in (1, 2, 3) for kind in ("hwdb", "fresh")]
    cells = []
    for network in _SUBSETS:
        size = _cell("", network, "real-small").settings
        shared = {"model": network, "validation_per_class": 20, **size}
        for subset, seed, kind in [*at_70, (70, 1, "staged"), (140, 1, "hwdb"), (210, 1, "hwdb")]:
            own = {"samples_per_class": subset, "seed": seed}
            settings = {**shared, **own, **(fresh if kind == "fresh" else staged)}
            begin = f"hwdb_{network}" if kind == "hwdb" else None
            cells.append(Cell(f"{network}_{subset}_{kind}_{seed}", "transfer", settings, begin))
    return cells


@register_experiment(plan=_plan_transfer, scales=["hwdb100"])
def chen_transfer(inputs: Inputs) -> Tables:
    """Chen et al. 2023: what pre-training brings, by network, subset and where it began.

    A row a run (`ours`); mean and standard deviation over seeds, and the gain over fresh weights
    with the same network, subset and seed (`gain`); pairs of one seed compared on the same
    samples (`pairs`, McNemar's exact test).
    """
    runs = score_runs(inputs)
    ours, (_, history) = _ours(runs, inputs), histories(inputs)
    tables = {"ours": ours, "gain": gain_over_fresh(ours), "history": history}
    of_seeds = [
        pairs_tables([run for run in runs if run.workdir.recipe.seed == seed])
        for seed in ours["seed"].unique()
    ]
    if pairs := [table for tables in of_seeds for table in tables.values()]:
        tables["pairs"] = pd.concat(pairs, ignore_index=True)
    return tables


def gain_over_fresh(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy over seeds by what runs began with, and the gain over those with fresh weights.

    From `ours` of `chen_transfer` makes a row a group: number of seeds, mean and standard
    deviation of the accuracy, and of its difference to the fresh, unstaged run of the same length
    and seed, where there's one.
    """
    same = ["network", "image_size", "samples_per_class", "epochs_asked"]
    kinds = [*same, "begins_with", "stages", "learning_rate"]
    rows = rows.assign(samples_per_class=rows["samples_per_class"].astype(str))
    check_distinct(rows, [*kinds, "seed"])
    fresh = rows[(rows["begins_with"] == "fresh weights") & (rows["stages"] == 1)]
    check_distinct(fresh, [*same, "seed"])
    fresh = fresh[[*same, "seed", "accuracy"]].rename(columns={"accuracy": "without"})
    rows = rows.merge(fresh, how="left", on=[*same, "seed"])
    rows["gain"] = rows["accuracy"] - rows["without"]
    groups = rows.groupby(kinds, sort=False)
    return (
        groups.agg(
            seeds=("seed", "count"),
            accuracy=("accuracy", "mean"),
            deviation=("accuracy", "std"),
            gain=("gain", "mean"),
            gain_deviation=("gain", "std"),
        )
        .round(3)
        .reset_index()
    )


def _ours(runs: Sequence[ScoredRun], inputs: Inputs) -> pd.DataFrame:
    return runs_table(runs, inputs, _columns).rename(columns={"run": "model"})


def _columns(run: ScoredRun) -> dict[str, Any]:
    recipe = run.workdir.recipe
    ended = {k: v for k, v in outcome(run.workdir).items() if k.startswith(("train_", "val_"))}
    rates = {"learning_rate": recipe.learning_rate, "batch_size": recipe.batch_size}
    return {**beginnings(run), **rates, **ended}
