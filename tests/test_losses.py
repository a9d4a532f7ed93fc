import keras
import numpy as np
import pytest

from hccr_tf.losses import (
    LOSSES,
    BinaryFocalLoss,
    CategoricalFocalLoss,
    CrossEntropyLoss,
    class_frequency_weights,
    create_loss,
    loss_arguments,
)

GAMMAS = [0, 0.5, 1, 2, 4]
NUM_CLASSES = 10

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="reads TensorFlow's graphs and float64"
)


def draw(count=400, scale=15.0, seed=0):
    """Logits float32 within ±scale, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-scale, scale, (count, NUM_CLASSES)).astype(np.float32)
    return logits, rng.integers(0, NUM_CLASSES, count).astype(np.int32)


def draw_unclipped(seed=0):
    """The same, without the samples at which Keras clips the true class's probability."""
    logits, labels = draw(seed=seed)
    log_p = numpy_log_probs(logits)[np.arange(len(labels)), labels]
    kept = (log_p > np.log(2e-7)) & (log_p < np.log1p(-2e-7))
    assert kept.sum() > 200
    return logits[kept], labels[kept]


def one_hot(labels):
    return np.eye(NUM_CLASSES)[labels]


def value_and_gradient(loss, labels, logits):
    """Loss by sample, and the gradient of their sum."""
    if keras.backend.backend() == "jax":
        import jax
        import jax.numpy as jnp

        logits = jnp.asarray(logits)
        gradient = jax.grad(lambda z: loss(labels, z).sum())(logits)
        return np.asarray(loss(labels, logits)), np.asarray(gradient)
    import tensorflow as tf

    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
        total = tf.reduce_sum(value)
    return value.numpy(), tf.convert_to_tensor(tape.gradient(total, logits)).numpy()


def numpy_log_probs(logits):
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def numpy_focal(logits, labels, gamma, alpha):
    """Equation 2 by sample in float64, and its gradient."""
    log_probs = numpy_log_probs(logits)
    log_p = log_probs[np.arange(len(labels)), labels]
    q = -np.expm1(log_p)
    value = alpha * q**gamma * -log_p
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = -(q**gamma) + np.where(q > 0, gamma * q ** (gamma - 1) * np.exp(log_p) * log_p, 0)
    gradient = (alpha * slope)[:, None] * (one_hot(labels) - np.exp(log_probs))
    return value, gradient


def numpy_binary_focal(logits, labels, gamma, alpha):
    """Mean over the classes by sample in float64."""
    signed = np.where(one_hot(labels) > 0, logits, -logits).astype(np.float64)
    log_p = -np.logaddexp(0, -signed)
    weight = np.where(one_hot(labels) > 0, alpha, 1 - alpha)
    return (weight * np.exp(-gamma * np.logaddexp(0, signed)) * -log_p).mean(axis=1)


# === Equal to Keras ===


@on_tensorflow
@pytest.mark.parametrize("alpha", [0.25, 0.8])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(
    ("kind", "draws", "kerass", "settings"),
    [
        (CategoricalFocalLoss, draw_unclipped, keras.losses.CategoricalFocalCrossentropy, {}),
        (
            BinaryFocalLoss,
            draw,
            keras.losses.BinaryFocalCrossentropy,
            {"apply_class_balancing": True},
        ),
    ],
    ids=["categorical", "binary"],
)
def test_it_equals_keras_on_one_hot_targets(kind, draws, kerass, settings, gamma, alpha):
    logits, labels = draws()
    settings = {**settings, "from_logits": True, "reduction": None, "dtype": "float64"}
    theirs = kerass(alpha=alpha, gamma=gamma, **settings)
    want, want_gradient = value_and_gradient(theirs, one_hot(labels), logits.astype(np.float64))
    assert_loss(kind(gamma, alpha, reduction=None), labels, logits, want, want_gradient)


def assert_loss(loss, labels, logits, want, want_gradient, **tolerance):
    tolerance = {"rtol": 1e-5, "atol": 1e-6, **tolerance}
    value, gradient = value_and_gradient(loss, labels, logits)
    assert value.dtype == np.float32 and value.shape == (len(labels),)
    np.testing.assert_allclose(value, want, **tolerance)
    np.testing.assert_allclose(gradient, want_gradient, **tolerance)


def test_the_papers_defaults():
    categorical, binary = CategoricalFocalLoss(), BinaryFocalLoss()
    assert (categorical.gamma, categorical.alpha, categorical.label_smoothing) == (4, 0.25, 0)
    assert (binary.gamma, binary.alpha) == (4, 0.25)


def test_cross_entropy_is_the_plain_one():
    logits, labels = draw()
    plain = numpy_focal(logits, labels, 0, 1)
    assert_loss(CrossEntropyLoss(reduction=None), labels, logits, *plain)


# === Beyond Keras ===


@pytest.mark.parametrize("gamma", GAMMAS)
def test_one_alpha_a_class(gamma):
    logits, labels = draw()
    alpha = np.linspace(0.1, 2, NUM_CLASSES)
    ours = CategoricalFocalLoss(gamma, alpha, reduction=None)
    assert_loss(ours, labels, logits, *numpy_focal(logits, labels, gamma, alpha[labels]))


@pytest.mark.parametrize("scale", [20, 50, 100])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_large_logits(gamma, scale):
    logits, labels = draw(scale=scale)
    ours = BinaryFocalLoss(gamma, 0.25, reduction=None)
    value, gradient = value_and_gradient(ours, labels, logits)
    want = numpy_binary_focal(logits, labels, gamma, 0.25)
    np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-4)
    assert np.isfinite(gradient).all()
    logits[:50, 0], labels[:50] = scale, 0  # Confidently right ones too.
    ours = CategoricalFocalLoss(gamma, 0.25, reduction=None)
    want = numpy_focal(logits, labels, gamma, 0.25)
    assert_loss(ours, labels, logits, *want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [20.0, 50.0, 100.0])
def test_a_confident_sample_costs_nothing_or_has_a_gradient(name, size):
    logits = np.full((1, NUM_CLASSES), -size, np.float32)
    logits[0, 3] = size
    value, gradient = value_and_gradient(create_loss(name), np.array([0]), logits)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    # The paper's alpha is 0.25; the binary loss is also divided by the number of classes.
    least = 0.02 if name == "binary_focal" else 0.2
    assert gradient[0, 0] < -least
    assert gradient[0, 3] > least
    value, gradient = value_and_gradient(create_loss(name), np.array([3]), logits)
    assert abs(value).max() < 1e-6
    assert abs(gradient).max() < 1e-6


def test_label_smoothing_mixes_in_uniform_targets():
    logits, labels = draw()
    value = CategoricalFocalLoss(2, 0.5, label_smoothing=0.1, reduction=None)(labels, logits)
    focal = numpy_focal(logits, labels, 2, 0.5)[0]
    uniform = 0.5 * -numpy_log_probs(logits).mean(axis=1)
    np.testing.assert_allclose(value, 0.9 * focal + 0.1 * uniform, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_labels_may_be_a_column_and_logits_half_precision(name):
    logits, labels = draw(count=8)
    loss = LOSSES[name](reduction=None)
    want = np.asarray(loss(labels, logits))
    np.testing.assert_array_equal(loss(labels[:, None], logits), want)
    half = np.asarray(loss(labels, logits.astype(np.float16)))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, want, rtol=0.02, atol=0.01)


@on_tensorflow
@pytest.mark.parametrize("name", LOSSES)
def test_no_dense_one_hot_target_is_made(name):
    import tensorflow as tf

    loss = create_loss(name)

    @tf.function
    def step(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return tape.gradient(value, logits)

    graph = step.get_concrete_function(
        tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None, NUM_CLASSES))
    ).graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    kinds = {node.op for node in nodes}
    assert len(kinds) > 5
    assert "OneHot" not in kinds


# === By name ===


def test_class_frequency_weights_by_hand():
    assert class_frequency_weights(np.array([10, 20, 70])).dtype == np.float32
    loss = create_loss("categorical_focal", [10, 20, 70], alpha="class_frequency", gamma=2)
    np.testing.assert_allclose(loss.alpha, [100 / 30, 100 / 60, 100 / 210], rtol=1e-6)
    assert loss.gamma == 2
    # They have the mean one over the samples; a class without any weighs like one sample.
    counts = np.array([3, 500, 41, 7])
    assert (class_frequency_weights(counts) * counts).sum() / counts.sum() == pytest.approx(1)
    np.testing.assert_allclose(class_frequency_weights(np.array([0, 1, 8])), [3, 3, 9 / 24])


@pytest.mark.parametrize("name", LOSSES)
def test_round_trip_through_keras(name):
    arguments = {
        "categorical_focal": {"gamma": 1.5, "alpha": [0.5, 2.0, 1.0], "label_smoothing": 0.1},
        "binary_focal": {"gamma": 2.5, "alpha": 0.75},
        "cross_entropy": {"label_smoothing": 0.2},
    }[name]
    assert loss_arguments(name) == set(arguments)
    loss = create_loss(name, **arguments)
    for copy in (
        type(loss).from_config(loss.get_config()),
        keras.losses.deserialize(keras.losses.serialize(loss)),
    ):
        assert type(copy) is type(loss)
        assert copy.get_config() == loss.get_config()
        assert {k: getattr(copy, k) for k in arguments} == arguments


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("focal", {}, "No loss is called 'focal'. Did you mean"),
        (
            "binary_focal",
            {"label_smoothing": 0.1},
            "No argument of binary_focal is called 'label_smoothing'",
        ),
        ("cross_entropy", {"gamma": 4}, "No argument of cross_entropy is called 'gamma'"),
        ("categorical_focal", {"alpha": "class_frequency"}, "needs the class counts"),
        ("categorical_focal", {"gamma": -1}, "gamma is at least 0"),
        ("binary_focal", {"gamma": -0.1}, "gamma is at least 0"),
        ("binary_focal", {"alpha": 1.5}, "alpha lies in"),
        ("binary_focal", {"alpha": [0.5, 0.5]}, "one number as alpha"),
        ("categorical_focal", {"label_smoothing": 1}, "label_smoothing lies in"),
    ],
)
def test_refusals(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        create_loss(name, **arguments)
