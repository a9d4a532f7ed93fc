"""The command `hccr`, and the same functions as the scripts of trainers/ and predictors/."""

import os
import sys
from collections.abc import Sequence

from hccr_tf.utils.errors import HccrError, missing_extra
from hccr_tf.utils.terminal import escape_output, print_logs, printable

_DONE, _ERROR, _INTERRUPTED, _UNREAD = 0, 2, 130, 141  # SIGTERM's 143 is `signals.Interrupted`'s


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hccr` and returns its exit code."""
    return _run("hccr_parser", arguments=arguments)


def train_main(recipe: str, description: str) -> int:
    """A trainer script: `hccr train` with its recipe as the default."""
    return _run("train_parser", recipe, description)


def predict_main(description: str) -> int:
    """A predictor script: `hccr evaluate` with the run as --workdir."""
    return _run("predict_parser", description)


def fuse_main(description: str) -> int:
    """The finalizer script: `hccr fuse`."""
    return _run("fuse_parser", description)


def _run(parser: str, *about: str, arguments: Sequence[str] | None = None) -> int:
    """Runs what the parser of a name reads from arguments; `about` is what it takes."""
    escape_output()
    try:
        # With it come all commands, and NumPy: here Ctrl-C is caught.
        from hccr_tf.cli import parsers

        try:
            options = vars(getattr(parsers, parser)(*about).parse_args(arguments))
            print_logs()
            options.pop("function")(**options)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What's left to be printed goes nowhere, or Python would fail at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD
    except (HccrError, OSError, ImportError, MemoryError) as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # in a library's own import
            return _interrupted(error.__cause__)
        told = None if isinstance(error, ImportError) else error
        if isinstance(error, ModuleNotFoundError):
            told = missing_extra(error)
        if isinstance(error, MemoryError):
            told = HccrError(f"There is too little memory. {error}".strip())
        if told is None or os.environ.get("HCCR_DEBUG"):
            raise
        print(f"error: {printable(str(told), lines=True)}", file=sys.stderr)
        print("(HCCR_DEBUG=1 shows where it was raised.)", file=sys.stderr)
        return _ERROR
    except KeyboardInterrupt as interrupted:
        return _interrupted(interrupted)
    return _DONE


def _interrupted(by: BaseException) -> int:
    # Training says where it was saved.
    print(f"\n{str(by) or 'Interrupted. The same command goes on where it can.'}", file=sys.stderr)
    return getattr(by, "exit_code", _INTERRUPTED)


def command() -> None:
    """Entry point of the console command."""
    sys.exit(main())
