"""Shuffled or writer-disjoint: how much a random split flatters, on Chinese MNIST.

  .venv/bin/python benchmarks/split_question.py --source chinese_mnist/ --runs runs/split

Chinese MNIST has 100 writers who wrote each character ten times. It's prepared three times with
test images of writers that nothing else has seen, and three times shuffled, as the paper's data
were, each with another seed; model 1 of the brick network learns the same number of images of
each. Writes results/split_question.csv, a row a run, and prints means and their difference.
"""

import shlex
from pathlib import Path

import pandas as pd
from common import RESULTS, arguments_of, hccr, prepare

from hccr_tf import Store, predict_split
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.runs.workdir import Workdir

SEEDS = (1, 2, 3)
SPLITS = ("writer", "shuffle")
TRAIN = [
    "brick_model1",
    "--image-size",
    "32",
    "--model.num_bricks",
    "3",
    "--epochs",
    "6",
    "--mixed-precision",
    "bfloat16",
]


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--source", nargs="+", help="Chinese MNIST")
    parser.add_argument("--runs", type=Path, required=True, help="folder for stores and runs")
    parser.add_argument("--collect", action="store_true", help="only predict and tabulate")
    options = parser.parse_args()
    rows = []
    for seed in SEEDS:
        for split in SPLITS:
            name = f"{split}_{seed}"
            store, run = options.runs / f"store_{name}", options.runs / name
            if not options.collect:
                prepare(
                    store,
                    options.source,
                    "--source",
                    "--split",
                    split,
                    "--validation-split",
                    "shuffle",
                    "--seed",
                    seed,
                )
                hccr("train", *TRAIN, "--seed", seed, "--data", store, "--workdir", run)
            rows.append(row(split, seed, store, run))
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "split_question.csv", index=False)
    print(table.drop(columns=["hardware", "train_command"], errors="ignore").to_string(index=False))
    if "accuracy" in table:
        means = table.groupby("split")["accuracy"].agg(["mean", "std", "count"])
        print(means.round(3).to_string())
        if len(means) == 2:
            difference = means.loc["shuffle", "mean"] - means.loc["writer", "mean"]
            print(f"shuffled - writer-disjoint: {difference:+.2f} points")


def row(split: str, seed: int, store: Path, run: Path) -> dict:
    """What one run reads of its own test images."""
    command = shlex.join(["hccr", "train", *TRAIN, "--seed", str(seed)])
    facts = {"split": split, "seed": seed, "train_command": command}
    if not (run / "prediction.safetensors").exists():
        return {**facts, "state": "not run"}
    found = predict_split(run, Store(store), run / "test.h5", split="test", tta="five_crops")
    total = len(Store(store).indices("test"))
    right = round(found["logits"]["top1"] * total)
    low, high = wilson_interval(right, total)
    workdir = Workdir(run)
    about = workdir.read_run()
    result = {
        **facts,
        "state": about["state"],
        "accuracy": round(100 * right / total, 3),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
        "samples": total,
        "data_hash": about["data_hash"][:16],
        "epochs": about["epochs_done"],
        "train_minutes": round(about["train_seconds"] / 60, 1),
        "hardware": workdir.hardware,
    }
    return result


if __name__ == "__main__":
    main()
