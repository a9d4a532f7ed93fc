"""M-RBC of Yang et al. 2017 and its baselines, each alone and with iterative refinement.

Six blocks of two convolutions at three scales; the multi-scale residual block cascade reads
the vectors of all three scales, its baselines those of the last one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
from keras import layers

from hccr_tf.models.blocks import convolution, image_input
from hccr_tf.models.layers import AdditiveAttention, RefinementStart, UnionOfVectors
from hccr_tf.models.registry import (
    ATTENTION,
    FEATURE_MAP,
    MAIN_OUTPUT,
    POOLING,
    UNION,
    create_model,
    register_model,
)
from hccr_tf.utils.errors import HccrError

_SCALE_NAMES = ("scale1", "scale2", FEATURE_MAP)  # a2, a5, a8 of figure 4


@register_model
def refined(
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (64, 64, 1),
    aux_outputs: bool = True,
    backbone: str = "mrbc",
    backbone_args: Mapping[str, Any] | None = None,
    width: int | None = None,
    maps: Sequence[str] = (FEATURE_MAP,),
    channels: int | None = None,
    steps: int = 4,
    attention_width: int = 128,
    units: int = 512,
    gru_bias: bool = False,
    reset_after: bool = False,
    attention_outputs: bool = False,
) -> keras.Model:
    """Yang et al. 2017, iterative refinement over the maps of any registered network.

    Of `backbone`, a registered model with arguments of its own, all behind the `maps` is left out:
    layers whose outputs, (B, h, w, K) each, are read together; a text is parted at its commas.
    Where their channels differ, a 1×1 convolution of each makes K `channels`, the last map's if
    None. `width`, if given, is among the backbone's arguments. `steps` is T, and weights of one T
    work with any other; `attention_width` is A (reading 5). The GRU has no biases in eqs. 11 to
    13, and the reset gate before the product in eq. 13; `reset_after` is the form that cuDNN
    computes (reading 3). `aux_outputs` and `attention_outputs` are the predictions before the last
    and the attention of every step.

    Returns:
        Logits (B, C) by name, "step1" … of the first steps and "main_output" of the last one; with
        `attention_outputs` also "attention1" …, float32 (B, N), each summing to 1 over the places
        of all maps, in their order and row by row.

    Raises:
        HccrError: no steps, no maps, one that the backbone doesn't have, or a single vector
            in all, which leaves attention no choice.
    """
    if steps < 1:
        raise HccrError(f"steps is at least 1, not {steps}.")
    if isinstance(maps, str):
        maps = maps.split(",")
    if not maps:
        raise HccrError("Refinement reads at least one map.")
    backbone_args = dict(backbone_args or {})
    if taken := {"num_classes", "image_shape", "aux_outputs"} & set(backbone_args):
        raise HccrError(f"backbone_args can't hold {sorted(taken)}: the network's own are taken.")
    if width is not None:
        backbone_args["width"] = width
    network = create_model(
        backbone,
        num_classes=num_classes,
        image_shape=image_shape,
        aux_outputs=False,
        **backbone_args,
    )
    tensors = [_map(network, name) for name in maps]

    # === Functional Model ===
    if len({tensor.shape[-1] for tensor in tensors}) > 1:
        channels = channels or tensors[-1].shape[-1]
    if channels is not None:
        tensors = [
            layers.Conv2D(channels, 1, name=f"refinement_projection{i}")(tensor)
            for i, tensor in enumerate(tensors, start=1)
        ]
    vectors = UnionOfVectors(name=UNION)(tensors)
    if vectors.shape[1] < 2:
        raise HccrError(
            f"The map {maps[0]!r} of {backbone} is a single place at {image_shape[0]}×"
            f"{image_shape[1]}; name earlier maps, or take larger images."
        )
    keys = layers.Dense(attention_width, use_bias=False, name="refinement_keys")(vectors)
    ask = layers.Dense(attention_width, use_bias=False, name="refinement_query")
    attend = AdditiveAttention(name="refinement_attention")
    # Half-precision states would drift from step to step.
    cell = layers.GRUCell(
        units, use_bias=gru_bias, reset_after=reset_after, dtype="float32", name="refinement_gru"
    )
    classify = layers.Dense(num_classes, dtype="float32", name="refinement_classifier")
    softmax = layers.Softmax(dtype="float32", name="refinement_softmax")
    start = RefinementStart(num_classes, units, dtype="float32", name="refinement_start")
    prediction, state = start(vectors)
    outputs = {}
    for step in range(1, steps + 1):
        context, attention = attend(ask(prediction), keys, vectors)
        state, _ = cell(context, [state])
        if step == steps:
            state = layers.Identity(dtype="float32", name=POOLING)(state)
        logits = classify(state)
        prediction = softmax(logits)
        name = MAIN_OUTPUT if step == steps else f"step{step}"
        if aux_outputs or step == steps:
            outputs[name] = layers.Identity(dtype="float32", name=name)(logits)
        if attention_outputs:
            name = f"{ATTENTION}{step}"
            outputs[name] = layers.Identity(dtype="float32", name=name)(attention)
    return keras.Model(network.input, outputs, name=f"refined_{network.name}")


def _map(network: keras.Model, name: str):
    outputs = [layer.output for layer in network.layers if layer.name == name]
    if not outputs or len(outputs[0].shape) != 4:
        names = [
            layer.name for layer in network.layers if len(getattr(layer.output, "shape", ())) == 4
        ]
        raise HccrError(f"{network.name} has no map {name!r}; it has {', '.join(names)}.")
    return outputs[0]


def _classifier(
    name: str,
    residual: bool,
    maps: Sequence[str],
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] = (64, 64, 1),
    aux_outputs: bool = True,
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2),
    project_first: bool = True,
    pooled: str = "mean",
) -> keras.Model:
    """Builds blocks of convolutions at three scales, and a classifier of the vectors of `maps`.

    Blocks have shortcuts where they're residual. `width` is K, the channels of every convolution,
    `blocks` how many stand at each of the three scales (reading 1). Since the image has one
    channel, the first residual block has a 1×1 convolution as its shortcut, or none without
    `project_first` (reading 1). The "mean" or "max" of the vectors, `pooled`, goes into the dense
    layer (reading 6).

    Raises:
        HccrError: images under 4×4, a width under 1, another number of scales, or another
            pooling.
    """
    poolings = {"mean": layers.GlobalAveragePooling1D, "max": layers.GlobalMaxPooling1D}
    if width < 1:
        raise HccrError(f"width is at least 1, not {width}.")
    if len(blocks) != len(_SCALE_NAMES) or min(blocks) < 1:
        raise HccrError(f"blocks are {len(_SCALE_NAMES)} numbers of at least 1, not {blocks}.")
    if pooled not in poolings:
        raise HccrError(f'pooled is "mean" or "max", not {pooled!r}.')

    # === Functional Model ===
    least = 2 ** (len(_SCALE_NAMES) - 1)
    inputs, x = image_input(image_shape, f"{len(_SCALE_NAMES)} scales", least=least)
    scales, number = {}, 0
    for i, scale in enumerate(_SCALE_NAMES):
        if i:
            x = layers.MaxPooling2D(2, name=f"pool{i}")(x)
        for _ in range(blocks[i]):
            number += 1
            x = _block(x, width, residual and (number > 1 or project_first), name=f"block{number}")
        x = scales[scale] = layers.Identity(name=scale)(x)
    vectors = UnionOfVectors(name=UNION)([scales[name] for name in maps])
    x = poolings[pooled](name=POOLING)(vectors)
    x = layers.Dense(num_classes, dtype="float32", name=MAIN_OUTPUT)(x)
    return keras.Model(inputs, {MAIN_OUTPUT: x}, name=name)


def _block(x, width, residual, name):
    y = _conv(_conv(x, width, f"{name}_conv1"), width, f"{name}_conv2")
    if not residual:
        return y
    if x.shape[-1] != width:
        # The first block only (reading 1).
        x = layers.Conv2D(width, 1, name=f"{name}_shortcut")(x)
    return layers.Add(name=f"{name}_add")([x, y])


def _conv(x, width, name):
    x = convolution(x, width, 3, name, use_bias=False)
    x = layers.BatchNormalization(name=name.replace("conv", "bn"))(x)
    return layers.ReLU(name=name.replace("conv", "relu"))(x)


_LAST = _SCALE_NAMES[-1:]
for _name, _title, _text, _residual, _maps in (
    ("convnet", "ConvNet", "twelve convolutions without shortcuts", False, _LAST),
    ("resnet", "ResNet", "six residual blocks, read at their last scale only", True, _LAST),
    ("mrbc", "M-RBC", "the multi-scale residual block cascade", True, _SCALE_NAMES),
):
    _title = f"Yang et al. 2017, {_title}"
    register_model(partial(_classifier, _name, _residual, _maps), _name, f"{_title}: {_text}.")
    register_model(
        partial(refined, backbone=_name, maps=_maps),
        f"{_name}_ir",
        f"{_title} + IR: `{_name}`, read by iterative refinement.",
    )
