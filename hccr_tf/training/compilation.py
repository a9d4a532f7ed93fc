"""A recipe's network, built and compiled for one stage after another."""

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np

from hccr_tf.data.loading.loader import Loader
from hccr_tf.losses import create_loss
from hccr_tf.models import MAIN_OUTPUT, backbone_layers, blueprint, create_model
from hccr_tf.recipe import Recipe, Stage
from hccr_tf.training.optimizers import optimizer_class
from hccr_tf.training.schedules import learning_rate
from hccr_tf.training.stages import freeze


def distribution_strategy():
    """Makes a MirroredStrategy over several GPUs; None for a single device."""
    if keras.backend.backend() != "tensorflow" or len(keras.distribution.list_devices("gpu")) < 2:
        return None
    import tensorflow as tf

    return tf.distribute.MirroredStrategy()


def build_network(
    recipe: Recipe, num_classes: int, weights: str | None, strategy=None
) -> keras.Model:
    """Builds a recipe's network with all its outputs, `weights` in its backbone.

    A strategy of TensorFlow, here and in `compile_network`, is for several devices.
    """
    model = _build(create_model, recipe, num_classes, strategy, weights=weights)
    for layer in all_layers(model) if strategy else ():
        # Otherwise each replica normalises by its own part of the batch, and live and reloaded
        # predictions differ.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    return model


def compile_network(
    model: keras.Model, recipe: Recipe, stage: Stage, train: Loader, strategy=None
) -> None:
    """Compiles a network for a stage of its recipe and its training images.

    The optimiser is a fresh one.
    """
    class_counts = np.bincount(train.labels, minlength=len(train.charset))
    if recipe.stages:
        freeze(backbone_layers(model), stage.frozen)
    outputs = list(model.output)
    compiles = recipe.jit_compile
    if compiles is None:
        on_jax = keras.backend.backend() == "jax"
        compiles = on_jax or bool(keras.distribution.list_devices("gpu"))
    with _building(recipe, strategy):
        model.compile(
            optimizer=_optimizer(recipe, train.steps_per_epoch, stage),
            loss={
                name: create_loss(recipe.loss, class_counts=class_counts, **recipe.loss_args)
                for name in outputs
            },
            loss_weights=recipe.output_weights(outputs),
            metrics={name: _metrics(name, outputs, len(class_counts)) for name in outputs},
            jit_compile=compiles,
            steps_per_execution=recipe.steps_per_execution,
        )
        # Here and not at the first step: a continuation fills these variables, and under a
        # strategy they must be made in its scope.
        model.optimizer.build(model.trainable_variables)


def check_recipe(recipe: Recipe, num_classes: int) -> None:
    """Builds what a recipe asks for, without values, so that what can't be trained is known first.

    Raises:
        HccrError: a network, stage, loss or optimiser that there isn't or that doesn't fit.
    """
    recipe.output_weights(blueprint_of(recipe, num_classes).output)
    create_loss(recipe.loss, class_counts=np.ones(num_classes), **recipe.loss_args)
    _optimizer(recipe, 1, recipe.all_stages()[0])


def prediction_names(recipe: Recipe, num_classes: int) -> set[str]:
    """Returns the paths of the variables of the network without its auxiliary heads."""
    model = _build(blueprint, recipe, num_classes, aux_outputs=False)
    return {variable.path for variable in model.weights}


def blueprint_of(recipe: Recipe, num_classes: int) -> keras.Model:
    """Builds a recipe's network with all its outputs, without values."""
    return _build(blueprint, recipe, num_classes)


def optimizer_values(recipe: Recipe) -> int:
    """Returns how many values a recipe's optimiser keeps for each one that learns."""
    optimizer = _optimizer(recipe, 1, recipe.all_stages()[0])
    weight = keras.Variable(keras.ops.zeros((2, 2)))
    optimizer.build([weight])
    return sum(v.shape == weight.shape for v in optimizer.variables)


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields a network's layers, and those of the models that are among them."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def _build(
    create: Callable[..., keras.Model], recipe: Recipe, num_classes: int, strategy=None, **arguments
) -> keras.Model:
    """Calls `create_model` or `blueprint`, and tries every stage, so that a wrong one shows now."""
    with _building(recipe, strategy):
        model = create(
            recipe.model,
            num_classes=num_classes,
            image_shape=recipe.preprocessing.image_shape,
            **arguments,
            **recipe.model_args,
        )
    for stage in recipe.stages:
        freeze(backbone_layers(model), stage.frozen)
    return model


@contextlib.contextmanager
def _building(recipe: Recipe, strategy=None) -> Iterator[None]:
    """Sets the recipe's precision, and the strategy's scope, while the context lasts."""
    before = keras.config.dtype_policy()
    precision = recipe.mixed_precision
    keras.config.set_dtype_policy(f"mixed_{precision}" if precision else "float32")
    try:
        with strategy.scope() if strategy else contextlib.nullcontext():
            yield
    finally:
        keras.config.set_dtype_policy(before)


def _metrics(output: str, outputs: list[str], num_classes: int) -> list[keras.metrics.Metric]:
    # Keras puts an output's name before its metrics' where there are several outputs.
    prefix = "" if len(outputs) > 1 else f"{output}_"
    metrics = [keras.metrics.SparseCategoricalAccuracy(name=f"{prefix}accuracy")]
    if output == MAIN_OUTPUT and num_classes > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name=f"{prefix}top5"))
    return metrics


def _optimizer(recipe: Recipe, steps_per_epoch: int, stage: Stage) -> keras.optimizers.Optimizer:
    optimizer = optimizer_class(recipe.optimizer)
    return optimizer(
        learning_rate=learning_rate(recipe, steps_per_epoch, stage),
        # Keras numbers optimisers on within a process, and their variables are saved by name.
        name="optimizer",
        **recipe.optimizer_args,
    )
