"""Multiply–accumulates against the paper's formula and numbers."""

import keras
import pytest
from keras import layers

from hccr_tf.evaluation.complexity import cost_table, count_macs, layer_costs, size_mb
from hccr_tf.models import blueprint, list_models
from hccr_tf.models.layers import GlobalWeightedAveragePooling2D


def one_layer(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        # By equation 2. H=W=10, P=1, R=Q=3, S=1, C=4, M=7.
        (layers.Conv2D(7, 3, padding="same"), (10, 10, 4), (10 + 2 - 3 + 1) ** 2 * 3 * 3 * 4 * 7),
        # H=W=11, P=0, R=5, Q=3, S=2: (11 - 5 + 2) / 2 = 4 rows, (11 - 3 + 2) / 2 = 5 columns.
        (layers.Conv2D(7, (5, 3), strides=2), (11, 11, 4), 4 * 5 * 5 * 3 * 4 * 7),
        (layers.Conv2D(8, 3, groups=2, padding="same"), (6, 6, 4), 36 * 9 * 2 * 8),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 4), 16 * 9 * 8),
        (layers.SeparableConv2D(5, 3, padding="same"), (6, 6, 4), 36 * (9 * 4 + 4 * 5)),
        (layers.Conv2DTranspose(5, 2, strides=2), (3, 3, 4), 9 * 4 * 4 * 5),
        (layers.Dense(5), (4,), 20),
        (layers.Dense(5), (3, 4), 60),
        (layers.GRU(5), (7, 4), 7 * 3 * 5 * (4 + 5)),
        (layers.LSTM(5), (7, 4), 7 * 4 * 5 * (4 + 5)),
        (layers.BatchNormalization(), (6, 6, 4), 0),
        (GlobalWeightedAveragePooling2D(), (6, 6, 4), 144),
    ],
)
def test_kinds_of_layers_by_hand(layer, shape, expected):
    assert count_macs(one_layer(layer, shape)) == expected


def test_a_layer_that_is_called_twice_counts_twice_and_is_stored_once():
    dense = layers.Dense(4)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, dense(dense(inputs)))
    assert count_macs(model) == 32
    assert [cost.parameters for cost in layer_costs(model)] == [20, 0]


def test_models_inside_are_counted_layer_by_layer():
    inner = one_layer(layers.Dense(3, name="dense"), (4,))
    sequence = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="last")])
    inputs = keras.Input((4,))
    costs = [(c.name, c.macs) for c in layer_costs(keras.Model(inputs, sequence(inner(inputs))))]
    assert costs == [(f"{inner.name}/dense", 12), (f"{sequence.name}/last", 6)]


def test_what_cannot_be_counted_is_named():
    @keras.saving.register_keras_serializable("test_complexity")
    class Strange(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

        def call(self, x):
            return keras.ops.matmul(x, self.kernel)

    with pytest.raises(ValueError, match=r"of layer 'odd' \(Strange\) aren't known"):
        count_macs(one_layer(Strange(name="odd"), (4,)))
    inputs = keras.Input((4, 4))
    with pytest.raises(ValueError, match="Matmul"):
        count_macs(keras.Model(inputs, keras.ops.matmul(inputs, inputs)))
    both = [keras.Input((4, 5)), keras.Input((6, 5))]
    with pytest.raises(ValueError, match=r"\(Attention\) aren't known"):
        count_macs(keras.Model(both, layers.Attention()(both)))
    Strange.count_macs = lambda self, shape: shape[-1] ** 2
    assert count_macs(one_layer(Strange(), (4,))) == 16


@pytest.mark.parametrize("name", list_models())
def test_every_registered_model_can_be_counted(name):
    model = blueprint(name, num_classes=10)
    costs = layer_costs(model)
    assert sum(cost.macs for cost in costs) > 1e6
    assert sum(cost.parameters for cost in costs) == model.count_params()


def test_melnyk_nets_cost_what_the_paper_says():
    model = blueprint("melnyk_net_c", num_classes=3755)
    costs = layer_costs(model)
    assert round(sum(c.macs for c in costs if c.kind == "Conv2D") / 1e9, 4) == 1.1997
    assert round(count_macs(model) / 1e9, 4) == 1.2014
    assert round(size_mb(model), 1) == 24.9  # table 3
    assert "1.2014 G, 1.1997 G of them in convolutions" in cost_table(model)
    assert "6,523,819 (24.9 MB as float32)" in cost_table(model)
