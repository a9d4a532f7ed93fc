"""The package's recogniser beside other people's, on the same images in the same run.

  export OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
  .venv/bin/python benchmarks/peers.py --images icdar2013-500.zip --reason "first weights" \
      --rapidocr-python peers/bin/python --tesseract [--run RUN]

Images are single characters whose file name is the character (a zip or a folder). Each reader
gets each image as black ink on white paper with a margin of an eighth, one at a time, on one
thread. An answer is right if its only, or its first, Chinese character is the true one. Ours is
scored with the 3,755 characters of GB2312 level 1 competing, and with all 6,763. Writes
results/peers.csv; results/peers_log.csv gets a row for every time that anybody looks at these
images, with the reason.
"""

import hashlib
import os
import subprocess
import tempfile
import time
import zipfile
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from common import RESULTS, arguments_of, weights_of

from hccr_tf import Recognizer
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.images.cleaning import clean


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--reason", required=True, help="why these images are looked at now")
    parser.add_argument("--run", help="in place of the package's own weights")
    parser.add_argument("--rapidocr-python", help="of an environment with rapidocr")
    parser.add_argument("--tesseract", action="store_true", help="the program, with chi_sim")
    options = parser.parse_args()
    if os.environ.get("TF_NUM_INTRAOP_THREADS") != "1" or os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set the variables for one thread as in --help, or times aren't comparable")
    images, digest = read(options.images)
    tables = {}
    for level in (1, 2):
        tables[f"hccr_tf, level {level}"] = ours(images, options.run, level)
    with tempfile.TemporaryDirectory() as folder:
        for i, (_, image) in enumerate(images):
            cv2.imwrite(f"{folder}/{i:04d}.png", image)
        if options.rapidocr_python:
            name, table = rapidocr(folder, options.rapidocr_python)
            tables[name] = table
        if options.tesseract:
            tables["Tesseract 5, chi_sim, one character"] = tesseract(folder)
    truths = [truth for truth, _ in images]
    rows = [summary(name, truths, table) for name, table in tables.items()]
    result = pd.DataFrame(rows)
    # In one run on one machine only the ratio means something.
    result["time_ratio"] = (result["ms"] / result["ms"].iloc[0]).round(2)
    result["images"] = f"{options.images.name} ({len(images)}, SHA-256 {digest[:12]})"
    name = Path(options.run).name if options.run else "the package's"
    weights = f"{name} ({weights_of(options.run or 'recogniser')})"
    result["weights"] = [weights if name.startswith("hccr_tf") else "" for name in tables]
    result.to_csv(RESULTS / "peers.csv", index=False)
    print(result.drop(columns="images").to_string(index=False))
    log = RESULTS / "peers_log.csv"
    entry = pd.DataFrame(
        [
            {
                "date": date.today().isoformat(),
                "reason": options.reason,
                "weights": weights,
                "top1_level1": rows[0]["top1"],
                "top5_level1": rows[0]["top5"],
                "top1_level2": rows[1]["top1"],
            }
        ]
    )
    if log.exists():
        entry = pd.concat([pd.read_csv(log), entry], ignore_index=True)
    entry.to_csv(log, index=False)


def read(path: Path) -> tuple[list[tuple[str, np.ndarray]], str]:
    """Characters and images, black on white with a margin; and what identifies them all."""
    if path.is_dir():
        files = {p.stem: p.read_bytes() for p in sorted(path.glob("*.png"))}
    else:
        with zipfile.ZipFile(path) as archive:
            files = {
                Path(n).stem: archive.read(n)
                for n in sorted(archive.namelist())
                if n.endswith(".png")
            }
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    found = []
    for name, data in files.items():
        image = clean(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
        margin = max(image.shape) // 8
        found.append(
            (name, cv2.copyMakeBorder(image, *[margin] * 4, cv2.BORDER_CONSTANT, value=255))
        )
    return found, digest


def ours(images, run, level: int) -> list[tuple[list[str], float]]:
    recognizer = Recognizer(run, level=level)
    recognizer.predict(images[0][1])  # compiles
    answers = []
    for _, image in images:
        start = time.perf_counter()
        found = recognizer.predict(image, single=False)[0]
        milliseconds = 1000 * (time.perf_counter() - start)
        answers.append(([found.character, *(c for c, _ in found.alternatives)], milliseconds))
    return answers


def rapidocr(folder: str, python: str) -> tuple[str, list[tuple[list[str], float]]]:
    out = f"{folder}/rapidocr.csv"
    script = Path(__file__).with_name("peers_rapidocr.py")
    done = subprocess.run(
        [python, str(script), folder, out], check=True, capture_output=True, text=True
    )
    table = pd.read_csv(out, keep_default_na=False)
    return done.stdout.strip().splitlines()[-1] + ", recognition only", [
        (_hanzi(text)[:1], ms) for text, ms in zip(table["text"], table["ms"], strict=True)
    ]


def tesseract(folder: str) -> list[tuple[list[str], float]]:
    answers = []
    for path in sorted(Path(folder).glob("*.png")):
        start = time.perf_counter()
        done = subprocess.run(
            ["tesseract", str(path), "-", "-l", "chi_sim", "--psm", "10"],
            check=True,
            capture_output=True,
            text=True,
        )
        milliseconds = 1000 * (time.perf_counter() - start)  # its start included
        answers.append((_hanzi(done.stdout)[:1], milliseconds))
    return answers


def _hanzi(text: str) -> list[str]:
    return [c for c in text if "\u4e00" <= c <= "\u9fff"]


def summary(name: str, truths: list[str], answers) -> dict:
    right = [bool(a) and a[0] == t for t, (a, _) in zip(truths, answers, strict=True)]
    low, high = wilson_interval(sum(right), len(right))
    row = {
        "reader": name,
        "top1": _percent(sum(right) / len(right)),
        "low": _percent(low),
        "high": _percent(high),
        "top5": None,
    }
    if max(len(a) for a, _ in answers) > 1:
        row["top5"] = _percent(np.mean([t in a for t, (a, _) in zip(truths, answers, strict=True)]))
    row["ms"] = round(float(np.median([ms for _, ms in answers])), 2)
    return row


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


if __name__ == "__main__":
    main()
