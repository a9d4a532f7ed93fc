"""The brick network of Kriuk & Kriuk 2024, section 3.1.1 and released code.

Each brick is a convolution, a residual and an inception block and shrinks the image
to a quarter of its side; the last brick is a convolution only. Every full brick has
an auxiliary head, all heads share one label.
"""

from collections.abc import Sequence

import keras
from keras import layers

from hccr_tf.models.blocks import image_input
from hccr_tf.models.registry import FEATURE_MAP, MAIN_OUTPUT, POOLING, register_model
from hccr_tf.utils.errors import HccrError

# The table of the released code at width 32: first kernel and inception widths (a, b,
# c, d, e, g) of the full bricks. 182 and 364 break the doubling of 48 and 96; that is
# what was released.
_FULL_BRICKS = (
    (5, (32, 48, 64, 16, 32, 32)),
    (3, (64, 96, 128, 32, 64, 64)),
    (3, (128, 182, 256, 64, 128, 128)),
    (3, (256, 364, 512, 128, 256, 256)),
)
_TABLE_WIDTH = 32
_LAST_KERNEL = 3


@register_model
def brick_net(
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (256, 256, 1),
    aux_outputs: bool = True,
    num_bricks: int = 5,
    width: int = 32,
    aux_heads: Sequence[int] | None = None,
) -> keras.Model:
    """Kriuk & Kriuk 2024: bricks of residual and inception blocks, auxiliary heads.

    With `num_bricks=n` there are n - 1 full bricks and the convolution-only last brick,
    whose width continues the doubling; the paper's figure 9 compares n = 2 to 5. 406,894,284
    parameters at 7330 classes, 256×256, five bricks; 15,446,084 of them without auxiliary heads.

    `width` are the filters of the first brick; everything else is in proportion, except the dense
    layers. Under 16, TensorFlow 2.21 can crash on CPUs with AMX, in its own kernel of the strided
    1×1 shortcut. `aux_heads` are the full bricks that carry a head, named `aux_output1` …
    `aux_output{n-1}`; None for all, as in the paper. The first one holds most of the parameters.

    Raises:
        HccrError: another number of bricks, a width under 2, a head where no full brick
            is, an image too small.
    """
    if not 2 <= num_bricks <= len(_FULL_BRICKS) + 1:
        raise HccrError(f"num_bricks is 2 to {len(_FULL_BRICKS) + 1}, not {num_bricks}.")
    if width < 2:
        raise HccrError(f"width is at least 2, not {width}.")
    heads = range(1, num_bricks) if aux_heads is None else aux_heads
    if not set(heads) <= set(range(1, num_bricks)):
        raise HccrError(
            f"aux_heads are numbers of full bricks, 1 to {num_bricks - 1}, not {list(heads)}."
        )

    # === Functional Model ===
    least = smallest_image_size(num_bricks)
    inputs, x = image_input(image_shape, f"{num_bricks} bricks", least=least)
    outputs = {}
    for i, (kernel, inception) in enumerate(_FULL_BRICKS[: num_bricks - 1], start=1):
        filters = width * 2 ** (i - 1)
        widths = [max(1, round(w * width / _TABLE_WIDTH)) for w in inception]
        x = _full_brick(x, filters, kernel, widths, name=f"brick{i}")
        if aux_outputs and i in heads:
            outputs[f"aux_output{i}"] = _aux_head(x, num_classes, name=f"aux_output{i}")
    last = f"brick{num_bricks}"
    filters = width * 2 ** (num_bricks - 1)
    x = _conv(x, filters, _LAST_KERNEL, name=f"{last}_conv", activation="relu")
    x = layers.BatchNormalization(name=f"{last}_bn")(x)
    x = layers.Dropout(0.4, name=f"{last}_dropout")(x)
    x = layers.Identity(name=FEATURE_MAP)(x)
    x = layers.Flatten(name=POOLING)(x)
    x = layers.Dense(512, activation="relu", name="main_dense1")(x)
    x = layers.Dropout(0.6, name="main_dropout1")(x)
    x = layers.Dense(256, activation="relu", name="main_dense2")(x)
    x = layers.Dropout(0.6, name="main_dropout2")(x)
    outputs[MAIN_OUTPUT] = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, outputs, name="brick_net")


def smallest_image_size(num_bricks: int) -> int:
    """Smallest side in pixels that leaves every full brick something to pool.

    Example:
        >>> [smallest_image_size(n) for n in (2, 3, 4, 5)]
        [2, 6, 22, 86]
    """
    size = 2
    for _ in range(num_bricks - 2):
        # A brick halves twice: pooling rounds down, the strided convolution up.
        size = 2 * (2 * size - 1)
    return size


def _full_brick(x, filters, kernel, inception, name):
    x = _conv(x, filters, kernel, name=f"{name}_conv", activation="relu")
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = layers.Dropout(0.2, name=f"{name}_dropout")(x)
    x = _residual(x, filters, name=f"{name}_residual")
    return _inception(x, *inception, name=f"{name}_inception")


def _residual(x, filters, name):
    # Of a single pixel both strides give the same. TensorFlow 2.21 on CPUs leaves parts of the
    # strided one's bfloat16 gradient unwritten, so that whatever lay in memory is learnt.
    strides = 1 if x.shape[1] == x.shape[2] == 1 else 2
    shortcut = _conv(x, filters, 1, strides=strides, name=f"{name}_shortcut_conv")
    shortcut = layers.BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
    x = _conv(x, filters, 3, strides=strides, name=f"{name}_conv1")
    x = layers.BatchNormalization(name=f"{name}_bn1")(x)
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _conv(x, filters, 3, name=f"{name}_conv2")
    x = layers.BatchNormalization(name=f"{name}_bn2")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _inception(x, a, b, c, d, e, g, name):
    def relu_conv(x, filters, kernel, part):
        return _conv(x, filters, kernel, name=f"{name}_{part}", activation="relu")

    branches = [
        relu_conv(x, a, 1, "1x1"),
        relu_conv(relu_conv(x, b, 1, "3x3_reduce"), c, 3, "3x3"),
        relu_conv(relu_conv(x, d, 1, "5x5_reduce"), e, 5, "5x5"),
        relu_conv(
            layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x),
            g,
            1,
            "pool_proj",
        ),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def _aux_head(x, num_classes, name):
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(512, activation="relu", name=f"{name}_dense1")(x)
    x = layers.Dropout(0.5, name=f"{name}_dropout")(x)
    x = layers.Dense(256, activation="relu", name=f"{name}_dense2")(x)
    return layers.Dense(num_classes, dtype="float32", name=name)(x)


def _conv(x, filters, kernel, name, strides=1, activation=None):
    return layers.Conv2D(
        filters, kernel, strides=strides, padding="same", activation=activation, name=name
    )(x)
