"""`hccr list`, `model`, `runs`: networks, recipes and runs that there are."""

from pathlib import Path

from hccr_tf.cli.flags import argument, command, open_settings
from hccr_tf.papers.recipes import get_recipe, list_recipes
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.settings import from_words


@command("list", "list models and recipes")
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


@command(
    "model",
    "print a network's layers and cost",
    argument("model", help="of `hccr list`"),
    argument("--num-classes", type=int, default=3755, help="(default 3755)"),
    argument("--image-size", type=int, help="side of the input, pixels (default: the paper's)"),
    lambda parser: setattr(parser, "open_groups", ("model",)),
    argument("--training", action="store_true", help="with the heads that only training uses"),
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


@command(
    "runs",
    "list runs, or compare two",
    argument("folder", metavar="DIR", help="folder with runs at any depth"),
    argument("--compare", nargs=2, metavar="RUN", help="two runs, by their names in the list"),
    argument("--out", help="image of the compared curves (default: DIR/compared.png)"),
)
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
