"""What `hccr refine` shows, on a run of the sample."""

import numpy as np
import pandas as pd
import pytest

from hccr_tf import Predictor, create_model, predict_split, prepare, train
from hccr_tf.cli.main import main
from hccr_tf.images.contact_sheet import encode_png
from hccr_tf.inference.refinement import StepPredictor, count_steps
from hccr_tf.models import MAIN_OUTPUT
from hccr_tf.models.weights import load_weights
from hccr_tf.runs.workdir import Workdir
from hccr_tf.synthesis.sample import generate_gnt

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(refined_run):
    return Workdir(refined_run)


def test_training_shows_every_step(run):
    row = pd.read_csv(run.history_path).iloc[-1]
    names = ("step1", "step2", "step3", "main_output")
    assert all(f"val_{name}_accuracy" in row for name in names)
    losses = [row[f"{name}_loss"] for name in names]
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-3)


@pytest.mark.e2e
def test_it_learns(run, sample_store, tmp_path):
    still = {"augmentation.amount": 0.0, "augmentation.shift": 0.0}
    long = run.recipe.override(still, epochs=26, patience=26, batch_size=16, image_size=24)
    done = train(long, sample_store, tmp_path / "run")
    # Other writers than those trained on; chance is one in fifteen.
    assert predict_split(done.path, sample_store, tmp_path / "l.h5")["logits"]["top1"] > 0.3


def test_the_last_step_is_what_a_predictor_reads(run, sample_store):
    steps, plain = StepPredictor(run.path), Predictor(run.path)
    images = steps.preprocessing.apply_many(sample_store.images(np.arange(5)))
    found = steps.read(images)
    assert found.logits.shape == (5, 4, 15) and found.attention.shape == (5, 4, 256 + 64 + 16)
    np.testing.assert_allclose(found.logits[:, -1], plain.logits(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.attention.sum(axis=2), 1, rtol=1e-4)
    more = StepPredictor(run.path, steps=6).read(images)
    np.testing.assert_allclose(more.logits[:, :4], found.logits, rtol=1e-4, atol=1e-4)


def test_attention_lies_where_its_places_are(run):
    predictor = StepPredictor(run.path)
    assert predictor.map_shapes == [(16, 16), (8, 8), (4, 4)]
    attention = np.zeros(256 + 64 + 16)
    attention[256 + 8 * 6 + 1] = 1.0  # the second map's seventh row, second place
    shown = predictor.attention_map(attention)
    assert shown.shape == (16, 16) and shown.sum() == pytest.approx(1)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert row in (12, 13) and column in (2, 3)
    even = np.full(336, 1 / 336)
    np.testing.assert_allclose(predictor.attention_map(even), 1 / 256, rtol=1e-5)


@pytest.mark.slow
def test_counts_of_a_split(run, sample_store, tmp_path, capsys):
    predictor = StepPredictor(run.path)
    counts = count_steps(predictor, sample_store)
    labels = sample_store.labels[sample_store.indices("test")]
    np.testing.assert_array_equal(counts.labels, labels)
    right = counts.read == labels[:, None]
    table = counts.table
    np.testing.assert_allclose(table["accuracy"], 100 * right.mean(axis=0), atol=1e-3)
    change = np.diff(right.sum(axis=0))
    assert (table["corrected"] - table["broken"]).tolist()[1:] == change.tolist()
    assert table.loc[0, ["corrected", "broken"]].tolist() == [0, 0]
    gain = table["corrected_since_first"] - table["broken_since_first"]
    assert gain.iloc[-1] == right[:, -1].sum() - right[:, 0].sum()
    for first_right in (False, True):
        rows = counts.changed(first_right)
        assert (right[rows, 0] == first_right).all() and (right[rows, -1] != first_right).all()
    arguments = ["refine", "--data", str(sample_store.path), "--workdir", str(run.path)]
    assert main([*arguments, "--steps", "6", "--out", str(tmp_path)]) == 0
    assert len(pd.read_csv(tmp_path / "steps.csv")) == 6
    assert "corrected: " in capsys.readouterr().out


def test_images_as_figures_1_and_5(run, sample_store, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for i in (0, 7):
        (tmp_path / "images" / f"{i}.png").write_bytes(encode_png(sample_store.image(i)))
    out = tmp_path / "out"
    arguments = ["refine", str(tmp_path / "images"), "--workdir", str(run.path)]
    assert main([*arguments, "--out", str(out)]) == 0
    table = pd.read_csv(out / "refine.csv")
    assert len(table) == 2 * 4 * 5
    for _, group in table.groupby(["image", "step"]):
        assert group["probability"].is_monotonic_decreasing
    lines = (out / "refine.txt").read_text("utf-8").splitlines()
    assert " ".join(lines[1].split()) == "t = 1 t = 2 t = 3 t = 4"
    first = table.iloc[0]
    assert lines[2].startswith(f"{first['character']}: {first['probability']:.3f}")
    assert lines[0] in capsys.readouterr().out
    assert (out / "refine.png").stat().st_size > 5000


def test_other_runs_are_refused(run, convnet_runs, sample_store, tmp_path, capsys):
    image, data = tmp_path / "a.png", ["--data", str(sample_store.path)]
    image.write_bytes(encode_png(sample_store.image(0)))
    other = convnet_runs[0]
    out = ["--out", str(tmp_path / "out")]
    for arguments, message in (
        (["--workdir", str(other), *data], "without refinement"),
        (["--workdir", str(other)], "either image files or --data"),
        (["--workdir", str(run.path), str(image), "--top-k", "0"], "top_k is 1 to 15"),
        (["--workdir", str(run.path), *data, "--cases", "-1"], "--cases is at least 0"),
    ):
        assert main(["refine", *arguments, *out]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_another_charset_replaces_what_belongs_to_the_classes(run, tmp_path, capsys):
    writers = {"num_writers": 8, "num_test_writers": 2, "samples_per_writer": 2}
    generate_gnt(tmp_path / "data", characters="一二三四", **writers, size=32)
    store = prepare([tmp_path / "data"], tmp_path / "store", progress=False)
    # A rate of nothing: what is left of the source can be compared.
    recipe = run.recipe.override(epochs=1, learning_rate=1e-12)
    done = train(recipe, store, tmp_path / "run", init_from=run.path)
    said = capsys.readouterr().out
    assert "knows 4: these begin as it reads them (refinement_classifier, refinement_query)" in said
    settings = {"image_shape": (16, 16, 1), **run.recipe.model_args}
    models = [create_model("mrbc_ir", num_classes=n, **settings) for n in (15, 4)]
    for model, workdir in zip(models, (run, done), strict=True):
        load_weights(workdir.best_weights, "model", model.weights)
    for layer in ("refinement_gru", "refinement_keys", "refinement_attention", "block3_conv1"):
        kept, new = (model.get_layer(layer).get_weights() for model in models)
        for a, b in zip(kept, new, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert models[1].output[MAIN_OUTPUT].shape == (None, 4)
    rows = [run.charset.index(c) for c in done.charset]
    for layer, axes in (("refinement_classifier", (1, 0)), ("refinement_query", (0,))):
        known, new = (model.get_layer(layer).get_weights() for model in models)
        for a, b, axis in zip(known, new, axes, strict=False):
            np.testing.assert_allclose(np.take(a, rows, axis), b, atol=1e-6)
