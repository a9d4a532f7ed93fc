"""Kriuk & Kriuk 2024: tables 1 and 2, figures 4 to 9, and what the paper leaves open."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hccr_tf.evaluation.plots import draw_intervals
from hccr_tf.evaluation.significance import paired
from hccr_tf.images.contact_sheet import draw_sheet
from hccr_tf.inference.fusion import PAPER_WEIGHTS, search_weights
from hccr_tf.papers.base import SCALES, Cell, register_experiment
from hccr_tf.papers.figures import figure_labels, input_label, save_curves
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.papers.scores import Fusion, Inputs, predict_once, score_fusions, score_runs
from hccr_tf.papers.tables import Tables, histories, pairs_tables, paper_table, runs_table
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError

_PAPER = "kriuk_2024"
_INPUTS = ("model1", "model2", "model3")

# Settings that all runs of a scale share. "full" is the recipe as it is. Of "real-small" all runs
# but figure 9's have the same number of steps; the first auxiliary head, which holds most of the
# parameters, is a cell of its own.
_SIZE: dict[str, Any] = {"image_size": 64, "model.num_bricks": 4, "mixed_precision": "bfloat16"}
_TWO_HEADS = {"model.aux_heads": [2, 3]}
_SHORT = {"samples_per_class": 100, "batch_size": 32, "epochs": 15, "patience": 15}
_TINY = {"image_size": 32, "epochs": 2, "batch_size": 32}
_SCALES: dict[str, dict[str, Any]] = {
    "full": {},
    "hwdb100": _SIZE,
    "real-small": {**_SIZE, "model.width": 16, **_TWO_HEADS, **_SHORT},
    "smoke": {**_TINY, "model.num_bricks": 3, "model.width": 16},
}
# A second cycle of ours from a run's weights. The first auxiliary head, which stays at chance and
# holds three quarters of the parameters, is left out: a step takes half the time.
_SECOND = {**_TWO_HEADS, "learning_rate": 5e-4, "epochs": 6}
_AT_256 = {**_TWO_HEADS, "blur_size": 256, "learning_rate": 3e-4, "epochs": 4}
# The paper's settings; more patience, as an epoch here has 181 steps and there 23,000.
_PATIENT = {"patience": 10, "epochs": 10}
_BINARY = {"patience": 10, "epochs": 6, "loss": "binary_focal"}
_HWDB100 = [
    Cell("brick_model1", "brick_model1", _SIZE),
    Cell("brick_model3", "brick_model3", _SIZE),
    Cell("brick_model1_long", "brick_model1", {**_SIZE, **_SECOND}, "brick_model1"),
    # From model 1's first cycle, for want of time: not independent of it.
    Cell("brick_model2_long", "brick_model2", {**_SIZE, **_TWO_HEADS, "epochs": 8}, "brick_model1"),
    Cell("brick_model3_long", "brick_model3", {**_SIZE, **_SECOND}, "brick_model3"),
    # The blur the paper's network sees at 256, made smaller with the image.
    Cell("brick_model3_blur_at_256", "brick_model3", {**_SIZE, **_AT_256}, "brick_model1_long"),
    *(Cell(f"kriuk_{model}", f"kriuk_{model}", {**_SIZE, **_PATIENT}) for model in _INPUTS),
    Cell("kriuk_model1_binary", "kriuk_model1", {**_SIZE, **_BINARY}),
]


def _brick(name: str, scale: str, /, model: Any = "model1", **settings: Any) -> Cell:
    """A run of the brick network; the paper's recipe at full scale, ours below."""
    recipe = f"{'kriuk' if scale == 'full' else 'brick'}_{model}"
    return Cell(name, recipe, {**_SCALES[scale], **settings})


# === Tables 1 and 2 ===


def _plan_table1(scale: str) -> Sequence[Cell]:
    if scale == "hwdb100":
        # The first two are there for the others to begin with.
        return [replace(cell, shown=False) for cell in _HWDB100[:2]] + _HWDB100[2:5]
    return [_brick(model, scale, model) for model in _INPUTS]


@register_experiment(plan=_plan_table1, scales=SCALES)
def kriuk_table1(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, table 1: the fused accuracy beside eight published methods'.

    Five crops, logits fused 0.3 / 0.2 / 0.5 where there are three runs, equally otherwise.
    """
    files = _logits(inputs, "five_crops")
    (score,) = score_fusions([Fusion(files, _weights(range(len(files)), len(files)))])
    row = {
        "model": "this package, fused" if len(files) > 1 else "this package",
        **score.columns(),
        "test_set": inputs.test_set(),
        "data_hash": inputs.store.data_hash[:16],
    }
    paper = paper_table(_PAPER, "table 1").reset_index(names="model")
    return {"ours": pd.DataFrame([row]), "paper": paper}


def _logits(inputs: Inputs, tta: str, validation: bool = False) -> list[Path]:
    """Predicts the split, or that of validation, in some test-time augmentation: a file a run."""
    store, split = inputs.store, inputs.split
    if validation:
        store, split = inputs.validation_store, "validation"
    files = []
    for name, run in inputs.named_runs().items():
        files.append(inputs.out / "logits" / f"{name}-{split}-{tta}.h5")
        predict_once(run, store, files[-1], split, tta)
    return files


def _weights(group: Sequence[int], num_models: int) -> list[float]:
    """The paper's weights of some of three models, made to sum to 1; else equal ones."""
    weights = [PAPER_WEIGHTS[i] if num_models == len(PAPER_WEIGHTS) else 1 for i in group]
    return [weight / sum(weights) for weight in weights]


def _plan_table2(scale: str) -> Sequence[Cell]:
    length = {"epochs": 50, "patience": 50} if scale == "full" else {}
    shared = {k: v for k, v in _SCALES[scale].items() if not k.startswith("model.")}
    recipe = "kriuk_model1" if scale == "full" else "brick_model1"
    # At the small scale about as many multiplications as model 1.
    sizes: dict[str, dict[str, dict[str, Any]]] = {
        "alexnet": {
            "real-small": {"model.width": 48, "model.units": 1024},
            "smoke": {"model.units": 64},
        },
        "improved_googlenet": {"real-small": {"model.width": 32}, "smoke": {"model.width": 16}},
    }
    cells = []
    for net, size in sizes.items():
        own = {"loss": "cross_entropy", "model": net, **size.get(scale, {})}
        cells.append(Cell(f"table2_{net}", recipe, {**shared, **length, **own}))
    # At the other scales the same as table 1's.
    name = "table2_brick_net" if length else "model1"
    return [*cells, _brick(name, scale, **length)]


@register_experiment(plan=_plan_table2)
def kriuk_table2(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, table 2: accuracy as training goes on, beside AlexNet and GoogLeNet.

    Validation accuracy in percent every five epochs, or every epoch of shorter runs (`ours`);
    accuracy of the best epoch on the split (`final`), and pairs on the same samples. The paper's
    own network there is one of its three; model 1 (raw images) here.
    """
    curves, history = histories(inputs)
    accuracy = history.pivot(index="epoch", columns="run", values="val_main_output_accuracy")
    ours = (100 * accuracy[list(curves)]).round(2).rename_axis(columns=None)
    step = 5 if ours.index.max() > 10 else 1
    ours = ours[ours.index % step == 0].reset_index()
    save_curves(inputs, curves, "kriuk_table2", lambda recipe: recipe.model)
    paper = paper_table(_PAPER, "table 2").reset_index(names="epoch")
    scored = _scored(inputs)
    return {"ours": ours, "paper": paper, "history": history, "final": scored.pop("ours"), **scored}


# === Figures 4 to 7: the inputs, the ensemble ===


@register_experiment(plan=lambda scale: ())
def kriuk_figures4to6(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, figures 4 to 6: images raw, with 3×3 and with 7×7 blur.

    As the three models of the paper get them, at 256×256 pixels; a row for each of three samples.
    """
    store = inputs.store
    indices = store.indices(inputs.split)
    chosen = indices[np.linspace(0, len(indices) - 1, 3).astype(int)]
    images = store.images(chosen)
    preparations = [get_recipe(f"kriuk_{model}").preprocessing for model in _INPUTS]
    prepared = [[p.apply(np.array(image)) for image in images] for p in preparations]
    characters = map(store.charset.char, store.class_indices(chosen).tolist())
    titles = ("as stored", "model 1", "model 2", "model 3")
    shown = [image for row in zip(images, *prepared, strict=True) for image in row]
    texts = [f"{character}: {title}" for character in characters for title in titles]
    draw_sheet(shown, texts, inputs.out / "kriuk_figures4to6.png", columns=4, tile=176)
    table = {
        "model": _INPUTS,
        "blur_kernel": [p.blur_kernel for p in preparations],
        "blur_sigma": [p.blur_sigma for p in preparations],
        "mean_grey": [round(float(np.mean(column)), 2) for column in prepared],
    }
    return {"inputs": pd.DataFrame(table)}


@register_experiment(plan=_plan_table1, scales=SCALES)
def kriuk_figure7(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, figure 7: every model, every pair and all three, fused in every way.

    At the paper's weights, at equal ones and at those found on the validation split; logits or
    probabilities; five crops, the centre crop or the whole image. `members` says by an exact
    test whether the fusion differs from each of its members. Takes any runs of one charset.
    """
    names, five, whole = (
        list(inputs.named_runs()),
        _logits(inputs, "five_crops"),
        _logits(inputs, "none"),
    )
    validation = _logits(inputs, "five_crops", validation=True) if len(names) > 1 else []
    sizes = sorted({size for size in (1, 2, 3, len(names)) if size <= len(names)})
    rows, fusions = [], []
    for group in (group for size in sizes for group in combinations(range(len(names)), size)):
        alone = len(group) == 1
        weights = {"" if alone else "given": _weights(group, len(names))}
        if not alone:
            weights["equal"] = [1 / len(group)] * len(group)
            weights["found on validation"] = search_weights([validation[i] for i in group])[0]
        for (way, values), crops, fused in product(
            weights.items(),
            ("five", "centre", "whole"),
            ("",) if alone else ("logits", "probabilities"),
        ):
            files = [(whole if crops == "whole" else five)[i] for i in group]
            dataset = "logits_center" if crops == "centre" else "logits"
            fusions.append(Fusion(files, values, dataset, fused == "probabilities"))
            models = " + ".join(names[i] for i in group)
            shown = " ".join(f"{w:.2f}" for w in values)
            rows.append(
                {"models": models, "weights": way, "values": shown, "crops": crops, "fused": fused}
            )
    scores = score_fusions(fusions)
    table = pd.DataFrame(rows).join(pd.DataFrame([score.columns() for score in scores]))
    paper_way = table["weights"].isin(["", "given"]) & table["fused"].isin(["", "logits"])
    bars = table[(table["crops"] == "five") & paper_way]
    labels = figure_labels(inputs, input_label)
    drawn = [" + ".join(labels[n] for n in names.split(" + ")) for names in bars["models"]]
    title = f"Five crops, logits fused; {inputs.test_set()}"
    draw_intervals(bars.assign(models=drawn), "models", inputs.out / "kriuk_figure7.png", title)
    if len(names) == 1:
        return {"ours": table}
    # The first rows of the figure are the members alone, the last one all of them together.
    all_together = scores[bars.index[-1]].right
    members = [
        {"member": table["models"][i], **paired(scores[i].right, all_together)}
        for i in bars.index[: len(names)]
    ]
    return {"ours": table, "members": pd.DataFrame(members)}


# === Figures 8 and 9: sweeps ===


def _plan_figure8(scale: str) -> Sequence[Cell]:
    wanted = [("model1", gamma) for gamma in (0.0, 1.0, 2.0, 4.0, 6.0)]
    if scale == "smoke":
        wanted = wanted[-2:]
    else:
        wanted += [(model, gamma) for model in _INPUTS[1:] for gamma in (0.0, 4.0)]
    # γ is 4 in the recipes: these runs are table 1's.
    return [
        _brick(model, scale, model)
        if gamma == 4
        else _brick(f"{model}_gamma{gamma:g}", scale, model, **{"loss.gamma": gamma})
        for model, gamma in wanted
    ]


@register_experiment(plan=_plan_figure8)
def kriuk_figure8(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, figure 8: the focal loss's γ; the paper's has no numbers."""
    return _compared(
        inputs,
        "kriuk_figure8",
        "gamma",
        lambda recipe: recipe.loss_args["gamma"],
        lambda recipe: f"{input_label(recipe)}, γ {recipe.loss_args['gamma']:g}",
    )


def _plan_figure9(scale: str) -> Sequence[Cell]:
    # Two bricks have no second head, so at the small scale none has any.
    scales: dict[str, dict[str, Any]] = {
        "full": {"epochs": 30, "patience": 30},
        "real-small": {"image_size": 96, "model.aux_heads": [], "epochs": 10, "patience": 10},
        "smoke": {},
    }
    return [
        _brick(f"bricks{n}", scale, **scales[scale], **{"model.num_bricks": n})
        for n in ((2, 3) if scale == "smoke" else (2, 3, 4, 5))
    ]


@register_experiment(plan=_plan_figure9)
def kriuk_figure9(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, figure 9: networks of two to five bricks; the paper's has no numbers."""
    return _compared(
        inputs,
        "kriuk_figure9",
        "bricks",
        lambda recipe: recipe.model_args["num_bricks"],
        lambda recipe: f"{recipe.model_args['num_bricks']} bricks",
    )


# === What the paper leaves open ===


def _plan_open(scale: str) -> Sequence[Cell]:
    if scale == "hwdb100":
        return _HWDB100
    cells = [
        _brick("model1", scale),  # categorical focal
        _brick("cross_entropy", scale, loss="cross_entropy"),
        _brick("binary_focal", scale, loss="binary_focal"),
        _brick("without_aux_heads", scale, **{"model.aux_heads": []}),
    ]
    if scale == "real-small":
        cells.append(_brick("every_aux_head", scale, **{"model.aux_heads": [1, 2, 3]}))
    return cells[:2] if scale == "smoke" else cells


@register_experiment(plan=_plan_open, scales=SCALES)
def kriuk_losses_and_heads(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, left open: which loss, and whether auxiliary heads help.

    Categorical focal loss (the paper's equation), cross-entropy, binary focal loss (the released
    code's), and no auxiliary heads.
    """
    return _compared(
        inputs, "kriuk_losses_and_heads", "loss", lambda recipe: recipe.loss, _loss_and_heads
    )


def _loss_and_heads(recipe: Recipe) -> str:
    heads = recipe.model_args.get("aux_heads")
    words = "all heads" if heads is None else f"heads {' and '.join(map(str, heads))}"
    return f"{recipe.loss.replace('_', ' ')}, {words if heads or heads is None else 'no heads'}"


@register_experiment(
    plan=lambda scale: _HWDB100[:6] if scale == "hwdb100" else _plan_table1(scale), scales=SCALES
)
def kriuk_blur(inputs: Inputs) -> Tables:
    """Kriuk & Kriuk 2024, left open: blur at prediction as in training, or none, by input.

    The released predictors leave it out.
    """
    rows = []
    for name, path in inputs.named_runs().items():
        files = [inputs.out / "logits" / f"{name}-{way}.h5" for way in ("blur", "plain")]
        for file, blur in zip(files, (True, False), strict=True):
            predict_once(path, inputs.store, file, inputs.split, "none", blur=blur)
        blurred, plain = score_fusions([Fusion([file]) for file in files])
        rows.append(
            {
                "run": name,
                "blur_kernel": Workdir(path).preprocessing.blur_kernel,
                "with_blur": round(blurred.accuracy, 3),
                "without": round(plain.accuracy, 3),
                **paired(blurred.right, plain.right),
            }
        )
    return {"ours": pd.DataFrame(rows)}


def _compared(
    inputs: Inputs,
    name: str,
    column: str,
    value: Callable[[Recipe], object],
    describe: Callable[[Recipe], str],
) -> Tables:
    """Compares runs by a setting: accuracies and curves, every pair by McNemar's exact test.

    In the figures runs are called as `describe` says, if that tells them apart.
    """
    values = {}
    for run, path in inputs.named_runs().items():
        try:
            values[run] = value(Workdir(path).recipe)
        except KeyError:
            raise HccrError(
                f"{path} has no {column}: this compares brick networks that differ in it."
            ) from None
    curves, history = histories(inputs)
    tables = _scored(inputs)
    tables["ours"].insert(1, column, tables["ours"]["run"].map(values))
    labels = figure_labels(inputs, describe)
    bars = tables["ours"].assign(run=tables["ours"]["run"].map(labels))
    draw_intervals(bars, "run", inputs.out / f"{name}.png", inputs.test_set())
    save_curves(inputs, curves, f"{name}_curves", describe)
    return {**tables, "history": history}


def _scored(inputs: Inputs) -> Tables:
    """Runs with input, cost and accuracy (`ours`), and every pair of them (`pairs`)."""
    runs = score_runs(inputs)
    ours = runs_table(
        runs, inputs, lambda run: {"input": run.workdir.recipe.name.rpartition("_")[2]}
    )
    return {"ours": ours, **pairs_tables(runs)}
