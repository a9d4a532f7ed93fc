"""Models by name, and the contract each of them keeps.

A builder takes `num_classes`, `image_shape`, `aux_outputs` and its own keyword
arguments and returns a functional `keras.Model`:

- Input: uint8 (B, H, W, 1), values 0-255. The layer `INPUT_SCALING` casts and scales.
- Output: a dict of logits (B, num_classes) by name, in float32 also under mixed
  precision. `MAIN_OUTPUT` is the one for prediction; heads for training only are left
  out with `aux_outputs=False`, and a network without any ignores that argument.
- The layers `FEATURE_MAP` (last B×h×w×c map), `POOLING` (what makes a vector of it) and
  `MAIN_OUTPUT` (the classifier) exist under these names, so activation maps, new heads
  and export find them in any network.
- Output layers have their outputs' names. What belongs to the classes, `class_variables`, is
  replaced with a new charset.
- A network with refinement takes `attention_outputs`, `steps` and `aux_outputs`; `UNION` joins
  the maps that it reads. Asked for, the attention of its steps, `ATTENTION` with the step's
  number, is in the output too: float32 (B, N), no logits.
- A network may be made of another package's, the model `BACKBONE` inside; its builder takes
  `weights` for that one's.
- Every layer is named, so weights are matched by name, never by order.

A family, such as `keras.applications`, is one builder for many networks: its first argument is
what follows the colon in "applications:MobileNetV3Large".
"""

import inspect
from collections.abc import Callable
from functools import partial

import keras

from hccr_tf.models.abstract import without_values
from hccr_tf.utils.errors import HccrError, unknown

INPUT_SCALING = "input_scaling"
FEATURE_MAP = "feature_map"
POOLING = "pooling"
MAIN_OUTPUT = "main_output"
BACKBONE = "backbone"
UNION = "union"
ATTENTION = "attention"

Builder = Callable[..., keras.Model]
_BUILDERS: dict[str, Builder] = {}
_DESCRIPTIONS: dict[str, str] = {}
_FAMILIES: dict[str, Builder] = {}
_MOST = 8192  # units of a layer, or layers
_CONTRACT_ARGUMENTS = ("num_classes", "image_shape", "aux_outputs")


def register_model(
    builder: Builder, name: str | None = None, description: str | None = None
) -> Builder:
    """Registers a builder under its function's name, and returns it.

    A partial function, for one of several networks of a function, has a name of its own, and a
    description: the paper and what the network is, in a line.
    """
    name = name or builder.__name__
    if name in _BUILDERS:
        raise HccrError(f"A model named {name!r} is registered already.")
    if missing := set(_CONTRACT_ARGUMENTS) - set(inspect.signature(builder).parameters):
        raise TypeError(f"Builder {name!r} lacks the arguments {sorted(missing)}.")
    _BUILDERS[name] = builder
    _DESCRIPTIONS[name] = description or (inspect.getdoc(builder) or name).splitlines()[0]
    return builder


def register_family(builder: Builder) -> Builder:
    """Registers a builder of many networks, "FUNCTION:NAME" each; the name goes first."""
    _FAMILIES[builder.__name__] = builder
    _DESCRIPTIONS[builder.__name__] = (inspect.getdoc(builder) or builder.__name__).splitlines()[0]
    return builder


def list_models() -> list[str]:
    """Names that `create_model` takes, sorted; those of families aren't listed."""
    return sorted(_BUILDERS)


def list_families() -> list[str]:
    """What stands before the colon in the names of families' networks, sorted."""
    return sorted(_FAMILIES)


def model_arguments(name: str) -> dict[str, object]:
    """A model's own keyword arguments with their defaults; name may be a family's."""
    parameters = inspect.signature(_builder(name)).parameters
    shared = (*_CONTRACT_ARGUMENTS, "weights")
    return {k: p.default for k, p in parameters.items() if k not in shared}


def takes_weights(name: str) -> bool:
    """Whether a model is made of another package's network, whose weights it can be given."""
    return "weights" in inspect.signature(_builder(name)).parameters


def model_description(name: str) -> str:
    """Says in one line what a model is; name may be a family's."""
    _builder(name)
    return _DESCRIPTIONS.get(name) or _DESCRIPTIONS[name.partition(":")[0]]


def create_model(
    name: str,
    *,
    num_classes: int,
    image_shape: tuple[int, int, int] | None = None,
    aux_outputs: bool = True,
    weights: str | None = None,
    **arguments,
) -> keras.Model:
    """Builds a registered model with fresh weights, but for those that are given.

    Args:
        name: one of `list_models()`.
        num_classes: width of every output.
        image_shape: (H, W, 1) of the images, in pixels; that of the network's paper if None.
        aux_outputs: whether to build heads that serve training only.
        weights: of the backbone in a network of `keras.applications`: "imagenet", or an HDF5
            file of the kind that Keras fetches for it.
        **arguments: the model's own; see `model_arguments(name)`.

    Returns:
        A functional model from uint8 (B, H, W, 1) to a dict of logits (B, num_classes).

    Raises:
        HccrError: unknown name or argument, or sizes that the network can't take.
        WeightsError: weights that don't fit, or that can't be fetched.

    Example:
        >>> model = create_model("brick_net", num_classes=10, image_shape=(64, 64, 1),
        ...                      num_bricks=3)
        >>> sorted(model.output)
        ['aux_output1', 'aux_output2', 'main_output']
    """
    builder = _builder(name)
    known = model_arguments(name)
    for argument in sorted(set(arguments) - set(known)):
        raise unknown(f"argument of {name}", argument, sorted(known))
    if too_large := {k: v for k, v in arguments.items() if _largest(v) > _MOST}:
        raise HccrError(f"{name} can't be built with {too_large}: numbers are at most {_MOST}.")
    if num_classes < 2:
        raise HccrError(f"num_classes is at least 2, not {num_classes}.")
    if image_shape is None:
        image_shape = inspect.signature(builder).parameters["image_shape"].default
    if len(image_shape) != 3 or image_shape[-1] != 1 or min(image_shape[:2]) < 1:
        raise HccrError(f"image_shape is (height, width, 1), not {image_shape}.")
    if weights is not None:
        if not takes_weights(name):
            raise HccrError(
                f"{name} is no network of another package: it takes no weights. Those of a run "
                "of this one are taken by --init-from."
            )
        arguments["weights"] = weights
    shared = {"num_classes": num_classes, "image_shape": tuple(image_shape)}
    try:
        return builder(**shared, aux_outputs=aux_outputs, **arguments)
    except TypeError as error:
        # A text where a number belongs, from a command line.
        given = ", ".join(f"{k}={v!r}" for k, v in arguments.items())
        raise HccrError(f"{name} can't be built with {given}: {error}") from error


def blueprint(name: str, **arguments) -> keras.Model:
    """What `create_model` builds, but without values, so that the largest network costs nothing."""
    return without_values(lambda: create_model(name, **arguments))


def is_refined(name: str) -> bool:
    """Whether a registered network reads its maps by iterative refinement."""
    return "attention_outputs" in model_arguments(name)


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers up to the feature map, in their order: all that isn't classifier.

    Where the network is made of another package's, that one's layers, as it counts them.
    """
    layers = keras.Model(model.input, model.get_layer(FEATURE_MAP).output).layers
    nested = [layer for layer in layers if layer.name == BACKBONE]
    return nested[0].layers if nested else layers


def class_variables(name: str, **arguments) -> dict[str, int]:
    """The axis that counts classes, by the path of each variable that has one.

    Arguments are those of `create_model`, without `num_classes`.
    """
    few, more = (blueprint(name, num_classes=n, **arguments).weights for n in (2, 3))
    return {
        v.path: axis
        for v, w in zip(few, more, strict=True)
        for axis, (a, b) in enumerate(zip(v.shape, w.shape, strict=True))
        if a != b
    }


def _largest(value: object) -> float:
    """The largest number in an argument."""
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0)
    return abs(value) if isinstance(value, int | float) else 0


def _builder(name: str) -> Builder:
    family, colon, member = name.partition(":")
    if family in _FAMILIES and (member or not colon):
        return partial(_FAMILIES[family], member)
    if name not in _BUILDERS:
        raise unknown("model", name, [*list_models(), *(f"{f}:NAME" for f in list_families())])
    return _BUILDERS[name]
