"""`hccr reproduce` and `report`: the papers' tables and figures."""

import sys
import tempfile
import time
from pathlib import Path

from hccr_tf.cli.flags import JOBS, argument, command, group, switch
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError, unknown


@command(
    "reproduce",
    "make a table or figure of a paper",
    argument("name", "of --list; all for every one that has a plan", nargs="?"),
    argument("--list", "list what there is", action="store_true", dest="listed"),
    argument("--data", "store of `hccr data prepare`", metavar="STORE"),
    argument("--test-data", "another store to test on (default: --data)", metavar="STORE"),
    argument("--split", "to test on", default="test"),
    argument("--out", "folder for the results (default: results/NAME, or results/SCALE/NAME)"),
    argument("--workdir", "trained runs, a row each", nargs="+", metavar="RUN", default=[]),
    group(
        "trainings, in place of --workdir",
        argument(
            "--scale",
            "train what's missing: full (the paper's size and epochs), hwdb100 (100 HWDB classes, "
            "days of CPU), real-small (real data, hours), smoke (the embedded sample, which needs "
            "no --data; minutes for all)",
            choices=["full", "hwdb100", "real-small", "smoke"],
        ),
        argument("--only", "train these runs of --scale", nargs="+", metavar="CELL"),
        switch("--collect", "train nothing; tabulate what there is"),
        switch("--dry-run", "say which runs are missing and what they take here; train nothing"),
        argument(
            "--runs",
            "folder of the runs, which tables share (default: results/SCALE/runs, or runs beside "
            "--out)",
            metavar="DIR",
        ),
    ),
    JOBS,
)
def run_reproduce(name, listed, only, collect, dry_run, out, jobs, ray, cpus, **options) -> None:
    r"""Makes a table or figure of a paper, ours beside the paper's own numbers.

    Either of runs that are trained (--workdir), or of all it needs at a scale (--scale): these
    are trained once for all tables, and a killed command goes on where it was when it's given
    again.
    Writes each table as CSV, images where the paper has them, and cells.csv: what was
    trained by which command, and what was not run. Logits are kept in OUT/logits, and those of
    the same weights and data aren't predicted again. `hccr report` makes a page of it all.

    Examples:
      hccr reproduce kriuk_table1 --data runs/demo/store \
          --workdir runs/demo/model1 runs/demo/model2 runs/demo/model3
      hccr reproduce --list
      hccr reproduce kriuk_figure8 --data store --scale real-small
      hccr reproduce kriuk_table1 --data store --scale full --dry-run
      hccr reproduce all --scale smoke
    """
    scale = options["scale"]
    if not listed:
        if not name:
            raise HccrError("Name what to make (`hccr reproduce --list`).")
        if not options["data"] and scale != "smoke":
            raise HccrError("Name the --data to make it of (only --scale smoke brings its own).")
        if options["workdir"] and scale:
            raise HccrError("Take either --workdir or --scale.")
        if not scale and (name == "all" or only or collect or dry_run or options["runs"]):
            raise HccrError("all, --only, --collect, --dry-run and --runs go with --scale.")
    backend.start()
    from hccr_tf.papers.base import EXPERIMENTS, is_trained
    from hccr_tf.papers.jobs import Jobs
    from hccr_tf.papers.report import reading_order

    options["jobs"] = Jobs(jobs, ray, cpus)
    ordered = {key: EXPERIMENTS[key] for key in sorted(EXPERIMENTS, key=reading_order)}
    if listed:
        for key, experiment in ordered.items():
            scales = f" [{', '.join(experiment.scales)}]" if experiment.scales else ""
            print(f"  {key:<22} {experiment.description}{scales}")
    elif name == "all" or dry_run:
        made = {n: e for n, e in ordered.items() if scale in e.scales}
        made = made if name == "all" else {name: EXPERIMENTS[name]}
        plans = {key: experiment.cells(scale) for key, experiment in made.items()}
        cells = {cell.name: cell for plan in plans.values() for cell in plan}
        for cell in set(only or ()) - set(cells):
            raise unknown("cell", cell, sorted(cells))
        base = Path(out or Path("results", scale, "" if name == "all" else name))
        folder = Path(options["runs"] or (base if name == "all" else base.parent) / "runs")
        if dry_run:
            return _forecast([cells[cell] for cell in only or cells], folder, options["data"])
        failed, begun = [], time.monotonic()
        waiting = [] if collect else [c for c in only or cells if not is_trained(folder, c)]
        for number, (key, plan) in enumerate(plans.items(), 1):
            left = sum(not is_trained(folder, cell) for cell in waiting)
            took = _minutes(time.monotonic() - begun, len(waiting) - left, left)
            print(
                f"=== {key} ({number} of {len(plans)}; {left} runs to train{took}) ===", flush=True
            )
            some = [] if collect else only and [c.name for c in plan if c.name in only]
            try:
                _reproduce(key, out=base / key, only=some, **options)
            except (HccrError, OSError) as error:
                # One that needs what isn't there, such as ImageNet weights, leaves the others be.
                print(f"error: {error}", file=sys.stderr)
                failed.append(key)
        if failed:
            raise HccrError(f"{', '.join(failed)} failed as said above; the others are made.")
    else:
        _reproduce(name, out=out, only=[] if collect else only, **options)


def _forecast(cells, folder, data) -> None:
    from hccr_tf.data.opening import open_dataset
    from hccr_tf.papers.base import sample_store
    from hccr_tf.papers.forecast import describe, forecast

    with tempfile.TemporaryDirectory() as sample:
        table = forecast(cells, open_dataset(data) if data else sample_store(Path(sample)), folder)
    if len(table):
        print(table.drop(columns="seconds", errors="ignore").to_string(index=False, na_rep=""))
    print(describe(table, folder))


def _minutes(seconds: float, done: int, left: int) -> str:
    """Says how long the runs that are left will take, at the pace of those that are done."""
    if not (done and left):
        return ""
    return f", about {max(1, round(seconds / done * left / 60))} minutes at the pace so far"


def _reproduce(name, **options) -> None:
    from hccr_tf.papers.base import reproduce

    tables = reproduce(name, **options)
    if not tables:
        print(f"{name}: nothing is trained yet.")
    for path, table in tables.items():
        print(path)
        if path.stem != f"{name}_history":
            shown = table.drop(columns=["train_command", "hardware"], errors="ignore")
            print(shown.to_string(index=False, na_rep="", max_rows=40))
        print()


@command(
    "report",
    "make a page of all tables and figures",
    argument("folder", "folder with results of `hccr reproduce`", type=Path, metavar="DIR"),
    argument("--out", "page to write (default: DIR/report.html)", type=Path),
)
def run_report(folder, out) -> None:
    """Makes one HTML page of all results below a folder: tables, images, what was not run.

    The page stands alone: images are in it, and characters are drawn where no font has them.

    Example:
      hccr reproduce kriuk_figures4to6 --data runs/demo/store
      hccr report results
    """
    from hccr_tf.papers.report import write_report

    out = out or folder / "report.html"
    print(f"{write_report(folder, out)} tables and figures in {out}")
