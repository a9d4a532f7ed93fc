"""`hccr evaluate`, `fuse`, `calibrate`, `pack`, `export`: accuracies, and runs to pass on."""

from pathlib import Path

from hccr_tf.cli.flags import argument, command, switch
from hccr_tf.cli.predict import NO_TTA
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError, naming_extra

_VIEWS = {"none": "whole image", "five_crops": "five crops", "stretches": "two stretches"}
SPLIT_ARGUMENTS = (
    argument("--data", "store of `hccr data prepare`", required=True),
    argument("--split", "train, validation, test or all", default="test"),
    argument("--out", "HDF5 file for the logits (default: SPLIT.h5 in the run's folder)"),
    NO_TTA,
    switch(
        "--no-blur",
        "leave out the blur the model was trained with, as the released predictors do",
        off="blur",
    ),
    argument("--batch-size", "images at a time", default=32),
)


@command(
    "evaluate",
    "write a split's logits and their accuracy",
    argument("workdir", "folder of the training run", metavar="RUN"),
    *SPLIT_ARGUMENTS,
)
def run_evaluate(workdir, data, out, split, tta, **options) -> None:
    """Writes the logits of a split and prints their accuracy.

    Images are prepared as in training, and read as by `hccr predict`: in all views of the run's
    test-time augmentation (five crops or two stretches, if it has any), whose logits are
    averaged.

    Example:
      hccr evaluate runs/demo/model1 --data runs/demo/store --out runs/logits1.h5
    """
    backend.start()
    from hccr_tf.inference.predictor import predict_split
    from hccr_tf.pretrained import FOLDER, find_run
    from hccr_tf.runs.workdir import Workdir

    run = find_run(workdir)
    tta = Workdir(run).preprocessing.tta if tta else "none"
    out = out or (Path() if run == FOLDER else run) / f"{split}.h5"
    metrics = predict_split(workdir, data, out, split=split, tta=tta, **options)
    names = {"logits": _VIEWS[tta], "logits_center": "center crop"}
    for name, entry in metrics.items():
        tops = ", ".join(f"{k} {100 * v:.2f} %" for k, v in entry.items() if isinstance(v, float))
        print(f"{workdir} on {split}, {names[name]}: {tops}")
    print(f"logits in {out}")


@command(
    "fuse",
    "fuse logits files into the test accuracy",
    argument("logits", "a logits file for each model", nargs="+"),
    argument("--weights", "(default: 0.3 0.2 0.5 for three, else equal)", type=float, nargs="+"),
    argument("--search", "find the weights on these of a validation split", nargs="+"),
    argument("--out", "folder for the results", default="results"),
)
def run_fuse(logits, weights, search, out) -> None:
    """Fuses models by the weighted sum of their logits and prints the accuracies.

    Writes metrics.json, predictions.csv, per_class.csv, confused_pairs.csv and
    confused_pairs.png. Files of different samples or charsets are refused. --weights and
    --search take one for each model, in the same order.

    Example:
      hccr fuse runs/demo/logits1.h5 runs/demo/logits2.h5 --weights 0.6 0.4 --out runs/fused
    """
    from hccr_tf.inference.fusion import fuse, metrics_table, search_weights

    if search is not None:
        if weights is not None:
            raise HccrError("--weights and --search exclude each other.")
        weights, accuracy = search_weights(search)
        text = " ".join(f"{w:g}" for w in weights)
        print(f"weights found: {text} (top1 there {100 * accuracy:.2f} %)")
    print(metrics_table(fuse(logits, out, weights=weights)))
    print(f"results in {out}")


@command(
    "calibrate",
    "make a run's probabilities true",
    argument("workdir", "a trained run", metavar="RUN"),
    argument("--data", "store whose images the run hasn't learnt", required=True),
    argument("--split", "of --data", default="validation"),
    argument("--level", "of GB2312 whose characters compete, 1 or 2 (default: all)", type=int),
    argument("--per-class", "so many images of each character (default: all)", type=int),
)
def run_calibrate(workdir, data, **options) -> None:
    """Makes a run's probabilities true to how often it's right.

    Finds the temperature on one half of the characters and reports on the other: expected
    calibration error before and after, and the reliability curve. Writes calibration.json,
    reliability.csv and reliability.png into the run, and `hccr predict` uses it from then on.
    Nothing is written if the error would rise, or of fewer than ten wrong answers.

    Example:
      hccr calibrate runs/demo/model1 --data runs/demo/store
    """
    backend.start()
    from hccr_tf.inference.calibration import calibrate

    result = calibrate(workdir, data, **options)
    if result["refused"]:
        print(f"nothing saved: {result['refused']}. Take more images that the run hasn't learnt.")
    before, after = (100 * result[f"ece_{when}"] for when in ("before", "after"))
    print(
        f"temperature {result['temperature']:.3f}; expected calibration error {before:.2f} % "
        f"before, {after:.2f} % after, on {result['samples']:,} images that it wasn't found on"
    )
    if result["left_out"]:
        print(f"{result['left_out']:,} images of characters that don't compete were left out")
    if not result["refused"]:
        print(f"saved in {workdir}; curve in {Path(workdir) / 'reliability.png'}")


@command(
    "pack",
    "make a run small enough to pass on",
    argument("workdir", "a trained run", metavar="RUN"),
    argument("--out", "new folder", required=True),
)
def run_pack(workdir, out) -> None:
    """Makes a run small enough to pass on: its prediction weights in eight bits.

    The folder is a run like any other to `hccr predict`, `evaluate`, `cam` and
    `train --init-from`; it can't be trained on.

    Example:
      hccr pack runs/demo/model1 --out runs/packed
    """
    backend.start()
    from hccr_tf.export.pack import pack

    print(f"{out}: {pack(workdir, out) / 1e6:.2f} MB")


@command(
    "export",
    "write a run as a file for other engines",
    argument("workdir", "a trained run, or recogniser", metavar="RUN"),
    argument("--out", "the file; for saved_model the new folder", required=True),
    argument("--format", "onnx, litert, saved_model or page (default: by the suffix of --out)"),
    argument("--quantize", "float16 weights, or int8: integers", metavar="KIND"),
    argument("--data", "read its images in comparison (default: drawn ones)", metavar="STORE"),
)
def run_export(workdir, out, format, quantize, data) -> None:
    """Writes a run as a file that other engines read without Keras, whatever it was trained on.

    onnx (F.onnx) for ONNX Runtime and most engines; `hccr predict --workdir F.onnx` and
    `Recognizer("F.onnx")` read with it. litert (F.tflite) for telephones. saved_model (a folder)
    for TensorFlow Serving. It takes "image", uint8 (B, H, W, 1), and gives "logits", float32
    (B, C); characters, preprocessing and temperature come with it. Images are read with both at
    the end, and a file that reads otherwise isn't left. page (F.html) is a page in one file that
    reads drawings and images in a browser, of an ONNX file, too; weights are int8 by default.

    Examples:
      hccr export runs/demo/model1 --out runs/model1.onnx --quantize int8
      hccr export runs/demo/model1 --out runs/model1.tflite --data runs/demo/store
      hccr export runs/demo/model1 --out runs/model1 --format saved_model
      hccr export recogniser --out page.html
    """
    if format == "page" or (format is None and Path(out).suffix == ".html"):
        from hccr_tf.export.page import export_page
        from hccr_tf.inference.recognizer import exported_file

        if exported_file(workdir) is None:
            with naming_extra("export"):
                backend.start("tensorflow")
        page = export_page(workdir, out, quantize=quantize or "int8", data=data)
        if model := exported_file(workdir):
            print(f"the page's network is {model.name} as it is")
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB; open it in a browser")
        return
    with naming_extra("export"):
        backend.start("tensorflow")
        from hccr_tf.export.export import export_run

    done = export_run(workdir, out, format=format, quantize=quantize, data=data)
    print(f"{done.path}: {done.num_bytes / 1e6:.2f} MB")
