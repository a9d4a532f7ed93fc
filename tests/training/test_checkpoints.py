"""Checkpoints by themselves: what they hold, which is taken, how often they are written."""

import keras
import numpy as np
import pytest

from hccr_tf.models.weights import WeightsError
from hccr_tf.training.checkpoints import CheckpointInterval, Checkpoints, Position


def make_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = keras.layers.Dropout(0.5, name="drop")(keras.layers.Dense(8, name="first")(inputs))
    outputs = {name: keras.layers.Dense(3, name=name)(x) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(0.01, name="optimizer"),
        dict.fromkeys(outputs, "mse"),
        metrics={name: [keras.metrics.MeanAbsoluteError(name="error")] for name in outputs},
    )
    model.optimizer.build(model.trainable_variables)
    return model


def step(model, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(4, 6)), rng.normal(size=(4, 3))
    return model.train_on_batch(x, {"a": y, "b": y}, return_dict=True)


def saved(folder):
    """A model that was trained a step and saved in a folder, and the checkpoints there."""
    model, checkpoints = make_model(), Checkpoints(folder)
    step(model, 0)
    checkpoints.save(model, Position(0, 1), 1, [])
    return model, checkpoints


def values(variables):
    return [keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v)).tolist() for v in variables]


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    model = make_model()
    for i in range(3):
        step(model, i)
    Checkpoints(tmp_path).save(
        model, Position(1, 3), 3, [{"epoch": 1, "loss": 0.1 + 0.2}], note="x"
    )
    logs = [step(model, i) for i in range(3, 6)]

    other = make_model(seed=99)
    checkpoints = Checkpoints(tmp_path)
    history = [{"epoch": 1, "loss": 0.1 + 0.2}]
    expected = {"epoch": 1, "step": 3, "history": history, "note": "x"}
    assert checkpoints.restore(other) == expected
    checkpoints.restore_optimizer(other)
    other.test_on_batch(np.zeros((1, 6)), dict.fromkeys("ab", np.zeros((1, 3))))
    other.reset_metrics()
    checkpoints.restore_metrics(other)
    # Metrics are means over the epoch: they go on from the steps before.
    assert [step(other, i) for i in range(3, 6)] == logs
    for group in ("variables", "metrics_variables"):
        assert values(getattr(other, group)) == values(getattr(model, group))
    assert values(other.optimizer.variables) == values(model.optimizer.variables)


def test_metrics_that_are_not_made_yet_are_not_passed_over(tmp_path):
    saved(tmp_path)
    other, checkpoints = make_model(), Checkpoints(tmp_path)
    checkpoints.restore(other)
    with pytest.raises(WeightsError, match="metric values"):
        checkpoints.restore_metrics(other)


def test_two_are_kept_and_the_newest_intact_one_is_taken(tmp_path, caplog):
    model, checkpoints = make_model(), Checkpoints(tmp_path)
    for i in range(4):
        step(model, i)
        checkpoints.save(model, Position(0, i + 1), i + 1, [])
    assert [p.name for p in checkpoints.paths()] == [f"step-{n:09d}.safetensors" for n in (4, 3)]
    newest = checkpoints.paths()[0]
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    assert checkpoints.restore(make_model())["step"] == 3
    assert "Passed over a checkpoint" in caplog.text
    newest.write_bytes(data[:1000])
    assert checkpoints.restore(make_model())["step"] == 3
    # The damaged one goes when the next is written.
    step(model, 9)
    older = make_model()
    checkpoints.restore(older)
    step(older, 3)
    checkpoints.save(older, Position(0, 4), 4, [])
    assert checkpoints.restore(make_model())["step"] == 4


def test_no_checkpoint_and_none_intact_are_two_things(tmp_path):
    assert Checkpoints(tmp_path / "c").restore(make_model()) is None
    _, checkpoints = saved(tmp_path / "c")
    checkpoints.paths()[0].write_bytes(b"no HDF5")
    with pytest.raises(WeightsError, match="No checkpoint in .* can be used.*--init-from"):
        checkpoints.restore(make_model())


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model, checkpoints = saved(tmp_path)
    kernel = model.get_layer("first").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(FloatingPointError, match="first/kernel"):
        checkpoints.save(model, Position(0, 2), 2, [])
    assert checkpoints.restore(make_model())["step"] == 1


def test_intervals(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("hccr_tf.training.checkpoints.time.monotonic", lambda: clock[0])
    by_step = Checkpoints(tmp_path, CheckpointInterval(minutes=None, steps=5))
    clock[0] += 1e6
    assert [by_step.due(n) for n in (1, 4, 5, 6)] == [False, False, True, True]
    by_time = Checkpoints(tmp_path, CheckpointInterval(minutes=10))
    clock[0] += 599
    assert not by_time.due(10**6)
    clock[0] += 2
    assert by_time.due(1)
    # A save that takes a minute is not made every ten minutes.
    by_time._saved, by_time._seconds = clock[0], 60.0
    clock[0] += 2999
    assert not by_time.due(1)
    clock[0] += 2
    assert by_time.due(1)
    for wrong in ({"minutes": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match="checkpoint"):
            CheckpointInterval(**wrong)


def test_a_full_disk_leaves_the_earlier_checkpoint(make_disk):
    folder = make_disk("300k")
    model, checkpoints = saved(folder)
    (folder / "other").write_bytes(bytes(200_000))
    step(model, 1)
    with pytest.raises(OSError, match="No space left|disk is full"):
        checkpoints.save(model, Position(0, 2), 2, [{"x": "y" * 100_000}])
    assert checkpoints.restore(make_model())["step"] == 1
