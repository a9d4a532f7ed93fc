"""Commands as documents show them, run in the test's process."""

import glob
import re
import runpy
import shlex
import sys
from pathlib import Path

from hccr_tf.cli.main import main

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.M | re.S)


def blocks(text: str, *languages: str) -> list[str]:
    """Code of a Markdown text in some languages; "" is a block that names none."""
    return [code for _, language, code in _BLOCK.findall(text) if language in languages]


def lines(code: str) -> list[str]:
    """Commands, a line each: comments left out, continued lines joined."""
    joined = code.replace("\\\n", " ").splitlines()
    bare = [re.sub(r"(^|\s)#.*", "", line).strip() for line in joined]
    return [" ".join(line.split()) for line in bare if line]


def run(line: str) -> int:
    """Runs `hccr …` or `python SCRIPT …` in this process; returns its exit code."""
    words = []
    for word in shlex.split(line):
        words += sorted(glob.glob(word)) or [word]
    if words[0] == "hccr":
        return main(words[1:])
    arguments, sys.argv = sys.argv, words[1:]
    try:
        sys.path.insert(0, str((ROOT / words[1]).parent))  # as `python` does
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = arguments
        sys.path.remove(str((ROOT / words[1]).parent))
    return 0
