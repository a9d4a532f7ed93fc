"""The one training loop: a recipe, a store and a folder in; a trained run out."""

import contextlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from hccr_tf.charset import Charset
from hccr_tf.data import reading_processes
from hccr_tf.data.batches import BatchReader
from hccr_tf.data.store import Store
from hccr_tf.files import exclusive_lock
from hccr_tf.models import blueprint, class_variables
from hccr_tf.plots import draw_curves
from hccr_tf.pretrained import FOLDER, NAME, find_run
from hccr_tf.recipes import Recipe
from hccr_tf.training.callbacks import SaveRun, ShowProgress, WriteEvents
from hccr_tf.training.checkpoints import Checkpoints, Interval, Place
from hccr_tf.training.feeding import InputWait, fit_arguments
from hccr_tf.training.interruption import StopRequest
from hccr_tf.training.learner import Learner, dtype_policy
from hccr_tf.training.schedules import StallSchedule
from hccr_tf.training.stages import current_stage, is_finished
from hccr_tf.weights import load_rows, load_weights, read_checksum, read_names
from hccr_tf.workdir import Workdir

# From so many on processes read an epoch: they take a second to start.
MANY_PICTURES = 20_000


def train(
    recipe: Recipe,
    store: Store,
    workdir: str | Path,
    *,
    init_from: str | Path | None = None,
    charset: Charset | None = None,
    checkpoints: Interval | None = None,
) -> Workdir:
    """Trains a recipe on a store's training split, or goes on where a run stopped.

    Best weights are those with the highest validation accuracy of the main output. Killed
    at any moment, a run goes on from its last checkpoint; in deterministic mode on a CPU it
    ends with the same weights and history, bit for bit, as one that was never killed.

    Args:
        recipe: what to train.
        store: prepared data with a training and a validation split.
        workdir: folder for everything the run makes; one that holds an unfinished run
            of the same recipe and data is continued from its last checkpoint.
        init_from: workdir of another run whose best weights this one starts from, in place of
            the recipe's `weights`; "recogniser" for those that come with the package. Where the
            charsets differ, output layers keep the rows of characters that both know, and
            others start fresh. A run that goes on is given the same, of which nothing is read
            then.
        charset: class order of the network; must cover the store. The store's own if None.
        checkpoints: how often to save within an epoch; every ten minutes if None. After
            each epoch a run saves anyway.

    Returns:
        The run's folder.

    Raises:
        ValueError: the workdir holds a run of another recipe, charset or data, a split is
            empty, the charset doesn't cover the store, or weights don't fit.
        DivergenceError: the loss or the weights are no longer finite.
        Interrupted: SIGTERM or Ctrl-C came; the run was saved first.
        BlockingIOError: another process trains in this workdir.
        OSError: the disk is full; the run goes on from its last checkpoint.
    """
    workdir = Workdir(Path(workdir))
    workdir.path.mkdir(parents=True, exist_ok=True)
    busy = f"another process trains in {workdir.path}; wait for it, or take another --workdir"
    stop = StopRequest()
    with exclusive_lock(workdir.lock_path, busy, patience=3), stop.listening():
        _train(recipe, store, workdir, init_from, charset or store.charset, checkpoints, stop)
    return workdir


def _train(
    recipe: Recipe,
    store: Store,
    workdir: Workdir,
    init_from: str | Path | None,
    charset: Charset,
    interval: Interval | None,
    stop: StopRequest,
) -> None:
    if init_from is not None:
        recipe = recipe.override(weights="none")  # they'd be written over
    begun = workdir.exists()
    if begun:
        _check_same(workdir, recipe, store, charset, init_from)
        if is_finished(workdir.read_history(), recipe) and (
            workdir.read_run()["state"] == "finished"
        ):
            print(f"{workdir.path} is finished; nothing to do.")
            return

    _set_determinism(recipe)
    keras.utils.set_random_seed(recipe.seed)
    readers = _readers(recipe, store, charset)
    checkpoints = Checkpoints(workdir.checkpoints, interval)
    # What a run begins with is in its checkpoints; it needn't be there any more when it goes on.
    begins = init_from is None and not checkpoints.paths()
    with dtype_policy(recipe.mixed_precision):
        learner = Learner(recipe, readers["train"], recipe.weights if begins else None)
        prediction_names = _prediction_names(recipe, len(charset))
    model = learner.model
    restored = checkpoints.restore(model, learner.prepare)
    if restored is not None:
        print(f"Going on in {workdir.path} from {restored.place}.", flush=True)
        if restored.place.step:
            _make_metrics(model, readers["validation"])
    elif workdir.history_path.exists():
        # Epochs are written after their checkpoint: it was deleted, or is of an older version.
        raise ValueError(
            f"{workdir.path} holds {len(workdir.read_history())} epochs and no checkpoint to go "
            "on from. Take another --workdir; --init-from starts from this run's best weights."
        )
    else:
        origin = {}
        if init_from is not None:
            origin = _initialise(learner.network, recipe, Workdir(find_run(init_from)), charset)
        if not begun:
            # Not before: what can't begin leaves nothing that other settings would contradict.
            workdir.begin(recipe, charset, store.data_hash, store.path, **origin)

    place = restored.place if restored else Place()
    on_tensorflow = keras.backend.backend() == "tensorflow"
    wait = InputWait(measured=not (recipe.deterministic and on_tensorflow))
    saving = SaveRun(
        workdir, recipe, readers["train"], prediction_names, checkpoints, stop, restored
    )
    saving.finish_epoch_files(model)
    progress = ShowProgress(recipe.epochs, readers["train"], place, wait)
    events = WriteEvents(workdir, readers["validation"], readers["train"].steps_per_epoch, wait)
    callbacks = [progress, events, saving]
    if recipe.schedule == "stall":
        steps_per_epoch = readers["train"].steps_per_epoch
        callbacks.insert(0, StallSchedule(recipe, steps_per_epoch, saving.history, place))
    try:
        with _reading(readers["train"]):
            for epoch in range(place.epoch, recipe.epochs):
                stage, first = current_stage(saving.history, recipe)
                if stage == len(recipe.all_stages()):
                    break
                learner.begin(stage, first)
                # An epoch a call: its data begin where they are asked to, in the middle too.
                model.fit(
                    **fit_arguments(
                        readers["train"],
                        readers["validation"],
                        list(model.output),
                        epoch,
                        place.step if epoch == place.epoch else 0,
                        wait=wait,
                        num_replicas=learner.num_replicas,
                    ),
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    verbose=0,
                    shuffle=False,  # the reader has shuffled
                    callbacks=callbacks,
                )
    finally:
        progress.close()
        events.close()
    draw_curves(pd.DataFrame(saving.history), workdir.curves_path, workdir.path.name)


@contextlib.contextmanager
def _reading(reader: BatchReader):
    """Prepares a long epoch's pictures in processes, a short one's in this process's threads."""
    with contextlib.ExitStack() as stack:
        if len(reader) >= MANY_PICTURES and reading_processes.are_possible():
            stack.enter_context(reader.processes())
        yield


def _check_same(
    workdir: Workdir,
    recipe: Recipe,
    store: Store,
    charset: Charset,
    init_from: str | Path | None,
) -> None:
    """Refuses another recipe, charset, data or origin than those a run was begun with."""
    # A longer run or more patience is a continuation; under a cosine, another length would
    # change the rates of the epochs that are done, and another patience where stages begin.
    free = ("patience:",) if recipe.schedule == "cosine" else ("patience:", "epochs:")
    if recipe.stages:
        free = ()
    changed = recipe.differences(workdir.recipe)
    differences = [line for line in changed if not line.startswith(free)]
    if differences:
        raise ValueError(
            f"{workdir.path} holds a run of another recipe, so it can't be continued "
            f"(asked for, there): {'; '.join(differences)}. Take another --workdir, or the "
            "settings it was begun with."
        )
    origin = workdir.read_run().get("init_from")
    asked = None if init_from is None else _origin_name(init_from)
    if origin != asked:
        raise ValueError(
            f"{workdir.path} was begun with {_origin_text(origin)}, so it can't be continued with "
            f"{_origin_text(asked)}. Take another --workdir, or what it was begun with."
        )
    trained_on = workdir.read_run()["data_hash"]
    if trained_on != store.data_hash:
        raise ValueError(
            f"{workdir.path} was trained on other data (hash {trained_on[:12]}, not "
            f"{store.data_hash[:12]}), so it can't be continued. Take another --workdir, or "
            "the store it was begun with; --init-from starts from its weights."
        )
    if difference := workdir.charset.difference(charset):
        raise ValueError(
            f"{workdir.path} was begun with another charset ({difference}), so it can't be "
            "continued. Take another --workdir, or the --charset it was begun with."
        )
    if changed:
        workdir.replace_recipe(recipe)


def _origin_name(init_from: str | Path) -> str:
    """How a run remembers where its weights came from."""
    path = find_run(init_from)
    return NAME if path == FOLDER else str(path.absolute())


def _origin_text(init_from: str | None) -> str:
    return "no --init-from" if init_from is None else f"--init-from {init_from}"


def _set_determinism(recipe: Recipe) -> None:
    if recipe.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _readers(recipe: Recipe, store: Store, charset: Charset) -> dict[str, BatchReader]:
    padded_to = _source_size(recipe, store) if recipe.device_preprocessing else None
    train_reader = BatchReader(
        store,
        "train",
        recipe.preprocessing,
        recipe.batch_size,
        charset=charset,
        shuffle=True,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        per_class=recipe.samples_per_class,
        padded_to=padded_to,
    )
    validation = BatchReader(
        store,
        "validation",
        recipe.preprocessing,
        recipe.batch_size,
        charset=charset,
        seed=recipe.seed,
        per_class=recipe.validation_per_class,
        padded_to=padded_to,
    )
    readers = {"train": train_reader, "validation": validation}
    asked = {"train": recipe.samples_per_class, "validation": recipe.validation_per_class}
    for split, number in asked.items():
        counts = np.bincount(readers[split].labels)
        if number is not None and (few := int((counts[counts > 0] < number).sum())):
            print(
                f"{few} classes have fewer than {number} pictures in {split}; all of theirs are "
                "taken.",
                flush=True,
            )
    return readers


def _source_size(recipe: Recipe, store: Store) -> int:
    """Side of the squares in which pictures travel to the device, in pixels.

    All pictures fit, up to the size at which they're worked on; a few huge ones must not
    make every batch huge.
    """
    preprocessing = recipe.preprocessing
    worked_on = max(preprocessing.image_size, preprocessing.blur_size or 0, 128)
    return min(int(max(store.heights.max(), store.widths.max())), worked_on)


def _prediction_names(recipe: Recipe, num_classes: int) -> set[str]:
    """Paths of the variables of the network without its auxiliary heads."""
    model = blueprint(
        recipe.model,
        num_classes=num_classes,
        image_shape=recipe.preprocessing.image_shape,
        aux_outputs=False,
        **recipe.model_args,
    )
    return {variable.path for variable in model.weights}


def _initialise(
    network: keras.Model, recipe: Recipe, source: Workdir, charset: Charset
) -> dict[str, str]:
    """Fills a network from another run's best weights; what of it `run.json` keeps."""
    axes: dict[str, int] = {}
    if source.charset.sha256 != charset.sha256:
        axes = class_variables(
            recipe.model, image_shape=recipe.preprocessing.image_shape, **recipe.model_args
        )
        shared = [c for c in charset if c in source.charset]
        layers = sorted({path.split("/")[0] for path in axes})
        rows = f"rows of {len(shared)} characters that both know are taken over, others" * bool(
            shared
        )
        print(
            f"{source.path} has another charset ({source.charset.difference(charset)}); of the "
            f"output layers {', '.join(layers)} {rows or 'all rows'} start fresh.",
            flush=True,
        )
    weights, absent = source.best_weights, set()
    if not weights.exists():  # packed: what serves training only isn't there
        weights = source.prediction_weights
        absent = {v.path for v in network.weights} - _prediction_names(recipe, len(charset))
    if source.recipe.model == recipe.model:
        # The same network with fewer blocks: further ones begin as they're made.
        stored = read_names(weights, "model")
        absent |= {v.path for v in network.weights if v.path.split("/")[0] not in stored}
        further = sorted({path.split("/")[0] for path in absent})
        if further:
            print(f"Not in {source.path}, and fresh here: {', '.join(further)}.", flush=True)
    load_weights(weights, "model", network.weights, skip={*axes, *absent})
    if axes and shared:
        load_rows(
            weights, "model", network.weights,
            {path: axis for path, axis in axes.items() if path not in absent},
            [charset.index(c) for c in shared], [source.charset.index(c) for c in shared],
        )  # fmt: skip
    return {
        "init_from": _origin_name(source.path),
        "init_weights_sha256": read_checksum(weights),
        "init_recipe": source.recipe.name,
        "init_data_hash": source.read_run()["data_hash"],
    }


def _make_metrics(model: keras.Model, reader: BatchReader) -> None:
    """Has Keras make the outputs' metrics, which it does with a first batch, to be filled."""
    batch = reader.batch(0, 0)
    model.test_on_batch(batch.inputs, dict.fromkeys(model.output, batch.labels))
