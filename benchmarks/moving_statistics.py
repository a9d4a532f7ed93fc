"""What batch normalisation's statistics should be when a run of few steps is evaluated.

    hccr data prepare FOLDER --out store
    python benchmarks/moving_statistics.py --data store --out statistics.csv

Trains each recipe small, or those that are named, and reads a split at the end with the same
weights and five kinds of statistics. Training itself reads none, so one training serves them all:

keras       moving averages as Keras makes them, from 0 and 1 on
debiased    the same without their beginning, as Adam's moments
ramp        with a momentum of at most (1 + t) / (10 + t) after t steps
last_epoch  the average of the last epoch's steps alone
precise     estimated anew with the last weights: what `hccr_tf.training` does

`printed` is the accuracy of the last epoch as training prints it; `share` the processor time of the
estimation beside that of an epoch's steps. Started again, it passes over recipes in the file.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from hccr_tf import get_recipe
from hccr_tf.data.loading.loader import Loader
from hccr_tf.data.opening import open_dataset
from hccr_tf.models import MAIN_OUTPUT, model_arguments
from hccr_tf.papers.recipes import list_recipes
from hccr_tf.recipe import Recipe
from hccr_tf.training.compilation import all_layers, build_network, compile_network
from hccr_tf.training.keras_data import open_split
from hccr_tf.training.precise_bn import estimate_statistics


def small(name: str, epochs: int, options) -> Recipe:
    """Returns a recipe at a size at which it learns in seconds."""
    recipe = get_recipe(name)
    settings = {"image_size": 32, "epochs": epochs, "patience": epochs, "weights": None}
    sizes = {"model.width": 16, "model.num_bricks": 3, "batch_size": options.batch_size}
    sizes |= {"samples_per_class": options.samples_per_class}
    there = {f"model.{argument}" for argument in model_arguments(recipe.model)}
    settings |= {k: v for k, v in sizes.items() if v and (k in there or "." not in k)}
    return recipe.override(settings, stages=())


class Statistics:
    """The moving statistics of a model, read and set as one list of arrays."""

    def __init__(self, model: keras.Model):
        layers = [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]
        self.layers, self.momenta = layers, np.repeat([x.momentum for x in layers], 2)
        self._variables = [v for x in layers for v in (x.moving_mean, x.moving_variance)]

    def read(self) -> list[np.ndarray]:
        """Returns the statistics, means and variances in turn."""
        return [keras.ops.convert_to_numpy(v) for v in self._variables]

    def put(self, arrays) -> None:
        """Sets the statistics."""
        for variable, array in zip(self._variables, arrays, strict=True):
            variable.assign(array)

    def set_momenta(self, momenta) -> None:
        """Sets the momentum of each layer."""
        for layer, momentum in zip(self.layers, momenta, strict=True):
            layer.momentum = momentum


def averaged(old, new, momenta):
    return [m * a + (1 - m) * b for a, b, m in zip(old, new, momenta, strict=True)]


def run(name: str, data, options) -> dict:
    epochs = options.epochs
    recipe = small(name, epochs, options)
    keras.utils.set_random_seed(recipe.seed)
    train = open_split(recipe, data, data.charset, "train")
    model = build_network(recipe, len(data.charset), None)
    kept = Statistics(model)
    kept.set_momenta([0.0] * len(kept.layers))  # so that each step leaves its own batch's
    compile_network(model, recipe, recipe.all_stages()[0], train)
    per_class = recipe.samples_per_class if options.split == "train" else None
    still = list(
        Loader(
            data,
            options.split,
            recipe.preprocessing,
            recipe.batch_size,
            seed=recipe.seed,
            per_class=per_class,
        ).batches()
    )
    images, labels = (np.concatenate([batch[i] for batch in still]) for i in (0, 1))

    def accuracy() -> float:
        logits = model.predict(images, batch_size=recipe.batch_size, verbose=0)[MAIN_OUTPUT]
        return round(100 * float((logits.argmax(axis=1) == labels).mean()), 1)

    momenta, steps = kept.momenta, train.steps_per_epoch
    plain = ramp = kept.read()
    zeros = debiased = [np.zeros_like(array) for array in plain]
    trained = 0.0  # seconds of processor time
    for epoch in range(epochs):
        own, printed = zeros, 0.0
        for step, batch in enumerate(train.batches(epoch)):
            outputs = dict.fromkeys(model.output, batch.labels)
            begun = time.process_time()
            logs = model.train_on_batch(batch.images, outputs, return_dict=True)
            trained += time.process_time() - begun if epoch else 0  # the first compiles
            correct = sum(v for k, v in logs.items() if k.endswith(f"{MAIN_OUTPUT}_accuracy"))
            printed += float(correct) * len(batch.labels)
            new, done = kept.read(), epoch * steps + step
            plain, debiased, own = (averaged(s, new, momenta) for s in (plain, debiased, own))
            ramp = averaged(ramp, new, np.minimum(momenta, (1 + done) / (10 + done)))
    row = {"recipe": name, "epochs": epochs, "steps": steps}
    row["printed"] = round(100 * printed / len(train), 1)
    total = epochs * steps
    for kind, arrays in {
        "keras": plain,
        "debiased": [a / (1 - m**total) for a, m in zip(debiased, momenta, strict=True)],
        "ramp": ramp,
        "last_epoch": [a / (1 - m**steps) for a, m in zip(own, momenta, strict=True)],
    }.items():
        kept.put(arrays)
        row[kind] = accuracy()
    kept.set_momenta(momenta[::2])
    begun = time.process_time()
    estimate_statistics(model, train, epochs - 1)
    row["share"] = round((time.process_time() - begun) / (trained / (epochs - 1)), 3)
    row["precise"] = accuracy()
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", default=list_recipes())
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="train", help="whose images are read at the end")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, help="of all recipes, for equal steps")
    parser.add_argument("--samples-per-class", type=int, help="to train on")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = open_dataset(options.data)
    rows = pd.read_csv(options.out).to_dict("records") if options.out.exists() else []
    for name in options.recipes:
        if any(row["recipe"] == name for row in rows):
            continue
        rows.append(run(name, data, options))
        pd.DataFrame(rows).to_csv(options.out, index=False)
        keras.utils.clear_session()


if __name__ == "__main__":
    main()
