"""The command `hccr`, and the same functions as the scripts of trainers/ and predictors/."""

import os
import sys
from collections.abc import Sequence

from hccr_tf import __version__
from hccr_tf.cli import data, evaluate, info, predict, reproduce, serve, train  # noqa: F401
from hccr_tf.cli.flags import COMMANDS, Command, Parser, argument
from hccr_tf.utils.errors import HccrError, missing_extra
from hccr_tf.utils.logs import print_logs

_HELP = """\
Recognise isolated handwritten Chinese characters: prepare data, train, evaluate.

Read an image: hccr predict photo.jpg. A whole run on a sample that needs no download:
  hccr data sample --out runs/sample
  hccr data prepare runs/sample --out runs/store
  hccr train brick_model1 --data runs/store --workdir runs/model1 \\
      --image-size 32 --model.num_bricks 3 --epochs 4
  hccr evaluate runs/model1 --data runs/store --split test --out runs/logits1.h5
  hccr fuse runs/logits1.h5 --out runs/results

Exit codes: 0 done; 2 an error that the message says how to mend, such as a wrong argument, a
file that can't be read or a full disk; 130 interrupted (Ctrl-C); 143 ended (SIGTERM).
"""
_DONE, _ERROR, _INTERRUPTED = 0, 2, 130  # SIGTERM's 143 comes with `signals.Interrupted`


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hccr` and returns its exit code."""
    return _run(hccr_parser(), arguments)


def hccr_parser() -> Parser:
    """Returns the parser of all commands."""
    parser = Parser("hccr", description=_HELP)
    parser.add_argument("--version", action="version", version=f"hccr_tf {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    group = commands.add_parser("data", help="prepare and look at data")
    of_data = group.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        parsers = of_data if name.startswith("data ") else commands
        last = name.removeprefix("data ")
        command.fill(parsers.add_parser(last, help=command.help))
    return parser


def train_main(recipe: str, description: str) -> int:
    """A trainer script: `hccr train` with its recipe as the default."""
    text = f"another recipe of `hccr list` (default: {recipe})"
    named = argument("--recipe", text, default=recipe)
    return _script(Command(description, train.run_train, (named, *train.RUN_ARGUMENTS)))


def predict_main(description: str) -> int:
    """A predictor script: `hccr evaluate` with the run as --workdir."""
    workdir = argument("--workdir", "folder of the training run", required=True)
    arguments = (workdir, *evaluate.SPLIT_ARGUMENTS)
    return _script(Command(description, evaluate.run_evaluate, arguments))


def fuse_main(description: str) -> int:
    """The finalizer script: `hccr fuse`."""
    return _script(Command(description, evaluate.run_fuse, COMMANDS["fuse"].arguments))


def _script(command: Command) -> int:
    parser = Parser(description=command.help)
    command.fill(parser)
    return _run(parser)


def _run(parser: Parser, arguments: Sequence[str] | None = None) -> int:
    try:
        options = vars(parser.parse_args(arguments))
    except HccrError as error:
        print(f"error: {error}", file=sys.stderr)
        return _ERROR
    print_logs()
    try:
        options.pop("function")(**options)
    except (HccrError, OSError, ModuleNotFoundError) as error:
        told = missing_extra(error) if isinstance(error, ModuleNotFoundError) else error
        if told is None or os.environ.get("HCCR_DEBUG"):
            raise
        print(f"error: {told}", file=sys.stderr)
        print("(HCCR_DEBUG=1 shows where it was raised.)", file=sys.stderr)
        return _ERROR
    except KeyboardInterrupt as interrupted:
        # Training says where it was saved.
        where = str(interrupted) or "Interrupted. The same command goes on where it can."
        print(f"\n{where}", file=sys.stderr)
        return getattr(interrupted, "exit_code", _INTERRUPTED)
    return _DONE


def command() -> None:
    """Entry point of the console command."""
    sys.exit(main())
