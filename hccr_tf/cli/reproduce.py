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
        choices=["full", "real-small", "smoke"],
        help="train what's missing: full (the paper's size and epochs), real-small (real data, "
        "hours of CPU), smoke (the embedded sample, which needs no --data; seconds)",
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
    from hccr_tf.papers.base import get_experiment, list_experiments

    if options.list:
        for name in list_experiments():
            experiment = get_experiment(name)
            scales = " [--scale]" if experiment.plan else ""
            print(f"  {name:<22} {experiment.description}{scales}")
        return
    if options.name != "all":
        _reproduce(get_experiment(options.name), options, options.out)
        return
    if not options.scale:
        raise HccrError("all takes a --scale.")
    base = Path(options.out or Path("results") / options.scale)
    experiments = [get_experiment(name) for name in list_experiments()]
    experiments = [experiment for experiment in experiments if experiment.plan]
    cells = {cell.name for experiment in experiments for cell in experiment.plan(options.scale)}
    if unknown := sorted(set(options.only or ()) - cells):
        raise HccrError(f"There are no cells {unknown}; there are {', '.join(sorted(cells))}.")
    failed = []
    for experiment in experiments:
        print(f"=== {experiment.name} ===", flush=True)
        try:
            _reproduce(experiment, options, base / experiment.name)
        except (ValueError, OSError) as error:
            # One that needs what isn't there, such as ImageNet weights, leaves the others be.
            print(f"error: {error}", file=sys.stderr)
            failed.append(experiment.name)
    if failed:
        raise HccrError(f"{', '.join(failed)} failed as said above; the others are made.")


def _reproduce(experiment, options, out) -> None:
    from hccr_tf.data.store.store import Store
    from hccr_tf.papers.base import Inputs
    from hccr_tf.papers.plans import cells_table, sample_store, train_cells
    from hccr_tf.papers.tables import runs_table
    from hccr_tf.pretrained import find_run
    from hccr_tf.utils.files import atomic_write, write_json

    default = Path("results") / (options.scale or "") / experiment.name
    out = Path(out or default)
    out.mkdir(parents=True, exist_ok=True)
    store = Store(options.data) if options.data else sample_store(out.parent / "sample")
    tested = Store(options.test_data) if options.test_data else store
    tested.indices(options.split)  # says so if there are none, before hours of training
    runs = [find_run(path) for path in options.workdir]
    if options.scale:
        if experiment.plan is None:
            raise HccrError(
                f"{experiment.name} has no plan of what to train; name runs: --workdir RUN…"
            )
        cells = experiment.plan(options.scale)
        folder = Path(options.runs or out.parent / "runs")
        names = {cell.name for cell in cells}
        only = options.only
        if options.name == "all" and only is not None:
            only = [name for name in only if name in names]
        try:
            runs = train_cells(cells, store, folder, only=only, collect=options.collect)
        finally:
            # Also where it's stopped: it says what was not run.
            if cells:
                with atomic_write(out / "cells.csv") as temporary:
                    cells_table(cells, folder).to_csv(temporary, index=False)
        if cells and not runs:
            print(f"{experiment.name}: nothing is trained yet.")
            return
    tables = experiment.run(Inputs(tested, options.split, runs, out, store))
    if runs and "runs" not in tables:
        tables["runs"] = runs_table(runs)
    if options.scale:
        commands = {cell.name: cell.command for cell in cells}
        for table in tables.values():
            if "train_command" in table:  # what makes this run alone
                made = table["run" if "run" in table else "model"].map(commands)
                table["train_command"] = made.fillna(table["train_command"])
    for name, table in tables.items():
        path = out / f"{experiment.name}_{name}.csv"
        with atomic_write(path) as temporary:
            table.to_csv(temporary, index=False)
        shown = table.drop(columns=["train_command", "hardware"], errors="ignore")
        text = "" if name == "history" else shown.to_string(index=False, na_rep="", max_rows=40)
        print(f"{path}\n{text}\n")
    write_json(
        out / "about.json",
        {
            "experiment": experiment.name,
            "description": experiment.description,
            "scale": options.scale,
            "data": tested.path.name,
            "data_hash": tested.data_hash,
            "split": options.split,
            "tables": [f"{experiment.name}_{name}.csv" for name in tables],
        },
    )


@command(
    "report",
    "make a page of all tables and figures",
    argument("folder", metavar="DIR", help="folder with results of `hccr reproduce`"),
    argument("--out", help="page to write (default: DIR/report.html)"),
)
def run_report(options) -> None:
    """Makes one HTML page of all results below a folder: tables, images, what was not run.

    The page stands alone: images are in it, characters are drawn where no font has them, and
    tables are sorted by a click on a column's head.

    Example:
      hccr report results/smoke
    """
    from hccr_tf.papers.report import write_report

    out = Path(options.out or Path(options.folder) / "report.html")
    number = write_report(Path(options.folder), out)
    print(f"{number} tables and figures in {out}")
