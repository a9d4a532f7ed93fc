"""One run gives one answer: evaluate, predict, cam and calibrate agree."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from hccr_tf import Recognizer, calibrate, get_recipe, prepare, train
from hccr_tf.cli.main import main
from hccr_tf.data.store.store import Store
from hccr_tf.evaluation.metrics import most_probable
from hccr_tf.images.cleaning import clean
from hccr_tf.images.contact_sheet import encode_png
from hccr_tf.runs.workdir import Workdir

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folders(sample_store, tmp_path_factory) -> Path:
    """The test split as image files that are clean, in a folder a character.

    The command takes ink off that is next to white, which may turn what a run barely knows.
    """
    root = tmp_path_factory.mktemp("folders")
    for index in sample_store.indices("test"):
        character = sample_store.charset.char(int(sample_store.labels[index]))
        path = root / character / f"{index:04d}.png"
        path.parent.mkdir(exist_ok=True)
        image = np.pad(clean(sample_store.image(index)), 4, constant_values=255)
        path.write_bytes(encode_png(image))
    return root


@pytest.fixture(scope="module")
def store(folders, tmp_path_factory) -> Store:
    """A store of the same files."""
    return prepare([folders], tmp_path_factory.mktemp("prepared") / "store", progress=False)


@pytest.mark.parametrize(
    ("name", "tta"), [("brick_run", "five_crops"), ("compact_run", "stretches")]
)
def test_evaluate_and_predict_read_alike(name, tta, store, folders, request, tmp_path, capsys):
    run = request.getfixturevalue(name)
    assert Workdir(run).preprocessing.tta == tta
    out, table = tmp_path / "l.h5", tmp_path / "read.csv"
    arguments = ["--data", str(store.path), "--split", "all", "--out", str(out)]
    assert main(["evaluate", str(run), *arguments]) == 0
    printed = capsys.readouterr().out
    images = store.images(store.indices("all"))
    with h5py.File(out) as file:
        assert file.attrs["tta"].decode() == tta
        logits, labels = file["logits"][()], file["labels"][()]
        stems = [Path(name.decode()).stem for name in file["sample_ids"]]
    np.testing.assert_allclose(Recognizer(run).logits(images), logits, atol=1e-4)
    # The same, but for what the command doubted and then read much more surely; and margins, which
    # it cuts off, count a little where edges are stretched.
    command = ["predict", str(folders), "--any-layout", "--workdir", str(run)]
    assert main([*command, "--csv", str(table)]) == 0
    read = pd.read_csv(table)
    read.index = read["path"].map(lambda path: Path(path).stem)
    charset = Workdir(run).charset
    answers = read["character"][stems].map(charset.index).to_numpy()
    same = logits[range(len(stems)), answers] >= logits.max(axis=1) - 2e-4
    surer = read["probability"][stems] > most_probable(logits, 1)[1][:, 0] + 0.3
    assert np.mean(same | surer) > 0.97 and np.mean(same) > 0.9
    right = int((answers == labels).sum())
    score = capsys.readouterr().out.splitlines()[-1]
    assert f"{right} of 120 read as their folders are named: {100 * right / 120:.2f} %" in score
    # Once, both as in validation.
    assert main(["evaluate", str(run), *arguments, "--no-tta"]) == 0
    assert "whole image" in capsys.readouterr().out and "whole image" not in printed
    with h5py.File(out) as file:
        plain = Recognizer(run, tta=False).logits(images)
        np.testing.assert_allclose(plain, file["logits"][()], atol=1e-4)


def test_no_score_where_folders_are_no_characters(compact_run, folders, tmp_path, capsys):
    path = shutil.copytree(folders / "五", tmp_path / "scans")
    assert main(["predict", str(path), "--any-layout", "--workdir", str(compact_run)]) == 0
    assert "as their folders" not in capsys.readouterr().out


def test_maps_and_the_terminal_show_one_probability(compact_run, folders, tmp_path, capsys):
    run = shutil.copytree(compact_run, tmp_path / "run")
    (run / "calibration.json").write_text('{"temperature": 2.5}')
    files = [str(next((folders / character).iterdir())) for character in "五百万"]
    recognizer = Recognizer(run)
    expected = [(r.character, r.probability) for r in recognizer.predict(files, single=False)]
    maps, drawn, table = tmp_path / "maps", tmp_path / "drawn", tmp_path / "read.csv"
    command = ["--any-layout", "--workdir", str(run)]
    told = ["--csv", str(table), "--cam", str(maps)]
    assert main(["predict", *files, *command, *told]) == 0
    assert main(["cam", *files, *command, "--out", str(drawn)]) == 0
    for path in (table, maps / "cam.csv", drawn / "cam.csv"):
        shown = pd.read_csv(path)
        assert shown["character"].tolist() == [c for c, _ in expected]
        np.testing.assert_allclose(shown["probability"], [p for _, p in expected], atol=1e-4)


def test_calibration_saves_nothing_that_rests_on_few_wrong_answers(
    compact_run, numerals, tmp_path, capsys
):
    run = shutil.copytree(compact_run, tmp_path / "run")
    command = ["calibrate", str(run), "--data", str(numerals), "--per-class", "2"]
    assert main(command) == 0
    assert "nothing saved: it rests on" in capsys.readouterr().out
    assert not list(run.glob("calibration.json")) + list(run.glob("reliability.*"))


def test_calibration_saves_nothing_that_raises_the_error(
    compact_run, numerals, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(compact_run, tmp_path / "run")
    monkeypatch.setattr("hccr_tf.inference.calibration._FEWEST_WRONG", 0)
    monkeypatch.setattr("hccr_tf.inference.calibration.find_temperature", lambda *_: 9.0)
    assert main(["calibrate", str(run), "--data", str(numerals)]) == 0
    assert "nothing saved: the calibration error would rise" in capsys.readouterr().out
    assert not (run / "calibration.json").exists()
    # What was found before is what it's measured by.
    (run / "calibration.json").write_text('{"temperature": 10.0}')
    found = calibrate(run, numerals)
    assert found["refused"] is None and found["ece_after"] < found["ece_before"]
    assert json.loads((run / "calibration.json").read_text())["temperature"] == 9.0


@pytest.mark.slow
def test_fine_tuning_begins_with_the_packages_recogniser(sample_store, tmp_path, caplog):
    caplog.set_level("INFO")
    recipe = get_recipe("fine_tune").override(epochs=1, samples_per_class=2, batch_size=30)
    tuned = train(recipe, sample_store, tmp_path / "tuned").read_run()
    assert tuned["init_from"] == "recogniser"
    assert "Begins with recogniser; --init-from none trains from scratch" in caplog.text
    fresh = train(recipe, sample_store, tmp_path / "fresh", init_from="none").read_run()
    assert "init_from" not in fresh
    assert tuned["best_val_accuracy"] > fresh["best_val_accuracy"] + 0.3
