"""What a network costs: parameters, megabytes, multiply–accumulates.

One multiply–accumulate is one product that is added to a sum (Melnyk et al. 2018, eq. 2).
Convolutions, dense layers and the matrices of recurrent ones are counted; what is done once for
each value, such as normalisation, activation and plain pooling, is not, and neither are biases.
"""

import math
from dataclasses import dataclass

import keras
from keras import layers

from hccr_tf.models.abstract import without_values
from hccr_tf.utils.errors import HccrError


@dataclass(frozen=True)
class LayerCost:
    """One call of one layer."""

    name: str  # with the names of the models around it, "/" between them
    kind: str  # its class
    output_shape: tuple[int | None, ...]  # without the batch; that of the first output
    parameters: int  # values of its variables; 0 where an earlier call has counted them
    macs: int  # multiply–accumulates for one image


def layer_costs(model: keras.Model) -> list[LayerCost]:
    """Lists the cost of every layer's calls for one image, those of models inside one by one.

    A layer that isn't one of Keras's can count for itself: a method `count_macs(*input_shapes)`,
    given the shapes of its inputs without the batch.

    Args:
        model: functional, with images of known size.

    Raises:
        HccrError: a layer with a matrix that nothing here can count.
    """
    costs: list[LayerCost] = []
    # A copy of the graph, without values, is called layer by layer: Keras has no other public
    # way to see every call.
    without_values(lambda: _visit(model, "", costs, set()))
    return costs


def count_macs(model: keras.Model) -> int:
    """Counts the multiply–accumulates of one image; see `layer_costs`."""
    return sum(cost.macs for cost in layer_costs(model))


def cost_table(model: keras.Model) -> str:
    """Writes a functional model's layers and their costs as text, the sums last."""
    costs = layer_costs(model)
    width = max(len(cost.name) for cost in costs) + 2
    lines = [f"{'layer':<{width}}{'kind':<34}{'output':<18}{'parameters':>12}{'MAC':>16}"]
    for cost in costs:
        shape = "×".join(map(str, cost.output_shape))
        lines.append(
            f"{cost.name:<{width}}{cost.kind:<34}{shape:<18}{cost.parameters:>12,}{cost.macs:>16,}"
        )
    convolutions = sum(cost.macs for cost in costs if "Conv" in cost.kind)
    total = sum(cost.macs for cost in costs)
    lines += [
        f"parameters              {model.count_params():,} ({size_mb(model):.1f} MB as float32)",
        f"multiply–accumulates    {total / 1e9:.4f} G, {convolutions / 1e9:.4f} G of them in "
        "convolutions",
    ]
    return "\n".join(lines)


def size_mb(model: keras.Model) -> float:
    """Size of a model's parameters as float32, in MB of 2^20 bytes, as the papers count them."""
    return model.count_params() * 4 / 2**20


def _visit(model: keras.Model, prefix: str, costs: list[LayerCost], counted: set[str]) -> None:
    def call(layer, *args, **kwargs):
        name = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            _visit(keras.Model(layer.inputs, layer.outputs), f"{name}/", costs, counted)
            return layer(*args, **kwargs)
        outputs = layer(*args, **kwargs)
        input_shapes = [
            tuple(x.shape[1:])
            for x in keras.tree.flatten((args, kwargs))
            if isinstance(x, keras.KerasTensor)
        ]
        output_shape = tuple(keras.tree.flatten(outputs)[0].shape[1:])
        known = name in counted or not isinstance(layer, layers.Layer)  # a bare operation
        parameters = 0 if known else layer.count_params()
        counted.add(name)
        macs = _macs(layer, input_shapes, output_shape)
        costs.append(LayerCost(name, type(layer).__name__, output_shape, parameters, macs))
        return outputs

    keras.models.clone_model(model, call_function=call)


def _macs(layer, input_shapes, output_shape) -> int:
    if hasattr(layer, "count_macs"):
        return layer.count_macs(*input_shapes)
    if not input_shapes:
        return 0
    # Bare operations have no variables; some multiply matrices all the same.
    matrices = [v for v in getattr(layer, "weights", ()) if len(v.shape) >= 2]
    for kinds, shape in ((_AT_INPUTS, input_shapes[0]), (_AT_OUTPUTS, output_shape)):
        if isinstance(layer, kinds):
            kernels = sum(math.prod(v.shape) for v in matrices if v.name.endswith("kernel"))
            return math.prod(shape[:-1]) * kernels
    if isinstance(layer, _UNCOUNTED) or type(layer).__name__ in _PRODUCTS or matrices:
        raise HccrError(
            f"The multiply–accumulates of layer {layer.name!r} ({type(layer).__name__}) aren't "
            "known; give its class a method count_macs(*input_shapes)."
        )
    return 0


# Layers that use each value of their kernels once at every place of their input, such as a step
# of a sequence; a recurrent cell takes one.
_AT_INPUTS = (
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Dense),
    *(layers.SimpleRNN, layers.GRU, layers.LSTM),
    *(layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell),
)
# And those that do at every place of their output.
_AT_OUTPUTS = (
    *(layers.Conv1D, layers.DepthwiseConv1D, layers.SeparableConv1D),
    *(layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D),
)
_UNCOUNTED = (layers.AdditiveAttention, layers.Attention, layers.Dot)
_PRODUCTS = {
    *("Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"),
    *("Dot", "Einsum", "Matmul", "Tensordot", "Vdot"),
}
