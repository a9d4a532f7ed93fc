"""fit sees exactly the loader's batches, in the loader's order."""

import keras
import numpy as np

from hccr_tf import Loader, Preprocessing
from hccr_tf.training.keras_data import InputWait, fit_arguments


def model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 1), dtype="uint8")
    x = keras.ops.cast(inputs, "float32") / 255
    x = keras.layers.Flatten()(x)
    outputs = {n: keras.layers.Dense(15, name=n)(x) for n in ("main_output", "aux_output1")}
    network = keras.Model(inputs, outputs)
    network.compile(
        "sgd",
        {n: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for n in outputs},
        metrics={n: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for n in outputs},
    )
    return network


def keras_epoch(epoch):
    return {"initial_epoch": epoch, "epochs": epoch + 1, "verbose": 0, "shuffle": False}


def test_fit_trains_on_the_loaders_batches(sample_store):
    reader = Loader(sample_store, "train", Preprocessing(16), 10, shuffle=True, seed=4)
    validation = Loader(sample_store, "validation", Preprocessing(16), 10)
    names = ["main_output", "aux_output1"]
    start, stop = 2, 5
    fitted = model()
    wait = InputWait()
    accuracies = []
    for epoch in range(start, stop):
        # The second epoch comes in two parts, as after an interruption.
        data = fit_arguments(reader, validation, names, epoch, 0, wait)
        if epoch == start + 1:
            fitted.fit(**data, **keras_epoch(epoch), steps_per_epoch=4)
            data = fit_arguments(reader, validation, names, epoch, 4, wait)
        history = fitted.fit(**data, **keras_epoch(epoch)).history
        accuracies += history["val_main_output_accuracy"]
    assert 0 < wait.seconds < 60, wait.seconds
    stepped = model()
    for epoch in range(start, stop):
        for step in range(reader.steps_per_epoch):
            batch = reader.batch(epoch, step)
            stepped.train_on_batch(batch.images, dict.fromkeys(names, batch.labels))
        right = sum(
            int((np.asarray(stepped(b.images)["main_output"]).argmax(1) == b.labels).sum())
            for b in validation.batches()
        )
        seen = accuracies[epoch - start]
        assert abs(seen - right / len(validation)) < 1e-6, (epoch, seen, right / len(validation))
    for mine, theirs in zip(fitted.weights, stepped.weights, strict=True):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=0, atol=1e-6)
