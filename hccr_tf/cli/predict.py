"""`hccr predict`, `cam`, `refine`: images in, characters and maps out."""

import sys
from pathlib import Path

from hccr_tf.cli.flags import argument, command
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError

_ANY_LAYOUT = argument(
    "--any-layout", action="store_true", help="take images that look like several characters, too"
)


@command(
    "predict",
    "read images of characters",
    argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image files, folders, patterns in quotes, or - for standard input",
    ),
    argument("--top-k", type=int, default=5, help="characters to name (default 5)"),
    argument("--workdir", metavar="RUN", help="a trained run (default: the package's own weights)"),
    argument(
        "--level",
        type=int,
        choices=[1, 2],
        help="only the 3,755 characters of GB2312 level 1, or all 6,763 (default: all the run has)",
    ),
    argument("--csv", metavar="FILE", help="write a row for each file"),
    argument("--cam", metavar="DIR", help="draw where the network saw the characters"),
    _ANY_LAYOUT,
    argument(
        "--no-tta",
        action="store_true",
        help="read each image once, not stretched in three ways: in less than half the time",
    ),
)
def run_predict(options) -> None:
    """Reads images of single characters: scans, photographs, drawings.

    Dark ink or light, coloured paper, uneven light, margins, ruling: images are cleaned
    first. Printed are character, probability, code point and alternatives. Files that
    can't be read, and images of several characters, are named with the reason.

    Examples:
      hccr predict photo.jpg
      hccr predict scans/ '*.png' --top-k 3 --csv read.csv
      curl -s https://example.org/a.png | hccr predict -
      hccr predict photo.jpg --workdir runs/model1 --cam maps
    """
    from hccr_tf.images.decoding import ImageError, find_images, read_clean, read_input

    if options.top_k < 1:
        raise HccrError("--top-k is at least 1.")
    files = find_images(options.paths, lambda message: print(message, file=sys.stderr))
    if options.csv and Path(options.csv).is_dir():
        raise HccrError(f"--csv {options.csv} is a folder; name a file.")
    if options.cam and Path(options.cam).is_file():
        raise HccrError(f"--cam {options.cam} is a file; name a folder.")
    backend.start()
    from hccr_tf.inference.recognizer import Recognition, Recognizer

    # Whatever is wrong with these shows before the first image is read.
    recognizer = Recognizer(options.workdir, level=options.level, tta=not options.no_tta)
    inputs = [read_input(file) for file in files]
    answers: list[Recognition | ImageError] = []
    width = max(len(file) for file in files)
    each = recognizer.predict_each(inputs, options.top_k, single=not options.any_layout)
    for file, answer in zip(files, each, strict=True):
        answers.append(answer)
        if isinstance(answer, ImageError):
            print(f"{file}: {answer}", file=sys.stderr)
        else:
            _print(file, width, answer)
    if options.csv:
        _write_csv(options.csv, files, answers)
        print(f"table in {options.csv}")
    read = [(i, each) for i, each in enumerate(answers) if isinstance(each, Recognition)]
    if options.cam and read:
        from hccr_tf.inference.cam import NamedImage, write_cams

        # Under each image stands what was read, also where fewer characters compete.
        images = [
            NamedImage(
                files[i],
                f"{Path(files[i]).stem}: {answer.character}",
                read_clean(inputs[i], single=False),
            )
            for i, answer in read
        ]
        classes = [[recognizer.charset.index(answer.character)] for _, answer in read]
        write_cams([recognizer.predictor], images, options.cam, classes=classes)
        print(f"maps in {Path(options.cam) / 'cam.png'}")
    if len(read) < len(files):
        raise HccrError(f"{len(files) - len(read)} of {len(files)} images weren't read; see above.")


def _print(file, width, found) -> None:
    others = "  ".join(f"{c} {100 * p:.1f} %" for c, p in found.alternatives)
    print(
        f"{file:<{width}}  {found.character}  {100 * found.probability:5.1f} %  "
        f"{found.code_point}" + (f"   or {others}" if others else ""),
        flush=True,
    )


def _write_csv(path, files, answers) -> None:
    import pandas as pd

    from hccr_tf.inference.recognizer import Recognition
    from hccr_tf.utils.files import atomic_write

    rows = []
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, Recognition):
            row = {
                "character": answer.character,
                "probability": round(answer.probability, 6),
                "code_point": answer.code_point,
                "alternatives": " ".join(f"{c}:{p:.6f}" for c, p in answer.alternatives),
            }
        else:
            row = {"error": str(answer)}
        rows.append({"path": file, **row})
    columns = ["path", "character", "probability", "code_point", "alternatives", "error"]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)


@command(
    "cam",
    "draw where runs see a character",
    argument("images", nargs="*", metavar="IMAGE", help="image files, folders, patterns or -"),
    argument(
        "--workdir", required=True, nargs="+", metavar="RUN", help="trained runs, a column each"
    ),
    argument("--out", required=True, help="folder for the images and tables"),
    argument(
        "--top-k", type=int, default=1, help="maps of the k most probable classes (default 1)"
    ),
    argument("--layer", help="whose output is mapped (default: the last map of at least 2×2)"),
    argument("--data", metavar="STORE", help="take samples of --characters from here"),
    argument("--characters", help="such as 己已: of each a sample that all runs read"),
    argument("--split", default="test", help="of --data (default test)"),
    _ANY_LAYOUT,
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
    from hccr_tf.inference.cam import images_of_characters, read_images, write_cams
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


@command(
    "refine",
    "show what refinement does, step by step",
    argument("images", nargs="*", metavar="IMAGE", help="image files, folders, patterns or -"),
    argument("--workdir", required=True, metavar="RUN", help="a run with refinement"),
    argument("--out", required=True, help="folder for images and tables"),
    argument("--top-k", type=int, default=5, help="characters a step (default 5)"),
    argument("--steps", type=int, help="T (default: that of the training)"),
    argument(
        "--data", metavar="STORE", help="count over a split what every step corrects and breaks"
    ),
    argument("--split", default="test", help="of --data (default test)"),
    argument(
        "--cases",
        type=int,
        default=8,
        help="samples of --data to draw that refinement corrects, and that it breaks (default 8)",
    ),
    _ANY_LAYOUT,
)
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
    from hccr_tf.inference.cam import read_images, sample_images
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
