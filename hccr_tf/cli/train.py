"""`hccr train`, `sweep` and `import`: commands that make runs."""

from functools import partial

from hccr_tf.cli.flags import add_recipe_settings, argument, command, recipe_settings
from hccr_tf.papers.recipes import get_recipe, list_recipes
from hccr_tf.recipe import Recipe
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError

_RECIPE = argument("recipe", choices=list_recipes(), metavar="RECIPE", help="of `hccr list`")
_SHARED = (
    argument("--data", required=True, help="store of `hccr data prepare`"),
    argument(
        "--workdir",
        required=True,
        help="folder for all the run makes; one that holds an unfinished run goes on",
    ),
    argument(
        "--init-from",
        metavar="RUN",
        help="start from this run's best weights, or from the package's own (recogniser); where "
        "its charset differs, only rows of characters that both know are taken over",
    ),
    argument(
        "--checkpoint-minutes",
        type=float,
        default=10.0,
        help="save within an epoch so often (default 10)",
    ),
    argument("--checkpoint-steps", type=int, help="save after so many steps of an epoch, too"),
    argument(
        "--charset",
        metavar="NAME|FILE",
        help="classes in place of the store's own, whose characters it must cover: gb2312-1, "
        "gb2312, chinese-mnist, a charset file, a run or a store",
    ),
)
RUN_ARGUMENTS = (
    *_SHARED,
    argument("--steps", type=int, help="length in steps, in place of --epochs"),
    add_recipe_settings,
)


@command("train", "train a recipe, or go on with a run", _RECIPE, *RUN_ARGUMENTS)
def run_train(options) -> None:
    r"""Trains a recipe's network on a store. A GPU is used without a flag.

    Best weights are those of the epoch with the best validation accuracy of the main
    output. Started again with the same command, a run that was stopped or killed goes on
    from its last checkpoint. The workdir then holds history.csv, curves.png, TensorBoard
    events and the weights.

    Example:
      hccr train kriuk_model1 --data store --workdir runs/model1 \
          --image-size 64 --model.num_bricks 4
    """
    settings = recipe_settings(options)
    recipe = _overridden(options, settings)

    from hccr_tf.data.dataset import open_dataset
    from hccr_tf.data.loading.loader import Loader

    store = open_dataset(options.data)
    if options.steps is not None:
        if options.steps < 1 or "epochs" in settings:
            raise HccrError("--steps is at least 1 and stands in place of --epochs.")
        reader = Loader(
            store,
            "train",
            recipe.preprocessing,
            recipe.batch_size,
            per_class=recipe.samples_per_class,
            seed=recipe.seed,
        )
        recipe = recipe.override(epochs=-(-options.steps // reader.steps_per_epoch))

    backend.start()
    from hccr_tf.training import train

    workdir = train(recipe, store, options.workdir, **_circumstances(options))
    run = workdir.read_run()
    print(
        f"best epoch {run['best_epoch']}: validation accuracy "
        f"{100 * run['best_val_accuracy']:.2f} %; all of it in {workdir.path}"
    )


def _overridden(options, settings) -> Recipe:
    if options.init_from is not None and settings.get("weights") is not None:
        raise HccrError("A run begins with --init-from or with --weights, not with both.")
    return get_recipe(options.recipe).override(settings)


def _circumstances(options) -> dict:
    """What `train` takes besides recipe, store and folder."""
    from hccr_tf.charset import Charset
    from hccr_tf.training.checkpoints import CheckpointInterval

    return {
        "init_from": options.init_from,
        "charset": None if options.charset is None else Charset.open(options.charset),
        "checkpoints": CheckpointInterval(options.checkpoint_minutes, options.checkpoint_steps),
    }


@command(
    "sweep",
    "train a recipe for every combination of settings",
    _RECIPE,
    *_SHARED,
    partial(add_recipe_settings, several=True),
    argument("--split", help="evaluate each run on it besides, such as test (default: none)"),
)
def run_sweep(options) -> None:
    r"""Trains a recipe once for every combination of some settings' values.

    Settings are those of `hccr train`, with one value for all runs or several to try; a list is
    one value in brackets ([2,3]). Each combination is a run in a folder of its own below
    --workdir. DIR/sweep.csv says how each ended, and DIR/sweep.png shows the grid, with the mean
    over seeds where --seed has several. Given again, the command goes on where it was.

    Example:
      hccr sweep inception_v3_gru --data store --workdir runs/grid --epochs 3 \
          --learning-rate 1e-4 2e-4 1e-3 --batch-size 10 20 40
    """
    settings = recipe_settings(options, several=True)
    grid = {name: values for name, values in settings.items() if len(values) > 1}
    if not grid:
        raise HccrError("Give at least one setting several values: --seed 1 2 3.")
    shared = {name: value for name, (value, *more) in settings.items() if not more}
    recipe = _overridden(options, shared)

    from hccr_tf.data.dataset import open_dataset

    store = open_dataset(options.data)
    backend.start()
    from hccr_tf.papers.sweep import sweep

    table = sweep(
        recipe, grid, store, options.workdir, split=options.split, **_circumstances(options)
    )
    print(table.to_string(index=False, na_rep=""))
    print(f"all of it in {options.workdir}: sweep.csv, sweep.png, a folder a run")


@command(
    "import",
    "make a run of published weights",
    argument("weights", help="HDF5 file of Keras 2, such as Melnyk-Net.hdf5"),
    argument(
        "--recipe",
        default="melnyk_c",
        choices=list_recipes(),
        metavar="RECIPE",
        help="of the network and its input (default: melnyk_c)",
    ),
    argument(
        "--charset",
        required=True,
        metavar="NAME|FILE",
        help="the file's classes in its own order: label2tagcode.npy beside the published "
        "weights, a .txt of the characters, gb2312-1, a charset file, a run or a store",
    ),
    argument("--workdir", required=True, help="folder of the new run"),
)
def run_import(options) -> None:
    """Makes a run of weights that were trained elsewhere with Keras 2.

    Weights are matched to the recipe's network by order and shape. The run is taken by
    `hccr evaluate`, `hccr cam` and `hccr train --init-from`; nothing in the file is executed.

    Example:
      hccr import Melnyk-Net.hdf5 --charset label2tagcode.npy --workdir runs/published
    """
    backend.start()
    from hccr_tf.charset import Charset
    from hccr_tf.papers.melnyk_2018.importing import import_keras2

    workdir = import_keras2(
        options.weights, get_recipe(options.recipe), Charset.open(options.charset), options.workdir
    )
    print(f"{options.weights} as a run of {options.recipe} in {workdir.path}")
