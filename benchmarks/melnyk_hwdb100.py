"""Melnyk-Net on 100 real HWDB classes: three poolings, with and without the last bias.

  .venv/bin/python benchmarks/melnyk_hwdb100.py \
      --source CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --runs runs/hwdb100

Prepares the store, trains every run of `RUNS` (or those named by --only) and writes, through
`hccr reproduce`, results/melnyk_hwdb100.csv (a row a run, the brick networks' rows of the same
test images beside them), melnyk_hwdb100_pairs.csv (every two runs compared on the same images),
melnyk_hwdb100_table3.csv (size and accuracy among the literature) and melnyk_hwdb100_history.csv.
Then draws the activation maps of confusable characters into the runs' folder: images of the data
set, which may not be passed on. Each step is a `hccr` command, printed before it runs; what is
done already is not done again. --collect trains nothing.
"""

from pathlib import Path

import pandas as pd
from real_runs import RESULTS, hccr, histories, main, reproduce, trained, with_state

from hccr_tf.evaluation.complexity import count_macs, size_mb
from hccr_tf.models import blueprint

SMALL = ["--image-size", "48", "--mixed-precision", "bfloat16"]
RUNS = {
    "melnyk_a": ["melnyk_net_a", *SMALL],
    "melnyk_b": ["melnyk_net_b", *SMALL],
    "melnyk_c": ["melnyk_net_c", *SMALL],
    "melnyk_a_seed2": ["melnyk_net_a", *SMALL, "--seed", "2"],
    # The full size, as far as the time went.
    "melnyk_c96": ["melnyk_net_c", "--mixed-precision", "bfloat16", "--epochs", "3"],
    # The paper's schedule; smaller batches, as its epoch has 10,462 steps and this one 361.
    "melnyk_c_paper": ["melnyk_c", *SMALL, "--batch-size", "64", "--epochs", "10"],
}
ENSEMBLE = ["melnyk_a", "melnyk_b", "melnyk_c"]
CONFUSABLE = "峰峄容客审宙"  # the pairs that the three confuse most


def collect(runs: Path) -> None:
    """Tabulates everything that the folder holds."""
    names, out = trained(runs, RUNS), runs / "results.melnyk"
    reproduce("melnyk_table2", runs, names, out)
    table = pd.read_csv(out / "melnyk_table2_ours.csv").rename(columns={"model": "run"})
    table = pd.concat([with_state(table, RUNS), brick_rows()], ignore_index=True)
    # Whole numbers stay whole beside cells that are empty.
    table.convert_dtypes().to_csv(RESULTS / "melnyk_hwdb100.csv", index=False)
    pairs = pd.read_csv(out / "melnyk_table2_pairs.csv")
    pairs.to_csv(RESULTS / "melnyk_hwdb100_pairs.csv", index=False)
    histories(runs, names).to_csv(RESULTS / "melnyk_hwdb100_history.csv", index=False)
    if set(ENSEMBLE) <= set(names):
        reproduce("melnyk_table3", runs, ENSEMBLE, out)
        table3 = pd.read_csv(out / "melnyk_table3_table.csv", keep_default_na=False)
        table3["test_set"] = table3["test_set"].str.replace("store test", "hwdb100 test")
        table3.to_csv(RESULTS / "melnyk_hwdb100_table3.csv", index=False)
    hccr(
        "cam",
        "--data",
        runs / "store",
        "--characters",
        CONFUSABLE,
        "--workdir",
        *(runs / name for name in names),
        "--top-k",
        "2",
        "--out",
        runs / "cams",
    )
    shown = table[["run", "accuracy", "low", "high", "accuracy_drop", "state"]]
    print(shown.to_string(index=False))


def brick_rows() -> pd.DataFrame:
    """What `brick_hwdb100.py` measured on the same test images."""
    rows = pd.read_csv(RESULTS / "brick_hwdb100.csv")
    rows = rows[rows["crops"].isin(["whole", "five"]) & rows["top1"].notna()]
    # Its settings; an ensemble is three of them.
    model = blueprint(
        "brick_net", num_classes=100, image_shape=(64, 64, 1), num_bricks=4, aux_outputs=False
    )
    members = rows["train_command"].str.count(r" \+ ") + 1
    return pd.DataFrame(
        {
            "run": rows["run"]
            + ", "
            + rows["crops"].replace({"whole": "whole image", "five": "five crops"}),
            "network": "brick_net",
            "image_size": 64,
            "parameters": members * model.count_params(),
            "size_mb": (members * size_mb(model)).round(2),
            "gmac": (members * count_macs(model) / 1e9).round(4),
            "accuracy": (100 * rows["top1"]).round(3),
            "low": (100 * rows["top1_low"]).round(2),
            "high": (100 * rows["top1_high"]).round(2),
            "data_hash": rows["data_hash"],
            "seed": rows["seed"],
            "epochs": rows["epochs"],
            "state": rows["state"],
            "train_minutes": rows["train_minutes"],
            "hardware": rows["hardware"],
            "train_command": rows["train_command"],
        }
    )


if __name__ == "__main__":
    main(__doc__, RUNS, collect)
