"""A recipe's network, built and compiled for one stage after another."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from hccr_tf.losses import create_loss
from hccr_tf.models import MAIN_OUTPUT, backbone_layers, blueprint, create_model
from hccr_tf.recipe import Recipe, Stage
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
    """Builds a recipe's network with all its outputs.

    Args:
        recipe: names the network.
        num_classes: width of every output.
        weights: of the backbone, as `create_model` takes them.
        strategy: of TensorFlow, over several devices; None for one.
    """
    with _scope(strategy), dtype_policy(recipe.mixed_precision):
        model = create_model(
            recipe.model,
            num_classes=num_classes,
            image_shape=recipe.preprocessing.image_shape,
            weights=weights,
            **recipe.model_args,
        )
    for layer in _all_layers(model) if strategy else ():
        # Otherwise each replica normalises by its own part of the batch, and live and reloaded
        # predictions differ.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    for stage in recipe.stages:  # each, so that what's wrong shows at once
        freeze(backbone_layers(model), stage.frozen)
    return model


def compile_network(
    model: keras.Model,
    recipe: Recipe,
    stage: Stage,
    class_counts: np.ndarray,
    steps_per_epoch: int,
    strategy=None,
) -> None:
    """Compiles a network for a stage, with a fresh optimiser.

    Args:
        model: of `build_network`.
        recipe: gives losses and optimiser.
        stage: says which layers learn.
        class_counts: training images of each class, (num_classes,).
        steps_per_epoch: of the training split.
        strategy: as in `build_network`.
    """
    if recipe.stages:
        freeze(backbone_layers(model), stage.frozen)
    outputs = list(model.output)
    with _scope(strategy), dtype_policy(recipe.mixed_precision):
        model.compile(
            optimizer=_optimizer(recipe, steps_per_epoch, stage),
            loss={
                name: create_loss(recipe.loss, class_counts=class_counts, **recipe.loss_args)
                for name in outputs
            },
            loss_weights=recipe.output_weights(outputs),
            metrics={name: _metrics(name, outputs, len(class_counts)) for name in outputs},
            jit_compile=_jit_compile(recipe),
        )
        # Here and not at the first step: a continuation fills these variables, and under a
        # strategy they must be made in its scope.
        model.optimizer.build(model.trainable_variables)


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


def prediction_names(recipe: Recipe, num_classes: int) -> set[str]:
    """Returns the paths of the variables of the network without its auxiliary heads."""
    with dtype_policy(recipe.mixed_precision):
        model = blueprint(
            recipe.model,
            num_classes=num_classes,
            image_shape=recipe.preprocessing.image_shape,
            aux_outputs=False,
            **recipe.model_args,
        )
    return {variable.path for variable in model.weights}


@contextlib.contextmanager
def dtype_policy(mixed_precision: str | None) -> Iterator[None]:
    """Sets Keras's policy while the context lasts."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{mixed_precision}" if mixed_precision else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _scope(strategy):
    return strategy.scope() if strategy else contextlib.nullcontext()


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def _metrics(output: str, outputs: list[str], num_classes: int) -> list[keras.metrics.Metric]:
    # Keras puts an output's name before its metrics' where there are several outputs.
    prefix = "" if len(outputs) > 1 else f"{output}_"
    metrics = [keras.metrics.SparseCategoricalAccuracy(name=f"{prefix}accuracy")]
    if output == MAIN_OUTPUT and num_classes > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name=f"{prefix}top5"))
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
