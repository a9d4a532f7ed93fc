"""Melnyk-Net of Melnyk, You & Li 2018: fourteen convolutions, a pooling and a classifier.

Convolutions stand in blocks of three with a narrow one in the middle (section 3.2). The
three networks of table 1 differ in their pooling only: a mean, a sum with a weight for
each channel, or a sum with a weight for each place of each channel.
"""

from functools import partial

import keras
from keras import layers

from hccr_tf.models.blocks import convolution, image_input
from hccr_tf.models.layers import (
    GlobalWeightedAveragePooling2D,
    GlobalWeightedOutputAveragePooling2D,
    SameAveragePooling2D,
)
from hccr_tf.models.registry import FEATURE_MAP, MAIN_OUTPUT, POOLING, register_model
from hccr_tf.utils.errors import HccrError

# Table 1, widths of the convolutions between poolings.
_BLOCKS = ((64, 64), (96, 64, 96), (128, 96, 128), (256, 192, 256), (448, 256, 448))
_TABLE_WIDTH = 64


def _melnyk_net(
    name: str,
    pooling: type[layers.Layer],
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (96, 96, 1),
    aux_outputs: bool = True,
    width: int = 64,
    l2: float = 1e-3,
    dropout: float = 0.5,
) -> keras.Model:
    """Builds one of the three networks, with the last pooling given.

    `width` are the filters of the first convolution, to which the others are in proportion; `l2`
    is the weight of the squared weights of convolutions and classifier in the loss, its bias
    included, `dropout` the share of the pooled features that is dropped in training. 6,507,691
    parameters (A), 6,508,139 (B) and 6,523,819 (C, at 96×96) at 3755 classes.

    Raises:
        HccrError: a width under 1.
    """
    if width < 1:
        raise HccrError(f"width is at least 1, not {width}.")

    # === Functional Model ===
    inputs, x = image_input(image_shape, name, scale=1.0)  # 0-255, as the released code
    for i, block in enumerate(_BLOCKS):
        if i:
            x = SameAveragePooling2D(3, strides=2, name=f"pool{i}")(x)
        for j, filters in enumerate(block, start=1):
            last = (i, j) == (len(_BLOCKS) - 1, len(block))
            x = _conv(
                x,
                max(1, round(filters * width / _TABLE_WIDTH)),
                l2,
                name=f"block{i}_conv{j}",
                relu_name=FEATURE_MAP if last else f"block{i}_relu{j}",
            )
    x = pooling(name=POOLING)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),  # section 4.2
        kernel_regularizer=keras.regularizers.L2(l2),
        bias_regularizer=keras.regularizers.L2(l2),  # released code
        dtype="float32",
        name=MAIN_OUTPUT,
    )(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name=name)


def _conv(x, filters, l2, name, relu_name):
    # The text's "stride 2" contradicts the sizes of its own table; no biases, since the
    # normalisation has them (section 3.1).
    decay = keras.regularizers.L2(l2)
    x = convolution(x, filters, 3, name, use_bias=False, kernel_regularizer=decay)
    x = layers.BatchNormalization(name=name.replace("conv", "bn"))(x)
    return layers.ReLU(name=relu_name)(x)


for _pooling, _text in (
    (layers.GlobalAveragePooling2D, "A: global average pooling"),
    (GlobalWeightedOutputAveragePooling2D, "B: global weighted output average pooling (GWOAP)"),
    (GlobalWeightedAveragePooling2D, "C, Melnyk-Net: global weighted average pooling (GWAP)"),
):
    _name = f"melnyk_net_{_text[0].lower()}"
    register_model(
        partial(_melnyk_net, _name, _pooling), _name, f"Melnyk, You & Li 2018, model {_text}."
    )
