"""The command `hccr`, and the same functions as the scripts of trainers/ and predictors/."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hccr_tf import __version__, backend
from hccr_tf.recipes import OVERRIDES, get_recipe, list_recipes

_HELP = """\
Recognise isolated handwritten Chinese characters: prepare data, train, evaluate.

A whole run on a sample that needs no download:
  hccr data sample --out runs/sample
  hccr data prepare runs/sample --out runs/store
  hccr train brick_model1 --data runs/store --workdir runs/model1 \\
      --image-size 32 --bricks 3 --epochs 4
  hccr evaluate runs/model1 --data runs/store --split test --out runs/logits1.h5
  hccr fuse runs/logits1.h5 --out runs/results
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hccr` and returns its exit code: 0, or 2 where the input is at fault."""
    parser = argparse.ArgumentParser(
        "hccr", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"hccr_tf {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_data(commands)
    _add(
        commands, "train", "train a recipe, or go on with a run", _train, _train_arguments
    )
    _add(
        commands, "evaluate", "write a split's logits and their accuracy", _evaluate,
        _evaluate_arguments,
    )
    _add(commands, "fuse", "fuse logits files into the test accuracy", _fuse, _fuse_arguments)
    _add(commands, "import", "make a run of published weights", _import, _import_arguments)
    _add(commands, "cam", "draw where runs see a character", _cam, _cam_arguments)
    _add(
        commands, "refine", "show what refinement does, step by step", _refine, _refine_arguments
    )
    _add(
        commands, "reproduce", "make a table or figure of a paper", _reproduce,
        _reproduce_arguments,
    )
    _add(commands, "runs", "list runs, or compare two", _runs, _runs_arguments)
    _add(commands, "model", "print a network's layers and cost", _model, _model_arguments)
    _add(commands, "list", "list models and recipes", _list, lambda parser: None)
    return _run(parser, arguments)


def train_main(recipe: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """A trainer script: `hccr train` with its recipe as the default."""
    parser = _script_parser(description)
    parser.set_defaults(function=_train)
    parser.add_argument(
        "--recipe", default=recipe, help=f"another recipe of `hccr list` (default: {recipe})"
    )
    _run_arguments(parser)
    return _run(parser, arguments)


def predict_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """A predictor script: `hccr evaluate` with the run as --workdir."""
    parser = _script_parser(description)
    parser.set_defaults(function=_evaluate)
    parser.add_argument("--workdir", required=True, help="folder of the training run")
    _split_arguments(parser)
    return _run(parser, arguments)


def fuse_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """The finalizer script: `hccr fuse`."""
    parser = _script_parser(description)
    parser.set_defaults(function=_fuse)
    _fuse_arguments(parser)
    return _run(parser, arguments)


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    options = parser.parse_args(arguments)
    try:
        options.function(options)
    except (ValueError, OSError, ArithmeticError) as error:
        if os.environ.get("HCCR_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        print("(HCCR_DEBUG=1 shows where it was raised.)", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupted:
        # Training says where it was saved.
        where = str(interrupted) or "Interrupted. The same command goes on where it can."
        print(f"\n{where}", file=sys.stderr)
        return getattr(interrupted, "exit_code", 130)
    return 0


def _script_parser(description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add(commands, name: str, help: str, function: Callable, add_arguments: Callable) -> None:
    parser = commands.add_parser(
        name,
        help=help,
        description=function.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(function=function)
    add_arguments(parser)


# === data ===


def _add_data(commands) -> None:
    parser = commands.add_parser("data", help="prepare and look at data")
    kinds = parser.add_subparsers(metavar="COMMAND", required=True)
    _add(kinds, "prepare", "read sources into a checked store", _prepare, _prepare_arguments)
    _add(kinds, "show", "print a store and draw a sample sheet", _show, _show_arguments)
    _add(kinds, "audit", "look for faults in a store", _audit, _audit_arguments)
    _add(kinds, "sample", "write the embedded sample as .gnt files", _sample, _sample_arguments)


def _prepare_arguments(parser) -> None:
    parser.add_argument("source", nargs="+", help="files, folders or zips; see above")
    parser.add_argument("--out", required=True, help="folder of the new store")
    parser.add_argument(
        "--split",
        default="auto",
        choices=["auto", "source", "writer", "shuffle"],
        help="source: as the source's folders say; writer: no writer on both sides; shuffle: "
        "at random; auto: the first of these that the source allows (default)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the split (default 1)")
    parser.add_argument(
        "--test-fraction", type=float, default=0.2,
        help="where the source gives no test set (default 0.2)",
    )
    parser.add_argument(
        "--validation-fraction", type=float, default=0.05,
        help="of the training samples (default 0.05)",
    )
    parser.add_argument(
        "--charset", metavar="NAME|FILE",
        help="keep only its characters, in its order: gb2312-1 (3,755), gb2312 (6,763), "
        "chinese-mnist, digits, a charset file, a run or a store (default: all there are)",
    )
    parser.add_argument(
        "--workers", type=int, help="reading processes (default: one a processor)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the store at --out")


def _prepare(options) -> None:
    """Reads handwriting into a checked store that every other command takes as --data.

    A source is a folder, a zip archive or a file; a folder of downloads is read as it is.
    Known are, at any depth and in archives within archives:
      - CASIA .gnt files (Gnt1.0TrainPart1.zip …, HWDB1.0trn_gnt.zip …, competition-gnt.zip;
        the .alz archive in HWDB1.1trn_gnt.zip takes the program unalz)
      - pictures by class: Train/<character>/<n>.png (the Kaggle repack
        CASIA-HWDB_Train.zip, CASIA-HWDB_Test.zip); broken names are repaired
      - Chinese MNIST (chinese_mnist.csv, input_1_1_1.jpg …)
      - MNIST and Fashion-MNIST: Keras's mnist.npz, or train-images-idx3-ubyte … with their
        labels files beside them, also as .gz; the classes are the digits 0 to 9
      - other stores: several together are joined
    What can't be read is listed in the store's quarantine.csv, and reading goes on. An
    interrupted or killed command goes on where it stopped when it's given again.

    Examples:
      hccr data prepare downloads/ --out store
      hccr data prepare CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --out store
      hccr data prepare chinese_mnist/ --split writer --out chinese_mnist_store
      hccr data prepare store1 store2 --charset gb2312-1 --out joined
    """
    from hccr_tf.charset import Charset
    from hccr_tf.data.preparing import prepare
    from hccr_tf.data.store import summary

    if options.workers is not None and options.workers < 1:
        raise ValueError("--workers is at least 1.")
    store = prepare(
        options.source,
        options.out,
        split=options.split,
        seed=options.seed,
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        overwrite=options.overwrite,
        workers=options.workers,
        charset=None if options.charset is None else Charset.open(options.charset),
    )
    print(summary(store))


def _show_arguments(parser) -> None:
    parser.add_argument("store", help="folder written by `hccr data prepare`")
    parser.add_argument("--split", help="train, validation, test or all (default)")
    parser.add_argument("--sheet", help="picture to draw (default: STORE-sheet.png beside it)")
    parser.add_argument("--rows", type=int, default=10, help="classes on the sheet (default 10)")
    parser.add_argument("--verify", action="store_true", help="check every file's checksum")


def _show(options) -> None:
    """Prints what a store holds, its faults included, and draws a sheet of its pictures.

    Example:
      hccr data show store --split test
    """
    from hccr_tf.data.sheet import store_sheet
    from hccr_tf.data.store import Store, summary

    store = Store(options.store)
    if options.verify:
        store.verify()
        print("Every file has the checksum it was written with.")
    print(summary(store))
    path = Path(options.sheet or f"{Path(options.store)}-sheet.png")
    store_sheet(store, path, split=options.split, rows=options.rows)
    print(f"sheet       {path}")


def _audit_arguments(parser) -> None:
    parser.add_argument("store", help="folder written by `hccr data prepare`")
    parser.add_argument(
        "--run", help="a trained run: ranks the labels that it doubts (its charset must cover the "
        "store's characters)",
    )
    parser.add_argument("--out", help="folder for the findings (default: STORE-audit beside it)")
    parser.add_argument("--split", help="train, validation, test or all (default: held-out too)")
    parser.add_argument("--batch-size", type=int, default=64, help="of --run (default 64)")


def _audit(options) -> None:
    """Looks for faults in a store and ranks them; changes nothing.

    Duplicates, writers on both sides, broken and merged class names, odd sizes, blank
    and inverted pictures, imbalance; with --run also the labels that the model doubts.
    Writes audit.csv (every finding), classes.csv, summary.json and sheets of pictures.

    Examples:
      hccr data audit store
      hccr data audit store --run runs/model1 --out audit
    """
    from hccr_tf.data.audit import audit
    from hccr_tf.data.store import Store

    store = Store(options.store)
    disagreement = None
    if options.run is not None:
        backend.start()
        from hccr_tf.inference.disagreement import predict_disagreement
        from hccr_tf.workdir import Workdir

        disagreement = predict_disagreement(
            options.run, store, split=options.split or "all", batch_size=options.batch_size
        )
        trained_on = Workdir(Path(options.run)).read_run()["data_hash"]
        if trained_on != store.data_hash:
            print(
                f"{options.run} was trained on other data (hash {trained_on[:16]}): which "
                "of these samples it has seen is not known."
            )
    result = audit(store, options.split, disagreement, options.run)
    folder = result.write(options.out or f"{Path(options.store)}-audit")
    print(result.text(folder))


def _sample_arguments(parser) -> None:
    parser.add_argument("--out", required=True, help="folder for the .gnt files")
    parser.add_argument("--strokes", help="centre lines of other characters, .json or .json.gz")
    parser.add_argument("--characters", help="which of them (default: all)")
    parser.add_argument("--writers", type=int, default=40, help="for training (default 40)")
    parser.add_argument("--test-writers", type=int, default=10, help="for testing (default 10)")
    parser.add_argument(
        "--per-writer", type=int, default=4, help="pictures of a character a writer (default 4)"
    )
    parser.add_argument("--size", type=int, default=64, help="of a character, pixels (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="of all pictures (default 0)")


def _sample(options) -> None:
    """Draws handwriting-like pictures from stroke centre lines and writes .gnt files.

    The package carries the centre lines of the fifteen numerals 零一二三四五六七八九十百千万亿;
    --strokes takes those of any character. Training and test writers differ.

    Example:
      hccr data sample --out runs/sample
    """
    from hccr_tf.data.synthetic import generate_gnt, load_strokes

    paths = generate_gnt(
        options.out,
        load_strokes(options.strokes),
        options.characters,
        num_writers=options.writers,
        num_test_writers=options.test_writers,
        samples_per_writer=options.per_writer,
        seed=options.seed,
        size=options.size,
    )
    print(f"{len(paths)} writers' files in {options.out}")


# === train ===


def _train_arguments(parser) -> None:
    parser.add_argument("recipe", choices=list_recipes(), metavar="RECIPE", help="of `hccr list`")
    _run_arguments(parser)


def _run_arguments(parser) -> None:
    parser.add_argument("--data", required=True, help="store of `hccr data prepare`")
    parser.add_argument(
        "--workdir", required=True,
        help="folder for all the run makes; one that holds an unfinished run goes on",
    )
    parser.add_argument(
        "--init-from", metavar="RUN",
        help="start from this run's best weights; output layers are new where its charset differs",
    )
    parser.add_argument("--steps", type=int, help="length in steps, in place of --epochs")
    parser.add_argument(
        "--checkpoint-minutes", type=float, default=10.0,
        help="save within an epoch so often (default 10)",
    )
    parser.add_argument(
        "--checkpoint-steps", type=int, help="save within an epoch after so many steps, too"
    )
    parser.add_argument(
        "--charset", metavar="NAME|FILE",
        help="classes in place of the store's own, whose characters it must cover: gb2312-1, "
        "gb2312, chinese-mnist, digits, a charset file, a run or a store",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="an argument of the network (`hccr list` has them), such as --set gru_bias=True",
    )
    overrides = parser.add_argument_group("settings of the recipe (default: the recipe's)")
    for name, (kind, text) in OVERRIDES.items():
        flag = "--" + name.replace("_", "-")
        if kind is bool:
            overrides.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            overrides.add_argument(flag, type=kind, help=text)


def _train(options) -> None:
    """Trains a recipe's network on a store. A GPU is used without a flag.

    Best weights are those of the epoch with the best validation accuracy of the main
    output. Started again with the same command, a run that was stopped or killed goes on
    from its last checkpoint. The workdir then holds history.csv, curves.png, TensorBoard
    events and the weights.

    Example:
      hccr train kriuk_model1 --data store --workdir runs/model1 --image-size 64 --bricks 4
    """
    settings = {name: getattr(options, name) for name in OVERRIDES}
    recipe = get_recipe(options.recipe).override(**settings)
    if options.set:
        recipe = recipe.override(model_args={**recipe.model_args, **_settings(options.set)})

    from hccr_tf.charset import Charset
    from hccr_tf.data.store import Store

    store = Store(options.data)
    if options.steps is not None:
        if options.steps < 1 or options.epochs is not None:
            raise ValueError("--steps is at least 1 and stands in place of --epochs.")
        steps_per_epoch = -(-len(store.indices("train")) // recipe.batch_size)
        recipe = recipe.override(epochs=-(-options.steps // steps_per_epoch))

    backend.start()
    from hccr_tf.training import train
    from hccr_tf.training.checkpoints import Interval

    workdir = train(
        recipe,
        store,
        options.workdir,
        init_from=options.init_from,
        charset=None if options.charset is None else Charset.open(options.charset),
        checkpoints=Interval(options.checkpoint_minutes, options.checkpoint_steps),
    )
    run = workdir.read_run()
    print(
        f"best epoch {run['best_epoch']}: validation accuracy "
        f"{100 * run['best_val_accuracy']:.2f} %; all of it in {workdir.path}"
    )


# === import ===


def _import_arguments(parser) -> None:
    parser.add_argument("weights", help="HDF5 file of Keras 2, such as Melnyk-Net.hdf5")
    parser.add_argument(
        "--recipe", default="melnyk_c", choices=list_recipes(), metavar="RECIPE",
        help="of the network and its input (default: melnyk_c)",
    )
    parser.add_argument(
        "--charset", required=True, metavar="NAME|FILE",
        help="the file's classes in its own order: label2tagcode.npy beside the published "
        "weights, a .txt of the characters, gb2312-1, a charset file, a run or a store",
    )
    parser.add_argument("--workdir", required=True, help="folder of the new run")


def _import(options) -> None:
    """Makes a run of weights that were trained elsewhere with Keras 2.

    Weights are matched to the recipe's network by order and shape. The run is taken by
    `hccr evaluate`, `hccr cam` and `hccr train --init-from`; nothing in the file is executed.

    Example:
      hccr import Melnyk-Net.hdf5 --charset label2tagcode.npy --workdir runs/published
    """
    backend.start()
    from hccr_tf.charset import Charset
    from hccr_tf.inference.importing import import_keras2

    workdir = import_keras2(
        options.weights, get_recipe(options.recipe), Charset.open(options.charset), options.workdir
    )
    print(f"{options.weights} as a run of {options.recipe} in {workdir.path}")


# === predict ===


def _evaluate_arguments(parser) -> None:
    parser.add_argument("workdir", metavar="RUN", help="folder of the training run")
    _split_arguments(parser)


def _split_arguments(parser) -> None:
    parser.add_argument("--data", required=True, help="store of `hccr data prepare`")
    parser.add_argument(
        "--split", default="test", help="train, validation, test (default) or all"
    )
    parser.add_argument("--out", required=True, help="HDF5 file for the logits")
    parser.add_argument(
        "--crops", default="five", choices=["five", "none"],
        help="five: mean over centre and four corners (default); none: the whole picture",
    )
    parser.add_argument(
        "--no-blur", action="store_true",
        help="leave out the blur the model was trained with, as the released predictors do",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="pictures (default 32)")


def _evaluate(options) -> None:
    """Writes the logits of a split and prints their accuracy.

    Pictures are prepared as in training; with five crops they are resized (to 280 for
    256), blurred, cropped at the centre and the corners, and the crops' logits averaged.

    Example:
      hccr evaluate runs/model1 --data store --split test --out runs/logits1.h5
    """
    from hccr_tf.data.store import Store

    store = Store(options.data)
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
    names = {"logits": "five crops" if options.crops == "five" else "whole picture",
             "logits_center": "center crop"}
    for name, entry in metrics.items():
        tops = ", ".join(
            f"{k} {100 * v:.2f} %" for k, v in entry.items() if isinstance(v, float)
        )
        print(f"{options.workdir} on {options.split}, {names[name]}: {tops}")
    print(f"logits in {options.out}")


def _fuse_arguments(parser) -> None:
    parser.add_argument("logits", nargs="+", help="a logits file for each model")
    parser.add_argument(
        "--weights", type=float, nargs="+",
        help="one for each file (default: 0.3 0.2 0.5 for three, else equal)",
    )
    parser.add_argument(
        "--search", nargs="+", metavar="LOGITS",
        help="find the weights on these files of a validation split, one for each model",
    )
    parser.add_argument(
        "--out", default="results", help="folder for the results (default: results)"
    )


def _fuse(options) -> None:
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
            raise ValueError("--weights and --search exclude each other.")
        if len(options.search) != len(options.logits):
            raise ValueError("--search takes as many files as are fused, in the same order.")
        weights, accuracy = search_weights(options.search)
        text = " ".join(f"{w:g}" for w in weights)
        print(f"weights found: {text} (top1 there {100 * accuracy:.2f} %)")
    print(metrics_table(fuse(options.logits, options.out, weights=weights)))
    print(f"results in {options.out}")


# === look ===


def _cam_arguments(parser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="picture files, or folders of them"
    )
    parser.add_argument(
        "--workdir", required=True, nargs="+", metavar="RUN", help="trained runs, a column each"
    )
    parser.add_argument("--out", required=True, help="folder for the pictures and tables")
    parser.add_argument(
        "--top-k", type=int, default=1, help="maps of the k most probable classes (default 1)"
    )
    parser.add_argument(
        "--layer", help="whose output is mapped (default: the last map of at least 2×2)"
    )
    parser.add_argument("--data", metavar="STORE", help="take samples of --characters from here")
    parser.add_argument("--characters", help="such as 己已: of each a sample that all runs read")
    parser.add_argument("--split", default="test", help="of --data (default test)")


def _cam(options) -> None:
    """Draws class activation maps: the places of a picture that made a run read what it reads.

    Writes cam.png (a row for each picture and rank, a column for each run, the picture at the
    right), cam.csv, maps.npz and overlays/. Networks that end in a pooling are mapped by their
    weights (Melnyk et al. 2018, eqs. 1, 8, 9), all others through gradients. Pictures are one
    character each, ink dark on a light ground.

    Examples:
      hccr cam 1.png 2.png --workdir runs/a runs/b runs/c --out cams
      hccr cam --data store --characters 垂坛 --workdir runs/c --top-k 3 --out cams
    """
    if bool(options.data) != bool(options.characters) or bool(options.images) == bool(options.data):
        raise ValueError("Name either picture files, or --data and --characters.")
    backend.start()
    from hccr_tf.inference.cam_files import write_cams
    from hccr_tf.inference.pictures import pictures_of_characters, read_pictures
    from hccr_tf.inference.predictor import Predictor

    predictors = [Predictor(path) for path in options.workdir]
    if options.data:
        from hccr_tf.data.store import Store

        pictures = pictures_of_characters(
            Store(options.data), options.split, options.characters, predictors
        )
    else:
        pictures = read_pictures(options.images)
    table = write_cams(
        predictors, pictures, options.out, top_k=options.top_k, layer=options.layer
    )
    print(table.drop(columns=["overlay", "layer"]).to_string(index=False))
    print(f"maps in {Path(options.out) / 'cam.png'}")


def _refine_arguments(parser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="picture files, or folders of them"
    )
    parser.add_argument("--workdir", required=True, metavar="RUN", help="a run with refinement")
    parser.add_argument("--out", required=True, help="folder for pictures and tables")
    parser.add_argument("--top-k", type=int, default=5, help="characters a step (default 5)")
    parser.add_argument("--steps", type=int, help="T (default: that of the training)")
    parser.add_argument(
        "--data", metavar="STORE", help="count over a split what every step corrects and breaks"
    )
    parser.add_argument("--split", default="test", help="of --data (default test)")
    parser.add_argument(
        "--cases", type=int, default=8,
        help="samples of --data to draw that refinement corrects, and that it breaks (default 8)",
    )


def _refine(options) -> None:
    """Shows what a network with iterative refinement reads at each step, and where it looks.

    Of pictures: refine.png (attention over the picture at every step), refine.txt (the best
    characters with probabilities, as figure 5 of Yang et al. 2017) and refine.csv. With --data:
    steps.csv (accuracy at every step, samples corrected and broken), and the same three files
    of samples that are wrong at first and right at last (corrected.*), and the reverse
    (broken.*). --steps tries another number of steps than the run was trained with.

    Examples:
      hccr refine 1.png 2.png --workdir runs/mrbc_ir --out refined
      hccr refine --data store --workdir runs/mrbc_ir --steps 8 --out refined
    """
    if bool(options.images) == bool(options.data):
        raise ValueError("Name either picture files or --data.")
    backend.start()
    from hccr_tf.inference.pictures import read_pictures, sample_pictures
    from hccr_tf.inference.refine import StepPredictor, count_steps, write_steps

    predictor = StepPredictor(options.workdir, options.steps)
    out = Path(options.out)
    if options.images:
        pictures = read_pictures(options.images)
        write_steps(predictor, pictures, out, top_k=options.top_k)
        print((out / "refine.txt").read_text("utf-8"))
        print(f"attention in {out / 'refine.png'}")
        return
    from hccr_tf.data.store import Store
    from hccr_tf.files import atomic_write

    if options.cases < 0:
        raise ValueError("--cases is at least 0.")
    store = Store(options.data)
    counts = count_steps(predictor, store, options.split)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "steps.csv") as temporary:
        counts.table.to_csv(temporary, index=False)
    print(counts.table.to_string(index=False))
    for name, first_right in (("corrected", False), ("broken", True)):
        rows = counts.changed(first_right)
        print(f"{name}: {len(rows)} samples from the first to the last step")
        if len(rows) and options.cases:
            indices = counts.indices[rows[: options.cases]]
            pictures = sample_pictures(store, indices)
            write_steps(predictor, pictures, out, top_k=options.top_k, name=name)
    print(f"all of it in {out}")


def _reproduce_arguments(parser) -> None:
    parser.add_argument("name", nargs="?", help="of --list")
    parser.add_argument("--list", action="store_true", help="list what there is")
    parser.add_argument("--data", metavar="STORE", help="store of `hccr data prepare`")
    parser.add_argument("--split", default="test", help="of the store (default test)")
    parser.add_argument(
        "--workdir", nargs="+", metavar="RUN", default=[], help="trained runs, a row each"
    )
    parser.add_argument("--out", help="folder for the results (default: results/NAME)")


def _reproduce(options) -> None:
    """Makes a table or figure of a paper from trained runs, beside the paper's own numbers.

    Writes each table as CSV, and pictures where the paper has them. Logits are kept in
    OUT/logits, and those of the same weights and data aren't predicted again.

    Examples:
      hccr reproduce --list
      hccr reproduce melnyk_table2 --data store --workdir runs/a runs/b runs/c
    """
    if not options.list and (not options.name or not options.data):
        raise ValueError("Name what to make (`hccr reproduce --list`), and --data.")
    backend.start()
    from hccr_tf.experiments import Inputs, get_experiment, list_experiments

    if options.list:
        for name in list_experiments():
            print(f"  {name:<22} {get_experiment(name).description}")
        return
    from hccr_tf.data.store import Store
    from hccr_tf.files import atomic_write

    experiment = get_experiment(options.name)
    out = Path(options.out or Path("results") / experiment.name)
    out.mkdir(parents=True, exist_ok=True)
    runs = [Path(path) for path in options.workdir]
    tables = experiment.run(Inputs(Store(options.data), options.split, runs, out))
    for name, table in tables.items():
        path = out / f"{experiment.name}_{name}.csv"
        with atomic_write(path) as temporary:
            table.to_csv(temporary, index=False)
        shown = table.drop(columns=["train_command", "hardware"], errors="ignore")
        text = shown.to_string(index=False, na_rep="")
        print(f"{path}\n{text}\n")


def _model_arguments(parser) -> None:
    parser.add_argument("model", help="of `hccr list`")
    parser.add_argument("--num-classes", type=int, default=3755, help="(default 3755)")
    parser.add_argument(
        "--image-size", type=int, help="side of the input, pixels (default: the paper's)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an argument of the model"
    )
    parser.add_argument(
        "--training", action="store_true", help="with the heads that only training uses"
    )


def _model(options) -> None:
    """Prints a network's layers with output shape, parameters and multiply–accumulates.

    Counted are convolutions, dense layers and the matrices of recurrent ones, once for one
    picture; biases, normalisation, activation and pooling aren't.

    Examples:
      hccr model melnyk_net_c --image-size 96 --num-classes 3755
      hccr model brick_net --set num_bricks=4 --training
    """
    backend.start()
    from hccr_tf.complexity import cost_table
    from hccr_tf.models import blueprint, model_arguments

    arguments = _settings(options.set)
    unknown = sorted(set(arguments) - set(model_arguments(options.model)))
    if unknown:
        known = ", ".join(model_arguments(options.model))
        raise ValueError(f"{options.model} has no argument {unknown}; it has {known}.")
    size = options.image_size
    model = blueprint(
        options.model,
        num_classes=options.num_classes,
        image_shape=None if size is None else (size, size, 1),
        aux_outputs=options.training,
        **arguments,
    )
    print(cost_table(model))


def _settings(texts: Sequence[str]) -> dict[str, object]:
    """Reads NAME=VALUE texts; values that are no Python literals are texts."""
    import ast

    settings: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, not {text!r}.")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


# === runs ===


def _runs_arguments(parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder with runs at any depth")
    parser.add_argument(
        "--compare", nargs=2, metavar="RUN", help="two runs, by their names in the list"
    )
    parser.add_argument(
        "--out", help="picture of the compared curves (default: DIR/compared.png)"
    )


def _runs(options) -> None:
    """Lists the runs below a folder with their state and best result, or compares two.

    A comparison says which settings, data and versions differ and draws the curves of the
    two over each other.

    Examples:
      hccr runs runs
      hccr runs runs --compare model1 model2
    """
    from hccr_tf.runs import compare, runs_table

    folder = Path(options.folder)
    if options.compare is None:
        print(runs_table(folder).to_string(index=False))
        return
    first, second = (folder / name for name in options.compare)
    print("\n".join(compare(first, second, Path(options.out or folder / "compared.png"))))


# === list ===


def _list(options) -> None:
    """Lists the registered models with their own arguments, and the recipes."""
    backend.start()
    from hccr_tf.models import list_models, model_arguments, model_description

    print("models:")
    for name in list_models():
        arguments = ", ".join(f"{k}={v!r}" for k, v in model_arguments(name).items())
        print(f"  {name}({arguments})\n      {model_description(name)}")
    print("recipes:")
    for name in list_recipes():
        print(f"  {name:<22} {get_recipe(name).description}")


def command() -> None:
    """Entry point of the console command."""
    sys.exit(main())
