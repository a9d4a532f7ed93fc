"""Chen et al. 2023 on Chinese MNIST at small sizes: from scratch, and from 100 HWDB classes.

  .venv/bin/python benchmarks/chinese_mnist.py --source chinese_mnist/ \
      --hwdb100 CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --runs runs/chinese_mnist

Prepares both stores (test images of Chinese MNIST are of 20 writers whom nothing else has
seen), pre-trains both networks on HWDB, trains them on 70, 140 and 210 images a class, runs the
grid of table 2, and trains every registered network at one size. Writes
results/chinese_mnist_transfer*.csv, chinese_mnist_grid.csv and chinese_mnist_networks*.csv. Each
step is a `hccr` command, printed before it runs; what is done already is not done again. --only
names parts, --collect trains nothing.
"""

import argparse
from pathlib import Path

import pandas as pd
from real_runs import (
    RESULTS,
    hccr,
    histories,
    keep_results,
    prepare,
    reproduce,
    trained,
    with_earlier,
    with_state,
)

from hccr_tf.models import list_models
from hccr_tf.papers.chen_2023.experiments import gain_over_fresh
from hccr_tf.papers.ours.experiments import summary

# Depthwise convolutions are slower in half precision on a CPU, all others faster.
FAST = ["--mixed-precision", "bfloat16"]
OF_NETWORK = {"efficientnet_v2s": [], "inception_v3_gru": FAST}
# InceptionV3 has a single vector below 107 pixels.
SIZES = {"efficientnet_v2s": "64", "inception_v3_gru": "107"}
NETWORKS = list(SIZES)
SEEDS = ("1", "2", "3")

# On HWDB: what transfer begins with.
PRETRAINING = {
    f"hwdb_{name}": [
        name,
        "--image-size",
        size,
        "--samples-per-class",
        "100",
        "--epochs",
        "5",
        *OF_NETWORK[name],
    ]
    for name, size in SIZES.items()
}
STAGED = ["--stages", "backbone:4,100:6:3e-4"]
FRESH = ["--stages", "none", "--epochs", "10"]


def on_numerals(network: str, subset: str, seed: str) -> list[str]:
    """What runs on Chinese MNIST share, whatever they begin with."""
    return [
        "transfer",
        "--model",
        network,
        "--image-size",
        SIZES[network],
        "--samples-per-class",
        subset,
        "--validation-per-class",
        "20",
        "--seed",
        seed,
        *OF_NETWORK[network],
    ]


TRANSFER = {}
for _network in NETWORKS:
    for _seed in SEEDS:
        _shared = on_numerals(_network, "70", _seed)
        TRANSFER[f"{_network}_70_hwdb_{_seed}"] = [
            *_shared,
            *STAGED,
            "--init-from",
            f"hwdb_{_network}",
        ]
        TRANSFER[f"{_network}_70_fresh_{_seed}"] = [*_shared, *FRESH]
    TRANSFER[f"{_network}_70_staged_1"] = [*on_numerals(_network, "70", "1"), *STAGED]
    for _subset in ("140", "210"):
        _shared = on_numerals(_network, _subset, "1")
        TRANSFER[f"{_network}_{_subset}_hwdb_1"] = [
            *_shared,
            *STAGED,
            "--init-from",
            f"hwdb_{_network}",
        ]

GRID = [
    "inception_v3_gru",
    "--image-size",
    "107",
    "--samples-per-class",
    "40",
    "--validation-per-class",
    "10",
    "--epochs",
    "6",
    "--schedule",
    "constant",
    "--warmup-steps",
    "0",
    *FAST,
    "--learning-rate",
    "1e-4",
    "2e-4",
    "1e-3",
    "--batch-size",
    "10",
    "20",
    "40",
    "--split",
    "test",
]

# Every network under one schedule: 3,000 images, six epochs; three seeds of the four that take
# the least time, and of ConvNet.
CHEAPEST = ("googlenet", "compact_net", "improved_googlenet", "brick_net", "convnet")
OWN = {"brick_net": ["--model.num_bricks", "3"]}  # as many as this size allows
SIZE = "32"
ALL = {
    f"all_{network}_{seed}": [
        "transfer",
        "--model",
        network,
        "--stages",
        "none",
        "--epochs",
        "6",
        "--image-size",
        SIZE,
        "--samples-per-class",
        "200",
        "--validation-per-class",
        "70",
        "--seed",
        seed,
        *OF_NETWORK.get(network, FAST),
        *OWN.get(network, []),
    ]
    for network in list_models()
    for seed in (SEEDS if network in CHEAPEST else SEEDS[:1])
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", nargs="+", help="Chinese MNIST")
    parser.add_argument("--hwdb100", nargs="+", help="the two zips of the repack")
    parser.add_argument("--runs", type=Path, required=True, help="folder for stores and runs")
    parts = ("transfer", "grid", "networks")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--collect", action="store_true", help="only predict and tabulate")
    options = parser.parse_args()
    runs = options.runs
    numerals, hwdb = runs / "store", runs / "hwdb_store"
    prepare(
        numerals,
        options.source,
        "--source",
        "--split",
        "writer",
        "--validation-split",
        "shuffle",
        "--validation-fraction",
        "0.1",
    )
    if not options.collect:
        if "transfer" in options.only:
            prepare(hwdb, options.hwdb100, "--hwdb100")
            train(PRETRAINING, hwdb, runs)
            train(TRANSFER, numerals, runs)
        if "grid" in options.only:
            hccr("sweep", *GRID, "--data", numerals, "--workdir", runs / "grid")
        if "networks" in options.only:
            train(ALL, numerals, runs)
    collect(runs)


def train(settings: dict[str, list[str]], store: Path, runs: Path) -> None:
    """Trains runs that are named by their folders below `runs`."""
    for name, arguments in settings.items():
        # --init-from names a run of the same folder.
        arguments = [str(runs / a) if a in PRETRAINING else a for a in arguments]
        hccr("train", *arguments, "--data", store, "--workdir", runs / name)


def collect(runs: Path) -> None:
    """Tabulates everything that the folder holds, beside what earlier ones held."""
    for experiment, settings, name, derived in (
        ("chen_transfer", TRANSFER, "transfer", ("gain", gain_over_fresh)),
        ("networks", ALL, "networks", ("summary", summary)),
    ):
        names, out = trained(runs, settings), runs / f"results.{name}"
        if not names:
            continue
        reproduce(experiment, runs, names, out)
        if experiment == "chen_transfer":
            keep_results(out, settings)
        base = RESULTS / f"chinese_mnist_{name}.csv"
        ours = pd.read_csv(out / f"{experiment}_ours.csv").rename(columns={"model": "run"})
        ours = with_earlier(ours, base, names)
        ours = ours[ours["run"].isin(settings)]
        with_state(ours, settings).convert_dtypes().to_csv(base, index=False)
        kind, make = derived
        make(ours).convert_dtypes().to_csv(base.with_name(f"{base.stem}_{kind}.csv"), index=False)
        if (out / f"{experiment}_pairs.csv").exists():
            path = base.with_name(f"{base.stem}_pairs.csv")
            pairs = pd.read_csv(out / f"{experiment}_pairs.csv")
            with_earlier(pairs, path, names, "first", "second").to_csv(path, index=False)
        path = base.with_name(f"{base.stem}_history.csv")
        with_earlier(histories(runs, names), path, names).to_csv(path, index=False)
    if (runs / "grid" / "sweep.csv").exists():
        pd.read_csv(runs / "grid" / "sweep.csv").to_csv(
            RESULTS / "chinese_mnist_grid.csv", index=False
        )


if __name__ == "__main__":
    main()
