"""`hccr cam` and `hccr refine`: where and how runs read single images."""

from pathlib import Path

from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError


def cam_arguments(parser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="image files, folders, patterns or -"
    )
    parser.add_argument(
        "--workdir", required=True, nargs="+", metavar="RUN", help="trained runs, a column each"
    )
    parser.add_argument("--out", required=True, help="folder for the images and tables")
    parser.add_argument(
        "--top-k", type=int, default=1, help="maps of the k most probable classes (default 1)"
    )
    parser.add_argument(
        "--layer", help="whose output is mapped (default: the last map of at least 2×2)"
    )
    parser.add_argument("--data", metavar="STORE", help="take samples of --characters from here")
    parser.add_argument("--characters", help="such as 己已: of each a sample that all runs read")
    parser.add_argument("--split", default="test", help="of --data (default test)")
    _layout_argument(parser)


def _layout_argument(parser) -> None:
    parser.add_argument(
        "--any-layout",
        action="store_true",
        help="take images that look like several characters, too",
    )


def run_cam(options) -> None:
    """Draws class activation maps: the places of an image that made a run read what it reads.

    Writes cam.png (a row for each image and rank, a column for each run, the image at the
    right), cam.csv, maps.npz and overlays/. Networks that end in a pooling are mapped by their
    weights (Melnyk et al. 2018, eqs. 1, 8, 9), all others through gradients. Images are one
    character each, scans or photographs, and cleaned as by `hccr predict`.

    Examples:
      hccr cam 1.png 2.png --workdir runs/a runs/b runs/c --out cams
      hccr cam --data store --characters 垂坛 --workdir runs/c --top-k 3 --out cams
    """
    if bool(options.data) != bool(options.characters) or bool(options.images) == bool(options.data):
        raise HccrError("Name either image files, or --data and --characters.")
    backend.start()
    from hccr_tf.inference.cam import write_cams
    from hccr_tf.inference.images import images_of_characters, read_images
    from hccr_tf.inference.predictor import Predictor

    predictors = [Predictor(path) for path in options.workdir]
    if options.data:
        from hccr_tf.data.store.store import Store

        images = images_of_characters(
            Store(options.data), options.split, options.characters, predictors
        )
    else:
        images = read_images(options.images, single=not options.any_layout)
    table = write_cams(predictors, images, options.out, top_k=options.top_k, layer=options.layer)
    print(table.drop(columns=["overlay", "layer"]).to_string(index=False))
    print(f"maps in {Path(options.out) / 'cam.png'}")


def refine_arguments(parser) -> None:
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="image files, folders, patterns or -"
    )
    parser.add_argument("--workdir", required=True, metavar="RUN", help="a run with refinement")
    parser.add_argument("--out", required=True, help="folder for images and tables")
    parser.add_argument("--top-k", type=int, default=5, help="characters a step (default 5)")
    parser.add_argument("--steps", type=int, help="T (default: that of the training)")
    parser.add_argument(
        "--data", metavar="STORE", help="count over a split what every step corrects and breaks"
    )
    parser.add_argument("--split", default="test", help="of --data (default test)")
    parser.add_argument(
        "--cases",
        type=int,
        default=8,
        help="samples of --data to draw that refinement corrects, and that it breaks (default 8)",
    )
    _layout_argument(parser)


def run_refine(options) -> None:
    """Shows what a network with iterative refinement reads at each step, and where it looks.

    Of images: refine.png (attention over the image at every step), refine.txt (the best
    characters with probabilities, as figure 5 of Yang et al. 2017) and refine.csv. With --data:
    steps.csv (accuracy at every step, samples corrected and broken), and the same three files
    of samples that are wrong at first and right at last (corrected.*), and the reverse
    (broken.*). --steps tries another number of steps than the run was trained with.

    Examples:
      hccr refine 1.png 2.png --workdir runs/mrbc_ir --out refined
      hccr refine --data store --workdir runs/mrbc_ir --steps 8 --out refined
    """
    if bool(options.images) == bool(options.data):
        raise HccrError("Name either image files or --data.")
    backend.start()
    from hccr_tf.inference.images import read_images, sample_images
    from hccr_tf.inference.refinement import StepPredictor, count_steps, write_steps

    predictor = StepPredictor(options.workdir, options.steps)
    out = Path(options.out)
    if options.images:
        images = read_images(options.images, single=not options.any_layout)
        write_steps(predictor, images, out, top_k=options.top_k)
        print((out / "refine.txt").read_text("utf-8"))
        print(f"attention in {out / 'refine.png'}")
        return
    from hccr_tf.data.store.store import Store
    from hccr_tf.utils.files import atomic_write

    if options.cases < 0:
        raise HccrError("--cases is at least 0.")
    store = Store(options.data)
    counts = count_steps(predictor, store, options.split)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "steps.csv") as temporary:
        counts.table.to_csv(temporary, index=False)
    print(counts.table.to_string(index=False))
    for name, first_right in (("corrected", False), ("broken", True)):
        rows = counts.changed(first_right)
        print(f"{name}: {len(rows)} samples from the first to the last step")
        if len(rows) and options.cases:
            indices = counts.indices[rows[: options.cases]]
            images = sample_images(store, indices)
            write_steps(predictor, images, out, top_k=options.top_k, name=name)
    print(f"all of it in {out}")
