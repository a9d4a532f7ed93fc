"""Statistics of batch normalisation for the weights that are validated: precise BN.

Keras averages them over the last hundred steps, beginning with those of no image at all. A run of
few steps is then judged by statistics of weights that it no longer has: it reads in training, and
not when it's evaluated. So they are estimated anew from some training batches before each
validation, and kept with the weights (Wu & Johnson 2021, section 3). Training doesn't read them.
"""

import keras

from hccr_tf.data.loading.loader import Loader
from hccr_tf.training.compilation import all_layers

_FEWEST, _MOST = 4, 100  # batches; of a hundred Keras's own averages consist at its momentum
_SHARE = 100  # one batch for so many of the epoch's: about a hundredth of the time


def estimate_statistics(model: keras.Model, train: Loader, epoch: int) -> None:
    """Sets the moving statistics of all layers that learn by an epoch's training batches.

    They're averages over the first hundredth of the epoch's batches, 4 to 100 of them.
    """
    layers = [
        layer
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not layers:
        return
    for layer in layers:
        for variable in (layer.moving_mean, layer.moving_variance):
            variable.assign(keras.ops.zeros(variable.shape))
    # The last batch can be of a single image, which has no variance.
    whole = max(1, train.steps_per_epoch - 1)
    number = min(whole, max(_FEWEST, min(_MOST, train.steps_per_epoch // _SHARE)))
    for step in range(number):
        model(train.batch(epoch, step).images, training=True)
    for layer in layers:
        # From 0 on, the weights of so many steps add up to this.
        total = 1 - layer.momentum**number
        for variable in (layer.moving_mean, layer.moving_variance):
            variable.assign(variable / total)
