"""The one training loop: a recipe, a store and a folder in; a trained run out."""

import contextlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from hccr_tf.data.batches import BatchReader
from hccr_tf.data.store import Store
from hccr_tf.losses import create_loss
from hccr_tf.models import MAIN_OUTPUT, create_model
from hccr_tf.plots import draw_curves
from hccr_tf.recipes import Recipe
from hccr_tf.training.callbacks import (
    SaveRun,
    ShowProgress,
    WriteEvents,
    is_finished,
    write_history,
)
from hccr_tf.training.feeding import fit_arguments
from hccr_tf.weights import load_weights, read_attributes
from hccr_tf.workdir import Workdir


def train(
    recipe: Recipe,
    store: Store,
    workdir: str | Path,
    *,
    init_from: str | Path | None = None,
) -> Workdir:
    """Trains a recipe on a store's training split, or goes on where a run stopped.

    Best weights are those with the highest validation accuracy of the main output.

    Args:
        recipe: what to train.
        store: prepared data with a training and a validation split.
        workdir: folder for everything the run makes; one that holds an unfinished run
            of the same recipe and data is continued from its last epoch.
        init_from: workdir of another run whose best weights this one starts from. Where
            the charsets differ, output layers start fresh.

    Returns:
        The run's folder.

    Raises:
        ValueError: the workdir holds a run of another recipe or data, a split is empty,
            or weights don't fit.
    """
    workdir = Workdir(Path(workdir))
    _begin_or_check(workdir, recipe, store)
    history = _read_history(workdir)
    if is_finished(history, recipe):
        print(f"{workdir.path} is finished after {len(history)} epochs; nothing to do.")
        return workdir

    keras.utils.set_random_seed(recipe.seed)
    readers = _readers(recipe, store)
    with _dtype_policy(recipe.mixed_precision):
        model = _compiled_model(recipe, store, readers["train"])
        prediction_names = _prediction_names(recipe, len(store.charset))
    if history:
        _restore(workdir, model)
        write_history(workdir, history)
        print(f"Going on in {workdir.path} from epoch {len(history) + 1}.", flush=True)
    elif init_from is not None:
        _initialise(model, Workdir(Path(init_from)), store)

    epoch = len(history)
    data, followers = fit_arguments(
        readers["train"], readers["validation"], list(model.output), epoch, _num_replicas(model)
    )
    progress = ShowProgress(recipe.epochs, readers["train"].steps_per_epoch, recipe.batch_size)
    try:
        model.fit(
            **data,
            initial_epoch=epoch,
            epochs=recipe.epochs,
            verbose=0,
            shuffle=False,  # the reader has shuffled
            callbacks=[
                *followers,
                progress,
                SaveRun(workdir, recipe, prediction_names, history),
                WriteEvents(workdir),
            ],
        )
    finally:
        progress.close()
    draw_curves(pd.DataFrame(history), workdir.curves_path, workdir.path.name)
    return workdir


def _begin_or_check(workdir: Workdir, recipe: Recipe, store: Store) -> None:
    if not workdir.exists():
        workdir.begin(recipe, store.charset, store.data_hash, store.path)
        return
    # A longer run or more patience is a continuation; under a schedule, another length
    # would change the rates of the epochs that are done.
    free = ("patience:", "epochs:") if recipe.schedule == "constant" else ("patience:",)
    changed = recipe.differences(workdir.recipe)
    differences = [line for line in changed if not line.startswith(free)]
    if differences:
        raise ValueError(
            f"{workdir.path} holds a run of another recipe, so it can't be continued "
            f"(asked for, there): {'; '.join(differences)}. Take another --workdir, or the "
            "settings it was begun with."
        )
    trained_on = workdir.read_run()["data_hash"]
    if trained_on != store.data_hash:
        raise ValueError(
            f"{workdir.path} was trained on other data (hash {trained_on[:12]}, not "
            f"{store.data_hash[:12]}), so it can't be continued. Take another --workdir, or "
            "the store it was begun with; --init-from starts from its weights."
        )
    if changed:
        workdir.replace_recipe(recipe)


def _read_history(workdir: Workdir) -> list[dict]:
    if not workdir.last_weights.exists():
        return []
    return read_attributes(workdir.last_weights)["history"]


def _readers(recipe: Recipe, store: Store) -> dict[str, BatchReader]:
    train_reader = BatchReader(
        store,
        "train",
        recipe.preprocessing,
        recipe.batch_size,
        shuffle=True,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
    )
    validation = BatchReader(store, "validation", recipe.preprocessing, recipe.batch_size)
    return {"train": train_reader, "validation": validation}


def _compiled_model(recipe: Recipe, store: Store, reader: BatchReader) -> keras.Model:
    strategy = _strategy()
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = create_model(
            recipe.model,
            num_classes=len(store.charset),
            image_shape=recipe.preprocessing.image_shape,
            **recipe.model_args,
        )
        if strategy:
            # Otherwise each replica normalises by its own part of the batch, and live and
            # reloaded predictions differ.
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        counts = np.bincount(reader.labels, minlength=len(store.charset))
        model.compile(
            optimizer=_optimizer(recipe, reader.steps_per_epoch),
            loss={
                name: create_loss(recipe.loss, class_counts=counts, **recipe.loss_args)
                for name in model.output
            },
            loss_weights=_loss_weights(recipe, model),
            metrics={name: _metrics(name, len(store.charset)) for name in model.output},
            jit_compile=_jit_compile(recipe),
        )
        # Here and not at the first step: a continuation fills these variables, and under a
        # strategy they must be made in its scope.
        model.optimizer.build(model.trainable_variables)
    return model


def _loss_weights(recipe: Recipe, model: keras.Model) -> dict[str, float]:
    missing = sorted(set(model.output) - set(recipe.loss_weights))
    if missing:
        raise ValueError(f"Recipe {recipe.name} gives no loss weight for the outputs {missing}.")
    return {name: recipe.loss_weights[name] for name in model.output}


def _metrics(name: str, num_classes: int) -> list[keras.metrics.Metric]:
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if name == MAIN_OUTPUT and num_classes > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5"))
    return metrics


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    optimizer = type(keras.optimizers.get(recipe.optimizer))
    return optimizer(
        learning_rate=_learning_rate(recipe, steps_per_epoch),
        # Keras numbers optimisers on within a process, and their variables are saved by name.
        name="optimizer",
        **recipe.optimizer_args,
    )


def _learning_rate(recipe: Recipe, steps_per_epoch: int):
    if recipe.schedule == "constant" and not recipe.warmup_steps:
        return recipe.learning_rate
    total = recipe.epochs * steps_per_epoch
    # A run too short for its warm-up spends half of its steps on it.
    warmup = min(recipe.warmup_steps, total // 2)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else recipe.learning_rate,
        decay_steps=max(1, total - warmup),
        # A cosine that ends where it begins is the constant rate after a warm-up.
        alpha=0.0 if recipe.schedule == "cosine" else 1.0,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _jit_compile(recipe: Recipe) -> bool:
    if recipe.jit_compile is not None:
        return recipe.jit_compile
    if keras.backend.backend() == "jax":
        return True
    return bool(keras.distribution.list_devices("gpu"))


def _strategy():
    """A MirroredStrategy over several GPUs; None for a single device."""
    if keras.backend.backend() != "tensorflow" or len(keras.distribution.list_devices("gpu")) < 2:
        return None
    import tensorflow as tf

    return tf.distribute.MirroredStrategy()


def _prediction_names(recipe: Recipe, num_classes: int) -> set[str]:
    """Paths of the variables of the network without its auxiliary heads."""
    model = create_model(
        recipe.model,
        num_classes=num_classes,
        image_shape=recipe.preprocessing.image_shape,
        aux_outputs=False,
        **recipe.model_args,
    )
    return {variable.path for variable in model.weights}


def _restore(workdir: Workdir, model: keras.Model) -> None:
    load_weights(workdir.last_weights, "model", model.variables)
    # The first call has checked the whole file.
    load_weights(workdir.last_weights, "optimizer", model.optimizer.variables, verify=False)


def _initialise(model: keras.Model, source: Workdir, store: Store) -> None:
    fresh = []
    if source.charset.sha256 != store.charset.sha256:
        fresh = list(model.output)
        print(
            f"{source.path} has another charset ({source.charset.difference(store.charset)}); "
            f"the output layers {', '.join(fresh)} start fresh.",
            flush=True,
        )
    load_weights(source.best_weights, "model", model.weights, skip_layers=fresh)


def _num_replicas(model: keras.Model) -> int:
    if keras.backend.backend() != "tensorflow":
        return 1
    return model.distribute_strategy.num_replicas_in_sync


@contextlib.contextmanager
def _dtype_policy(mixed_precision: str | None):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{mixed_precision}" if mixed_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
