"""`hccr evaluate`, `fuse`, `calibrate`, `pack`: from runs to accuracies, and runs to pass on."""

from pathlib import Path

from hccr_tf.cli.flags import argument, command
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError

SPLIT_ARGUMENTS = (
    argument("--data", required=True, help="store of `hccr data prepare`"),
    argument("--split", default="test", help="train, validation, test (default) or all"),
    argument("--out", required=True, help="HDF5 file for the logits"),
    argument(
        "--crops",
        default="five",
        choices=["five", "none"],
        help="five: mean over centre and four corners (default); none: the whole image",
    ),
    argument(
        "--no-blur",
        action="store_true",
        help="leave out the blur the model was trained with, as the released predictors do",
    ),
    argument("--batch-size", type=int, default=32, help="images (default 32)"),
)


@command(
    "evaluate",
    "write a split's logits and their accuracy",
    argument("workdir", metavar="RUN", help="folder of the training run"),
    *SPLIT_ARGUMENTS,
)
def run_evaluate(options) -> None:
    """Writes the logits of a split and prints their accuracy.

    Images are prepared as in training; with five crops they are resized (to 280 for
    256), blurred, cropped at the centre and the corners, and the crops' logits averaged.

    Example:
      hccr evaluate runs/model1 --data store --split test --out runs/logits1.h5
    """
    from hccr_tf.data.dataset import open_dataset

    store = open_dataset(options.data)
    backend.start()
    from hccr_tf.inference.predictor import predict_split

    metrics = predict_split(
        options.workdir,
        store,
        options.out,
        split=options.split,
        crops=options.crops,
        blur=not options.no_blur,
        batch_size=options.batch_size,
    )
    names = {
        "logits": "five crops" if options.crops == "five" else "whole image",
        "logits_center": "center crop",
    }
    for name, entry in metrics.items():
        tops = ", ".join(f"{k} {100 * v:.2f} %" for k, v in entry.items() if isinstance(v, float))
        print(f"{options.workdir} on {options.split}, {names[name]}: {tops}")
    print(f"logits in {options.out}")


@command(
    "fuse",
    "fuse logits files into the test accuracy",
    argument("logits", nargs="+", help="a logits file for each model"),
    argument(
        "--weights",
        type=float,
        nargs="+",
        help="one for each file (default: 0.3 0.2 0.5 for three, else equal)",
    ),
    argument(
        "--search",
        nargs="+",
        metavar="LOGITS",
        help="find the weights on these files of a validation split, one for each model",
    ),
    argument("--out", default="results", help="folder for the results (default: results)"),
)
def run_fuse(options) -> None:
    """Fuses models by the weighted sum of their logits and prints the accuracies.

    Writes metrics.json, predictions.csv, per_class.csv, confused_pairs.csv and
    confused_pairs.png. Files of different samples or charsets are refused.

    Example:
      hccr fuse logits1.h5 logits2.h5 logits3.h5 --weights 0.3 0.2 0.5 --out results
    """
    from hccr_tf.inference.fusion import fuse, metrics_table, search_weights

    weights = options.weights
    if options.search is not None:
        if weights is not None:
            raise HccrError("--weights and --search exclude each other.")
        if len(options.search) != len(options.logits):
            raise HccrError("--search takes as many files as are fused, in the same order.")
        weights, accuracy = search_weights(options.search)
        text = " ".join(f"{w:g}" for w in weights)
        print(f"weights found: {text} (top1 there {100 * accuracy:.2f} %)")
    print(metrics_table(fuse(options.logits, options.out, weights=weights)))
    print(f"results in {options.out}")


@command(
    "calibrate",
    "make a run's probabilities true",
    argument("workdir", metavar="RUN", help="a trained run"),
    argument("--data", required=True, help="store whose images the run hasn't learnt"),
    argument("--split", default="validation", help="of --data (default validation)"),
    argument("--level", type=int, choices=[1, 2], help="which characters compete (default: all)"),
    argument("--per-class", type=int, help="so many images of each character (default: all)"),
)
def run_calibrate(options) -> None:
    """Makes a run's probabilities true to how often it's right.

    Finds the temperature on one half of the images and reports on the other: expected
    calibration error before and after, and the reliability curve. Writes calibration.json,
    reliability.csv and reliability.png into the run, and `hccr predict` uses it from then on.

    Example:
      hccr calibrate runs/model1 --data store
    """
    from hccr_tf.data.dataset import open_dataset

    store = open_dataset(options.data)
    backend.start()
    from hccr_tf.inference.calibration import calibrate

    result = calibrate(
        options.workdir, store, options.split, level=options.level, per_class=options.per_class
    )
    print(
        f"temperature {result['temperature']:.3f}; expected calibration error "
        f"{100 * result['ece_before']:.2f} % before, {100 * result['ece_after']:.2f} % after, on "
        f"{result['samples']:,} images that it wasn't found on"
    )
    if result["left_out"]:
        print(f"{result['left_out']:,} images of characters that don't compete were left out")
    print(f"curve in {Path(options.workdir) / 'reliability.png'}")


@command(
    "pack",
    "make a run small enough to pass on",
    argument("workdir", metavar="RUN", help="a trained run"),
    argument("--out", required=True, help="new folder"),
)
def run_pack(options) -> None:
    """Makes a run small enough to pass on: its prediction weights in half precision.

    The folder is a run like any other to `hccr predict`, `evaluate`, `cam` and
    `train --init-from`; it can't be trained on.

    Example:
      hccr pack runs/recogniser --out recogniser
    """
    backend.start()
    from hccr_tf.export.pack import pack

    size = pack(options.workdir, options.out)
    print(f"{options.out}: {size / 1e6:.2f} MB")
