"""What a recogniser reads of real training images: the log that the generator is improved by.

  .venv/bin/python benchmarks/recogniser_log.py --run runs/r1 --hwdb100 runs/hwdb100 \
      --chinese-mnist runs/cmnist --change "pens thinner" [--misread misread.png]

Reads 20 training images of each character of both stores (which characters of GB2312 they
have), through the same cleaning and preparation as `hccr predict`, with all characters of GB2312
level 1 competing (level 2 where the character is no other), adds a row to
results/recogniser_log.csv and draws the log's curve beside it. --misread draws what was read
wrongly. Test images aren't looked at.
"""

from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, arguments_of

from hccr_tf import Recognizer, open_dataset
from hccr_tf.charset import Charset
from hccr_tf.data.store.splits import draw_per_class
from hccr_tf.data.store.store import Store
from hccr_tf.evaluation.plots import save_figure
from hccr_tf.images.cleaning import clean
from hccr_tf.images.contact_sheet import draw_sheet

PER_CLASS = 20


def main() -> None:
    parser = arguments_of(__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--hwdb100", required=True, help="store; its training split is read")
    parser.add_argument("--chinese-mnist", required=True, help="store; its training split is read")
    parser.add_argument("--change", required=True, help="what was changed, for the log")
    parser.add_argument("--tta", action="store_true", help="read with test-time augmentation")
    parser.add_argument(
        "--before",
        type=int,
        default=0,
        help="images that runs which aren't in the log learnt from before it",
    )
    parser.add_argument("--misread", help="image to draw")
    options = parser.parse_args()
    recognizer = Recognizer(options.run, tta=options.tta)
    row = {"date": date.today().isoformat(), "run": Path(options.run).name}
    wrong = []
    for name, path in (("hwdb100", options.hwdb100), ("chinese_mnist", options.chinese_mnist)):
        scores, misread = score(recognizer, Store(path))
        row |= {f"{name}_{key}": value for key, value in scores.items()}
        wrong += misread
    run = recognizer.predictor.workdir.read_run()
    epochs = len(recognizer.predictor.workdir.read_history())
    row |= {
        "epochs": epochs,
        "images": epochs * len(open_dataset(run["store"]).indices("train")),
        "before": options.before,
        "init_from": Path(run.get("init_from") or "").name,
        "data_hash": run["data_hash"][:16],
        "tta": options.tta,
        "change": options.change,
    }
    path = RESULTS / "recogniser_log.csv"
    table = pd.DataFrame([row])
    if path.exists():
        table = pd.concat([pd.read_csv(path), table], ignore_index=True)
        table["before"] = table["before"].fillna(0).astype(int)
    table.to_csv(path, index=False)
    table = pd.read_csv(path)
    draw(table, path.with_suffix(".png"))
    print(pd.Series(row).to_string())
    pairs = Counter((truth, read) for _, truth, read in wrong).most_common(40)
    print(" ".join(f"{a}→{b} {n}" for (a, b), n in pairs))
    if options.misread:
        chosen = np.random.default_rng(1).permutation(len(wrong))[:160]
        draw_sheet(
            [wrong[i][0] for i in chosen],
            [f"{wrong[i][1]}→{wrong[i][2]}" for i in chosen],
            options.misread,
            columns=16,
        )


def draw(table: pd.DataFrame, path: Path) -> None:
    """Accuracy against all images learnt from, those of the runs that a run began with too."""
    from matplotlib.figure import Figure

    longest = table.groupby("run")["images"].max()
    unlogged = table.groupby("run")["before"].max()
    before = table.drop_duplicates("run").set_index("run")["init_from"].to_dict()

    def learnt(run: str, images: int) -> int:
        start = before.get(run)  # NaN or a run that isn't in the log adds nothing
        return images + unlogged[run] + (learnt(start, longest[start]) if start in longest else 0)

    millions = [learnt(run, n) / 1e6 for run, n in zip(table["run"], table["images"], strict=True)]
    figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    shown = table.assign(millions=millions).sort_values("millions", kind="stable")
    plain = shown[~shown["tta"]]
    for name, colour in (("hwdb100", "C0"), ("chinese_mnist", "C1")):
        for top, line in ((1, "-"), (5, "--")):
            column = f"{name}_top{top}"
            axes.plot(
                plain["millions"],
                plain[column],
                line,
                color=colour,
                marker="o",
                markersize=4,
                label=f"{name}, top {top}",
            )
    with_tta = shown[shown["tta"]]
    axes.plot(
        with_tta["millions"],
        with_tta["hwdb100_top1"],
        "x",
        color="C0",
        label="hwdb100, top 1, in stretches",
    )
    axes.set(xlabel="drawn images learnt from, millions", ylabel="real training images read, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save_figure(figure, path)


def score(recognizer: Recognizer, store: Store) -> tuple[dict[str, float], list]:
    """Accuracies over the characters that the recogniser knows, and what was misread."""
    level1 = Charset.named("gb2312-1")
    indices = store.indices("train")
    labels = store.labels[indices]
    drawn = draw_per_class(labels, PER_CLASS, seed=1)
    indices, labels = indices[drawn], labels[drawn]
    known = np.array([c in recognizer.charset for c in store.charset])[labels]
    indices, labels = indices[known], labels[known]
    first = np.array([c in level1 for c in recognizer.charset])
    hits = {1: 0, 5: 0}
    wrong = []
    for index, label in zip(indices, labels, strict=True):
        truth = store.charset.char(int(label))
        image = clean(np.array(store.image(int(index))))
        logits = recognizer.logits([image])[0]
        if truth in level1:
            logits = np.where(first, logits, -np.inf)
        order = np.argsort(-logits, kind="stable")[:5]
        read = [recognizer.charset.char(int(i)) for i in order]
        for k in hits:
            hits[k] += truth in read[:k]
        if read[0] != truth:
            wrong.append((image, truth, read[0]))
    return {
        "samples": len(labels),
        **{f"top{k}": round(100 * n / len(labels), 2) for k, n in hits.items()},
    }, wrong


if __name__ == "__main__":
    main()
