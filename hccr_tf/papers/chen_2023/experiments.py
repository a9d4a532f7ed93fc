"""Chen, Xiao & Meng 2023: tables 1 and 2, figures 2 to 5, and what pre-training brings."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hccr_tf.evaluation.plots import curves_figure, draw_grid, overlay_figure, save_figure
from hccr_tf.evaluation.significance import compare_pairs
from hccr_tf.papers.base import Cell, register_experiment
from hccr_tf.papers.tables import (
    Inputs,
    ScoredRun,
    beginnings,
    check_distinct,
    evaluate,
    histories,
    outcome,
    paper_table,
    run_row,
    score_runs,
    together,
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
    networks = list(_SUBSETS)[:1] if scale == "smoke" else list(_SUBSETS)
    cells = []
    for network in networks:
        for number in _SUBSETS[network][: 1 if scale == "smoke" else 3]:
            held_out = 70 if network == "efficientnet_v2s" else number // 4
            cells.append(
                _cell(
                    f"{network}_{number}",
                    network,
                    scale,
                    samples_per_class=number,
                    validation_per_class=held_out,
                )
            )
    return cells


def _plan_table2(scale: str) -> Sequence[Cell]:
    rates: Sequence[float] = (1e-4, 2e-4, 1e-3)
    sizes: Sequence[int] = (10, 20, 40)
    if scale == "smoke":
        rates, sizes = rates[-1:], sizes[-2:]
    short = {"epochs": 6, "schedule": "constant", "warmup_steps": 0} if scale != "full" else {}
    return [
        _cell(
            f"inception_v3_gru_rate{rate:g}_batch{size}",
            "inception_v3_gru",
            scale,
            samples_per_class=40,
            validation_per_class=10,
            learning_rate=rate,
            batch_size=size,
            **(short if scale == "real-small" else {}),
        )
        for rate in rates
        for size in sizes
    ]


@register_experiment(plan=_plan_table1)
def chen_table1(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Chen et al. 2023, table 1: both networks on subsets of several sizes.

    Losses and accuracies of the best epoch, training and validation as shares of 1; `accuracy`
    is in percent on the split that was asked for, which the paper doesn't have.
    """
    runs = score_runs(inputs)
    table = paper_table(_PAPER, "table 1").reset_index(names="subset")
    text = paper_table(_PAPER, "section 4.1").reset_index(names="subset")
    table.insert(0, "network", "InceptionV3 + GRU")
    text.insert(0, "network", "EfficientNetV2-S")
    shares = text["validation accuracy"].astype(float) / 100
    text["validation accuracy"] = shares.map("{:.4f}".format)
    paper = pd.concat([table, text], ignore_index=True)
    return {"ours": pd.DataFrame([_row(run, inputs) for run in runs]), "paper": paper}


@register_experiment(plan=_plan_table2)
def chen_table2(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Chen et al. 2023, table 2: learning rate against batch size, on one device or several.

    Takes the runs of `hccr sweep chen_inception_v3_gru --learning-rate 1e-4 2e-4 1e-3
    --batch-size 10 20 40`. Several GPUs share a batch wherever TensorFlow finds them; `GPUs` says
    how many there were, 0 for none. Draws the grid.
    """
    rows = []
    for run in score_runs(inputs):
        row = _row(run, inputs)
        devices = run.workdir.read_environment()["devices"]
        gpus = sum(device.startswith(("gpu", "cuda")) for device in devices)
        row = {"model": row.pop("model"), "GPUs": gpus, **row}
        rows.append(row)
    ours = pd.DataFrame(rows)
    draw_grid(
        ours,
        ["learning_rate", "batch_size", "GPUs", "samples_per_class", "image_size", "seed"],
        "val_accuracy",
        inputs.out / "chen_table2.png",
    )
    return {"ours": ours, "paper": paper_table(_PAPER, "table 2").reset_index(names="model")}


@register_experiment(
    plan=lambda s: [c for c in _plan_table1(s) if s == "smoke" or c.name.startswith("inception")]
)
def chen_figures2to4(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Chen et al. 2023, figures 2 to 4: accuracy and loss of training, a row of curves a run.

    The paper's are of the small, median and large subset.
    """
    curves = histories(inputs)
    save_figure(curves_figure(curves), inputs.out / "chen_figures2to4.png")
    return {"history": together(curves)}


@register_experiment(
    plan=lambda s: [c for c in _plan_table1(s) if c.name.startswith("efficientnet")]
)
def chen_figure5(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Chen et al. 2023, figure 5: validation loss and accuracy of runs over each other.

    The paper's are of EfficientNetV2-S on 70, 140 and 210 images a class.
    """
    curves = histories(inputs)
    save_figure(overlay_figure(curves, "epoch"), inputs.out / "chen_figure5.png")
    return {"history": together(curves)}


def _plan_pretraining(scale: str) -> Sequence[Cell]:
    subset = {"samples_per_class": 100, "epochs": 5}
    return [_cell(f"hwdb_{network}", network, "real-small", **subset) for network in _SUBSETS]


@register_experiment(plan=_plan_pretraining, scales=["hwdb100"])
def chen_pretraining(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Chen et al. 2023, left open: both networks on other handwriting, for transfer to begin with.

    `chen_transfer` takes these runs at the same scale, on Chinese MNIST.
    """
    return {"ours": pd.DataFrame([_row(run, inputs) for run in score_runs(inputs)])}


def _plan_transfer(scale: str) -> Sequence[Cell]:
    staged = {"stages": (Stage(4, "backbone"), Stage(6, 100, 3e-4))}
    fresh = {"stages": (), "epochs": 10}
    cells = []

    def add(network: str, subset: int, seed: int, kind: str) -> None:
        size = _cell("", network, "real-small").settings
        shared = {"model": network, "samples_per_class": subset, "validation_per_class": 20}
        settings = {**shared, **size, "seed": seed, **(fresh if kind == "fresh" else staged)}
        begin = f"hwdb_{network}" if kind == "hwdb" else None
        cells.append(Cell(f"{network}_{subset}_{kind}_{seed}", "transfer", settings, begin))

    for network in _SUBSETS:
        for seed in (1, 2, 3):
            add(network, 70, seed, "hwdb")
            add(network, 70, seed, "fresh")
        add(network, 70, 1, "staged")
        for subset in (140, 210):
            add(network, subset, 1, "hwdb")
    return cells


@register_experiment(plan=_plan_transfer, scales=["hwdb100"])
def chen_transfer(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Chen et al. 2023: what pre-training brings, by network, subset and where it began.

    A row a run (`ours`); mean and standard deviation over seeds, and the gain over fresh weights
    with the same network, subset and seed (`gain`); pairs of one seed compared on the same
    samples (`pairs`, McNemar's exact test).
    """
    runs = score_runs(inputs)
    pairs = []
    for seed in dict.fromkeys(run.workdir.recipe.seed for run in runs):
        of_seed = {r.name: evaluate([r]).right for r in runs if r.workdir.recipe.seed == seed}
        if len(of_seed) > 1:
            pairs.append(compare_pairs(of_seed))
    ours = pd.DataFrame([_row(run, inputs) for run in runs])
    tables = {"ours": ours, "gain": gain_over_fresh(ours), "history": together(histories(inputs))}
    return {**tables, "pairs": pd.concat(pairs, ignore_index=True)} if pairs else tables


def gain_over_fresh(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy over seeds by what runs began with, and the gain over those with fresh weights.

    Args:
        rows: columns `network`, `image_size`, `samples_per_class`, `epochs_asked`,
            `begins_with`, `stages`, `learning_rate`, `seed`, `accuracy`.

    Returns:
        A row a group: number of seeds, mean and standard deviation of the accuracy, and of its
        difference to the fresh, unstaged run of the same length and seed, where there's one.

    Raises:
        HccrError: two runs differ in nothing, not even the seed.
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


def _row(run: ScoredRun, inputs: Inputs) -> dict[str, Any]:
    recipe = run.workdir.recipe
    ended = {k: v for k, v in outcome(run.workdir).items() if k.startswith(("train_", "val_"))}
    rates = {"learning_rate": recipe.learning_rate, "batch_size": recipe.batch_size}
    row = run_row(run, inputs, evaluate([run]).right, **beginnings(run), **rates, **ended)
    return {"model": row.pop("run"), **row}
