"""`hccr predict`, `hccr calibrate`, `hccr pack`: images in, characters out."""

import sys
from pathlib import Path

from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError


def predict_arguments(parser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image files, folders, patterns in quotes, or - for standard input",
    )
    parser.add_argument("--top-k", type=int, default=5, help="characters to name (default 5)")
    parser.add_argument(
        "--workdir", metavar="RUN", help="a trained run (default: the package's own weights)"
    )
    parser.add_argument(
        "--level",
        type=int,
        choices=[1, 2],
        help="only the 3,755 characters of GB2312 level 1, or all 6,763 (default: all the run has)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write a row for each file")
    parser.add_argument("--cam", metavar="DIR", help="draw where the network saw the characters")
    parser.add_argument(
        "--any-layout",
        action="store_true",
        help="read images that look like several characters, too",
    )
    parser.add_argument(
        "--no-tta",
        action="store_true",
        help="read each image once, not stretched in three ways: in less than half the time",
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
    read = [i for i, answer in enumerate(answers) if isinstance(answer, Recognition)]
    if options.cam and read:
        from hccr_tf.inference.cam import write_cams
        from hccr_tf.inference.images import NamedImage

        # Under each image stands what was read, also where fewer characters compete.
        images = [
            NamedImage(
                files[i],
                f"{Path(files[i]).stem}: {answers[i].character}",
                read_clean(inputs[i], single=False),
            )
            for i in read
        ]
        classes = [[recognizer.charset.index(answers[i].character)] for i in read]
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


def calibrate_arguments(parser) -> None:
    parser.add_argument("workdir", metavar="RUN", help="a trained run")
    parser.add_argument("--data", required=True, help="store whose images the run hasn't learnt")
    parser.add_argument("--split", default="validation", help="of --data (default validation)")
    parser.add_argument(
        "--level", type=int, choices=[1, 2], help="which characters compete (default: all)"
    )
    parser.add_argument(
        "--per-class", type=int, help="so many images of each character (default: all)"
    )


def run_calibrate(options) -> None:
    """Makes a run's probabilities true to how often it's right.

    Finds the temperature on one half of the images and reports on the other: expected
    calibration error before and after, and the reliability curve. Writes calibration.json,
    reliability.csv and reliability.png into the run, and `hccr predict` uses it from then on.

    Example:
      hccr calibrate runs/model1 --data store
    """
    from hccr_tf.data.dataset import open_dataset

    dataset = open_dataset(options.data)
    backend.start()
    from hccr_tf.inference.calibration import calibrate

    result = calibrate(
        options.workdir, dataset, options.split, level=options.level, per_class=options.per_class
    )
    print(
        f"temperature {result['temperature']:.3f}; expected calibration error "
        f"{100 * result['ece_before']:.2f} % before, {100 * result['ece_after']:.2f} % after, on "
        f"{result['samples']:,} images that it wasn't found on"
    )
    if result["left_out"]:
        print(f"{result['left_out']:,} images of characters that don't compete were left out")
    print(f"curve in {Path(options.workdir) / 'reliability.png'}")


def pack_arguments(parser) -> None:
    parser.add_argument("workdir", metavar="RUN", help="a trained run")
    parser.add_argument("--out", required=True, help="new folder")


def run_pack(options) -> None:
    """Makes a run small enough to pass on: its prediction weights in half precision.

    The folder is a run like any other to `hccr predict`, `evaluate`, `cam` and
    `train --init-from`; it can't be trained on.

    Example:
      hccr pack runs/recogniser --out recogniser
    """
    backend.start()
    from hccr_tf.export.pack import pack

    size = pack(options.workdir, options.out)
    print(f"{options.out}: {size / 1e6:.2f} MB")
