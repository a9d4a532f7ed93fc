"""Runs of networks that nothing was trained with: for what asks only that there are weights."""

import numpy as np

from hccr_tf import get_recipe
from hccr_tf.charset import Charset
from hccr_tf.models import blueprint
from hccr_tf.models.weights import save_weights
from hccr_tf.runs.workdir import Workdir

NUMERALS = "零一二三四五六七八九十百千万亿"


def untrained_run(path, model: str, image_size: int = 32, **arguments):
    """Makes a run of a network that reads the numerals by drawn weights."""
    recipe = get_recipe("recogniser").override(
        model=model, image_size=image_size, model_args=arguments
    )
    workdir, charset = Workdir(path), Charset.from_text(NUMERALS)
    workdir.begin(recipe, charset, data_hash="", store=path)
    shape = (image_size, image_size, 1)
    network = blueprint(
        model, num_classes=len(charset), image_shape=shape, aux_outputs=False, **arguments
    )
    rng = np.random.default_rng(0)
    arrays = {v.path: _draw(rng, v).astype(np.float32) for v in network.weights}
    save_weights(workdir.prediction_weights, {"model": arrays}, {})
    return path


def _draw(rng, variable) -> np.ndarray:
    if variable.path.endswith(("moving_variance", "gamma")):
        return rng.uniform(0.5, 1.5, variable.shape)
    shape = variable.shape
    inputs = np.prod(shape[: 2 if "depthwise" in variable.path else -1]) if len(shape) > 1 else 100
    return rng.normal(size=shape) * np.sqrt(2 / inputs)  # deep networks pass their input on
