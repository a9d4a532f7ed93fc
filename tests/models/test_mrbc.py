"""M-RBC and iterative refinement against the paper's equations."""

import keras
import numpy as np
import pytest

from hccr_tf import create_model
from hccr_tf.evaluation.complexity import layer_costs
from hccr_tf.models import FEATURE_MAP, MAIN_OUTPUT, POOLING, blueprint, class_variables

CLASSES, SIZE, K = 11, 16, 6


def small(name="mrbc_ir", **arguments):
    settings = {"width": K, "attention_width": 5, "units": 7}
    if name == "refined":
        del settings["width"]
    return create_model(
        name, num_classes=CLASSES, image_shape=(SIZE, SIZE, 1), **settings, **arguments
    )


def randomised(model, seed=0):
    rng = np.random.default_rng(seed)
    for variable in model.trainable_weights:
        variable.assign(rng.normal(size=variable.shape) / 2)
    return model


def images(count=3, size=SIZE):
    return np.random.default_rng(9).integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def weights_of(model, layer):
    return [np.asarray(w, np.float64) for w in model.get_layer(layer).get_weights()]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# === Backbones ===


@pytest.mark.parametrize(
    ("name", "shortcuts", "vectors"), [("convnet", 0, 256), ("resnet", 6, 256), ("mrbc", 6, 5376)]
)
def test_backbones_have_twelve_convolutions_at_three_scales(name, shortcuts, vectors):
    model = blueprint(name, num_classes=3755)
    convolutions = [
        x for x in model.layers if isinstance(x, keras.layers.Conv2D) and x.kernel_size == (3, 3)
    ]
    assert [x.output.shape[1:] for x in convolutions] == [
        (side, side, 64) for side in (64, 32, 16) for _ in range(4)
    ]
    added = [x for x in model.layers if isinstance(x, keras.layers.Add)]
    assert len(added) == shortcuts
    projections = [x.name for x in model.layers if x.name.endswith("shortcut")]
    assert projections == (["block1_shortcut"] if shortcuts else [])
    assert model.get_layer("union").output.shape == (None, vectors, 64)
    macs = sum(c.macs for c in layer_costs(model) if c.kind == "Conv2D")
    assert round(macs / 1e9, 3) == 0.644
    half = blueprint(name, num_classes=3755, image_shape=(32, 32, 1))
    assert round(sum(c.macs for c in layer_costs(half) if c.kind == "Conv2D") / 1e9, 3) == 0.161


def test_order_of_the_blocks_is_r_r_p_r_r_p_r_r():
    kinds = [type(x).__name__ for x in blueprint("mrbc", num_classes=9).layers]
    kinds = [kind for kind in kinds if kind in ("Add", "MaxPooling2D")]
    assert kinds == ["Add", "Add", "MaxPooling2D", "Add", "Add", "MaxPooling2D", "Add", "Add"]


def test_a_residual_block_adds_its_input():
    model = create_model("resnet", num_classes=3, image_shape=(8, 8, 1), width=4)
    names = ("block2_add", "block1_add", "block2_relu2")
    parts = keras.Model(model.input, [model.get_layer(name).output for name in names])
    whole, before, branch = parts(images(2, 8))
    np.testing.assert_allclose(whole, np.asarray(before) + np.asarray(branch), rtol=1e-5)


def test_mrbc_reads_the_mean_of_all_vectors():
    model = randomised(create_model("mrbc", num_classes=CLASSES, image_shape=(16, 16, 1), width=K))
    maps = [model.get_layer(name).output for name in ("scale1", "scale2", FEATURE_MAP)]
    *found, logits = keras.Model(model.input, [*maps, model.output[MAIN_OUTPUT]])(images())
    vectors = np.concatenate([np.asarray(m).reshape(3, -1, K) for m in found], axis=1)
    assert vectors.shape == (3, 256 + 64 + 16, K)
    kernel, bias = weights_of(model, MAIN_OUTPUT)
    np.testing.assert_allclose(logits, vectors.mean(axis=1) @ kernel + bias, rtol=1e-3, atol=1e-3)


# === Refinement ===


@pytest.mark.parametrize("gru_bias", [False, True])
def test_every_step_is_equations_3_to_15(gru_bias):
    model = randomised(small(attention_outputs=True, gru_bias=gru_bias))
    x = images()
    found = {name: np.asarray(value) for name, value in model(x).items()}
    v = np.asarray(keras.Model(model.input, model.get_layer("union").output)(x), np.float64)
    (w,), (u,) = weights_of(model, "refinement_query"), weights_of(model, "refinement_keys")
    (score,) = weights_of(model, "refinement_attention")
    kernel, recurrent, *bias = weights_of(model, "refinement_gru")
    b = bias[0] if gru_bias else np.zeros(21)
    fc, fc_bias = weights_of(model, "refinement_classifier")
    # Keras's order of the gates: update, reset, candidate.
    (wz, wr, wh), (uz, ur, uh) = np.split(kernel, 3, 1), np.split(recurrent, 3, 1)
    bz, br, bh = np.split(b, 3)
    p, s = np.full((3, CLASSES), 1 / CLASSES), np.zeros((3, 7))
    for t in range(1, 5):
        e = np.tanh((p @ w)[:, None] + v @ u) @ score[:, 0]  # (10)
        alpha = np.exp(e) / np.exp(e).sum(axis=1, keepdims=True)  # (8)
        ctx = (alpha[..., None] * v).sum(axis=1)  # (5)
        r = sigmoid(ctx @ wr + s @ ur + br)  # (11)
        z = sigmoid(ctx @ wz + s @ uz + bz)  # (12)
        candidate = np.tanh(ctx @ wh + (s * r) @ uh + bh)  # (13)
        s = (1 - z) * candidate + z * s  # (14)
        logits = s @ fc + fc_bias
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        name = "main_output" if t == 4 else f"step{t}"
        np.testing.assert_allclose(found[f"attention{t}"], alpha, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(found[name], logits, rtol=2e-3, atol=2e-4)


def test_outputs_by_name():
    assert list(small().output) == ["step1", "step2", "step3", MAIN_OUTPUT]
    assert list(small(aux_outputs=False).output) == [MAIN_OUTPUT]
    assert list(small(steps=1).output) == [MAIN_OUTPUT]
    model = small(steps=2, attention_outputs=True)
    assert sorted(model.output) == ["attention1", "attention2", MAIN_OUTPUT, "step1"]
    assert model.output["attention1"].shape == (None, 336)
    assert model.get_layer(POOLING).output.shape == (None, 7)


def test_the_number_of_steps_can_change_after_training():
    four, eight = randomised(small(steps=4)), small(steps=8)
    assert [v.path for v in eight.weights] == [v.path for v in four.weights]
    eight.set_weights(four.get_weights())
    a, b = four(images()), eight(images())
    for name in ("step1", "step2", "step3"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5)
    np.testing.assert_allclose(a[MAIN_OUTPUT], b["step4"], rtol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "arguments", "maps", "places"),
    [
        ("melnyk_net_c", {"width": 16}, ("feature_map",), 2 * 2),
        ("melnyk_net_a", {"width": 16}, ("block2_relu3", "feature_map"), 8 * 8 + 2 * 2),
        (
            "brick_net",
            {"num_bricks": 3, "width": 16},
            ("brick1_inception_concat", "brick2_inception_concat"),
            8 * 8 + 2 * 2,
        ),
        ("mrbc", {"width": 8}, ("scale1", "scale2", "feature_map"), 32 * 32 + 16 * 16 + 8 * 8),
    ],
)
def test_any_networks_maps_are_refined(backbone, arguments, maps, places):
    model = create_model(
        "refined",
        num_classes=CLASSES,
        image_shape=(32, 32, 1),
        backbone=backbone,
        backbone_args=arguments,
        maps=maps,
        attention_width=4,
        units=5,
        steps=2,
        attention_outputs=True,
    )
    found = model(images(2, 32))
    assert found["attention2"].shape == (2, places)
    np.testing.assert_allclose(np.asarray(found["attention2"]).sum(axis=1), 1, rtol=1e-5)
    assert found[MAIN_OUTPUT].shape == (2, CLASSES)
    # Nothing of the backbone's own classifier is left.
    names = {layer.name for layer in model.layers}
    assert len(names) == len(model.layers) and "dropout" not in names


def test_what_belongs_to_the_classes_is_known():
    found = class_variables("mrbc_ir", image_shape=(16, 16, 1))
    assert found == {
        "refinement_query/kernel": 0,
        "refinement_classifier/kernel": 1,
        "refinement_classifier/bias": 0,
    }
    heads = class_variables("brick_net", image_shape=(64, 64, 1), num_bricks=3)
    assert heads == {
        f"{name}/{part}": axis
        for name in ("aux_output1", "aux_output2", "main_output")
        for part, axis in (("kernel", 1), ("bias", 0))
    }


def test_vectors_times_classes_are_never_made():
    """Every tensor of the whole computation, and of its gradient, at 3,755 classes."""
    jax = pytest.importorskip("jax")
    if keras.backend.backend() != "jax":
        pytest.skip("tests/parity runs it on JAX")
    model = create_model("mrbc_ir", num_classes=3755, width=8, attention_width=8, units=8)
    values = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]

    def total(values, images):
        outputs, _ = model.stateless_call(values, others, images, training=True)
        return sum(keras.ops.mean(x) for x in outputs.values())

    images = jax.ShapeDtypeStruct((1, 64, 64, 1), "uint8")
    traced = jax.make_jaxpr(jax.grad(total))(values, images)
    sizes = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            sizes.extend(int(np.prod(v.aval.shape)) for v in equation.outvars)
            for parameter in equation.params.values():
                inner = getattr(parameter, "jaxpr", parameter)
                if hasattr(inner, "eqns"):
                    visit(inner)

    visit(traced.jaxpr)
    assert len(sizes) > 300
    assert max(sizes) < 5376 * 3755 / 10


def test_refusals():
    narrow = {"backbone": "melnyk_net_a", "backbone_args": {"width": 4}}
    for name, arguments, message in (
        ("mrbc_ir", {"steps": 0}, "steps is at least 1"),
        ("mrbc_ir", {"steps": "two"}, "mrbc_ir can't be built with .*steps='two'"),
        ("refined", {"maps": ()}, "at least one map"),
        ("refined", {"maps": ("a2",)}, "mrbc has no map 'a2'; it has .*scale1"),
        ("refined", {"backbone_args": {"num_classes": 3}}, "can't hold .'num_classes'."),
        ("refined", narrow, "is a single place at 16×16; name earlier maps"),
    ):
        with pytest.raises(ValueError, match=message):
            small(name, **arguments)
    with pytest.raises(ValueError, match="smallest size that works is 4×4"):
        create_model("mrbc", num_classes=3, image_shape=(3, 8, 1))


def test_readings_are_arguments():
    def built(**arguments):
        return blueprint("mrbc", num_classes=5, image_shape=(16, 16, 1), width=4, **arguments)

    names = {layer.name for layer in built(blocks=(1, 3, 2)).layers}
    assert "block6_add" in names and "block7_add" not in names
    assert built(blocks=(1, 3, 2)).get_layer("block2_conv1").output.shape[1] == 8
    bare = {layer.name for layer in built(project_first=False).layers}
    assert not {"block1_shortcut", "block1_add"} & bare and "block2_add" in bare
    assert isinstance(built(pooled="max").get_layer(POOLING), keras.layers.GlobalMaxPooling1D)
    for arguments in ({"blocks": (2, 2)}, {"blocks": (0, 2, 2)}, {"pooled": "median"}):
        with pytest.raises(ValueError, match="blocks are 3 numbers|pooled is"):
            built(**arguments)
