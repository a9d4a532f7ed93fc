import json
import shutil
import sys
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from disk import put, rows

from hccr_tf.audit import report as audit_report
from hccr_tf.audit.audit import audit
from hccr_tf.audit.features import image_features, is_inverted
from hccr_tf.audit.label_issues import LabelIssues
from hccr_tf.audit.merged_classes import find_merged, folder_partners
from hccr_tf.audit.report import Audit
from hccr_tf.charset import Charset
from hccr_tf.cli import main as cli
from hccr_tf.data.sources.gnt import write_gnt
from hccr_tf.data.store.prepare import prepare
from hccr_tf.data.store.store import Store
from hccr_tf.images.contact_sheet import text_image

MERGED = "宇寥垫庵庀"  # Of hwdb100: with 宀, 寤, 垍, 庠 and 庇.


def written(character: str, rng: np.random.Generator) -> np.ndarray:
    """A character from the font, moved, sheared and drawn with another pen each time."""
    drawn = text_image(character, 56, margin=14)
    height, width = drawn.shape
    matrix = np.eye(2, 3) + np.c_[rng.normal(0, 0.07, (2, 2)), rng.normal(0, 2, 2)]
    drawn = cv2.warpAffine(drawn, matrix, (width, height), borderValue=255)
    drawn = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.5, 1.5))
    return np.maximum(drawn, rng.integers(0, 90, dtype=np.uint8))


def broken(character: str) -> str:
    return character.encode().decode("cp852")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Store:
    """A store of images by class with one fault of every kind."""
    rng = np.random.default_rng(1)
    root = tmp_path_factory.mktemp("faulty") / "repack"
    for character in "宪室宋":
        for n in range(40):
            put(root / "Train" / broken(character) / f"{n}.png", written(character, rng))
        for n in range(8):
            put(root / "Test" / broken(character) / f"{n}.png", written(character, rng))
    folder = root / "Train" / broken("宪")
    shutil.copyfile(folder / "0.png", folder / "90.png")
    shutil.copyfile(folder / "1.png", root / "Train" / broken("室") / "90.png")
    shutil.copyfile(root / "Test" / broken("宪") / "0.png", folder / "91.png")
    put(folder / "92.png", np.full_like(written("宪", rng), 250))
    put(folder / "93.png", 255 - written("宪", rng))
    put(folder / "94.png", np.tile(written("宪", rng), (1, 12)))
    (folder / "95.png").write_bytes(b"\x89PNG")
    put(root / "Train" / "no character" / "1.png", written("宪", rng))
    for n in range(5):
        put(root / "Train" / broken("它") / f"{n}.png", written("它", rng))
    return prepare([root], root.parent / "store", progress=False)


@pytest.fixture(scope="module")
def result(faulty) -> Audit:
    return audit(faulty, progress=False)


def ids(result, name: str) -> list[str]:
    findings = result[name].findings
    return [result.store.sample_id(f.sample).removeprefix("repack/") for f in findings]


# === Checks ===


def test_every_fault_is_found_and_nothing_else(faulty, result):
    here = f"Train/{broken('宪')}"
    for name, files in {
        "duplicates_held_out": {f"Test/{broken('宪')}/0.png", f"{here}/91.png"},
        "conflicting_duplicates": {f"{here}/1.png", f"Train/{broken('室')}/90.png"},
        "blank": {f"{here}/92.png"},
        "inverted": {f"{here}/93.png"},
        "odd_sizes": {f"{here}/94.png"},
    }.items():
        assert set(ids(result, name)) == files and len(result[name].findings) == len(files)
    assert set(ids(result, "duplicates_within_split")) >= {f"{here}/0.png", f"{here}/90.png"}
    assert {f.note for f in result["conflicting_duplicates"].findings} == {"labelled 室 and 宪"}
    assert result["unreadable"].findings[0].note == f"repack/{here}/95.png"
    assert result["nameless"].findings[0].note == "repack/Train/no character/1.png"
    assert {f.character for f in result["repaired_names"].findings} == set("宪室宋它")
    assert [f.character for f in result["imbalance"].findings] == ["它"]
    assert [f.character for f in result["classes_without_test"].findings] == ["它"]
    assert result["writers_unknown"].count == len(faulty)
    for name in ("duplicates_across_splits", "classes_without_training", "writers_on_both_sides"):
        assert not result[name].findings
    # They share folders with 家, 宥 and 宊 where case is ignored, but hold one character each.
    assert {f.character for f in result["mergeable_names"].findings} == set("它室宋")
    assert not result["merged_classes"].findings


def test_a_leak_between_splits_is_an_error(faulty):
    # As a store of another program, or a hand, may have it.
    store = Store(faulty.path)
    store.split = np.where(store.split == 3, 0, store.split)
    check = audit(store, progress=False)["duplicates_across_splits"]
    assert check.severity == "error" and check.count == 1 and len(check.findings) == 2


def test_one_split_alone(faulty):
    result = audit(faulty, "test", progress=False)
    assert result.num_samples == 24
    assert not result["blank"].findings and not result["inverted"].findings
    # The copy of a test image concerns the test.
    assert result["duplicates_held_out"].count == 1
    assert not result["conflicting_duplicates"].findings


def test_writers_on_both_sides(tmp_path, make_image):
    files = ("train/1001-f", "train/1002-f", "test/1002-f", "test/1003-f")
    for k, file in enumerate(files):
        path = tmp_path / "data" / f"{file}.gnt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gnt(path, [("一丁七"[i % 3], make_image(100 * k + i)) for i in range(9)])
    store = prepare([tmp_path / "data"], tmp_path / "store", progress=False)
    (finding,) = audit(store, progress=False)["writers_on_both_sides"].findings
    assert finding.note.startswith("writer 1002-f: train ") and "test 9" in finding.note


def test_the_sample_is_sound(sample_store):
    result = audit(sample_store, progress=False)
    faults = {c.name for c in result.checks if c.findings and c.severity != "info"}
    assert not faults - {"odd_sizes"}
    assert result["odd_sizes"].count < 0.02 * len(sample_store)
    assert not folder_partners(sample_store)


def test_features_ignore_polarity_margin_and_size():
    drawn = text_image("国", 60)
    assert not is_inverted(drawn) and is_inverted(255 - drawn)
    # Cut tight, a frame of ink is the border of the image, and most of it is white inside.
    framed = np.pad(np.full((36, 36), 255, np.uint8), 2)
    assert not is_inverted(framed)
    wide = np.pad(drawn, ((30, 5), (9, 50)), constant_values=255)
    images = [drawn, 255 - drawn, wide, text_image("国", 120), text_image("人", 60)]
    own, dark, margin, size, other = image_features(images)
    np.testing.assert_allclose(dark, own, atol=1e-3)
    np.testing.assert_allclose(margin, own, atol=1e-5)
    assert np.abs(size - own).mean() < 0.2 * np.abs(other - own).mean()


# === Merged classes ===


@pytest.fixture(scope="module")
def merged_store(tmp_path_factory) -> Store:
    """Eight classes; the folder of 宇 was partly overwritten by 宀, that of 守 has a rest of 宝."""
    root = tmp_path_factory.mktemp("merged")
    rng = np.random.default_rng(4)
    for character in "宇守它宪室宋宁宗":
        for n in range(80):
            shown = "宀" if character == "宇" and n < 30 else character
            shown = "宝" if character == "守" and n >= 76 else shown
            put(root / "Train" / broken(character) / f"{n}.png", written(shown, rng))
    return prepare([root / "Train"], root / "store", progress=False)


@pytest.mark.slow
def test_merged_classes_are_found_without_a_model(merged_store):
    result = audit(merged_store, progress=False)
    first, second = result["merged_classes"].findings[:2]
    assert (first.character, second.character) == ("宇", "守")
    assert "may be merged with 宀" in first.note and "may be merged with 宝" in second.note
    expected = {f"Train/{broken('宇')}/{n}.png" for n in range(30)}
    expected |= {f"Train/{broken('守')}/{n}.png" for n in range(76, 80)}
    assert set(ids(result, "merged_images")) == expected
    assert len(result["merged_classes"].findings) == 2
    assert folder_partners(merged_store)[merged_store.charset.index("宇")] == ("宀",)


@pytest.mark.parametrize(
    ("folders", "partners"),
    [
        # On a disk that ignores case the two would fall together: hence an archive's order.
        ({"宇": f"1/Train/{broken('宇')}", "宀": f"2/Train/{broken('宀')}"}, {}),
        ({"A": "A", "7": "7"}, {"A": ("a",)}),
    ],
)
def test_names_that_could_fall_together(folders, partners, tmp_path, make_image):
    for character, folder in folders.items():
        for n in range(10):
            put(tmp_path / "data" / folder / f"{n}.png", make_image(100 * ord(character) + n))
    store = prepare([tmp_path / "data"], tmp_path / "store", split="shuffle", progress=False)
    assert folder_partners(store) == {store.charset.index(c): p for c, p in partners.items()}


@pytest.mark.slow
def test_two_heaps_are_found_without_a_name(tmp_path):
    rng = np.random.default_rng(7)
    records = [(c, written(c, rng)) for c in "我永" for _ in range(90)]
    records += [("大", written("大" if n % 3 else "口", rng)) for n in range(90)]
    write_gnt(tmp_path / "1001-f.gnt", records)
    store = prepare([tmp_path / "1001-f.gnt"], tmp_path / "store", split="shuffle", progress=False)
    counts = []
    first, *others = find_merged(store, store.indices("all"), counts.append)
    assert sum(counts) == len(store)
    assert [first, *others] == find_merged(store, store.indices("all"))
    assert first.character == "大"
    assert first.bimodality > 0.5 > max(other.bimodality for other in others)
    # The two ends are the two characters.
    half = len(first.ends) // 2
    aspect = image_features(store.images(np.array(first.ends)))
    within = np.linalg.norm(aspect[0] - aspect[1 : half - 1], axis=1)
    assert within.max() < np.linalg.norm(aspect[0] - aspect[half:], axis=1).min()


# === LabelIssues ===


def test_margins_do_not_depend_on_the_temperature(faulty):
    rng = np.random.default_rng(3)
    indices = faulty.indices("all")
    logits = rng.normal(0, 3, (len(indices), len(faulty.charset)))
    one, cold = (LabelIssues(faulty, faulty.charset, "runs/m") for _ in range(2))
    for part in np.array_split(np.arange(len(indices)), 3):
        one.add(logits[part], indices[part])
        cold.add(logits[part] / 7, indices[part])
    order = np.argsort(one.margin[indices], kind="stable")
    np.testing.assert_array_equal(order, np.argsort(cold.margin[indices], kind="stable"))
    # By hand for one sample.
    row, own = logits[5], int(faulty.labels[indices[5]])
    rest = np.delete(row, own)
    assert one.margin[indices[5]] == pytest.approx(rest.max() - row[own], rel=1e-5)
    assert np.isnan(one.margin[faulty.indices("duplicate")]).all()


def test_wrong_labels_come_first_under_the_models_charset(faulty):
    # A model with more classes in another order.
    charset = Charset.from_text("它宋官宪室")
    truth = np.array([charset.index(faulty.charset.char(k)) for k in faulty.labels])
    said = truth.copy()
    wrong = faulty.indices("test")[:3]
    said[wrong] = charset.index("官")
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 0.1, (len(faulty), len(charset)))
    logits[np.arange(len(faulty)), said] += 5 + rng.random(len(faulty))
    label_issues = LabelIssues(faulty, charset, "runs/m")
    indices = faulty.indices("all")
    label_issues.add(logits[indices], indices)
    result = audit(faulty, label_issues=label_issues, progress=False)
    findings = result["likely_wrong_labels"].findings
    assert {f.sample for f in findings} == set(wrong.tolist())
    assert all(f.note == "read as 官" for f in findings)
    assert [f.value for f in findings] == sorted((f.value for f in findings), reverse=True)
    assert result.agreement["test"] == pytest.approx(1 - 3 / 24)
    assert result.agreement["train"] == 1
    doubted = {row.character: (row.doubted, row.read_as) for row in result.classes}
    assert doubted[findings[0].character][1] == "官" and doubted["它"] == (0, None)
    text = result.text()
    assert "runs/m reads as labelled: train 100.00 %, " in text and "read as 官" in text


def test_what_does_not_fit_is_refused_by_name(faulty):
    with pytest.raises(ValueError, match="lacks 2 of the store .*: 宋 室"):
        LabelIssues(faulty, Charset.from_text("宪它"), "runs/m")
    label_issues = LabelIssues(faulty, faulty.charset, "runs/m")
    with pytest.raises(ValueError, match=r"shape \(2, 3\) don't fit 2 samples and 4 classes"):
        label_issues.add(np.zeros((2, 3)), np.arange(2))


# === Files and command ===


def test_the_command_writes_tables_and_sheets(faulty, tmp_path, capsys):
    out = tmp_path / "report"
    assert cli.main(["data", "audit", str(faulty.path), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "conflicting_duplicates" in text and "blank.png" in text
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert sorted(summary["files"]) == sorted(p.name for p in out.iterdir())
    assert {"blank.png", "inverted.png", "odd_sizes.png", "conflicting_duplicates.png"} <= set(
        summary["files"]
    )
    assert summary["data_hash"] == faulty.data_hash
    table = rows(out / "audit.csv")
    for name, check in summary["checks"].items():
        found = [row for row in table if row["check"] == name]
        assert len(found) == check["findings"]
        assert (check["severity"] is None) == (not found)
        assert all(row["remedy"] == check["remedy"] for row in found)
    (odd,) = [row for row in table if row["check"] == "odd_sizes"]
    assert odd["sample_id"].endswith("/94.png") and odd["split"] in ("train", "validation")
    assert odd["character"] == "宪" and float(odd["value"]) > 5
    classes = rows(out / "classes.csv")
    assert {row["character"] for row in classes} == set("宪室宋它")
    assert sum(int(row["test"]) for row in classes) == 24
    # Once more, of a split without such images: no sheet of the earlier audit stays.
    assert cli.main(["data", "audit", str(faulty.path), "--out", str(out), "--split", "test"]) == 0
    assert not (out / "blank.png").exists() and (out / "audit.csv").exists()


@pytest.mark.slow
def test_an_interrupted_audit_is_begun_anew(result, tmp_path, monkeypatch):
    out = tmp_path / "report"
    with monkeypatch.context() as patch:
        patch.setattr(audit_report, "draw_sheet", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            result.write(out)
    assert (out / "audit.csv").exists() and not (out / "blank.png").exists()
    result.write(out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert sorted(summary["files"]) == sorted(p.name for p in out.iterdir())
    assert "state" not in summary and "blank.png" in summary["files"]


def test_other_folders_are_left_alone(faulty, tmp_path, capsys):
    other = tmp_path / "letters"
    other.mkdir()
    (other / "summary.json").write_text('{"files": ["letter.txt"]}')
    (other / "letter.txt").write_text("dear")
    assert cli.main(["data", "audit", str(faulty.path), "--out", str(other)]) == 2
    assert "holds no audit" in capsys.readouterr().err
    assert (other / "letter.txt").read_text() == "dear"
    assert cli.main(["data", "audit", str(other)]) == 2
    assert "is no store" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [False, True])
def test_the_default_folder_and_a_bar_on_a_terminal_only(terminal, faulty, monkeypatch, capfd):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert cli.main(["data", "audit", str(faulty.path), "--split", "test"]) == 0
    err = capfd.readouterr().err
    assert bool(err) == ("looking at images" in err) == terminal
    assert Path(f"{faulty.path}-audit", "summary.json").is_file()


@pytest.mark.slow
@pytest.mark.integration
def test_the_command_with_a_run(sample_store, brick_run, tmp_path, capsys):
    run, out = brick_run, tmp_path / "report"
    command = ["data", "audit", str(sample_store.path), "--run", str(run), "--out", str(out)]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    assert f"{run} reads as labelled: train " in text and "other data" not in text
    table = rows(out / "audit.csv")
    assert all(
        row["note"].startswith("read as ") and row["writer"]
        for row in table
        if row["check"] == "likely_wrong_labels"
    )
    assert (out / "likely_wrong_labels.png").exists()


# === Real data ===


@pytest.mark.e2e
def test_hwdb100s_merged_classes_come_first(hwdb100, tmp_path):
    archives = [hwdb100 / "CASIA-HWDB_Train.zip", hwdb100 / "CASIA-HWDB_Test.zip"]
    store = prepare(archives, tmp_path / "store", progress=False)
    result = audit(store, progress=False)
    assert {row.character for row in result.classes[:5]} == set(MERGED)
    assert result["duplicates_within_split"].count == 757
    assert result["unreadable"].count == 1
    partners = {row.character: row.partner for row in result.classes[:5]}
    assert partners == dict(zip(MERGED, "宀寤垍庠庇", strict=True))
    by_class = {f.character for f in result["merged_images"].findings}
    # Some images of 宾 and 宝, left at the end of 宽 and 守, that nobody had noticed.
    assert by_class == {*MERGED, "宽", "守"}
