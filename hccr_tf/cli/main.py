"""The command `hccr`, and the same functions as the scripts of trainers/ and predictors/."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from hccr_tf import __version__
from hccr_tf.cli import data, evaluate, info, maps, predict, train
from hccr_tf.cli.flags import Parser
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.logs import print_logs

_HELP = """\
Recognise isolated handwritten Chinese characters: prepare data, train, evaluate.

A whole run on a sample that needs no download:
  hccr data sample --out runs/sample
  hccr data prepare runs/sample --out runs/store
  hccr train brick_model1 --data runs/store --workdir runs/model1 \\
      --image-size 32 --model.num_bricks 3 --epochs 4
  hccr evaluate runs/model1 --data runs/store --split test --out runs/logits1.h5
  hccr fuse runs/logits1.h5 --out runs/results
"""


# Name, line of help, what it does, its arguments.
_COMMANDS = (
    ("predict", "read images of characters", predict.run_predict, predict.predict_arguments),
    ("train", "train a recipe, or go on with a run", train.run_train, train.train_arguments),
    (
        "sweep",
        "train a recipe for every combination of settings",
        train.run_sweep,
        train.sweep_arguments,
    ),
    (
        "evaluate",
        "write a split's logits and their accuracy",
        evaluate.run_evaluate,
        evaluate.evaluate_arguments,
    ),
    (
        "fuse",
        "fuse logits files into the test accuracy",
        evaluate.run_fuse,
        evaluate.fuse_arguments,
    ),
    (
        "calibrate",
        "make a run's probabilities true",
        predict.run_calibrate,
        predict.calibrate_arguments,
    ),
    ("pack", "make a run small enough to pass on", predict.run_pack, predict.pack_arguments),
    ("import", "make a run of published weights", train.run_import, train.import_arguments),
    ("cam", "draw where runs see a character", maps.run_cam, maps.cam_arguments),
    ("refine", "show what refinement does, step by step", maps.run_refine, maps.refine_arguments),
    (
        "reproduce",
        "make a table or figure of a paper",
        info.run_reproduce,
        info.reproduce_arguments,
    ),
    ("report", "make a page of all tables and figures", info.run_report, info.report_arguments),
    ("runs", "list runs, or compare two", info.run_runs, info.runs_arguments),
    ("model", "print a network's layers and cost", info.run_model, info.model_arguments),
    ("list", "list models and recipes", info.run_list, lambda parser: None),
)
_DATA_COMMANDS = (
    ("prepare", "read sources into a checked store", data.run_prepare, data.prepare_arguments),
    ("show", "print a store and draw a sample sheet", data.run_show, data.show_arguments),
    ("audit", "look for faults in a store", data.run_audit, data.audit_arguments),
    (
        "strokes",
        "make a store of handwriting drawn when asked for",
        data.run_strokes,
        data.strokes_arguments,
    ),
    ("sample", "write the embedded sample as .gnt files", data.run_sample, data.sample_arguments),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hccr` and returns its exit code: 0, or 2 where the input is at fault."""
    parser = Parser("hccr", description=_HELP)
    parser.add_argument("--version", action="version", version=f"hccr_tf {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    kinds = commands.add_parser("data", help="prepare and look at data").add_subparsers(
        metavar="COMMAND", required=True
    )
    for command in _DATA_COMMANDS:
        _add(kinds, *command)
    for command in _COMMANDS:
        _add(commands, *command)
    return _run(parser, arguments)


def train_main(recipe: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """A trainer script: `hccr train` with its recipe as the default."""
    parser = _script_parser(description)
    parser.set_defaults(function=train.run_train)
    parser.add_argument(
        "--recipe", default=recipe, help=f"another recipe of `hccr list` (default: {recipe})"
    )
    train.run_arguments(parser)
    return _run(parser, arguments)


def predict_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """A predictor script: `hccr evaluate` with the run as --workdir."""
    parser = _script_parser(description)
    parser.set_defaults(function=evaluate.run_evaluate)
    parser.add_argument("--workdir", required=True, help="folder of the training run")
    evaluate.split_arguments(parser)
    return _run(parser, arguments)


def fuse_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """The finalizer script: `hccr fuse`."""
    parser = _script_parser(description)
    parser.set_defaults(function=evaluate.run_fuse)
    evaluate.fuse_arguments(parser)
    return _run(parser, arguments)


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    options = parser.parse_args(arguments)
    print_logs()
    try:
        options.function(options)
    except (HccrError, OSError) as error:
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
    return Parser(description=description)


def _add(commands, name: str, help: str, function: Callable, add_arguments: Callable) -> None:
    parser = commands.add_parser(name, help=help, description=function.__doc__)
    parser.set_defaults(function=function)
    add_arguments(parser)


def command() -> None:
    """Entry point of the console command."""
    sys.exit(main())
