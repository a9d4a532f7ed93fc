"""Weights from elsewhere as a run, so that every command that takes a run takes them."""

from pathlib import Path

from hccr_tf.charset import Charset
from hccr_tf.models import create_model
from hccr_tf.models.keras2_weights import load_keras2_weights
from hccr_tf.models.weights import save_weights
from hccr_tf.recipe import Recipe
from hccr_tf.runs.workdir import Workdir
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.files import sha256_file


def import_keras2(
    weights: str | Path, recipe: Recipe, charset: Charset, workdir: str | Path
) -> Workdir:
    """Makes a run of a Keras 2 file of weights, such as the `Melnyk-Net.hdf5` of its authors.

    The recipe has the network and how its images are prepared, the charset the file's classes in
    its order.

    Raises:
        HccrError: the workdir holds a run, or the weights don't fit.
    """
    run = Workdir(Path(workdir))
    if run.exists():
        raise HccrError(f"{run.path} holds a run already; take another --workdir.")
    model = create_model(
        recipe.model,
        num_classes=len(charset),
        image_shape=recipe.preprocessing.image_shape,
        aux_outputs=False,
        **recipe.model_args,
    )
    load_keras2_weights(weights, model)
    source = Path(weights)
    run.path.mkdir(parents=True, exist_ok=True)
    for path in (run.best_weights, run.prediction_weights):
        save_weights(path, {"model": model.variables}, {"epoch": 0, "imported_from": source.name})
    run.begin(recipe, charset, f"imported {sha256_file(source)}", source)
    run.update_run(state="imported")
    return run
