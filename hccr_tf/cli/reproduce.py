"""`hccr reproduce` and `report`: the papers' tables and figures."""

import sys
from pathlib import Path

from hccr_tf.cli.flags import argument, command
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError


@command(
    "reproduce",
    "make a table or figure of a paper",
    argument("name", nargs="?", help="of --list; all for every one that has a plan"),
    argument("--list", action="store_true", help="list what there is"),
    argument("--data", metavar="STORE", help="store of `hccr data prepare`"),
    argument("--test-data", metavar="STORE", help="another store to test on (default: --data)"),
    argument("--split", default="test", help="to test on (default test)"),
    argument(
        "--workdir",
        nargs="+",
        metavar="RUN",
        default=[],
        help="trained runs, a row each, in place of those of --scale",
    ),
    argument(
        "--scale",
        choices=["full", "hwdb100", "real-small", "smoke"],
        help="train what's missing: full (the paper's size and epochs), hwdb100 (100 HWDB classes, "
        "days of CPU), real-small (real data, hours), smoke (the embedded sample, which needs no "
        "--data; seconds)",
    ),
    argument("--only", nargs="+", metavar="CELL", help="train these runs of --scale"),
    argument("--collect", action="store_true", help="train nothing; tabulate what there is"),
    argument(
        "--out",
        help="folder for the results (default: results/NAME, with --scale results/SCALE/NAME)",
    ),
    argument(
        "--runs",
        metavar="DIR",
        help="folder of the runs of --scale, which tables share (default: runs beside OUT)",
    ),
)
def run_reproduce(options) -> None:
    """Makes a table or figure of a paper, ours beside the paper's own numbers.

    Either of runs that are trained (--workdir), or of all it needs at a scale (--scale): these
    are trained once for all tables, and a killed command goes on where it was when it's given
    again.
    Writes each table as CSV, images where the paper has them, and cells.csv: what was
    trained by which command, and what was not run. Logits are kept in OUT/logits, and those of
    the same weights and data aren't predicted again. `hccr report` makes a page of it all.

    Examples:
      hccr reproduce --list
      hccr reproduce melnyk_table2 --data icdar --workdir runs/a runs/b runs/c
      hccr reproduce kriuk_figure8 --data store --scale real-small
      hccr reproduce all --scale smoke
    """
    if not options.list and not options.name:
        raise HccrError("Name what to make (`hccr reproduce --list`).")
    if not options.list and not options.data and options.scale != "smoke":
        raise HccrError("Name the --data to make it of (only --scale smoke brings its own).")
    if not options.list and options.workdir and options.scale:
        raise HccrError("Take either --workdir or --scale.")
    if not options.scale and (options.only or options.collect or options.runs):
        raise HccrError("--only, --collect and --runs go with --scale.")
    backend.start()
    from hccr_tf.papers.base import EXPERIMENTS

    experiments = [EXPERIMENTS[name] for name in sorted(EXPERIMENTS)]
    if options.list:
        for experiment in experiments:
            scales = f" [{', '.join(experiment.scales)}]" if experiment.scales else ""
            print(f"  {experiment.name:<22} {experiment.description}{scales}")
        return
    if options.name != "all":
        _reproduce(options, options.name, options.out, options.only)
        return
    if not options.scale:
        raise HccrError("all takes a --scale.")
    plans = {e.name: e.cells(options.scale) for e in experiments if options.scale in e.scales}
    names = {name: [cell.name for cell in cells] for name, cells in plans.items()}
    known = sorted({cell for cells in names.values() for cell in cells})
    if unknown := sorted(set(options.only or ()) - set(known)):
        raise HccrError(f"There are no cells {unknown}; there are {', '.join(known)}.")
    base, failed = Path(options.out or Path("results") / options.scale), []
    for name, cells in names.items():
        print(f"=== {name} ===", flush=True)
        only = options.only and [cell for cell in options.only if cell in cells]
        try:
            _reproduce(options, name, base / name, only)
        except (HccrError, OSError) as error:
            # One that needs what isn't there, such as ImageNet weights, leaves the others be.
            print(f"error: {error}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise HccrError(f"{', '.join(failed)} failed as said above; the others are made.")


def _reproduce(options, name, out, only) -> None:
    from hccr_tf.papers.base import reproduce

    tables = reproduce(
        name,
        data=options.data,
        scale=options.scale,
        workdir=options.workdir,
        out=out,
        test_data=options.test_data,
        split=options.split,
        only=[] if options.collect else only,
        runs=options.runs,
    )
    if not tables:
        print(f"{name}: nothing is trained yet.")
    for path, table in tables.items():
        shown = table.drop(columns=["train_command", "hardware"], errors="ignore")
        history = path.stem == f"{name}_history"
        print(
            path,
            "" if history else shown.to_string(index=False, na_rep="", max_rows=40),
            "",
            sep="\n",
        )


@command(
    "report",
    "make a page of all tables and figures",
    argument("folder", metavar="DIR", help="folder with results of `hccr reproduce`"),
    argument("--out", help="page to write (default: DIR/report.html)"),
)
def run_report(options) -> None:
    """Makes one HTML page of all results below a folder: tables, images, what was not run.

    The page stands alone: images are in it, and characters are drawn where no font has them.

    Example:
      hccr report results/smoke
    """
    from hccr_tf.papers.report import write_report

    out = Path(options.out or Path(options.folder) / "report.html")
    number = write_report(Path(options.folder), out)
    print(f"{number} tables and figures in {out}")
