"""What the package's weights are worth for one's own pictures: accuracy against how many there are.

  .venv/bin/python benchmarks/fine_tuning.py --hwdb100 runs/hwdb100 --chinese-mnist runs/cmnist \
      --runs runs/fine_tuning [--run RUN] [--only hwdb100]

Of both stores' training pictures 1, 5, 20 and all of each class, from the package's weights (or
those of --run) and, with 20 and all, from scratch; accuracy on the store's test pictures (Chinese
MNIST: of writers that nothing else has seen). 0 is the recogniser as it comes, with only the
store's characters competing. Each is `hccr train fine_tune`, which is printed; what is done
already is not done again. Writes results/fine_tuning.csv.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from real_runs import RESULTS, hccr

from hccr_tf import Recognizer
from hccr_tf.charset import Charset
from hccr_tf.data.store import Store
from hccr_tf.evaluation import wilson_interval

SUBSETS = (0, 1, 5, 20, "all")
# Passes over the pictures: a few pictures take more of them.
EPOCHS = {1: 40, 5: 20, 20: 10, "all": 3}
_BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hwdb100", type=Path, required=True, help="store")
    parser.add_argument("--chinese-mnist", type=Path, required=True, help="store, split by writer")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--run", default="recogniser", help="in place of the package's weights")
    parser.add_argument("--only", nargs="+", default=["hwdb100", "chinese_mnist"])
    parser.add_argument("--collect", action="store_true", help="only predict and tabulate")
    options = parser.parse_args()
    rows = []
    for name, path in (("hwdb100", options.hwdb100), ("chinese_mnist", options.chinese_mnist)):
        if name not in options.only:
            continue
        for start in ("recogniser", "scratch"):
            for subset in SUBSETS if start == "recogniser" else (20, "all"):
                command = ["fine_tune", "--mixed-precision", "bfloat16"]
                folder = options.runs / f"{name}_{start}_{subset}"
                if subset == 0:
                    folder = options.run
                else:
                    command += ["--samples-per-class", str(subset), "--epochs",
                                str(EPOCHS[subset]), "--validation-per-class", "10"]  # fmt: skip
                    if start == "recogniser":
                        command += ["--init-from", options.run]
                    if not options.collect:
                        hccr("train", *command, "--data", path, "--workdir", folder)
                    if not (folder / "prediction.weights.h5").exists():
                        continue
                rows.append(
                    {"data": name, "start": start, "per_class": subset,
                     **accuracy(folder, Store(path)),
                     "data_hash": Store(path).data_hash[:16],
                     "command": "hccr train " + " ".join(command) if subset else ""}
                )  # fmt: skip
                print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULTS / "fine_tuning.csv", index=False)


def accuracy(run, store: Store) -> dict[str, float]:
    """Top-1 on the test pictures whose characters the recogniser knows, all of them competing."""
    recognizer = Recognizer(run)
    shared = Charset.from_characters(c for c in store.charset if c in recognizer.charset)
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
    return {"accuracy": round(100 * right / len(indices), 2), "low": round(100 * low, 2),
            "high": round(100 * high, 2), "samples": len(indices),
            "competing": len(shared)}  # fmt: skip


if __name__ == "__main__":
    main()
