"""Commands with their arguments, and flags generated from settings.

Flags of settings have type and help from a dataclass; of groups whose names aren't known before,
such as a network's arguments, any --GROUP.NAME is taken.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hccr_tf.recipe import OPEN_GROUPS, SETTINGS, flag
from hccr_tf.utils.settings import Setting, from_words, parse_literal

Argument = Callable[["Parser"], Any]
"""Adds an argument, or several, to a parser."""


@dataclass
class Command:
    """A command of `hccr`: the function that runs it teaches in its docstring."""

    help: str
    run: Callable[[argparse.Namespace], None]
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

    def register(run: Callable[[argparse.Namespace], None]):
        COMMANDS[name] = Command(help, run, arguments)
        return run

    return register


def argument(*names: str, **options) -> Argument:
    """Describes an argument, as `ArgumentParser.add_argument` takes it."""
    return lambda parser: parser.add_argument(*names, **options)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that also takes --GROUP.NAME VALUE… for any NAME of `open_groups`."""

    open_groups: Collection[str] = ()

    def __init__(self, *arguments, **options):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(*arguments, formatter_class=formatter, **options)
        self._added: set[str] = set()

    def parse_known_args(self, args=None, namespace=None):
        """Adds the flags of open groups that are there, and parses."""
        args = list(sys.argv[1:] if args is None else args)
        for word in dict.fromkeys(word.partition("=")[0] for word in args):
            group, dot, _ = word.removeprefix("--").replace("-", "_").partition(".")
            if word.startswith("--") and dot and group in self.open_groups:
                name = f"{group}.{word.partition('.')[2]}"
                options = {"nargs": "+", "type": parse_literal, "default": argparse.SUPPRESS}
                if word not in self._added:
                    self.add_argument(word, dest=name, **options)
                    self._added.add(word)
        return super().parse_known_args(args, namespace)


def add_settings(
    parser, settings: Mapping[str, Setting], prefix: str = "", several: bool = False
) -> None:
    """Adds a flag for each setting.

    Args:
        parser: a parser or a group of its arguments.
        settings: by name.
        prefix: of the flags' names.
        several: whether a flag takes several values.
    """
    for name, setting in settings.items():
        options: dict[str, Any] = {"help": setting.help.replace("%", "%%")}
        if several:
            options |= {"type": _reader(setting), "nargs": "+"}
        elif setting.kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _reader(setting)
        options |= {"default": argparse.SUPPRESS, "dest": prefix + name}
        if options.get("action") is None:
            options["metavar"] = name.rpartition(".")[2].upper()
        parser.add_argument(flag(prefix + name), **options)


def add_recipe_settings(parser: Parser, several: bool = False) -> None:
    """Adds the flags of a recipe's settings."""
    group = parser.add_argument_group(
        "settings of the recipe (default: the recipe's)",
        "Besides these: --model.NAME for arguments of the network (`hccr model NETWORK` lists "
        "them), --loss.NAME (gamma, alpha, label_smoothing), --optimizer.NAME and "
        "--loss-weights.OUTPUT, such as --model.num_bricks 4 --loss.gamma 2 --model.aux_heads 2 3.",
    )
    parser.open_groups = OPEN_GROUPS
    add_settings(group, SETTINGS, several=several)


def recipe_settings(options: argparse.Namespace, several: bool = False) -> dict[str, Any]:
    """Returns settings by name, in the order given; of `several` the list of each one's values."""
    opened = open_settings(options, OPEN_GROUPS)
    return {
        name: from_words(value) if name in opened and not several else value
        for name, value in vars(options).items()
        if name in SETTINGS or name in opened
    }


def open_settings(options: argparse.Namespace, groups: Collection[str]) -> dict[str, list[Any]]:
    """Returns the values behind each --GROUP.NAME that was given."""
    return {
        name: words
        for name, words in vars(options).items()
        if "." in name and name.partition(".")[0] in groups
    }


def _reader(setting: Setting) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return setting.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read
