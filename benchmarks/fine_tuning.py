"""What the package's weights are worth for one's own images: accuracy against how many there are.

  .venv/bin/python benchmarks/fine_tuning.py --hwdb100 runs/hwdb100 --chinese-mnist runs/cmnist \
      --runs runs/fine_tuning [--run RUN] [--only hwdb100] [--start recogniser]

Of both stores' training images 1, 5, 20 and all of each class, from the package's weights (or
those of --run) and, with 20 and all, from scratch; accuracy on the store's test images (Chinese
MNIST: of writers that nothing else has seen). 0 is the recogniser as it comes, with only the
store's characters competing. Each is `hccr train fine_tune`, which is printed; what is done
already is not done again. Writes results/fine_tuning.csv.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of, hccr, weights_of

from hccr_tf import Recognizer
from hccr_tf.charset import Charset
from hccr_tf.data.store.store import Store
from hccr_tf.evaluation.plots import save_figure
from hccr_tf.evaluation.significance import wilson_interval
from hccr_tf.runs.workdir import Workdir

STORES = ("hwdb100", "chinese_mnist")
STARTS = ("recogniser", "scratch")
SUBSETS = (0, 1, 5, 20, "all")
# Passes over the images: a few images take more of them.
EPOCHS = {1: 40, 5: 20, 20: 10, "all": 3}
_BATCH = 256


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--hwdb100", type=Path, required=True, help="store")
    parser.add_argument("--chinese-mnist", type=Path, required=True, help="store, split by writer")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--run", default="recogniser", help="in place of the package's weights")
    parser.add_argument("--only", nargs="+", default=list(STORES), choices=STORES)
    parser.add_argument("--start", nargs="+", default=list(STARTS), choices=STARTS)
    parser.add_argument("--collect", action="store_true", help="only predict and tabulate")
    options = parser.parse_args()
    rows, begun = [], weights_of(options.run)
    for name, path in (("hwdb100", options.hwdb100), ("chinese_mnist", options.chinese_mnist)):
        if name not in options.only:
            continue
        for start in STARTS:
            for subset in SUBSETS if start == "recogniser" else (20, "all"):
                command = ["fine_tune", "--mixed-precision", "bfloat16"]
                folder = options.runs / f"{name}_{start}_{subset}"
                row = {"data": name, "start": start, "per_class": str(subset), "seed": 1}
                if start == "recogniser":
                    row["weights"] = begun
                if subset == 0:
                    folder = options.run
                else:
                    command += [
                        "--samples-per-class",
                        str(subset),
                        "--epochs",
                        str(EPOCHS[subset]),
                        "--validation-per-class",
                        "10",
                    ]
                    command += ["--seed", "1"]
                    begin = options.run if start == "recogniser" else "none"
                    command += ["--init-from", begin]
                    if not options.collect and start in options.start:
                        hccr("train", *command, "--data", path, "--workdir", folder)
                    if not (folder / "prediction.safetensors").exists():
                        rows.append({**row, "state": "not run"})
                        continue
                    row["command"] = " ".join(["hccr", "train", *command])
                rows.append(
                    {
                        **row,
                        "state": "finished",
                        **accuracy(folder, Store(path)),
                        "data_hash": Store(path).data_hash[:16],
                        **trained_on(folder, subset),
                    }
                )
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    path = RESULTS / "fine_tuning.csv"
    if path.exists():
        key = ["data", "start", "per_class"]
        earlier = pd.read_csv(path, dtype={"per_class": str})
        # What this folder of runs doesn't hold stays as it was, if it began with these weights.
        earlier = earlier[earlier["weights"].isna() | (earlier["weights"] == begun)]
        table = pd.concat([table[table["state"] == "finished"], earlier, table])
        table = table.drop_duplicates(key).sort_values(key[:2], kind="stable")
    table.convert_dtypes().to_csv(path, index=False)
    draw(table[table["state"] == "finished"], path.with_suffix(".png"))


def trained_on(run: Path, subset) -> dict[str, object]:
    """Minutes and hardware of a run's training; nothing of weights as they came."""
    if subset == 0:
        return {}
    workdir = Workdir(run)
    return {
        "train_minutes": round(workdir.read_run()["train_seconds"] / 60, 1),
        "hardware": workdir.hardware,
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Accuracy against images a class, a line for each store and start."""
    from matplotlib.figure import Figure

    names = [str(subset) for subset in SUBSETS]
    figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    colours = {name: f"C{i}" for i, name in enumerate(table["data"].unique())}
    table = table.assign(place=[names.index(n) for n in table["per_class"]]).sort_values("place")
    for (data, start), group in table.groupby(["data", "start"]):
        middle = group["accuracy"]
        axes.errorbar(
            group["place"],
            middle,
            [middle - group["low"], group["high"] - middle],
            capsize=3,
            color=colours[data],
            linestyle="-" if start == "recogniser" else ":",
            marker="o",
            markersize=4,
            label=f"{data}, from {'the package' if start == 'recogniser' else 'scratch'}",
        )
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="real images a class", ylabel="accuracy on the test, % (95 % intervals)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save_figure(figure, path)


def accuracy(run, store: Store) -> dict[str, float]:
    """Top-1 on the test images of characters in GB2312, all of which and no others compete.

    So it's the same images and classes whether a run knows GB2312 or the store's characters.
    """
    recognizer = Recognizer(run)
    gb2312 = Charset.named("gb2312")
    shared = Charset.from_text(c for c in store.charset if c in gb2312)
    indices = store.indices("test")
    known = np.array([c in shared for c in store.charset])[store.labels[indices]]
    indices = indices[known]
    columns = [recognizer.charset.index(c) for c in shared]
    right = 0
    for start in range(0, len(indices), _BATCH):
        chunk = indices[start : start + _BATCH]
        read = recognizer.logits(store.images(chunk))[:, columns].argmax(axis=1)
        truth = [shared.index(store.charset.char(int(i))) for i in store.labels[chunk]]
        right += int((read == np.array(truth)).sum())
    low, high = wilson_interval(right, len(indices))
    return {
        "accuracy": round(100 * right / len(indices), 2),
        "low": round(100 * low, 2),
        "high": round(100 * high, 2),
        "samples": len(indices),
        "competing": len(shared),
    }


if __name__ == "__main__":
    main()
