"""README and pages: every command is one that there is, and runs on small data; the site builds."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import photographs as made
import pytest
import shell
import yaml
from shell import ROOT

from hccr_tf import Recognizer, __version__
from hccr_tf.cli.parsers import hccr_parser
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.synthesis.sample import generate_gnt

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAPERS = sorted(ROOT.glob("hccr_tf/papers/*/README.md"))
NUMERALS = "零一二三四五六七八九十百千万亿"
# What a page's commands are made smaller by, each once.
SMALL = {
    "hccr train": " --image-size 16 --epochs 1 --model.width 16",
    "hccr train fine_tune": " --steps 2",
    "hccr train recogniser": " --steps 2",
    "hccr train transfer": " --image-size 16 --model.width 4",
    "hccr train brick": " --image-size 16 --epochs 1 --model.num_bricks 2 --model.width 16",
    "hccr sweep": " --image-size 16 --epochs 1 --model.num_bricks 2 --model.width 16",
    "python trainers": " --image-size 16 --epochs 1 --model.num_bricks 2 --model.width 16",
}
# What takes a network, a published file or another program, or is a test of its own.
NOT_RUN = (
    *("pip ", "make ", "mkdir ", "for ", "cp ", "cd ", "sh ", "npm ", "mkdir", "apt-get "),
    *("curl ", "docker ", "hccr serve", "export ", "PYTHONPATH=", "my_images/", "hccr import"),
    # tests/papers trains these at the smallest scale.
    *("hccr reproduce", "hccr report"),
    # tests/e2e/test_processes.py compares processes; here recipes of all families would.
    *("python benchmarks/scale.py equality", "python benchmarks/scale.py growth"),
)


def commands(page: Path) -> list[str]:
    lines = [
        line for code in shell.blocks(page.read_text("utf-8"), "") for line in shell.lines(code)
    ]
    return [part.strip() for line in lines for part in line.split(" && ")]


def of_hccr(page: Path) -> list[list[str]]:
    lines = [shlex.split(line) for line in commands(page) if re.match("hccr [a-z]", line)]
    return [[word for word in line[1:] if not word.startswith("…")] for line in lines]


@pytest.mark.parametrize(
    "page", [*PAGES, *PAPERS], ids=lambda page: f"{page.parent.name}-{page.stem}"
)
def test_every_command_is_one(page):
    for words in of_hccr(page):
        parsed = vars(hccr_parser().parse_args(words))
        if "recipe" in parsed and words[0] in ("train", "sweep"):
            several = {k: v[0] for k, v in parsed.items() if isinstance(v, list) and v}
            assert get_recipe(parsed["recipe"]), several
        if words[0] == "reproduce" and parsed["name"] not in (None, "all"):
            from hccr_tf.papers.base import EXPERIMENTS

            assert EXPERIMENTS[parsed["name"]]
            assert parsed["scale"] is None or EXPERIMENTS[parsed["name"]].cells(parsed["scale"])


def test_the_readme_is_short_and_its_first_command_has_its_files():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 200
    photographs = sorted((ROOT / "docs/images/photographs").glob("*.jpg"))
    assert "".join(r.character for r in Recognizer().predict(photographs)) == "百零万五亿"
    assert "](docs/images/read.png)" in text.partition("\n## ")[0]


def test_numbers_of_the_readme_are_measured():
    """Ours in the table of papers, and the recogniser's."""
    results = ROOT / "benchmarks" / "results"
    text = (ROOT / "README.md").read_text("utf-8")
    table = re.findall(r"^\| \[.*\| \**([\d.]+) %[^|]*\|$", text, re.M)
    bricks = pd.read_csv(results / "brick_hwdb100.csv").set_index(["run", "crops"])["top1"]
    melnyk = pd.read_csv(results / "melnyk_hwdb100.csv").set_index("run")["accuracy"]
    yang = pd.read_csv(results / "yang_hwdb100.csv").set_index("run")["accuracy"]
    gain = pd.read_csv(results / "chinese_mnist_transfer_gain.csv")
    ours = pd.read_csv(results / "ours_hwdb100.csv")
    best = [
        100 * bricks[[run for run in bricks.index if "fused" in run[0] and run[1] == "five"]].max(),
        melnyk["melnyk_c"],
        yang["convnet_ir"],
        gain["accuracy"].max(),
        ours["accuracy"].max(),
    ]
    assert table == [f"{value:.2f}" for value in best]
    icdar = pd.read_csv(results / "peers.csv").iloc[0]
    assert f"{icdar['top1']:.1f} % rightly" in text and f"{icdar['top5']:.1f} % among" in text
    card = (ROOT / "hccr_tf/pretrained/recogniser/MODEL_CARD.md").read_text("utf-8")
    (said,) = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    level1 = pd.read_csv(results / "peers.csv").iloc[1]
    values = [metric["value"] for metric in said["metrics"]]
    assert values == [icdar["top1"], icdar["top5"], level1["top1"]]


def test_the_version_is_one():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_drawing_of_the_rooms_is_the_rule():
    names = runpy.run_path(str(ROOT / "docs/images/rooms.py"))
    drawn = names["draw"]((ROOT / "setup.cfg").read_text("utf-8"))
    assert drawn == (ROOT / "docs/images/rooms.svg").read_text("utf-8")
    assert set(names["WORDS"]) >= {path.stem for path in (ROOT / "hccr_tf").glob("[a-z]*")} - {"py"}


# === On small data ===


def photograph(character: str, seed: int) -> bytes:
    return made.encoded(made.on_paper(character, seed=seed), "JPEG")


@pytest.fixture(scope="session")
def world(make_once) -> Path:
    """A folder with all that the pages' commands name: photographs, a person's images, archives."""

    def fill(folder: Path) -> None:
        for i, character in enumerate(NUMERALS[:10]):
            (folder / "my_images" / character).mkdir(parents=True)
            for j in range(14):
                path = folder / "my_images" / character / f"{j}.jpg"
                path.write_bytes(photograph(character, 20 * i + j))
        (folder / "scans").mkdir()
        for name in ("photo.jpg", "scans/1.jpg", "drawn.png"):
            (folder / name).write_bytes(photograph("五", 3))
        for split, copies in (("Train", 6), ("Test", 2)):
            with zipfile.ZipFile(folder / f"CASIA-HWDB_{split}.zip", "w") as archive:
                for i, character in enumerate(NUMERALS[:4]):
                    for j in range(copies):
                        image = cv2.resize(made.written(character, 20 * i + j + copies), (40, 40))
                        name = f"{split}/{character}/{j}.png"
                        archive.writestr(name, made.encoded(np.asarray(image)))
        generate_gnt(
            folder / "downloads",
            num_writers=3,
            num_test_writers=1,
            samples_per_writer=1,
            size=32,
            seed=2,
        )

    return make_once("world", fill)


@pytest.fixture
def folder(world, brick_run, sample_store, numerals, tmp_path, monkeypatch) -> Path:
    """A copy of it, beside the repository's own folders, with a store and a run."""
    place = shutil.copytree(world, tmp_path / "place")
    for name in ("docs", "hccr_tf", "trainers", "predictors"):
        (place / name).symlink_to(ROOT / name)
    shutil.copytree(sample_store.path, place / "store")
    shutil.copytree(numerals, place / "strokes")
    shutil.copytree(brick_run, place / "runs" / "mine")
    monkeypatch.chdir(place)
    return place


def smaller(line: str) -> str:
    known = [begin for begin in SMALL if line.startswith(begin)]
    return line + (SMALL[max(known, key=len)] if known else "")


def clear_for(line: str, folder: Path) -> None:
    """A page makes what the folder holds for other pages; three logits files are one here."""
    words = shlex.split(line)
    for flag in ("--out", "--workdir"):
        if flag in words and words[1] in ("data", "train", "pack"):
            shutil.rmtree(folder / words[words.index(flag) + 1], ignore_errors=True)
    for word in words:
        if re.fullmatch(r"logits[23]\.h5", word) and not (folder / word).exists():
            shutil.copy(folder / "logits1.h5", folder / word)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run_on_small_data(page, folder, capsys):
    for line in commands(page):
        if line.startswith(("hccr ", "python ")) and not line.startswith(NOT_RUN):
            line = smaller(line)
            clear_for(line, folder)
            assert shell.run(line) == 0, line + "\n" + capsys.readouterr().err[-2000:]


@pytest.mark.integration
@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs/reading.md"], ids=lambda p: p.stem
)
def test_programs_run(page, folder, capsys):
    for program in shell.blocks(page.read_text("utf-8"), "python"):
        if "hccr_tf.train(" not in program:
            exec(compile(program, page.name, "exec"), {})
    assert "五" in capsys.readouterr().out


# === The site ===


@pytest.mark.e2e
def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs", reason="needs hccr_tf[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "fine-tuning.html").read_text("utf-8")
    rows = pd.read_csv(ROOT / "benchmarks/results/fine_tuning.csv").dropna(subset=["accuracy"])
    assert all(f"<td>{value:.1f} %</td>" in page for value in rows["accuracy"])
    assert "Recognizer" in (tmp_path / "api.html").read_text("utf-8")
    for page in tmp_path.rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>|<code.*?</code>", "", page.read_text("utf-8"), flags=re.S)
        assert ".csv &quot;" not in text and '.csv "' not in text, f"{page}: a table wasn't made"
    assert "91.02%" in (tmp_path / "papers" / "kriuk_2024.html").read_text("utf-8")
