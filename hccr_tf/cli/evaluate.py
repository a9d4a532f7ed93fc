"""`hccr evaluate` and `hccr fuse`: from runs to accuracies."""

from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError


def evaluate_arguments(parser) -> None:
    parser.add_argument("workdir", metavar="RUN", help="folder of the training run")
    split_arguments(parser)


def split_arguments(parser) -> None:
    parser.add_argument("--data", required=True, help="store of `hccr data prepare`")
    parser.add_argument("--split", default="test", help="train, validation, test (default) or all")
    parser.add_argument("--out", required=True, help="HDF5 file for the logits")
    parser.add_argument(
        "--crops",
        default="five",
        choices=["five", "none"],
        help="five: mean over centre and four corners (default); none: the whole image",
    )
    parser.add_argument(
        "--no-blur",
        action="store_true",
        help="leave out the blur the model was trained with, as the released predictors do",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images (default 32)")


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


def fuse_arguments(parser) -> None:
    parser.add_argument("logits", nargs="+", help="a logits file for each model")
    parser.add_argument(
        "--weights",
        type=float,
        nargs="+",
        help="one for each file (default: 0.3 0.2 0.5 for three, else equal)",
    )
    parser.add_argument(
        "--search",
        nargs="+",
        metavar="LOGITS",
        help="find the weights on these files of a validation split, one for each model",
    )
    parser.add_argument(
        "--out", default="results", help="folder for the results (default: results)"
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
