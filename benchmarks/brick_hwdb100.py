"""The brick networks on 100 real HWDB classes at 64×64: train, predict, fuse, tabulate.

  .venv/bin/python benchmarks/brick_hwdb100.py \
      --source CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --runs runs/hwdb100

Prepares the store, trains every run of `RUNS` (or those named by --only), predicts the
test split with five crops and with the whole image, fuses the ensembles of `ENSEMBLES`
whose members are there, and writes results/brick_hwdb100.csv and, for the curves,
results/brick_hwdb100_history.csv. Each step is a `hccr` command, printed before it runs;
what is done already is not done again. --collect only tabulates.
"""

import json
import shlex
from pathlib import Path

import pandas as pd
from real_runs import RESULTS, hccr, main, trained

SIZE = ["--image-size", "64", "--model.num_bricks", "4", "--mixed-precision", "bfloat16"]
# A second cycle from a run's weights. The first auxiliary head, which stays at chance and
# holds three quarters of the parameters, is left out: a step takes half the time.
SECOND = ["--learning-rate", "5e-4", "--epochs", "6", "--model.aux_heads", "2", "3"]
RUNS = {
    # Ours: AdamW, warm-up, cosine, augmentation, crop to the ink.
    "brick_model1": ["brick_model1", *SIZE],
    "brick_model3": ["brick_model3", *SIZE],
    "brick_model1_long": ["brick_model1", *SIZE, "--init-from", "{runs}/brick_model1", *SECOND],
    "brick_model3_long": ["brick_model3", *SIZE, "--init-from", "{runs}/brick_model3", *SECOND],
    # From model 1's first cycle, for want of time: not independent of it.
    "brick_model2_long": [
        "brick_model2",
        *SIZE,
        "--init-from",
        "{runs}/brick_model1",
        "--epochs",
        "8",
        "--model.aux_heads",
        "2",
        "3",
    ],
    # The blur the paper's network sees at 256, made smaller with the image.
    "brick_model3_blur_at_256": [
        "brick_model3",
        *SIZE,
        "--blur-size",
        "256",
        "--init-from",
        "{runs}/brick_model1_long",
        "--learning-rate",
        "3e-4",
        "--epochs",
        "4",
        "--model.aux_heads",
        "2",
        "3",
    ],
    # The paper's settings; more patience, as an epoch here has 181 steps and there 23,000.
    "kriuk_model1": ["kriuk_model1", *SIZE, "--patience", "10", "--epochs", "10"],
    "kriuk_model2": ["kriuk_model2", *SIZE, "--patience", "10", "--epochs", "10"],
    "kriuk_model3": ["kriuk_model3", *SIZE, "--patience", "10", "--epochs", "10"],
    "kriuk_model1_binary": [
        "kriuk_model1",
        *SIZE,
        "--loss",
        "binary_focal",
        "--patience",
        "10",
        "--epochs",
        "6",
    ],
}
ENSEMBLES = {
    "kriuk_fused": ["kriuk_model1", "kriuk_model2", "kriuk_model3"],
    "brick_fused": ["brick_model1_long", "brick_model2_long", "brick_model3_long"],
    "brick_fused_blur_at_256": [
        "brick_model1_long",
        "brick_model2_long",
        "brick_model3_blur_at_256",
    ],
}
PREDICTIONS = {
    "five": ["--crops", "five"],
    "whole": ["--crops", "none"],
    "five_no_blur": ["--crops", "five", "--no-blur"],
}


def predict(runs: Path, store: Path, name: str) -> None:
    blurred = json.loads((runs / name / "recipe.json").read_text())["preprocessing"]["blur_kernel"]
    for mode, arguments in PREDICTIONS.items():
        out = runs / f"{name}.{mode}.h5"
        newest = (runs / name / "prediction.safetensors").stat().st_mtime
        if mode == "five_no_blur" and not blurred:
            continue
        if not out.exists() or out.stat().st_mtime < newest:
            hccr("evaluate", runs / name, "--data", store, "--out", out, *arguments)


def collect(runs: Path) -> None:
    """Tabulates everything that the folder holds."""
    for name in trained(runs, RUNS):
        predict(runs, runs / "store", name)
    rows, histories = [], []
    for name in RUNS:
        workdir = runs / name
        if name not in trained(runs, RUNS):
            rows.append({"run": name, "state": "not run"})
            continue
        run = json.loads((workdir / "run.json").read_text())
        machine = json.loads((workdir / "environment.json").read_text())
        history = pd.read_csv(workdir / "history.csv")
        histories.append(history.assign(run=name))
        shared = {
            "epochs": run["epochs_done"],
            "best_epoch": run["best_epoch"],
            "steps": int(history["step"].iloc[-1]),
            "state": run["state"],
            "train_minutes": round(run["train_seconds"] / 60, 1),
            "validation_top1": run["best_val_accuracy"],
            "seed": run["seed"],
            "data_hash": run["data_hash"][:16],
            "hardware": f"{machine['cpu']}, {machine['cpu_count']} cores, "
            f"{machine['backend']}, one thread a run, beside other work",
            "train_command": shlex.join(
                ["hccr", "train", *(a.format(runs="RUNS") for a in RUNS[name])]
            ),
        }
        for mode in PREDICTIONS:
            metrics = _metrics([f"{name}.{mode}.h5"], runs / f"results.{name}.{mode}", runs)
            rows += [
                {"run": name, "crops": crops, **_accuracy(entry), **shared}
                for crops, entry in _by_crops(metrics, mode)
            ]
    for name, members in ENSEMBLES.items():
        for mode in ("five", "whole"):
            files = [f"{member}.{mode}.h5" for member in members]
            metrics = _metrics(files, runs / f"results.{name}.{mode}", runs)
            if metrics is None:
                rows.append({"run": name, "crops": mode, "state": "not run"})
            shared = {
                "state": "fused",
                "seed": 1,
                "data_hash": rows[0]["data_hash"],
                "hardware": rows[0]["hardware"],
                "weights": "0.3 0.2 0.5",
                "train_command": " + ".join(members),
            }
            rows += [
                {"run": name, "crops": crops, **_accuracy(entry), **shared}
                for crops, entry in _by_crops(metrics, mode)
            ]
    RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(RESULTS / "brick_hwdb100.csv", index=False)
    pd.concat(histories).to_csv(RESULTS / "brick_hwdb100_history.csv", index=False)
    table = pd.DataFrame(rows)[["run", "crops", "top1", "top5", "epochs", "train_minutes"]]
    print(table.to_string(index=False))


def _metrics(files: list[str], out: Path, runs: Path) -> dict | None:
    paths = [runs / file for file in files]
    if not all(path.exists() for path in paths):
        return None
    done = out / "metrics.json"
    if not done.exists() or done.stat().st_mtime < max(p.stat().st_mtime for p in paths):
        hccr("fuse", *paths, "--out", out)
    return json.loads(done.read_text())["fused"]


def _by_crops(metrics: dict | None, mode: str):
    if metrics is None:
        return
    yield mode, metrics["logits"]
    if "logits_center" in metrics:
        yield mode.replace("five", "center"), metrics["logits_center"]


def _accuracy(entry: dict) -> dict:
    low, high = entry["top1_interval95"]
    return {"top1": entry["top1"], "top5": entry["top5"], "top1_low": low, "top1_high": high}


if __name__ == "__main__":
    main(__doc__, RUNS, collect)
