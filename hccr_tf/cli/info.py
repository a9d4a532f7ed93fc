"""`hccr list`, `model`, `runs`: networks, recipes and runs that there are."""

from pathlib import Path

from hccr_tf.cli.flags import argument, command, switch
from hccr_tf.papers.recipes import get_recipe, list_recipes
from hccr_tf.utils import backend


@command("list", "list models and recipes")
def run_list() -> None:
    """Lists the registered models with their own arguments, and the recipes.

    Example:
      hccr list
    """
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
    argument("model", "of `hccr list`"),
    argument("--num-classes", "of the outputs", default=3755),
    argument("--image-size", "side of the input, pixels (default: the paper's)", type=int),
    switch("--training", "with the heads that only training uses"),
    lambda parser: setattr(parser, "open_groups", ("model",)),
)
def run_model(model, num_classes, image_size, training, **settings) -> None:
    """Prints a network's layers with output shape, parameters and multiply–accumulates.

    --model.NAME VALUE sets an argument of the network; a wrong NAME lists those that there are.
    Counted are convolutions, dense layers and the matrices of recurrent ones, once for one
    image; biases, normalisation, activation and pooling aren't.

    Examples:
      hccr model melnyk_net_c
      hccr model brick_net --model.num_bricks 4 --training
    """
    backend.start()
    from hccr_tf.evaluation.complexity import cost_table
    from hccr_tf.models import blueprint

    arguments = {name.removeprefix("model."): value for name, value in settings.items()}
    shape = None if image_size is None else (image_size, image_size, 1)
    network = blueprint(
        model, num_classes=num_classes, image_shape=shape, aux_outputs=training, **arguments
    )
    print(cost_table(network))


@command(
    "runs",
    "list runs, or compare two",
    argument("folder", "folder with runs at any depth", type=Path, metavar="DIR"),
    argument("--compare", "two runs, by their names in the list", nargs=2, metavar="RUN"),
    argument("--out", "image of the compared curves (default: DIR/compared.png)"),
)
def run_runs(folder, compare, out) -> None:
    """Lists the runs below a folder with their state and best result, or compares two.

    A comparison says which settings, data and versions differ and draws the curves of the
    two over each other.

    Examples:
      hccr runs runs/demo
      hccr runs runs/demo --compare model1 model2
    """
    from hccr_tf.runs import listing

    if compare is None:
        print(listing.runs_table(folder).to_string(index=False))
        return
    first, second = (folder / name for name in compare)
    print("\n".join(listing.compare(first, second, Path(out or folder / "compared.png"))))
