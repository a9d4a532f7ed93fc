"""A small residual network for thousands of characters: what the package's recogniser is."""

from collections.abc import Sequence

import keras
from keras import layers

from hccr_tf.models.blocks import convolution, image_input
from hccr_tf.models.layers import GlobalWeightedAveragePooling2D
from hccr_tf.models.registry import FEATURE_MAP, MAIN_OUTPUT, POOLING, register_model
from hccr_tf.utils.errors import HccrError

_WIDTHS = (32, 96, 192, 320)
_MOMENTUM = 0.95  # moving statistics follow within a hundred steps: small data have no more


@register_model
def compact_net(
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (64, 64, 1),
    aux_outputs: bool = True,
    width: int = 32,
    blocks: int | Sequence[int] = 1,
    dropout: float = 0.2,
) -> keras.Model:
    """Ours: four scales of residual 3×3 convolutions, weighted average pooling (GWAP).

    Halving comes early and widths grow late, so that an image costs a tenth of Melnyk-Net's
    arithmetic; the classifier reads few features, as with thousands of classes it has most of the
    weights.

    `width` are the channels of the first scale; the others have 3, 6 and 10 times as many.
    `blocks` are residual convolutions at each scale, one number for all or one a scale. All but
    the first begin as if they weren't there, so that a trained network can be given more
    (`--init-from`). `dropout` is the share of the pooled features that is dropped in training.
    4.3 million parameters and 0.09 G multiply–accumulates an image at 6,763 classes and 64×64.

    Raises:
        HccrError: a width or a number of blocks under 1.
    """
    counts = [blocks] * len(_WIDTHS) if isinstance(blocks, int) else list(blocks)
    if width < 1 or len(counts) != len(_WIDTHS) or min(counts) < 1:
        raise HccrError(f"width and blocks are at least 1, not {width} and {blocks}.")
    widths = [w * width // _WIDTHS[0] for w in _WIDTHS]

    # === Functional Model ===
    inputs, x = image_input(image_shape, "compact_net")
    for i, filters in enumerate(widths):
        x = _conv(x, filters, f"scale{i}", strides=2)
        x = layers.ReLU(name=f"scale{i}_relu")(x)
        for j in range(counts[i]):
            last = (i, j) == (len(widths) - 1, counts[-1] - 1)
            name = f"scale{i}_block{j}"
            y = _conv(x, filters, name, gain="zeros" if j else "ones")
            x = layers.Add(name=f"{name}_add")([x, y])
            x = layers.ReLU(name=FEATURE_MAP if last else f"{name}_relu")(x)
    x = GlobalWeightedAveragePooling2D(name=POOLING)(x)
    # Features that are never negative have a large part in common, which tells no class from
    # another; without it thousands of classes begin to be told apart many times sooner.
    x = layers.BatchNormalization(momentum=_MOMENTUM, name="features_bn")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name="compact_net")


def _conv(x, filters, name, strides=1, gain="ones"):
    x = convolution(x, filters, 3, f"{name}_conv", strides=strides, use_bias=False)
    return layers.BatchNormalization(momentum=_MOMENTUM, gamma_initializer=gain, name=f"{name}_bn")(
        x
    )
