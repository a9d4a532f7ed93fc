"""What a run begins with, and whether one that was begun is the one that is asked for."""

import logging
from pathlib import Path

import keras

from hccr_tf.charset import Charset
from hccr_tf.data.dataset import shortened
from hccr_tf.models import class_variables
from hccr_tf.models.weights import load_weights, read_checksum, read_names
from hccr_tf.pretrained import FOLDER, NAME, find_run
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.training.compilation import prediction_names
from hccr_tf.utils.errors import HccrError

logger = logging.getLogger(__name__)


def check_same(
    workdir: Workdir, recipe: Recipe, data_hash: str, charset: Charset, init_from: str | Path | None
) -> None:
    """Refuses another recipe, `init_from`, data or charset than those a run was begun with.

    A recipe that is longer, or more patient, takes the place of the run's own.

    Raises:
        HccrError: something differs; it's named.
    """
    # A longer run or more patience is a continuation; under a cosine, another length would
    # change the rates of the epochs that are done, and another patience where stages begin.
    free: tuple[str, ...] = () if recipe.stages else ("patience:", "epochs:")
    free = free[:1] if recipe.schedule == "cosine" else free
    free += ("init_from:", "preprocessing.tta:")  # the one is compared below, the other no training
    changed = recipe.differences(workdir.recipe)
    run = workdir.read_run()
    origin, asked = run.get("init_from"), None if init_from is None else _origin_name(init_from)

    def refuse(what: str, difference: str, remedy: str):
        raise HccrError(
            f"{workdir.path} was begun with {what} ({difference}), so it can't be continued. Take "
            f"another --workdir, or the {remedy} it was begun with; --init-from starts from its "
            "weights."
        )

    if settings := [line for line in changed if not line.startswith(free)]:
        refuse("another recipe", f"asked for, there: {'; '.join(settings)}", "settings")
    if origin != asked:
        refuse("another --init-from", f"{origin or 'none'}, not {asked or 'none'}", "--init-from")
    if run["data_hash"] != data_hash:
        refuse("other data", f"hash {run['data_hash'][:12]}, not {data_hash[:12]}", "store")
    if difference := workdir.charset.difference(charset):
        refuse("another charset", difference, "--charset")
    if changed:
        workdir.replace_recipe(recipe)


def initialise(
    model: keras.Model, recipe: Recipe, init_from: str | Path, charset: Charset
) -> dict[str, str]:
    """Fills a network, with all its outputs, from another run's best weights.

    Of output layers, the rows of characters that both charsets know are taken. What `run.json`
    keeps of it is returned.
    """
    source = Workdir(find_run(init_from))
    axes: dict[str, int] = {}
    shared: list[str] = []
    if source.charset.sha256 != charset.sha256:
        axes = class_variables(
            recipe.model, image_shape=recipe.preprocessing.image_shape, **recipe.model_args
        )
        shared = [character for character in charset if character in source.charset]
        layers = ", ".join(sorted({path.split("/")[0] for path in axes}))
        logger.info(
            "Of the %d characters here %s knows %d: these begin as it reads them (%s), and others "
            "afresh (%s). The run will read no others.",
            *(len(charset), _origin_name(source.path), len(shared), layers),
            shortened("".join(c for c in charset if c not in source.charset)) or "none",
        )
    weights, absent = source.best_weights, set()
    if not weights.exists():  # packed: what serves training only isn't there
        weights = source.prediction_weights
        absent = {v.path for v in model.weights} - prediction_names(recipe, len(charset))
    if source.recipe.model == recipe.model:
        # The same network with fewer blocks: further ones begin as they're made.
        stored = {name.split("/")[0] for name in read_names(weights, "model")}
        absent |= {v.path for v in model.weights if v.path.split("/")[0] not in stored}
        if further := sorted({path.split("/")[0] for path in absent}):
            logger.info("Not in %s, and fresh here: %s.", source.path, ", ".join(further))
    rows = [charset.index(c) for c in shared], [source.charset.index(c) for c in shared]
    load_weights(weights, "model", model.weights, skip=absent, axes=axes, rows=rows)
    return {
        "init_from": _origin_name(source.path),
        "init_weights_sha256": read_checksum(weights),
        "init_recipe": source.recipe.name,
        "init_data_hash": source.read_run()["data_hash"],
    }


def _origin_name(init_from: str | Path) -> str:
    """Names a run as those that begin with its weights remember it."""
    path = find_run(init_from)
    return NAME if path == FOLDER else str(path.absolute())
