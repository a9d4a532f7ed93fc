"""`hccr list`, `model`, `runs` and `reproduce`: what there is, and how it compares."""

import sys
from pathlib import Path

from hccr_tf.cli.flags import open_settings
from hccr_tf.papers.recipes import get_recipe, list_recipes
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.settings import from_words


def run_list(options) -> None:
    """Lists the registered models with their own arguments, and the recipes."""
    backend.start()
    from hccr_tf.models import list_families, list_models, model_arguments, model_description

    print("models:")
    for name in [*list_models(), *list_families()]:
        arguments = ", ".join(f"{k}={v!r}" for k, v in model_arguments(name).items())
        shown = f"{name}:NAME" if name in list_families() else name
        print(f"  {shown}({arguments})\n      {model_description(name)}")
    print("recipes:")
    for name in list_recipes():
        print(f"  {name:<22} {get_recipe(name).description}")


def model_arguments(parser) -> None:
    parser.add_argument("model", help="of `hccr list`")
    parser.add_argument("--num-classes", type=int, default=3755, help="(default 3755)")
    parser.add_argument(
        "--image-size", type=int, help="side of the input, pixels (default: the paper's)"
    )
    parser.open_groups = ("model",)
    parser.add_argument(
        "--training", action="store_true", help="with the heads that only training uses"
    )


def run_model(options) -> None:
    """Prints a network's layers with output shape, parameters and multiply–accumulates.

    --model.NAME VALUE sets an argument of the network; a wrong NAME lists those that there are.
    Counted are convolutions, dense layers and the matrices of recurrent ones, once for one
    image; biases, normalisation, activation and pooling aren't.

    Examples:
      hccr model melnyk_net_c --image-size 96 --num-classes 3755
      hccr model brick_net --model.num_bricks 4 --training
    """
    backend.start()
    from hccr_tf.evaluation.complexity import cost_table
    from hccr_tf.models import blueprint, model_arguments

    arguments = {
        name.partition(".")[2]: from_words(words)
        for name, words in open_settings(options, ("model",)).items()
    }
    unknown = sorted(set(arguments) - set(model_arguments(options.model)))
    if unknown:
        known = ", ".join(model_arguments(options.model))
        raise HccrError(f"{options.model} has no argument {unknown}; it has {known}.")
    size = options.image_size
    model = blueprint(
        options.model,
        num_classes=options.num_classes,
        image_shape=None if size is None else (size, size, 1),
        aux_outputs=options.training,
        **arguments,
    )
    print(cost_table(model))


def runs_arguments(parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder with runs at any depth")
    parser.add_argument(
        "--compare", nargs=2, metavar="RUN", help="two runs, by their names in the list"
    )
    parser.add_argument("--out", help="image of the compared curves (default: DIR/compared.png)")


def run_runs(options) -> None:
    """Lists the runs below a folder with their state and best result, or compares two.

    A comparison says which settings, data and versions differ and draws the curves of the
    two over each other.

    Examples:
      hccr runs runs
      hccr runs runs --compare model1 model2
    """
    from hccr_tf.runs.listing import compare, runs_table

    folder = Path(options.folder)
    if options.compare is None:
        print(runs_table(folder).to_string(index=False))
        return
    first, second = (folder / name for name in options.compare)
    print("\n".join(compare(first, second, Path(options.out or folder / "compared.png"))))


def reproduce_arguments(parser) -> None:
    parser.add_argument("name", nargs="?", help="of --list; all for every one that has a plan")
    parser.add_argument("--list", action="store_true", help="list what there is")
    parser.add_argument("--data", metavar="STORE", help="store of `hccr data prepare`")
    parser.add_argument(
        "--test-data", metavar="STORE", help="another store to test on (default: --data)"
    )
    parser.add_argument("--split", default="test", help="to test on (default test)")
    parser.add_argument(
        "--workdir",
        nargs="+",
        metavar="RUN",
        default=[],
        help="trained runs, a row each, in place of those of --scale",
    )
    parser.add_argument(
        "--scale",
        choices=["full", "hwdb100", "real-small", "smoke"],
        help="train what's missing: full (the paper's size and epochs), hwdb100 (100 HWDB classes, "
        "days of CPU), real-small (real data, hours), smoke (the embedded sample, which needs no "
        "--data; seconds)",
    )
    parser.add_argument("--only", nargs="+", metavar="CELL", help="train these runs of --scale")
    parser.add_argument(
        "--collect", action="store_true", help="train nothing; tabulate what there is"
    )
    parser.add_argument(
        "--out",
        help="folder for the results (default: results/NAME, with --scale results/SCALE/NAME)",
    )
    parser.add_argument(
        "--runs",
        metavar="DIR",
        help="folder of the runs of --scale, which tables share (default: runs beside OUT)",
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


def report_arguments(parser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder with results of `hccr reproduce`")
    parser.add_argument("--out", help="page to write (default: DIR/report.html)")


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
