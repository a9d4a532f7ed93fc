"""Kriuk & Kriuk 2024: tables 1 and 2, figures 4 to 9, and what the paper leaves open."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from hccr_tf.evaluation.plots import draw_bars, draw_validation, images_figure, save_figure
from hccr_tf.inference.logits_file import LogitsFile
from hccr_tf.papers.base import Inputs, register_experiment
from hccr_tf.papers.kriuk_2024.ensembles import Ensemble, Fusion
from hccr_tf.papers.paper_results import paper_table
from hccr_tf.papers.plans import Cell
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.papers.tables import (
    accuracy_columns,
    compare_pairs,
    evaluate,
    histories,
    paired,
    percent_right,
    predict_once,
    provenance,
    score_runs,
    test_set,
    together,
    with_interval,
)
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import distinct_names

_PAPER = "kriuk-2024"
GAMMAS = (0.0, 1.0, 2.0, 4.0, 6.0)  # figure 8
BRICKS = (2, 3, 4, 5)  # figure 9
_INPUTS = ("model1", "model2", "model3")

# What all runs of a scale share. "full" is the recipe as it is. Of "real-small" all runs but
# figure 9's have the same number of steps; the first auxiliary head, which holds most of the
# parameters, is a cell of its own.
_SCALES: Mapping[str, Mapping[str, object]] = {
    "full": {},
    "real-small": {
        "image_size": 64,
        "model.num_bricks": 4,
        "model.width": 16,
        "model.aux_heads": [2, 3],
        "samples_per_class": 100,
        "batch_size": 32,
        "epochs": 15,
        "patience": 15,
        "mixed_precision": "bfloat16",
    },
    "smoke": {
        "image_size": 32,
        "model.num_bricks": 3,
        "model.width": 16,
        "epochs": 2,
        "batch_size": 32,
    },
}


def _brick(name: str, scale: str, model: str = "model1", **settings) -> Cell:
    """A run of the brick network; the paper's recipe at full scale, ours below."""
    recipe = f"{'kriuk' if scale == 'full' else 'brick'}_{model}"
    return Cell(name, recipe, {**_SCALES[scale], **settings})


# === Tables 1 and 2 ===


def _plan_table1(scale: str) -> Sequence[Cell]:
    return [_brick(model, scale, model) for model in _INPUTS]


@register_experiment(plan=_plan_table1)
def kriuk_table1(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, table 1: the fused accuracy beside eight published methods'.

    Five crops, logits fused 0.3 / 0.2 / 0.5 where there are three runs, equally otherwise.
    """
    ensemble = Ensemble(inputs)
    everyone = tuple(range(len(ensemble.names)))
    (right,) = ensemble.right([Fusion(everyone, ensemble.given(everyone))])
    row = {
        "model": "this package, fused" if len(everyone) > 1 else "this package",
        **accuracy_columns(right),
        "test_set": test_set(inputs),
        "data_hash": inputs.store.data_hash[:16],
    }
    paper = paper_table(_PAPER, "table 1").reset_index(names="model")
    return {"ours": pd.DataFrame([row]), "paper": paper}


def _plan_table2(scale: str) -> Sequence[Cell]:
    length = {"epochs": 50, "patience": 50} if scale == "full" else {}
    shared = {k: v for k, v in {**_SCALES[scale], **length}.items() if not k.startswith("model.")}
    recipe = "kriuk_model1" if scale == "full" else "brick_model1"
    # At the small scale about as many multiplications as model 1.
    alexnet, googlenet = {
        "full": ({}, {}),
        "real-small": ({"model.width": 48, "model.units": 1024}, {"model.width": 32}),
        "smoke": ({"model.units": 64}, {"model.width": 16}),
    }[scale]
    shared["loss"] = "cross_entropy"
    return [
        Cell("table2_alexnet", recipe, {**shared, "model": "alexnet", **alexnet}),
        Cell(
            "table2_improved_googlenet",
            recipe,
            {**shared, "model": "improved_googlenet", **googlenet},
        ),
        # At the other scales the same as table 1's.
        _brick("table2_brick_net", scale, **length) if length else _brick("model1", scale),
    ]


@register_experiment(plan=_plan_table2)
def kriuk_table2(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, table 2: accuracy as training goes on, beside AlexNet and GoogLeNet.

    Validation accuracy in percent every five epochs, or every epoch of shorter runs (`ours`);
    accuracy of the best epoch on the split (`final`), and pairs on the same samples. The paper's
    own network there is one of its three; model 1 (raw images) here.
    """
    runs = score_runs(inputs)
    columns = {}
    for name, history in histories(runs).items():
        values = 100 * history["val_main_output_accuracy"]
        columns[name] = dict(zip(history["epoch"], values.round(2), strict=True))
    epochs = sorted({epoch for column in columns.values() for epoch in column})
    step = 5 if epochs[-1] > 10 else 1
    shown = [epoch for epoch in epochs if epoch % step == 0]
    ours = pd.DataFrame(
        {"epoch": shown, **{n: [c.get(e) for e in shown] for n, c in columns.items()}}
    )
    draw_validation(histories(runs), inputs.out / "kriuk_table2.png")
    paper = paper_table(_PAPER, "table 2").reset_index(names="epoch")
    return {"ours": ours, "paper": paper, **_compared(inputs, runs)}


# === Figures 4 to 7: the inputs, the ensemble ===


@register_experiment(plan=lambda scale: ())
def kriuk_figures4to6(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, figures 4 to 6: images raw, with 3×3 and with 7×7 blur.

    As the three models of the paper get them, at 256×256 pixels; a row for each of three samples.
    """
    store, split = inputs.store, inputs.split
    indices = store.indices(split)
    chosen = indices[np.linspace(0, len(indices) - 1, 3).astype(int)]
    preparations = [get_recipe(f"kriuk_{model}").preprocessing for model in _INPUTS]
    rows = [
        [image, *(p.apply(np.array(image)) for p in preparations)] for image in store.images(chosen)
    ]
    texts = [store.charset.char(int(store.labels[i])) for i in chosen]
    titles = ["as stored", "model 1", "model 2", "model 3"]
    figure = images_figure(rows, texts, titles, size=1.6)
    save_figure(figure, inputs.out / "kriuk_figures4to6.png")
    table = [
        {
            "model": name,
            "blur_kernel": p.blur_kernel,
            "blur_sigma": p.blur_sigma,
            "mean_grey": round(float(np.mean([row[i + 1] for row in rows])), 2),
        }
        for i, (name, p) in enumerate(zip(_INPUTS, preparations, strict=True))
    ]
    return {"inputs": pd.DataFrame(table)}


@register_experiment(plan=_plan_table1)
def kriuk_figure7(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, figure 7: every model, every pair and all three, fused in every way.

    At the paper's weights, at equal ones and at those found on the validation split; logits or
    probabilities; five crops, the centre crop or the whole image. `members` says by an exact
    test whether the fusion differs from each of its members. Takes any runs of one charset.
    """
    ensemble = Ensemble(inputs)
    places = range(len(ensemble.names))
    sizes = sorted({1, min(2, len(places)), min(3, len(places)), len(places)})
    groups = [group for size in sizes for group in combinations(places, size)]
    fusions, ways = [], []
    for group in groups:
        weights = {"given": ensemble.given(group)}
        if len(group) > 1:
            weights["equal"] = (1 / len(group),) * len(group)
            weights["found on validation"] = ensemble.found(group)
        for way, values in weights.items():
            for crops in ("five", "centre", "whole"):
                for fused in ("logits", "probabilities") if len(group) > 1 else ("logits",):
                    fusions.append(Fusion(group, values, crops, fused))
                    ways.append(way)
    rights = ensemble.right(fusions)
    rows = [
        {
            "models": " + ".join(ensemble.names[i] for i in fusion.models),
            "weights": way if len(fusion.models) > 1 else "",
            "values": " ".join(f"{w:.2f}" for w in fusion.weights),
            "crops": fusion.crops,
            "fused": fusion.fused if len(fusion.models) > 1 else "",
            **accuracy_columns(right),
        }
        for fusion, way, right in zip(fusions, ways, rights, strict=True)
    ]
    table = pd.DataFrame(rows)
    shown = table[
        (table["crops"] == "five")
        & table["weights"].isin(["", "given"])
        & table["fused"].isin(["", "logits"])
    ]
    draw_bars(shown, "models", inputs.out / "kriuk_figure7.png", "five crops, logits fused")
    tables = {"ours": table}
    if len(ensemble.names) > 1:
        found = dict(zip(fusions, rights, strict=True))
        everyone = tuple(places)
        fused = found[Fusion(everyone, ensemble.given(everyone))]
        tables["members"] = pd.DataFrame(
            [
                {"member": name, **paired(found[Fusion((i,), ensemble.given((i,)))], fused)}
                for i, name in enumerate(ensemble.names)
            ]
        )
    return tables


# === Figures 8 and 9: sweeps ===


def _plan_figure8(scale: str) -> Sequence[Cell]:
    wanted = [("model1", gamma) for gamma in GAMMAS]
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
def kriuk_figure8(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, figure 8: the focal loss's γ.

    Accuracy by γ and input, every pair compared on the same samples (McNemar's exact test), and
    the curves. The paper's figure has no numbers.
    """
    values = _settings(inputs, "γ", lambda recipe: recipe.loss_args["gamma"])
    runs = score_runs(inputs)
    tables = _compared(inputs, runs, "gamma", values)
    _draw(inputs, runs, tables, "kriuk_figure8")
    return tables


def _plan_figure9(scale: str) -> Sequence[Cell]:
    # Two bricks have no second head, so at the small scale none has any.
    size = {"image_size": 96, "model.aux_heads": [], "epochs": 10, "patience": 10}
    settings = {"full": {"epochs": 30, "patience": 30}, "real-small": size}.get(scale, {})
    bricks = BRICKS[:2] if scale == "smoke" else BRICKS
    return [_brick(f"bricks{n}", scale, **{**settings, "model.num_bricks": n}) for n in bricks]


@register_experiment(plan=_plan_figure9)
def kriuk_figure9(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, figure 9: networks of two to five bricks.

    Accuracy by number of bricks with cost, every pair compared on the same samples (McNemar's
    exact test), and the curves. The paper's figure has no numbers.
    """
    values = _settings(inputs, "number of bricks", lambda r: r.model_args["num_bricks"])
    runs = score_runs(inputs)
    tables = _compared(inputs, runs, "bricks", values)
    _draw(inputs, runs, tables, "kriuk_figure9")
    return tables


# === What the paper leaves open ===


def _plan_open(scale: str) -> Sequence[Cell]:
    cells = [
        _brick("model1", scale),  # categorical focal
        _brick("cross_entropy", scale, loss="cross_entropy"),
        _brick("binary_focal", scale, loss="binary_focal"),
        _brick("without_aux_heads", scale, **{"model.aux_heads": []}),
    ]
    if scale == "real-small":
        cells.append(_brick("every_aux_head", scale, **{"model.aux_heads": [1, 2, 3]}))
    return cells[:2] if scale == "smoke" else cells


@register_experiment(plan=_plan_open)
def kriuk_losses_and_heads(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, left open: which loss, and whether auxiliary heads help.

    Categorical focal loss (the paper's equation), cross-entropy, binary focal loss (the released
    code's), and no auxiliary heads; pairs compared on the same samples.
    """
    values = _settings(inputs, "loss", lambda recipe: recipe.loss)
    runs = score_runs(inputs)
    tables = _compared(inputs, runs, "loss", values)
    _draw(inputs, runs, tables, "kriuk_losses_and_heads")
    return tables


@register_experiment(plan=_plan_table1)
def kriuk_blur(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Kriuk & Kriuk 2024, left open: blur at prediction as in training, or none, by input.

    The released predictors leave it out.
    """
    if not inputs.runs:
        raise HccrError("Name the trained runs: --workdir RUN…")
    rows = []
    for name, path in zip(distinct_names(inputs.runs), inputs.runs, strict=True):
        right = {}
        for blur in (True, False):
            out = inputs.out / "logits" / f"{name}-{'blur' if blur else 'plain'}.h5"
            predict_once(path, inputs.store, out, inputs.split, "none", blur=blur)
            right[blur] = _right(out)
        kernel = Workdir(path).preprocessing.blur_kernel
        rows.append(
            {
                "run": name,
                "blur_kernel": kernel,
                "with_blur": percent_right(right[True]),
                "without": percent_right(right[False]),
                **paired(right[True], right[False]),
            }
        )
    return {"ours": pd.DataFrame(rows)}


# === What they share ===


def _right(path: Path) -> np.ndarray:
    file = LogitsFile(path)
    try:
        return np.concatenate(
            [file.logits(rows).argmax(axis=1) == file.labels(rows) for rows in file.chunks()]
        )
    finally:
        file.close()


def _settings(inputs: Inputs, what: str, value: Callable[[Recipe], object]) -> list[object]:
    """What runs differ in, a value each; asked for before anything is predicted."""
    values = []
    for path in inputs.runs:
        try:
            values.append(value(Workdir(path).recipe))
        except KeyError:
            raise HccrError(
                f"{path} has no {what}: this compares brick networks that differ in it."
            ) from None
    return values


def _compared(
    inputs: Inputs, runs, name: str = "", values: Sequence[object] = ()
) -> dict[str, pd.DataFrame]:
    """Runs, with the setting `name` that they may differ in, and every pair of them."""
    rows, right = [], {}
    for place, run in enumerate(runs):
        score = evaluate([run])
        right[run.name] = score.right
        recipe = run.workdir.recipe
        own = {name: values[place]} if name else {}
        rows.append(
            {
                "run": run.name,
                **own,
                "input": recipe.name.rpartition("_")[2],
                "image_size": recipe.preprocessing.image_size,
                "parameters": run.parameters,
                "gmac": round(run.macs / 1e9, 4),
                **with_interval(score.evaluation),
                "test_set": test_set(inputs),
                **provenance(run, inputs),
            }
        )
    tables = {"ours" if name else "final": pd.DataFrame(rows), "history": together(histories(runs))}
    return {**tables, "pairs": compare_pairs(right)} if len(runs) > 1 else tables


def _draw(inputs: Inputs, runs, tables, name: str) -> None:
    draw_bars(tables["ours"], "run", inputs.out / f"{name}.png", test_set(inputs))
    draw_validation(histories(runs), inputs.out / f"{name}_curves.png")
