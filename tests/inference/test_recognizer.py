"""The recogniser, from files to characters, with a network that learns fifteen numerals here."""

import io
import json
import os
import re
import shutil
import sys

import cv2
import numpy as np
import pandas as pd
import photographs as made
import pytest
from PIL import Image

from hccr_tf import Recognizer, get_recipe, train
from hccr_tf.cli.main import main
from hccr_tf.data.opening import open_dataset
from hccr_tf.images.cleaning import ImageError, clean
from hccr_tf.inference import recognizer as recognizer_module
from hccr_tf.runs.workdir import Workdir

pytestmark = pytest.mark.integration
NUMERALS = "零一二三四五六七八九十百千万亿"


@pytest.fixture(scope="module")
def store(numerals):
    return open_dataset(numerals)


@pytest.fixture(scope="module")
def run(compact_run, tmp_path_factory):
    """A small network that reads the numerals; it's calibrated here."""
    return shutil.copytree(compact_run, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with an image of each numeral, in several formats, and its answers."""
    folder = tmp_path_factory.mktemp("images")
    for i, character in enumerate(NUMERALS):
        image = made.on_paper(character, seed=i)
        if i % 3 == 1:
            image = 255 - image
        if i % 3 == 2:
            image = made.unevenly_lit(made.coloured(image, (240, 230, 200), (40, 40, 120)))
        suffix = (".png", ".jpg", ".webp")[i % 3]
        Image.fromarray(image).save(folder / f"{i:02d}{suffix}", quality=95)
    return folder


@pytest.fixture(scope="module")
def recognizer(run):
    return Recognizer(run)


def test_images_of_any_kind_are_read(run, recognizer, files):
    assert Workdir(run).read_run()["best_val_accuracy"] > 0.85
    paths = sorted(files.iterdir())
    read = "".join(r.character for r in recognizer.predict(paths, top_k=3))
    assert sum(a == b for a, b in zip(read, NUMERALS, strict=True)) >= 12
    # However they're given.
    path, data, image = paths[0], paths[0].read_bytes(), Image.open(paths[0])
    array = np.asarray(image)
    ways = [path, str(path), data, memoryview(data), image, array, array[..., None]]
    ways.append(np.asarray(image.convert("RGB")))
    one = recognizer.predict([*ways, io.BytesIO(data)])
    assert len({r.character for r in one}) == 1
    assert all(r.probability == pytest.approx(one[0].probability, abs=1e-4) for r in one)
    for way in [*ways, io.BytesIO(data)]:
        assert recognizer.predict(way)[0].character == one[0].character
    # A folder or a pattern stands for the files in it.
    for many in (files, str(files / "*"), [str(files / "0*"), str(files / "1*")]):
        assert "".join(r.character for r in recognizer.predict(many)) == read


def test_probabilities_and_alternatives(recognizer, files):
    for found in recognizer.predict(sorted(files.iterdir()), top_k=15):
        named = [(found.character, found.probability), *found.alternatives]
        assert len(named) == 15 and {c for c, _ in named} == set(NUMERALS)
        values = [p for _, p in named]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-6)
        assert found.code_point == f"U+{ord(found.character):04X}"


def test_batches_of_any_size_give_what_single_images_give(recognizer):
    images = [made.on_paper(c, seed=s) for s in range(3) for c in NUMERALS]
    together = recognizer.logits(images)
    alone = np.concatenate([recognizer.logits([p]) for p in images])
    assert together.shape == (45, 15)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert recognizer.logits([]).shape == (0, 15)


def test_logits_are_the_mean_of_two_stretches(run, recognizer):
    images = [clean(made.on_paper(c, seed=i)) for i, c in enumerate("零百万")]
    without = Recognizer(run, tta=False)

    def stretched(x, y):
        return [cv2.resize(p, (round(x * p.shape[1]), round(y * p.shape[0]))) for p in images]

    each = [without.logits(stretched(x, y)) for x, y in ((1.1, 1), (1, 1.1))]
    np.testing.assert_allclose(recognizer.logits(images), np.mean(each, axis=0), atol=1e-4)
    assert abs(recognizer.logits(images) - without.logits(images)).max() > 0.1


def test_levels(run, files):
    # All fifteen are of level 1; a charset with other characters isn't.
    path = sorted(files.iterdir())[3]
    both = [Recognizer(run, level=level).predict(path)[0] for level in (1, 2)]
    assert both[0] == both[1]
    with pytest.raises(ValueError, match="level is 1 or 2"):
        Recognizer(run, level=3)


def test_what_cannot_be_read_is_named(recognizer, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    for bad, message in (
        ("gone.png", "gone.png: No such file"),
        (broken, "broken.png: "),
        (np.full((9, 9), 255, np.uint8), "image 1: it shows nothing but paper"),
        (np.zeros((9, 9)), r"image 1: An image is uint8 .*, not float64 \(9, 9\)"),
    ):
        images = [made.on_paper("五"), bad, made.on_paper("九")]
        with pytest.raises(ImageError, match=message):
            recognizer.predict(images)
        # The error stands in its place and costs no other answer.
        first, error, last = recognizer.predict(images, on_error="return", progress=True)
        assert isinstance(error, ImageError) and re.search(message, str(error))
        assert [first, last] == recognizer.predict([images[0], images[2]])
    with pytest.raises(ValueError, match='on_error is "raise" or "return"'):
        recognizer.predict(images, on_error="ignore")
    with pytest.raises(ValueError, match="holds no run"):
        Recognizer(tmp_path)


def test_command(run, files, tmp_path, capsys):
    table, maps = tmp_path / "out" / "read.csv", tmp_path / "maps"
    (tmp_path / "bad.png").write_bytes(b"x")
    command = ["predict", str(files), "--workdir", str(run), "--top-k", "2"]
    assert main([*command, "--csv", str(table), "--cam", str(maps)]) == 0
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if "U+" in line]) == 15
    rows = pd.read_csv(table)
    assert list(rows["path"]) == [str(p) for p in sorted(files.iterdir())]
    assert (rows["code_point"] == [f"U+{ord(c):04X}" for c in rows["character"]]).all()
    assert list(rows)[4:] == ["character_2", "probability_2", "error"]
    assert (rows["probability_2"] <= rows["probability"]).all() and rows["error"].isna().all()
    assert pd.read_csv(maps / "cam.csv")["character"].tolist() == rows["character"].tolist()
    assert main([*command, "--csv", str(maps)]) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
    # A bad file and a missing one: the other is read, both are in the table, and the code says so.
    good = tmp_path / os.fsdecode(b"\xb3\xe8\x1b.png")
    shutil.copy(sorted(files.iterdir())[0], good)
    paths = [str(tmp_path / "bad.png"), str(tmp_path / "gone.png"), str(good)]
    assert main(["predict", *paths, "--workdir", str(run), "--csv", str(table)]) == 2
    printed = capsys.readouterr()
    assert "2 of 3 images weren't read" in printed.err and r"\udcb3\udce8\x1b.png" in printed.out
    rows = pd.read_csv(table, keep_default_na=False)
    assert all(rows["error"][:2]) and not rows["error"][2] and rows["character"][2]
    assert rows["path"][2].endswith(r"\udcb3\udce8\x1b.png")


def test_command_reads_standard_input(run, files, monkeypatch, capsys):
    image = sorted(files.iterdir())[0].read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(image)))
    assert main(["predict", "-", "--workdir", str(run)]) == 0
    assert capsys.readouterr().out.startswith("-  ")


def test_calibration_makes_probabilities_true(run, recognizer, store, capsys):
    assert recognizer.temperature == 1
    (run / "calibration.json").write_text('{"temperature": 4.0}')  # far from true
    assert main(["calibrate", str(run), "--data", str(store.path), "--split", "train"]) == 0
    assert "expected calibration error" in capsys.readouterr().out
    about = json.loads((run / "calibration.json").read_text())
    assert about["samples"] == 420 and about["data_hash"] == store.data_hash
    assert about["ece_after"] < about["ece_before"] - 0.1
    assert (run / "reliability.png").exists() and (run / "reliability.csv").exists()
    after = Recognizer(run)
    assert after.temperature == pytest.approx(about["temperature"])
    image = made.on_paper("五")
    assert after.predict(image)[0].character == recognizer.predict(image)[0].character
    (run / "calibration.json").unlink()
    assert Workdir(run).exists()


@pytest.mark.slow
def test_packed_runs_read_the_same_at_half_the_size_and_train_on(
    run, recognizer, store, tmp_path, capsys
):
    packed = tmp_path / "packed"
    assert main(["pack", str(run), "--out", str(packed)]) == 0
    assert "MB" in capsys.readouterr().out
    assert "store" not in json.loads((packed / "run.json").read_text())
    size = (packed / "prediction.safetensors").stat().st_size
    assert size < 0.75 * (run / "prediction.safetensors").stat().st_size
    images = store.images(store.indices("test"))
    one, other = (reader.logits(images) for reader in (recognizer, Recognizer(packed)))
    assert (one.argmax(1) == other.argmax(1)).mean() > 0.96
    np.testing.assert_allclose(one, other, atol=0.05 * one.std())  # eight bits a value
    assert main(["pack", str(run), "--out", str(packed)]) == 2
    assert "exists already" in capsys.readouterr().err
    # Training goes on from one.
    small = {"model.width": 8, "image_size": 32, "batch_size": 32}
    recipe = get_recipe("recogniser").override(small, epochs=1, warmup_steps=0, learning_rate=1e-5)
    from_scratch = train(recipe, store, tmp_path / "fresh").read_run()
    tuned = train(recipe, store, tmp_path / "tuned", init_from=packed).read_run()
    assert tuned["best_val_accuracy"] > 0.8 > from_scratch["best_val_accuracy"]


def test_images_of_several_characters_are_refused(run, tmp_path, capsys):
    line = np.concatenate([made.on_paper(c, 20) for c in "十十十"], axis=1)
    path = tmp_path / "line.png"
    Image.fromarray(line).save(path)
    assert main(["predict", str(path), "--workdir", str(run)]) == 2
    assert "line of about 3 characters" in capsys.readouterr().err
    assert main(["predict", str(path), "--workdir", str(run), "--any-layout"]) == 0


def test_the_packages_weights_read_what_lies_on_a_table_and_in_a_circle():
    recognizer = Recognizer()
    for i, character in enumerate("百万"):
        image = made.sheet(made.written(character, seed=i + 2), size=0.3)
        kinds = [made.on_table(made.ruled(image)), made.boxed(image, "circle")]
        assert [a.character for a in recognizer.predict(kinds)] == [character] * 2
        looked = recognizer.look(kinds[1])
        assert len(looked) > 1 and looked[0][1].character == character
        assert max(one.probability for _, one in looked) < looked[0][1].probability + 0.3


def test_of_readings_much_surer_than_the_first_the_surest_counts(run, monkeypatch):
    reader = Recognizer(run)
    sure = {10: ("一", 0.15), 20: ("二", 0.5), 30: ("三", 0.7), 40: ("四", 0.6)}

    def logits(images):
        for image in images:
            character, probability = sure[int(image[0, 0])]
            scores = np.full(len(reader.charset), np.log((1 - probability) / 14))
            scores[reader.charset.index(character)] = np.log(probability)
            yield scores

    monkeypatch.setattr(reader, "_logits", logits)
    looks = [np.full((40, 40), level, np.uint8) for level in sure]
    monkeypatch.setattr(recognizer_module, "_candidates", lambda *_: iter(looks))
    assert reader.predict(looks[0])[0].character == "三"
    assert reader.look(looks[0])[0][1].character == "三"
    sure[10] = "一", 0.45  # with 0.3 more nothing is surer than the first
    assert reader.predict(looks[0])[0].character == "一"
    assert reader.look(looks[0])[0][1].character == "一"


def test_two_characters_one_above_the_other_are_refused():
    recognizer = Recognizer()
    for pair in ("零六", "亿零", "万九"):
        parts = [cv2.resize(made.written(c, seed=7), (140, 130)) for c in pair]
        column = [np.pad(part, 14, constant_values=255) for part in parts]
        column = np.pad(np.concatenate(column), 30, constant_values=255)
        answer = recognizer.predict(column, on_error="return")[0]
        assert "column of about" in str(answer)
        assert isinstance(recognizer.predict(column, single=False)[0].character, str)


def test_what_no_character_reaches_is_refused():
    recognizer = Recognizer()
    rng = np.random.default_rng(1)
    scribble = np.full((160, 160), 255, np.uint8)
    cv2.polylines(scribble, [rng.integers(10, 150, (40, 2)).astype(np.int32)], False, 0, 3)
    images = [made.on_paper("万"), scribble]
    first, second = recognizer.predict(images, min_probability=0.6, on_error="return")
    assert first.character == "万" and "none of the known characters" in str(second)


def test_steps_are_drawn(run, files, tmp_path, capsys):
    paths = [str(p) for p in sorted(files.iterdir())[:2]]
    assert main(["predict", *paths, "--workdir", str(run), "--steps", str(tmp_path / "a")]) == 0
    assert len(list((tmp_path / "a").glob("*.png"))) == 2
    assert "steps in" in capsys.readouterr().out
