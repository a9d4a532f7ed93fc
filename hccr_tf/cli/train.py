"""`hccr train`, `sweep` and `import`: commands that make runs."""

from functools import partial

from hccr_tf.cli.flags import JOBS, add_recipe_settings, argument, command, group, switch
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.recipe import Recipe
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError

_RECIPE = argument("recipe", "of `hccr list`")
_SHARED = (
    argument("--data", "store of `hccr data prepare`", required=True),
    argument("--workdir", "folder of the run; an unfinished one in it goes on", required=True),
    argument(
        "--init-from",
        "start from this run's best weights, from the package's own (recogniser) or from scratch "
        "(none), in place of the recipe's; where its charset differs, only rows of characters that "
        "both know are taken over",
        metavar="RUN",
    ),
    argument(
        "--charset",
        "classes in place of the store's own, whose characters it must cover: gb2312-1, "
        "gb2312, chinese-mnist, a charset file, a run or a store",
        metavar="NAME|FILE",
    ),
    group(
        "checkpoints, from which a stopped run goes on",
        argument("--checkpoint-minutes", "minutes between two", default=10.0, dest="minutes"),
        argument("--checkpoint-steps", "after so many steps, too", type=int, dest="save_steps"),
    ),
)
RUN_ARGUMENTS = (
    *_SHARED,
    argument("--steps", "length in steps, in place of --epochs", type=int),
    argument(
        "--minutes",
        "begin no epoch that would end later (default: no limit)",
        type=float,
        dest="limit",
    ),
    switch("--dry-run", "say what the run takes, by some steps of it, and write nothing"),
    group(
        "one training by several processes, each given the same command, on JAX",
        switch("--distributed", "find the others by Slurm, Open MPI or Kubernetes"),
        argument("--coordinator", "where all of them find process 0", metavar="HOST:PORT"),
        argument("--processes", "how many there are", type=int),
        argument("--process", "which of them this is, from 0", type=int),
    ),
    add_recipe_settings,
)


@command("train", "train a recipe, or go on with a run", _RECIPE, *RUN_ARGUMENTS)
def run_train(
    recipe,
    data,
    workdir,
    steps,
    limit,
    dry_run,
    distributed,
    coordinator,
    processes,
    process,
    init_from,
    charset,
    minutes,
    save_steps,
    **settings,
) -> None:
    r"""Trains a recipe's network on a store. A GPU is used without a flag.

    Best weights are those of the epoch with the best validation accuracy of the main
    output. Started again with the same command, a run that was stopped or killed goes on
    from its last checkpoint. The workdir then holds history.csv, curves.png, TensorBoard
    events and the weights.

    Example:
      hccr train brick_model1 --data runs/demo/store --workdir runs/mine \
          --image-size 32 --model.num_bricks 3 --model.width 16 --epochs 2
    """
    overridden = _override(recipe, settings, init_from)

    from hccr_tf.data.loading.loader import Loader
    from hccr_tf.data.opening import open_dataset

    store = open_dataset(data)
    if steps is not None:
        if steps < 1 or "epochs" in settings:
            raise HccrError("--steps is at least 1 and stands in place of --epochs.")
        size, per_class = overridden.batch_size, overridden.samples_per_class
        read = overridden.preprocessing, size
        loader = Loader(store, "train", *read, per_class=per_class, passes=overridden.passes)
        overridden = overridden.override(epochs=-(-steps // loader.steps_per_epoch))
    joined = distributed or coordinator is not None
    if joined:
        with backend.without_notes():
            from hccr_tf.training.processes import join, leads
        join(coordinator, processes, process)
    backend.start()
    from hccr_tf.training import train

    circumstances = _circumstances(init_from, charset, minutes, save_steps)
    if dry_run:
        from hccr_tf.training import plan

        plan.dry_run(overridden, store, circumstances["charset"])
        return
    trained = train(overridden, store, workdir, minutes=limit, **circumstances)
    if joined and not leads():
        return
    run = trained.read_run()
    print(
        f"best epoch {run['best_epoch']}: validation accuracy "
        f"{100 * run['best_val_accuracy']:.2f} %; all of it in {trained.path}"
    )


def _override(recipe: str, settings: dict, init_from: str | None) -> Recipe:
    if init_from not in (None, "none") and settings.get("weights") is not None:
        raise HccrError("A run begins with --init-from or with --weights, not with both.")
    return get_recipe(recipe).override(settings)


def _circumstances(init_from, charset, minutes, steps) -> dict:
    """What `train` takes besides recipe, store and folder."""
    from hccr_tf.charset import Charset
    from hccr_tf.training.checkpoints import CheckpointInterval

    charset = None if charset is None else Charset.open(charset)
    interval = CheckpointInterval(minutes, steps)
    return {"init_from": init_from, "charset": charset, "checkpoints": interval}


@command(
    "sweep",
    "train a recipe for every combination of settings",
    _RECIPE,
    *_SHARED,
    partial(add_recipe_settings, several=True),
    argument("--split", "evaluate each run on it besides, such as test (default: none)"),
    JOBS,
)
def run_sweep(
    recipe,
    data,
    workdir,
    split,
    init_from,
    charset,
    minutes,
    save_steps,
    jobs,
    ray,
    cpus,
    **settings,
) -> None:
    r"""Trains a recipe once for every combination of some settings' values.

    Settings are those of `hccr train`, with one value for all runs or several to try; a list is
    one value in brackets ([2,3]). Each combination is a run in a folder of its own below
    --workdir. DIR/sweep.csv says how each ended, and DIR/sweep.png shows the grid, with the mean
    over seeds where --seed has several. Given again, the command goes on where it was.

    Example:
      hccr sweep brick_model1 --data runs/demo/store --workdir runs/grid --image-size 16 \
          --model.num_bricks 2 --model.width 16 --epochs 1 --learning-rate 1e-3 5e-3
    """
    grid = {name: values for name, values in settings.items() if len(values) > 1}
    if not grid:
        raise HccrError("Give at least one setting several values: --seed 1 2 3.")
    shared = {name: value for name, (value, *more) in settings.items() if not more}
    overridden = _override(recipe, shared, init_from)

    from hccr_tf.data.opening import open_dataset

    store = open_dataset(data)
    backend.start()
    from hccr_tf.papers.jobs import Jobs
    from hccr_tf.papers.sweep import sweep

    options = _circumstances(init_from, charset, minutes, save_steps)
    options |= {"split": split, "jobs": Jobs(jobs, ray, cpus)}
    table = sweep(overridden, grid, store, workdir, **options)
    print(table.to_string(index=False, na_rep=""))
    print(f"all of it in {workdir}: sweep.csv, sweep.png, a folder a run")


@command(
    "import",
    "make a run of published weights",
    argument("weights", "HDF5 file of Keras 2, such as Melnyk-Net.hdf5"),
    argument("--recipe", "of the network and its input", default="melnyk_c"),
    argument(
        "--charset",
        "the file's classes in its own order: label2tagcode.npy beside the published "
        "weights, a .txt of the characters, gb2312-1, a charset file, a run or a store",
        required=True,
        metavar="NAME|FILE",
    ),
    argument("--workdir", "folder of the new run", required=True),
)
def run_import(weights, recipe, charset, workdir) -> None:
    """Makes a run of weights that were trained elsewhere with Keras 2.

    Weights are matched to the recipe's network by order and shape. The run is taken by
    `hccr evaluate`, `hccr cam` and `hccr train --init-from`; nothing in the file is executed.

    Example:
      hccr import Melnyk-Net.hdf5 --charset label2tagcode.npy --workdir runs/published
    """
    backend.start()
    from hccr_tf.charset import Charset
    from hccr_tf.papers.melnyk_2018.importing import import_keras2

    run = import_keras2(weights, get_recipe(recipe), Charset.open(charset), workdir)
    print(f"{weights} as a run of {recipe} in {run.path}")
