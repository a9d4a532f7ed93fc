"""From a run's folder to logits: one image batch, or a whole split into a file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hccr_tf.data.dataset import Dataset
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.loading.preprocessing import VIEWS
from hccr_tf.data.opening import open_dataset
from hccr_tf.evaluation.metrics import Evaluation
from hccr_tf.inference.logits_file import LOGITS, write_logits
from hccr_tf.models import MAIN_OUTPUT, blueprint, create_model
from hccr_tf.models.weights import check_fit, load_weights, read_checksum
from hccr_tf.pretrained import find_run
from hccr_tf.runs.workdir import Workdir, command_line
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.progress import track


class Predictor:
    """A trained run, ready to read images: its network with its best epoch's weights.

    Args:
        workdir: folder of a training run, or "recogniser" for the package's own weights.
        aux_outputs: whether to build outputs that serve training only, if their weights are kept.
        model_args: of the network, in place of the recipe's: such as leave the weights as they are.

    Attributes:
        workdir, recipe, charset, preprocessing: the run's own.
        model: the network, without auxiliary heads unless asked for.

    Raises:
        HccrError: no run there, or its weights are missing or damaged.
    """

    compiles = True  # anew for each size of a batch

    def __init__(
        self,
        workdir: str | Path,
        *,
        aux_outputs: bool = False,
        model_args: Mapping[str, Any] | None = None,
    ):
        self.workdir = Workdir(find_run(workdir))
        self.recipe = self.workdir.recipe
        self.charset = self.workdir.charset
        self.preprocessing = self.workdir.preprocessing
        if not self.workdir.prediction_weights.exists():
            remedy = "no epoch of it is done yet. Train on."
            if self.workdir.read_run().get("state") in ("packed", "imported"):
                remedy = "they were lost; pack or import it again."
            elif (self.workdir.path / "prediction.weights.h5").exists():
                remedy = "prediction.weights.h5 is of an earlier version. Train it anew."
            raise HccrError(f"{self.workdir.path} has no prediction weights: {remedy}")
        arguments = {
            "num_classes": len(self.charset),
            "image_shape": self.preprocessing.image_shape,
            "aux_outputs": aux_outputs,
            **self.recipe.model_args,
            **(model_args or {}),
        }
        # Before memory is taken for a network that a file claims and its weights aren't of.
        weights = self.workdir.prediction_weights
        check_fit(weights, "model", blueprint(self.recipe.model, **arguments).weights)
        self.model = create_model(self.recipe.model, **arguments)
        load_weights(weights, "model", self.model.weights)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 (B, C) logits of prepared images uint8 (B, H, W, 1)."""
        return np.asarray(self.model.predict_on_batch(images)[MAIN_OUTPUT], np.float32)


def iterate_logits(
    predictor: Predictor, loader: Loader
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields logits float32 (B, views, C), labels int32 (B,) and store indices int64 (B,)."""
    views = VIEWS[loader.tta]
    for batch in track(loader.batches(), f"predicting {loader.split}", loader.steps_per_epoch):
        logits = predictor.logits(batch.images)
        yield logits.reshape(len(batch.labels), views, -1), batch.labels, batch.indices


def predict_split(
    workdir: str | Path,
    data: str | Path | Dataset,
    out: str | Path,
    *,
    split: str = "test",
    tta: str | None = None,
    blur: bool = True,
    batch_size: int = 32,
) -> dict[str, dict]:
    """Writes a split's logits and returns their accuracy.

    Images are prepared as in training, in all views of the run's test-time augmentation, whose
    logits are averaged (Kriuk & Kriuk 2024, eq. 3). Memory doesn't grow with their number.

    Args:
        workdir: folder of a training run.
        data: a dataset or its folder.
        out: HDF5 file to write; see `logits_file`.
        split: "train", "validation", "test" or "all".
        tta: as for `Preprocessing`, in place of the run's own.
        blur: False leaves out the training's blur, as the released predictors do.
        batch_size: images at a time, all views of each.

    Returns:
        `Evaluation.metrics` of "logits" and, with five crops, of "logits_center".

    Raises:
        HccrError: no run, a charset that doesn't cover the data, an empty split.
    """
    dataset, predictor = open_dataset(data), Predictor(workdir)
    preprocessing = predictor.preprocessing
    tta = tta or preprocessing.tta
    loader = Loader(
        dataset,
        split,
        preprocessing if blur else preprocessing.without_blur(),
        batch_size,
        charset=predictor.charset,
        tta=tta,
    )
    attributes = {
        "recipe": predictor.recipe.to_dict(),
        "split": split,
        "tta": tta,
        "blur": blur and preprocessing.blur_kernel > 0,
        "data_hash": dataset.data_hash,
        "trained_on": predictor.workdir.read_run()["data_hash"],
        "command": command_line(),
        "backend": keras.backend.backend(),
        "weights_sha256": read_checksum(predictor.workdir.prediction_weights),
    }
    center = tta == "five_crops"
    results = {name: Evaluation(len(predictor.charset)) for name in LOGITS[: 1 + center]}
    writing = write_logits(out, len(loader), predictor.charset, attributes, center=center)
    with writing as add_rows:
        for logits, labels, indices in iterate_logits(predictor, loader):
            # The centre is the first of five crops.
            rows = [logits.mean(axis=1), logits[:, 0]][: 1 + center]
            add_rows(labels, dataset.sample_ids(indices), *rows)
            for result, values in zip(results.values(), rows, strict=True):
                result.add(values, labels)
    return {name: result.metrics() for name, result in results.items()}
