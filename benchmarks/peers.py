"""The package's recogniser beside other people's, on the same images in the same run.

  export OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
  .venv/bin/python benchmarks/peers.py --images icdar2013-500.zip runs/hwdb100:2000 \
      runs/cmnist:1500 --reason "first weights" --peers-python peers/bin/python --tesseract \
      [--run RUN]

Images are single characters: a zip or a folder of files whose name is the character, or a store
and how many of its training images (as many of each character as can be). Each reader gets each
as black ink on white paper with a margin of an eighth, one at a time, on one thread. An answer is
right if its only, or its first, Chinese character is the true one. Ours is scored with all 6,763
characters of GB2312 competing and, where all are of level 1, with its 3,755. Writes
results/peers.csv; results/peers_log.csv gets a row for every time that anybody looks at images
that aren't training images, with the reason.
"""

import argparse
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
from common import RESULTS, weights_of
from peers_others import READERS

from hccr_tf import Recognizer
from hccr_tf.charset import Charset
from hccr_tf.data.store.splits import draw_per_class
from hccr_tf.data.store.store import Store
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.images.cleaning import clean
from hccr_tf.pretrained import find_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", nargs="+", required=True, help="see above")
    parser.add_argument("--reason", required=True, help="why these images are looked at now")
    parser.add_argument("--run", help="in place of the package's own weights")
    parser.add_argument("--peers-python", help="of an environment with other readers")
    parser.add_argument("--readers", nargs="*", choices=READERS, default=list(READERS))
    parser.add_argument("--tesseract", action="store_true", help="the program, with chi_sim")
    options = parser.parse_args()
    if os.environ.get("TF_NUM_INTRAOP_THREADS") != "1" or os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("set the variables for one thread as in --help, or times aren't comparable")
    name = Path(options.run).name if options.run else "the package's"
    weights = f"{name} ({weights_of(options.run or 'recogniser')})"
    size = (find_run(options.run) / "prediction.safetensors").stat().st_size / 1e6
    rows = []
    for source in options.images:
        images, digest = read(source)
        truths = [truth for truth, _ in images]
        level1 = Charset.named("gb2312-1")
        tables = {"hccr_tf, all 6,763": (ours(images, options.run, 2), size)}
        if all(truth in level1 for truth in truths):
            tables["hccr_tf, level 1"] = (ours(images, options.run, 1), size)
        with tempfile.TemporaryDirectory() as folder:
            for i, (_, image) in enumerate(images):
                cv2.imwrite(f"{folder}/{i:05d}.png", image)
            for reader in options.readers if options.peers_python else ():
                full_name, table, megabytes = other(reader, folder, options.peers_python)
                tables[full_name] = table, megabytes
            if options.tesseract:
                tables["Tesseract 5, chi_sim, one character"] = tesseract(folder), None
        found = [summary(name, truths, *table) for name, table in tables.items()]
        for row in found:
            # In one run on one machine only the ratio means something.
            row["time_ratio"] = round(row["ms"] / found[0]["ms"], 2)
            row["images"] = f"{Path(source).name} ({len(images)}, SHA-256 {digest[:12]})"
            row["weights"] = weights if row["reader"].startswith("hccr_tf") else ""
        rows += found
        print(pd.DataFrame(found).drop(columns="weights").to_string(index=False), flush=True)
        if ":" not in source:
            note(options.reason, weights, {row["reader"]: row for row in found})
    pd.DataFrame(rows).to_csv(RESULTS / "peers.csv", index=False)


def note(reason: str, weights: str, found: dict[str, dict]) -> None:
    """Adds a row to the log of looks at images that aren't training images."""
    log = RESULTS / "peers_log.csv"
    level1 = found.get("hccr_tf, level 1", {})
    entry = pd.DataFrame(
        [
            {
                "date": date.today().isoformat(),
                "reason": reason,
                "weights": weights,
                "top1_level1": level1.get("top1"),
                "top5_level1": level1.get("top5"),
                "top1_level2": found["hccr_tf, all 6,763"]["top1"],
                "top5_level2": found["hccr_tf, all 6,763"]["top5"],
            }
        ]
    )
    if log.exists():
        entry = pd.concat([pd.read_csv(log), entry], ignore_index=True)
    entry.to_csv(log, index=False)


def read(source: str) -> tuple[list[tuple[str, np.ndarray]], str]:
    """Characters and images, black on white with a margin; and what identifies them all."""
    path, _, count = source.partition(":")
    if count:
        found, digest = training_images(path, int(count))
    else:
        if Path(path).is_dir():
            files = {p.stem: p.read_bytes() for p in sorted(Path(path).glob("*.png"))}
        else:
            with zipfile.ZipFile(path) as archive:
                files = {
                    Path(n).stem: archive.read(n)
                    for n in sorted(archive.namelist())
                    if n.endswith(".png")
                }
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        found = [
            (name, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
            for name, data in files.items()
        ]
    images = []
    for character, image in found:
        image = clean(image)
        margin = max(image.shape) // 8
        images.append(
            (character, cv2.copyMakeBorder(image, *[margin] * 4, cv2.BORDER_CONSTANT, value=255))
        )
    return images, digest


def training_images(path: str, count: int) -> tuple[list[tuple[str, np.ndarray]], str]:
    """A store's training images of the characters of GB2312, as many of each as can be."""
    store, known = Store(path), Charset.named("gb2312")
    indices = store.indices("train")
    labels = store.labels[indices]
    of_gb2312 = np.array([c in known for c in store.charset])[labels]
    indices, labels = indices[of_gb2312], labels[of_gb2312]
    chosen = draw_per_class(labels, -(-count // len(np.unique(labels))), seed=1)
    chosen = np.sort(np.random.default_rng(1).permutation(chosen)[:count])
    found = [
        (store.charset.char(int(labels[i])), np.array(store.image(int(indices[i])))) for i in chosen
    ]
    return found, store.data_hash


def ours(images, run, level: int) -> list[tuple[list[str], float]]:
    recognizer = Recognizer(run, level=level)
    recognizer.predict(images[0][1], single=False)  # compiles
    answers = []
    for _, image in images:
        start = time.perf_counter()
        found = recognizer.predict(image, single=False)[0]
        milliseconds = 1000 * (time.perf_counter() - start)
        answers.append(([found.character, *(c for c, _ in found.alternatives)], milliseconds))
    return answers


def other(reader: str, folder: str, python: str):
    """Full name, answers and megabytes of the model of another reader."""
    out = f"{folder}/answers.csv"
    script = Path(__file__).with_name("peers_others.py")
    done = subprocess.run(
        [python, str(script), reader, folder, out], check=True, capture_output=True, text=True
    )
    table = pd.read_csv(out, keep_default_na=False)
    name, megabytes = done.stdout.strip().splitlines()[-1].split(",")
    answers = [(_hanzi(text)[:1], ms) for text, ms in zip(table["text"], table["ms"], strict=True)]
    return f"{name}, recognition only", answers, float(megabytes)


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


def summary(name: str, truths: list[str], answers, megabytes: float | None) -> dict:
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
    row["megabytes"] = None if megabytes is None else round(megabytes, 1)
    return row


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


if __name__ == "__main__":
    main()
