"""HCCR-GoogLeNet of Zhong, Jin & Xie 2015 and an improved one: four inception modules."""

from functools import partial

import keras
from keras import layers

from hccr_tf.models.blocks import convolution, image_input
from hccr_tf.models.registry import FEATURE_MAP, MAIN_OUTPUT, POOLING, register_model
from hccr_tf.utils.errors import HccrError

# Widths of each module: 1×1; before and in 3×3; before and in 5×5; after the pooling. The first
# two are GoogLeNet's own, the others wider.
_MODULES = (
    ("inception3a", (64, 96, 128, 16, 32, 32)),
    ("inception3b", (128, 128, 192, 32, 96, 64)),
    ("inception4a", (160, 112, 224, 24, 64, 64)),
    ("inception4b", (256, 160, 320, 32, 128, 128)),
)
_POOLED = "inception3b"  # a pooling follows
_TABLE_WIDTH = 64


def _googlenet(
    name: str,
    improved: bool,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (112, 112, 1),
    aux_outputs: bool = True,
    width: int = 64,
    units: int = 1024,
    dropout: float = 0.4,
) -> keras.Model:
    """Builds a stem, four inception modules and a dense layer.

    Kriuk & Kriuk 2024, table 1 and Yang et al. 2017, table I, compare with Zhong et al. 2015. The
    paper isn't among this package's sources; of its widths, those are a reading: the four modules
    of GoogLeNet's stages 3 and 4, the later ones wider, which comes to 27.7 MB at 3,755 classes
    within a tenth. No paper here says what Kriuk & Kriuk's "Improved GoogLeNet" improved: ours has
    what networks had learnt since, batch normalisation after every convolution, two 3×3 in place
    of 5×5, and a shortcut around every module.

    `width` are the filters of the first convolution, to which the others are in proportion;
    `units` those of the dense layer, `dropout` the share dropped before it.

    Raises:
        HccrError: images under 16 pixels, a width under 8, or units under 1.
    """
    if width < 8 or units < 1:
        raise HccrError(f"width is at least 8 and units 1, not {width} and {units}.")

    def scaled(filters):
        return max(1, filters * width // _TABLE_WIDTH)

    # === Functional Model ===
    inputs, x = image_input(image_shape, name, least=16)
    x = _conv(x, width, 7, "conv1", improved, strides=2)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    x = _conv(x, width, 1, "conv2a", improved)
    x = _conv(x, scaled(192), 3, "conv2b", improved)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool2")(x)
    for module, widths in _MODULES:
        x = _inception(x, [scaled(w) for w in widths], module, improved)
        if module == _POOLED:
            x = layers.MaxPooling2D(3, 2, padding="same", name="pool3")(x)
    x = layers.Identity(name=FEATURE_MAP)(x)
    x = layers.GlobalAveragePooling2D(name=POOLING)(x)
    x = layers.Dense(units, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name=name)


def _inception(x, widths, name, improved):
    one, before3, three, before5, five, pooled = widths
    branches = [_conv(x, one, 1, f"{name}_1x1", improved)]
    y = _conv(x, before3, 1, f"{name}_before3x3", improved)
    branches.append(_conv(y, three, 3, f"{name}_3x3", improved))
    y = _conv(x, before5, 1, f"{name}_before5x5", improved)
    if improved:
        y = _conv(y, five, 3, f"{name}_5x5a", improved)
        branches.append(_conv(y, five, 3, f"{name}_5x5b", improved))
    else:
        branches.append(_conv(y, five, 5, f"{name}_5x5", improved))
    y = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches.append(_conv(y, pooled, 1, f"{name}_after_pool", improved))
    y = layers.Concatenate(name=f"{name}_joined")(branches)
    if improved:
        shortcut = convolution(x, y.shape[-1], 1, f"{name}_shortcut", use_bias=False)
        shortcut = layers.BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
        y = layers.Add(name=f"{name}_added")([shortcut, y])
    return y


def _conv(x, filters, kernel, name, improved, strides=1):
    x = convolution(x, filters, kernel, name, strides=strides, use_bias=not improved)
    if improved:
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


register_model(
    partial(_googlenet, "googlenet", False),
    "googlenet",
    "Zhong et al. 2015, HCCR-GoogLeNet: a stem, four inception modules, a dense layer.",
)
register_model(
    partial(_googlenet, "improved_googlenet", True),
    "improved_googlenet",
    'Our reading of Kriuk & Kriuk 2024\'s "Improved GoogLeNet": normalised, residual modules.',
)
