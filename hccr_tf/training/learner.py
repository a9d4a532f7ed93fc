"""A recipe's network, built and compiled for one stage after another."""

import contextlib

import keras
import numpy as np

from hccr_tf.data.loading.loader import Loader
from hccr_tf.losses import create_loss
from hccr_tf.models import MAIN_OUTPUT, backbone_layers, blueprint, create_model
from hccr_tf.models.layers import DevicePreprocessing
from hccr_tf.recipe import Recipe, Stage
from hccr_tf.training.checkpoints import Place, Restored
from hccr_tf.training.schedules import learning_rate
from hccr_tf.training.stages import current_stage, freeze


class Learner:
    """A recipe's network, compiled for one stage after another.

    Args:
        recipe: what to train.
        reader: the training batches.
        weights: of the backbone, as `create_model` takes them.

    Attributes:
        network: with all its outputs.
        model: what is fitted: the network, or what prepares images on the device and it.
    """

    def __init__(self, recipe: Recipe, reader: Loader, weights: str | None):
        self._recipe = recipe
        self._reader = reader
        self._stage: int | None = None
        self._strategy = _strategy()
        with self._scope():
            self.network = create_model(
                recipe.model,
                num_classes=len(reader.charset),
                image_shape=recipe.preprocessing.image_shape,
                weights=weights,
                **recipe.model_args,
            )
            if self._strategy:
                # Otherwise each replica normalises by its own part of the batch, and live and
                # reloaded predictions differ.
                for layer in _all_layers(self.network):
                    if isinstance(layer, keras.layers.BatchNormalization):
                        layer.synchronized = True
            self.model = self.network
            if reader.padded_to is not None:
                self.model = _with_device_preprocessing(self.network, recipe, reader.padded_to)
        if recipe.stages:
            for part in recipe.stages:  # each, so that what's wrong shows at once
                freeze(backbone_layers(self.network), part.frozen)
        counts = np.bincount(reader.labels, minlength=len(reader.charset))
        self._losses = {
            name: create_loss(recipe.loss, class_counts=counts, **recipe.loss_args)
            for name in self.model.output
        }
        self._weights = recipe.output_weights(self.model.output)

    @property
    def num_replicas(self) -> int:
        """Devices that share each batch."""
        return self._strategy.num_replicas_in_sync if self._strategy else 1

    def prepare(self, restored: Restored) -> bool:
        """Compiles for the stage that a checkpoint is in; whether its optimiser goes on."""
        stage, first = current_stage(restored.history, self._recipe)
        self._compile(min(stage, len(self._recipe.all_stages()) - 1))
        return restored.place != Place(first)

    def begin(self, stage: int, first: int) -> None:
        """Compiles for a stage, if that isn't done.

        Args:
            stage: its index in the recipe.
            first: epoch in which it begins.
        """
        stages = self._recipe.all_stages()
        if len(stages) > 1 and stage != self._stage:
            print(
                f"Stage {stage + 1} of {len(stages)}, from epoch {first + 1} on: "
                f"{_description(stages[stage])}.",
                flush=True,
            )
        if stage != self._stage:
            self._compile(stage)

    def _compile(self, stage: int) -> None:
        recipe, part = self._recipe, self._recipe.all_stages()[stage]
        if recipe.stages:
            freeze(backbone_layers(self.network), part.frozen)
        with self._scope(), dtype_policy(recipe.mixed_precision):
            self.model.compile(
                optimizer=_optimizer(recipe, self._reader.steps_per_epoch, part),
                loss=self._losses,
                loss_weights=self._weights,
                metrics={n: _metrics(n, len(self._reader.charset)) for n in self.model.output},
                jit_compile=_jit_compile(recipe),
            )
            # Here and not at the first step: a continuation fills these variables, and under a
            # strategy they must be made in its scope.
            self.model.optimizer.build(self.model.trainable_variables)
        self._stage = stage

    def _scope(self):
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()


def _all_layers(model: keras.Model):
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def _description(stage: Stage) -> str:
    what = {"backbone": "the classifier learns", 0: "all layers learn"}.get(
        stage.frozen, f"all but the backbone's first {stage.frozen} layers learn"
    )
    return f"{what}, for at most {stage.epochs} epoch{'s' if stage.epochs > 1 else ''}"


def check_recipe(recipe: Recipe, num_classes: int) -> None:
    """Builds what a recipe asks for, without values, so that what can't be trained is known first.

    Raises:
        HccrError: a network, stage, loss or optimiser that there isn't or that doesn't fit.
    """
    network = blueprint(
        recipe.model,
        num_classes=num_classes,
        image_shape=recipe.preprocessing.image_shape,
        **recipe.model_args,
    )
    for stage in recipe.stages:
        freeze(backbone_layers(network), stage.frozen)
    recipe.output_weights(network.output)
    create_loss(recipe.loss, class_counts=np.ones(num_classes), **recipe.loss_args)
    _optimizer(recipe, 1, recipe.all_stages()[0])


def _with_device_preprocessing(network: keras.Model, recipe: Recipe, side: int) -> keras.Model:
    """The network behind a layer that prepares images; the variables are the network's own."""
    settings = recipe.preprocessing.to_dict()
    del settings["crop_ink"]  # the reader's work
    images = keras.Input((side, side, 1), dtype="uint8", name="images")
    sizes = keras.Input((2,), dtype="int32", name="sizes")
    images = DevicePreprocessing(**settings, name="device_preprocessing")((images, sizes))
    return keras.Model((images, sizes), network(images), name=network.name)


def _metrics(name: str, num_classes: int) -> list[keras.metrics.Metric]:
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if name == MAIN_OUTPUT and num_classes > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name="top5"))
    return metrics


def _optimizer(recipe: Recipe, steps_per_epoch: int, stage: Stage) -> keras.optimizers.Optimizer:
    optimizer = type(keras.optimizers.get(recipe.optimizer))
    return optimizer(
        learning_rate=learning_rate(recipe, steps_per_epoch, stage),
        # Keras numbers optimisers on within a process, and their variables are saved by name.
        name="optimizer",
        **recipe.optimizer_args,
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


@contextlib.contextmanager
def dtype_policy(mixed_precision: str | None):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{mixed_precision}" if mixed_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
