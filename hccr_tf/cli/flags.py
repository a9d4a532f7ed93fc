"""Commands with their arguments, and flags generated from settings.

Flags of settings have type and help from a dataclass; of groups whose names aren't known before,
such as a network's arguments, any --GROUP.NAME is taken.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from hccr_tf.recipe import OPEN_GROUPS, SETTINGS, flag
from hccr_tf.utils.errors import HccrError, unknown
from hccr_tf.utils.settings import Setting, from_words, parse_literal

Argument = Callable[["Parser"], Any]
"""Adds an argument, or several, to a parser or to a group of it."""


@dataclass
class Command:
    """A command of `hccr`: `run` takes the arguments by name and teaches in its docstring."""

    help: str
    run: Callable[..., None]
    arguments: tuple[Argument, ...]

    def fill(self, parser: "Parser") -> None:
        """Adds the command's arguments to its parser."""
        parser.set_defaults(function=self.run)
        parser.description = inspect.cleandoc(parser.description or self.run.__doc__ or "")
        for add in self.arguments:
            add(parser)


_METAVARS = {int: "N", float: "X"}

COMMANDS: dict[str, Command] = {}
"""Commands by name, "data NAME" for those of `hccr data`, in the order of `hccr --help`."""


def command(name: str, help: str, *arguments: Argument):
    """Registers the decorated function as a command."""

    def register(run: Callable[..., None]):
        COMMANDS[name] = Command(help, run, arguments)
        return run

    return register


def argument(name: str, help: str, **options) -> Argument:
    """Describes an argument, as `ArgumentParser.add_argument` takes it.

    A default that is a text or a number is also the argument's type, and its help names it.
    """
    default = options.get("default")
    if isinstance(default, str | float | int):
        options = {"type": type(default), **options}
        help += f" (default {default})"
    if name.startswith("-") and "choices" not in options and "action" not in options:
        options.setdefault("metavar", _METAVARS.get(options.get("type", str)))
    return lambda parser: parser.add_argument(name, help=help, **options)


def switch(name: str, help: str, off: str | None = None) -> Argument:
    """Describes a flag without a value; with `off` it turns off what is called so."""
    action = "store_true" if off is None else "store_false"
    return lambda parser: parser.add_argument(name, help=help, action=action, dest=off)


def group(title: str, *arguments: Argument) -> Argument:
    """Describes arguments that stand together in the help, under a title."""

    def add(parser: "Parser") -> None:
        titled = parser.add_argument_group(title)
        for add_one in arguments:
            add_one(titled)  # type: ignore[arg-type]

    return add


JOBS = group(
    "runs side by side",
    argument("--jobs", "runs at a time, in processes here", default=1),
    argument(
        "--ray",
        "each run as a task of a Ray cluster (extra [ray]), of a new one here without ADDRESS",
        nargs="?",
        const="",
        metavar="ADDRESS",
    ),
    argument("--cpus", "of a task of Ray, where the cluster has no GPU", default=1),
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that also takes --GROUP.NAME VALUE… for any NAME of `open_groups`.

    With `several`, each setting has a list of values to try; otherwise several are one list. What
    is wrong with arguments is an HccrError, as whatever else a user can mend. The `rare` arguments
    stand in the help that --help-all prints, and not in that of --help.
    """

    open_groups: Collection[str] = ()
    several = False

    def __init__(self, *arguments, **options):
        formatter = partial(argparse.RawDescriptionHelpFormatter, max_help_position=28)
        super().__init__(
            *arguments, formatter_class=formatter, conflict_handler="resolve", **options
        )
        self.rare: list[argparse.Action] = []

    def error(self, message: str) -> NoReturn:
        """Raises the error, with the command whose help says more."""
        raise HccrError(f"{message} (`{self.prog} --help` says what it takes)")

    def add_rare(self, action: argparse.Action) -> None:
        """Leaves an argument to --help-all."""
        if not self.rare:
            self.add_argument("--help-all", action=_HelpAll, help="show every setting and exit")
        self.rare.append(action)

    def format_help(self) -> str:
        """Formats the help without the rare arguments."""
        helps = [action.help for action in self.rare]
        for action in self.rare:
            action.help = argparse.SUPPRESS
        try:
            return super().format_help()
        finally:
            for action, text in zip(self.rare, helps, strict=True):
                action.help = text

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = (str(choice) for choice in action.choices)
            name = action.option_strings[-1] if action.option_strings else action.metavar
            raise unknown(str(name).lower().replace("--", "value of --"), str(value), known)

    def parse_known_args(self, args=None, namespace=None):
        """Adds the flags of open groups that are there, and parses.

        Raises:
            HccrError: a flag that there isn't.
        """
        args = list(sys.argv[1:] if args is None else args)
        options: dict[str, Any] = {"nargs": "+", "type": parse_literal}
        options |= {"default": argparse.SUPPRESS, "action": "store" if self.several else _Joined}
        for word in dict.fromkeys(word.partition("=")[0] for word in args):
            group, dot, name = word.removeprefix("--").partition(".")
            group = group.replace("-", "_")
            if word.startswith("--") and dot and group in self.open_groups:
                self.add_argument(word, dest=f"{group}.{name}", **options)
        parsed, left = super().parse_known_args(args, namespace)
        for word in (word for word in left if word.startswith("--")):
            raise unknown(f"option of {self.prog}", word.partition("=")[0], self._option_names())
        return parsed, left

    def _option_names(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]


class _HelpAll(argparse.Action):
    """Prints the help with the rare arguments, and ends."""

    def __init__(self, option_strings, dest, **options):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        parser.rare = []
        parser.print_help()
        parser.exit()


class _Joined(argparse.Action):
    """Keeps the values behind a flag as one."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, from_words(values))


def add_settings(parser, settings: Mapping[str, Setting], prefix: str = "", several: bool = False):
    """Adds a flag for each setting, its name behind a prefix; with `several` for its values."""
    return [_add_setting(parser, prefix + name, s, several) for name, s in settings.items()]


def _add_setting(parser, name: str, setting: Setting, several: bool) -> argparse.Action:
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": name}
    options["help"] = setting.help.replace("%", "%%").removesuffix(".")
    if setting.kind is bool and not several:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options |= {"type": partial(_read, setting), "nargs": "+" if several else None}
        options["metavar"] = _METAVARS.get(setting.kind, name.rpartition(".")[2].upper())
    return parser.add_argument(flag(name), **options)


def _read(setting: Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except HccrError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {setting.kind.__name__}") from None


# In the order of `SETTINGS`: each title stands before the setting that its group begins with.
_TITLES = {
    "model": "network and loss (as the recipe has them, like all settings below)",
    "optimizer": "optimiser and learning rate",
    "samples_per_class": "length, and images of an epoch",
    "seed": "arithmetic",
    "image_size": "from image to input",
    "augmentation.amount": "random maps of training images",
}
_OFTEN = {"model", "learning_rate", "epochs", "batch_size", "image_size", "seed"}
_MORE = """\
Arguments of the network, the loss and the optimiser are flags too, such as --model.num_bricks 4
--loss.gamma 2 (`hccr model NETWORK` lists a network's); so is the weight of an output's loss,
--loss-weights.OUTPUT."""


def add_recipe_settings(parser: Parser, several: bool = False) -> None:
    """Adds the flags of a recipe's settings; those that are seldom changed to --help-all only."""
    parser.open_groups, parser.several, parser.epilog = OPEN_GROUPS, several, _MORE
    often = parser.add_argument_group("settings in place of the recipe's (--help-all lists all)")
    for name, setting in SETTINGS.items():
        if name in _TITLES:
            rest = parser.add_argument_group(_TITLES[name])
        action = _add_setting(often if name in _OFTEN else rest, name, setting, several)
        if name not in _OFTEN:
            parser.add_rare(action)
