"""Kriuk & Kriuk 2024 at the scale "real-small": every table and sweep on real data, in CPU hours.

  .venv/bin/python benchmarks/real_small.py --data STORE --runs runs/real-small

Trains what isn't trained yet (`hccr reproduce NAME --scale real-small`, the runs shared) and copies
tables and figures to results/real-small, where the notebooks find them; logits stay behind, and
images of the data set's characters too. --collect trains none.
"""

import argparse
import shutil
from pathlib import Path

from real_runs import RESULTS, hccr

NAMES = (
    "kriuk_table1",
    "kriuk_table2",
    "kriuk_figures4to6",
    "kriuk_figure7",
    "kriuk_figure8",
    "kriuk_figure9",
    "kriuk_losses_and_heads",
    "kriuk_blur",
)
_SHOWS_CHARACTERS = ("kriuk_figures4to6.png",)  # HWDB's images may not be passed on


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="store of 100 HWDB classes")
    parser.add_argument("--runs", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--collect", action="store_true", help="only predict and tabulate")
    options = parser.parse_args()
    for name in options.names:
        out = options.runs / "out" / name
        arguments = ["--data", options.data, "--runs", options.runs / "runs", "--out", out]
        if options.collect:
            arguments.append("--collect")
        hccr("reproduce", name, "--scale", "real-small", *arguments)
        kept = RESULTS / "real-small" / name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for path in sorted(out.iterdir()):
            if path.is_file() and path.name not in _SHOWS_CHARACTERS:
                shutil.copyfile(path, kept / path.name)


if __name__ == "__main__":
    main()
