"""Commands with their arguments, and flags generated from settings.

Flags of settings have type and help from a dataclass; of groups whose names aren't known before,
such as a network's arguments, any --GROUP.NAME is taken.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from hccr_tf.recipe import OPEN_GROUPS, SETTINGS, flag
from hccr_tf.utils.settings import Setting, from_words, parse_literal

Argument = Callable[["Parser"], Any]
"""Adds an argument, or several, to a parser."""


@dataclass
class Command:
    """A command of `hccr`: `run` takes the arguments by name and teaches in its docstring."""

    help: str
    run: Callable[..., None]
    arguments: tuple[Argument, ...]

    def fill(self, parser: "Parser") -> None:
        """Adds the command's arguments to its parser."""
        parser.set_defaults(function=self.run)
        for add in self.arguments:
            add(parser)


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
    return lambda parser: parser.add_argument(name, help=help, **options)


def switch(name: str, help: str, off: str | None = None) -> Argument:
    """Describes a flag without a value; with `off` it turns off what is called so."""
    action = "store_true" if off is None else "store_false"
    return lambda parser: parser.add_argument(name, help=help, action=action, dest=off)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that also takes --GROUP.NAME VALUE… for any NAME of `open_groups`.

    With `several`, each setting has a list of values to try; otherwise several are one list.
    """

    open_groups: Collection[str] = ()
    several = False

    def __init__(self, *arguments, **options):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(
            *arguments, formatter_class=formatter, conflict_handler="resolve", **options
        )

    def parse_known_args(self, args=None, namespace=None):
        """Adds the flags of open groups that are there, and parses."""
        args = list(sys.argv[1:] if args is None else args)
        options: dict[str, Any] = {"nargs": "+", "type": parse_literal}
        options |= {"default": argparse.SUPPRESS, "action": "store" if self.several else _Joined}
        for word in dict.fromkeys(word.partition("=")[0] for word in args):
            group, dot, name = word.removeprefix("--").partition(".")
            group = group.replace("-", "_")
            if word.startswith("--") and dot and group in self.open_groups:
                self.add_argument(word, dest=f"{group}.{name}", **options)
        return super().parse_known_args(args, namespace)


class _Joined(argparse.Action):
    """Keeps the values behind a flag as one."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, from_words(values))


def add_settings(parser, settings: Mapping[str, Setting], prefix: str = "", several: bool = False):
    """Adds a flag for each setting, its name behind a prefix; with `several` for its values."""
    for name, setting in settings.items():
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": prefix + name}
        options["help"] = setting.help.replace("%", "%%")
        if setting.kind is bool and not several:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": partial(_read, setting), "nargs": "+" if several else None}
            options["metavar"] = name.rpartition(".")[2].upper()
        parser.add_argument(flag(prefix + name), **options)


def _read(setting: Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_recipe_settings(parser: Parser, several: bool = False) -> None:
    """Adds the flags of a recipe's settings."""
    group = parser.add_argument_group(
        "settings of the recipe (default: the recipe's)",
        "Besides these: --model.NAME for arguments of the network (`hccr model NETWORK` lists "
        "them), --loss.NAME (gamma, alpha, label_smoothing), --optimizer.NAME and "
        "--loss-weights.OUTPUT, such as --model.num_bricks 4 --loss.gamma 2 --model.aux_heads 2 3.",
    )
    parser.open_groups, parser.several = OPEN_GROUPS, several
    add_settings(group, SETTINGS, several=several)
