"""`hccr list`, `model`, `runs` and `reproduce`: what there is, and how it compares."""

from pathlib import Path

from hccr_tf import backend
from hccr_tf.commands.settings import parse_settings
from hccr_tf.recipes import get_recipe, list_recipes


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
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an argument of the model"
    )
    parser.add_argument(
        "--training", action="store_true", help="with the heads that only training uses"
    )


def run_model(options) -> None:
    """Prints a network's layers with output shape, parameters and multiply–accumulates.

    Counted are convolutions, dense layers and the matrices of recurrent ones, once for one
    picture; biases, normalisation, activation and pooling aren't.

    Examples:
      hccr model melnyk_net_c --image-size 96 --num-classes 3755
      hccr model brick_net --set num_bricks=4 --training
    """
    backend.start()
    from hccr_tf.complexity import cost_table
    from hccr_tf.models import blueprint, model_arguments

    arguments = parse_settings(options.set)
    unknown = sorted(set(arguments) - set(model_arguments(options.model)))
    if unknown:
        known = ", ".join(model_arguments(options.model))
        raise ValueError(f"{options.model} has no argument {unknown}; it has {known}.")
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
    parser.add_argument(
        "--out", help="picture of the compared curves (default: DIR/compared.png)"
    )


def run_runs(options) -> None:
    """Lists the runs below a folder with their state and best result, or compares two.

    A comparison says which settings, data and versions differ and draws the curves of the
    two over each other.

    Examples:
      hccr runs runs
      hccr runs runs --compare model1 model2
    """
    from hccr_tf.runs import compare, runs_table

    folder = Path(options.folder)
    if options.compare is None:
        print(runs_table(folder).to_string(index=False))
        return
    first, second = (folder / name for name in options.compare)
    print("\n".join(compare(first, second, Path(options.out or folder / "compared.png"))))


def reproduce_arguments(parser) -> None:
    parser.add_argument("name", nargs="?", help="of --list")
    parser.add_argument("--list", action="store_true", help="list what there is")
    parser.add_argument("--data", metavar="STORE", help="store of `hccr data prepare`")
    parser.add_argument("--split", default="test", help="of the store (default test)")
    parser.add_argument(
        "--workdir", nargs="+", metavar="RUN", default=[], help="trained runs, a row each"
    )
    parser.add_argument("--out", help="folder for the results (default: results/NAME)")


def run_reproduce(options) -> None:
    """Makes a table or figure of a paper from trained runs, beside the paper's own numbers.

    Writes each table as CSV, and pictures where the paper has them. Logits are kept in
    OUT/logits, and those of the same weights and data aren't predicted again.

    Examples:
      hccr reproduce --list
      hccr reproduce melnyk_table2 --data store --workdir runs/a runs/b runs/c
    """
    if not options.list and (not options.name or not options.data):
        raise ValueError("Name what to make (`hccr reproduce --list`), and --data.")
    backend.start()
    from hccr_tf.experiments import Inputs, get_experiment, list_experiments

    if options.list:
        for name in list_experiments():
            print(f"  {name:<22} {get_experiment(name).description}")
        return
    from hccr_tf.data.store import Store
    from hccr_tf.files import atomic_write

    experiment = get_experiment(options.name)
    out = Path(options.out or Path("results") / experiment.name)
    out.mkdir(parents=True, exist_ok=True)
    runs = [Path(path) for path in options.workdir]
    tables = experiment.run(Inputs(Store(options.data), options.split, runs, out))
    for name, table in tables.items():
        path = out / f"{experiment.name}_{name}.csv"
        with atomic_write(path) as temporary:
            table.to_csv(temporary, index=False)
        shown = table.drop(columns=["train_command", "hardware"], errors="ignore")
        text = shown.to_string(index=False, na_rep="")
        print(f"{path}\n{text}\n")
