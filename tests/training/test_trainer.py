"""The training loop on a small store: it learns, goes on, and refuses what doesn't belong."""

import logging
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from hccr_tf import Predictor, Store, create_model, get_recipe, predict_split, prepare, train
from hccr_tf.charset import Charset
from hccr_tf.models.weights import load_weights
from hccr_tf.runs.workdir import Workdir
from hccr_tf.synthesis.sample import generate_gnt
from hccr_tf.synthesis.strokes import load_strokes
from hccr_tf.training.checkpoints import Checkpoints
from hccr_tf.training.keras_data import open_split
from hccr_tf.training.trainer import DivergenceError, Trainer
from hccr_tf.utils.files import read_json, write_json

pytestmark = pytest.mark.integration

TINY = {"image_size": 16, "model.num_bricks": 2, "model.width": 16, "batch_size": 32}


def tiny(name="kriuk_model1", **settings):
    return get_recipe(name).override(**{**TINY, **settings})


def newest(run):
    return Checkpoints(run.checkpoints).paths()[0]


@pytest.fixture(scope="module")
def trained(sample_store, tmp_path_factory):
    """A run of two epochs."""
    return train(tiny(epochs=2), sample_store, tmp_path_factory.mktemp("run"))


def test_names_and_paths_are_taken(sample_store, tmp_path):
    trainer = Trainer("kriuk_model1", str(sample_store.path), str(tmp_path))
    assert trainer.recipe == get_recipe("kriuk_model1")
    assert trainer.dataset.data_hash == sample_store.data_hash
    assert trainer.workdir == Workdir(tmp_path)


def test_it_learns(compact_run):
    history = pd.DataFrame(Workdir(compact_run).read_history())
    assert history["main_output_loss"].iloc[-1] < 0.6 * history["main_output_loss"].iloc[0]
    # Others than those trained on; chance is one in fifteen.
    assert history["val_main_output_accuracy"].max() > 0.3


def test_a_workdir_holds_everything(trained, sample_store):
    files = (
        "recipe.json charset.json preprocessing.json run.json environment.json history.csv "
        "curves.png best.safetensors checkpoints prediction.safetensors tensorboard"
    )
    assert {path.name for path in trained.path.iterdir()} >= set(files.split())
    assert list(trained.tensorboard.glob("events.out.tfevents.*"))
    assert trained.recipe == tiny(epochs=2)
    assert trained.charset == sample_store.charset
    assert trained.read_run()["data_hash"] == sample_store.data_hash
    history = pd.read_csv(trained.history_path)
    assert len(history) == 2
    for head in ("main_output", "aux_output1"):
        assert {f"{head}_accuracy", f"val_{head}_accuracy", f"{head}_loss"} <= set(history)


def test_tensorboard_reads_the_events(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained.tensorboard))
    events.Reload()
    scalars = (
        "train/loss train/aux_output1_accuracy train/learning_rate train/input_wait "
        "validation/main_output_accuracy"
    )
    assert set(scalars.split()) <= set(events.Tags()["scalars"])
    images = events.Images("validation/predictions")
    assert len(images) == 2
    assert images[0].width > 300 and images[0].encoded_image_string.startswith(b"\x89PNG")


def test_several_steps_an_execution_learn_alike_and_time_ends_a_run(
    trained, sample_store, tmp_path
):
    recipe = tiny(epochs=2, steps_per_execution=4)  # which don't divide an epoch's
    run = train(recipe, sample_store, tmp_path, minutes=1e-6)
    facts = run.read_run()
    assert (facts["epochs_done"], facts["state"]) == (1, "running")
    assert facts["images_per_second"] > 0 and 0 <= facts["input_wait"] <= 1
    train(recipe, sample_store, tmp_path)
    assert run.read_run()["state"] == "finished"
    ours, theirs = (pd.read_csv(r.history_path) for r in (run, trained))
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_a_continued_run_equals_an_uninterrupted_one(trained, sample_store, tmp_path):
    whole = trained
    parts = train(tiny(epochs=1), sample_store, tmp_path)
    assert len(pd.read_csv(parts.history_path)) == 1
    parts = train(tiny(epochs=2), sample_store, tmp_path)
    ours, theirs = (pd.read_csv(run.history_path) for run in (parts, whole))
    # Threads add in any order, so equal to rounding here and not bit by bit.
    np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=2e-3, atol=1e-5)


def test_a_finished_run_is_left_alone(trained, sample_store, caplog):
    def times():
        files = [p for p in trained.path.rglob("*") if p.is_file()]
        return {p.name: p.stat().st_mtime_ns for p in files}

    before = times()
    caplog.set_level(logging.INFO)
    train(tiny(epochs=2), sample_store, trained.path)
    assert "finished" in caplog.text
    assert times() == before


def test_a_run_without_its_checkpoints_is_not_begun_anew(trained, sample_store, tmp_path):
    run = Workdir(shutil.copytree(trained.path, tmp_path / "run"))
    for path in Checkpoints(run.checkpoints).paths():
        path.unlink()
    with pytest.raises(ValueError, match="holds 2 epochs and no checkpoint"):
        train(tiny(epochs=3), sample_store, run.path)


def test_another_recipe_is_refused_by_setting(trained, sample_store):
    with pytest.raises(ValueError, match=r"loss_args\.gamma: 2\.0, 4\.0"):
        train(tiny(epochs=2, **{"loss.gamma": 2.0}), sample_store, trained.path)


def test_other_data_is_refused(trained, tmp_path):
    generate_gnt(tmp_path / "s", num_writers=3, num_test_writers=1, samples_per_writer=2, seed=9)
    other = prepare([tmp_path / "s"], tmp_path / "store")
    with pytest.raises(ValueError, match="other data"):
        train(tiny(epochs=2), other, trained.path)


@pytest.mark.slow
def test_init_from_keeps_weights_and_rows_of_known_characters(trained, tmp_path):
    dot = [np.array([[500, 500], [600, 400]])]
    strokes = {c: load_strokes()[c] for c in "一九"} | {"丶": dot}
    generate_gnt(tmp_path / "s", strokes, num_writers=8, num_test_writers=1)
    three = prepare([tmp_path / "s"], tmp_path / "store")
    recipe = tiny(epochs=1, learning_rate=1e-9)  # so that the weights stay where they began
    run = train(recipe, three, tmp_path / "run", init_from=trained.path)
    ours, theirs = load_file(newest(run)), load_file(trained.best_weights)
    path = "model/brick1_conv/kernel"
    np.testing.assert_allclose(ours[path], theirs[path], atol=1e-5)
    rows, there = (
        [charset.index(c) for c in "一九"] for charset in (three.charset, trained.charset)
    )
    for head in ("main_output", "aux_output1"):
        mine, known = ours[f"model/{head}/kernel"], theirs[f"model/{head}/kernel"]
        assert (mine.shape[1], known.shape[1]) == (3, 15)
        np.testing.assert_allclose(mine[:, rows], known[:, there], atol=1e-5)
        # Those of new characters start fresh.
        new = mine[:, three.charset.index("丶")]
        assert np.abs(known - new[:, None]).max(axis=0).min() > 0.01 and np.abs(new).max() > 0


@pytest.mark.slow
def test_a_network_with_one_output_and_another_loss_train_alike(sample_store, tmp_path):
    recipe = tiny(loss="binary_focal", epochs=1, **{"model.aux_heads": []})
    run = train(recipe, sample_store, tmp_path)
    history = pd.read_csv(run.history_path)
    assert np.isfinite(history["main_output_loss"]).all() and "accuracy" not in history
    assert run.read_run()["best_val_accuracy"] == history["val_main_output_accuracy"].max()


@pytest.mark.slow
def test_mixed_precision_trains(sample_store, tmp_path):
    recipe = tiny(loss="cross_entropy", mixed_precision="bfloat16", epochs=1)
    run = train(recipe, sample_store, tmp_path)
    assert np.isfinite(pd.read_csv(run.history_path)["loss"]).all()
    assert Predictor(run.path).model.dtype_policy.name == "float32"


def test_divergence_names_the_step_and_its_samples(sample_store, tmp_path):
    recipe = tiny(learning_rate=1e30, loss="cross_entropy", epochs=1)
    with pytest.raises(DivergenceError, match=r"step (\d+) of epoch 1, with the batch ") as caught:
        train(recipe, sample_store, tmp_path)
    report = read_json(tmp_path / "diverged.json")
    reader = open_split(recipe, sample_store, sample_store.charset, "train")
    ids = sample_store.sample_ids(reader.batch(0, report["step"] - 1).indices)
    assert report["sample_ids"] == ids
    assert ids[0] in str(caught.value)
    assert "last good checkpoint is none yet" in str(caught.value)
    assert Workdir(tmp_path).read_run()["state"] == "diverged"


@pytest.mark.slow
def test_a_charset_that_covers_the_store(sample_store, tmp_path):
    charset = Charset.sorted(set(sample_store.charset) | set("宪室"))
    recipe = tiny(epochs=1, **{"loss.alpha": "class_frequency"})
    run = train(recipe, sample_store, tmp_path / "run", charset=charset)
    assert run.charset == charset
    assert np.isfinite(pd.read_csv(run.history_path)["loss"]).all()
    metrics = predict_split(run.path, sample_store, tmp_path / "l.h5", tta="none")
    assert metrics["logits"]["top1"] >= 0
    with h5py.File(tmp_path / "l.h5") as file:
        assert file["logits"].shape[1] == 17
        first = sample_store.indices("test")[0]
        name = sample_store.charset.char(int(sample_store.labels[first]))
        assert charset.char(int(file["labels"][0])) == name
    with pytest.raises(ValueError, match="begun with another charset"):
        train(recipe, sample_store, tmp_path / "run")
    with pytest.raises(ValueError, match="lacks 14 of the store"):
        train(recipe, sample_store, tmp_path / "other", charset=Charset.from_text("一"))


def test_predictor_equals_the_model_it_was_trained_as(trained):
    assert not [name for name in load_file(trained.prediction_weights) if "aux" in name]
    predictor = Predictor(trained.path)
    full = create_model(
        "brick_net", num_classes=15, image_shape=(16, 16, 1), num_bricks=2, width=16
    )
    load_weights(trained.best_weights, "model", full.weights)
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    np.testing.assert_allclose(
        predictor.logits(images), np.asarray(full(images)["main_output"]), atol=1e-5
    )


def test_five_crops_file_holds_mean_and_center(trained, sample_store, tmp_path):
    store: Store = sample_store
    predict_split(trained.path, store, tmp_path / "five.h5", batch_size=7)
    predictor = Predictor(trained.path)
    with h5py.File(tmp_path / "five.h5") as file:
        index = int(store.indices("test")[10])
        assert file["sample_ids"].asstr()[10] == store.sample_id(index)
        assert file["labels"][10] == store.labels[index]
        crops = predictor.logits(
            predictor.preprocessing.apply_views([store.image(index)], "five_crops")
        )
        np.testing.assert_allclose(file["logits"][10], crops.mean(0), atol=1e-5)
        np.testing.assert_allclose(file["logits_center"][10], crops[0], atol=1e-5)
        assert file.attrs["charset"].decode() == store.charset.text


def test_no_blur_changes_what_a_blurred_model_sees(trained, sample_store, tmp_path):
    path = shutil.copytree(trained.path, tmp_path / "run")
    blurred = get_recipe("kriuk_model3").override(image_size=16).preprocessing
    write_json(path / "preprocessing.json", blurred.to_dict())
    for name, blur in (("with", True), ("without", False)):
        predict_split(path, sample_store, tmp_path / f"{name}.h5", tta="none", blur=blur)
    with h5py.File(tmp_path / "with.h5") as a, h5py.File(tmp_path / "without.h5") as b:
        assert a.attrs["blur"] and not b.attrs["blur"]
        assert np.abs(a["logits"][()] - b["logits"][()]).max() > 1e-4


@pytest.mark.integration
def test_an_ordinary_run_follows_a_deterministic_one(sample_store, tmp_path, monkeypatch):
    """TensorFlow's mode stays for the process, and has no clock."""
    from tensorflow.python.framework.config import disable_op_determinism

    monkeypatch.setattr(Trainer, "_has_clock", True)
    settings = {"model.width": 4, "model.blocks": (1, 1, 1), "image_size": 16, "epochs": 1}
    recipe = get_recipe("convnet").override(settings)
    try:
        train(recipe.override(deterministic=True), sample_store, tmp_path / "first")
        train(recipe, sample_store, tmp_path / "second")
    finally:
        disable_op_determinism()
