import keras
import numpy as np
import pytest
from keras import layers

from hccr_tf.models import MAIN_OUTPUT, create_model
from hccr_tf.models.abstract import without_values
from hccr_tf.models.brick_net import smallest_image_size

# Kriuk & Kriuk 2024, released code: f, first kernel, inception a, b, c, d, e, g.
TABLE = [
    (32, 5, 32, 48, 64, 16, 32, 32),
    (64, 3, 64, 96, 128, 32, 64, 64),
    (128, 3, 128, 182, 256, 64, 128, 128),
    (256, 3, 256, 364, 512, 128, 256, 256),
]


def released_network(image_size, num_classes):
    """The released architecture, written down from its description and nothing else."""
    image = keras.Input((image_size, image_size, 1))
    x = layers.Rescaling(1 / 255)(image)
    heads = []
    for f, kernel, a, b, c, d, e, g in TABLE:
        x = layers.Conv2D(f, kernel, padding="same", activation="relu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D((2, 2))(x)
        x = layers.Dropout(0.2)(x)

        shortcut = layers.Conv2D(f, 1, strides=2, padding="same")(x)
        shortcut = layers.BatchNormalization()(shortcut)
        x = layers.Conv2D(f, 3, strides=2, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.Conv2D(f, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Add()([shortcut, x])
        x = layers.ReLU()(x)

        one = layers.Conv2D(a, 1, padding="same", activation="relu")(x)
        three = layers.Conv2D(b, 1, padding="same", activation="relu")(x)
        three = layers.Conv2D(c, 3, padding="same", activation="relu")(three)
        five = layers.Conv2D(d, 1, padding="same", activation="relu")(x)
        five = layers.Conv2D(e, 5, padding="same", activation="relu")(five)
        pooled = layers.MaxPooling2D((3, 3), strides=1, padding="same")(x)
        pooled = layers.Conv2D(g, 1, padding="same", activation="relu")(pooled)
        x = layers.Concatenate()([one, three, five, pooled])

        head = layers.Flatten()(x)
        head = layers.Dense(512, activation="relu")(head)
        head = layers.Dropout(0.5)(head)
        head = layers.Dense(256, activation="relu")(head)
        heads.append(layers.Dense(num_classes)(head))
    x = layers.Conv2D(512, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.4)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dropout(0.6)(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.Dropout(0.6)(x)
    x = layers.Dense(num_classes)(x)
    return keras.Model(image, [*heads, x])


def blueprint(**arguments):
    return without_values(lambda: create_model("brick_net", **arguments))


def small(image_size, **arguments):
    shape = (image_size, image_size, 1)
    return create_model("brick_net", num_classes=3, image_shape=shape, width=16, **arguments)


# === The released architecture ===


def test_number_of_parameters_and_output_shape_of_every_brick():
    assert blueprint(num_classes=7330, aux_outputs=False).count_params() == 15_446_084
    model = blueprint(num_classes=7330)
    assert model.count_params() == 406_894_284
    shapes = [model.get_layer(f"brick{i}_inception_concat").output.shape[1:] for i in range(1, 5)]
    assert shapes == [(64, 64, 160), (16, 16, 320), (4, 4, 640), (1, 1, 1280)]
    assert model.get_layer("feature_map").output.shape[1:] == (1, 1, 512)


@pytest.mark.slow
def test_equal_weights_give_the_released_networks_outputs():
    ours = create_model("brick_net", num_classes=5, image_shape=(86, 86, 1))
    theirs = released_network(86, 5)
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    rng = np.random.default_rng(0)
    # Fresh biases and batch statistics are 0 and 1, and would hide an exchange.
    values = [
        w if w.ndim > 1 else w + rng.uniform(0, 0.3, w.shape).astype(w.dtype)
        for w in ours.get_weights()
    ]
    ours.set_weights(values)
    theirs.set_weights(values)
    images = rng.integers(0, 256, (2, 86, 86, 1), dtype=np.uint8)
    got = ours.predict_on_batch(images)
    want = theirs.predict_on_batch(images.astype(np.float32))
    names = ["aux_output1", "aux_output2", "aux_output3", "aux_output4", MAIN_OUTPUT]
    assert sorted(got) == names
    for name, logits in zip(names, want, strict=True):
        assert logits.std() > 1e-3
        np.testing.assert_allclose(got[name], logits, rtol=1e-4, atol=1e-5 * abs(logits).max())


def test_dropout_and_activations_are_the_released_ones():
    theirs = without_values(lambda: released_network(86, 5))
    ours = blueprint(num_classes=5, image_shape=(86, 86, 1))

    def settings(model):
        # Kinds in order; what weights can't tell lies in these settings.
        return [
            [
                tuple(layer.get_config().get(k) for k in ("rate", "activation", "pool_size"))
                for layer in model.layers
                if isinstance(layer, kind)
            ]
            for kind in (layers.Dropout, layers.Dense, layers.Conv2D, layers.MaxPooling2D)
        ]

    assert settings(ours) == settings(theirs)
    assert [len(found) for found in settings(ours)] == [11, 15, 41, 8]


# === Bricks, sizes and widths ===


@pytest.mark.parametrize("num_bricks", [2, 3, 4, 5])
def test_a_head_for_every_full_brick_and_a_last_brick_that_goes_on_doubling(num_bricks):
    model = blueprint(num_classes=3, image_shape=(96, 96, 1), num_bricks=num_bricks)
    heads = [f"aux_output{i}" for i in range(1, num_bricks)]
    assert list(model.output) == [*heads, MAIN_OUTPUT]
    names = {layer.name for layer in model.layers}
    assert f"brick{num_bricks}_inception_concat" not in names
    assert f"brick{num_bricks}_pool" not in names
    last = model.get_layer(f"brick{num_bricks}_conv")
    assert (last.filters, last.kernel_size) == (32 * 2 ** (num_bricks - 1), (3, 3))
    before = model.get_layer(f"brick{num_bricks - 1}_inception_concat")
    assert model.get_layer("feature_map").output.shape[1:3] == before.output.shape[1:3]


@pytest.mark.parametrize("heads", [(2, 3), [4], ()])
def test_heads_at_chosen_bricks(heads):
    arguments = {"num_classes": 3, "image_shape": (96, 96, 1)}
    model = blueprint(aux_heads=heads, **arguments)
    assert list(model.output) == [*(f"aux_output{i}" for i in heads), MAIN_OUTPUT]
    whole = {v.path: v.shape for v in blueprint(**arguments).weights}
    assert {v.path: v.shape for v in model.weights}.items() <= whole.items()
    prediction = blueprint(aux_heads=heads, aux_outputs=False, **arguments)
    assert list(prediction.output) == [MAIN_OUTPUT]


@pytest.mark.parametrize("num_bricks", [2, 3, 4, 5])
def test_the_smallest_size_works_and_one_below_is_refused_with_it(num_bricks):
    smallest = smallest_image_size(num_bricks)
    model = small(smallest, num_bricks=num_bricks)
    assert model.get_layer(f"brick{num_bricks - 1}_inception_concat").output.shape[1:3] == (1, 1)
    logits = model.predict_on_batch(np.zeros((1, smallest, smallest, 1), np.uint8))
    assert np.isfinite(logits[MAIN_OUTPUT]).all()
    with pytest.raises(ValueError, match=f"smallest size that works is {smallest}×{smallest}"):
        small(smallest - 1, num_bricks=num_bricks)


def test_a_single_pixel_is_not_strided_over():
    # The same numbers, and no TensorFlow kernel that leaves half of a bfloat16 gradient unwritten.
    model = small(22, num_bricks=4)
    assert model.get_layer("brick3_pool").output.shape[1:3] == (1, 1)
    strides = [model.get_layer(f"brick{i}_residual_conv1").strides for i in (1, 2, 3)]
    assert strides == [(2, 2), (2, 2), (1, 1)]
    x = np.random.default_rng(1).normal(size=(2, 1, 1, 6)).astype("float32")
    kernel = np.random.default_rng(2).normal(size=(3, 3, 6, 4)).astype("float32")
    one, two = (keras.ops.conv(x, kernel, strides=s, padding="same") for s in (1, 2))
    assert np.array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(two))


def test_images_need_not_be_square():
    model = create_model("brick_net", num_classes=3, image_shape=(6, 10, 1), num_bricks=3)
    logits = model.predict_on_batch(np.zeros((2, 6, 10, 1), np.uint8))
    assert {v.shape for v in logits.values()} == {(2, 3)}


@pytest.mark.parametrize("width", [16, 64])
def test_width_scales_every_convolution_but_no_dense_layer(width):
    shape = {"num_classes": 3, "image_shape": (86, 86, 1)}
    for released, scaled in zip(
        blueprint(**shape).layers, blueprint(**shape, width=width).layers, strict=True
    ):
        if isinstance(released, layers.Conv2D):
            assert 32 * scaled.filters == width * released.filters
        if isinstance(released, layers.Dense):
            assert scaled.units == released.units


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bricks": 1}, "num_bricks is 2 to 5, not 1"),
        ({"num_bricks": 6}, "num_bricks is 2 to 5, not 6"),
        ({"width": 1}, "width is at least 2, not 1"),
        ({"aux_heads": [1, 5]}, r"numbers of full bricks, 1 to 4, not \[1, 5\]"),
        ({"aux_heads": [0]}, "numbers of full bricks, 1 to 4"),
        ({"image_shape": (100, 85, 1)}, "100×85 pixels are too few for 5 bricks"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model("brick_net", num_classes=3, **arguments)
