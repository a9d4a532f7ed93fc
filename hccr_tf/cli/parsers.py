"""The parsers of `hccr` and of the scripts of trainers/ and predictors/."""

from hccr_tf import __version__
from hccr_tf.cli import data, evaluate, info, predict, reproduce, serve, train  # noqa: F401
from hccr_tf.cli.flags import COMMANDS, Command, Parser, argument

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
file that can't be read or a full disk; 130 interrupted (Ctrl-C); 141 nobody reads what is
printed (`| head`); 143 ended (SIGTERM).
"""


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


def train_parser(recipe: str, description: str) -> Parser:
    """A trainer script's: `hccr train` with its recipe as the default."""
    text = f"another recipe of `hccr list` (default: {recipe})"
    named = argument("--recipe", text, default=recipe)
    return _script_parser(Command(description, train.run_train, (named, *train.RUN_ARGUMENTS)))


def predict_parser(description: str) -> Parser:
    """A predictor script's: `hccr evaluate` with the run as --workdir."""
    workdir = argument("--workdir", "folder of the training run", required=True)
    arguments = (workdir, *evaluate.SPLIT_ARGUMENTS)
    return _script_parser(Command(description, evaluate.run_evaluate, arguments))


def fuse_parser(description: str) -> Parser:
    """The finalizer script's: `hccr fuse`."""
    return _script_parser(Command(description, evaluate.run_fuse, COMMANDS["fuse"].arguments))


def _script_parser(command: Command) -> Parser:
    parser = Parser(description=command.help)
    command.fill(parser)
    return parser
