"""`hccr predict`, `cam`, `refine`: images in, characters and maps out."""

import contextlib
import sys
from pathlib import Path

from hccr_tf.cli.flags import argument, command, group, switch
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.terminal import printable

_IMAGES = argument("images", "image files, folders, patterns or -", nargs="*", metavar="IMAGE")
_ANY_LAYOUT = switch(
    "--any-layout", "take images that look like several characters, too", off="single"
)
NO_TTA = switch(
    "--no-tta",
    "read each image once, not in the run's own views (five crops, two stretches), whose mean "
    "counts: in a fraction of the time",
    off="tta",
)


@command(
    "predict",
    "read images of characters",
    argument("paths", "image files, folders, patterns in quotes, or - for stdin", nargs="+"),
    argument("--top-k", "characters to name, the answer among them", default=5),
    argument("--workdir", "a trained run (default: the package's own weights)", metavar="RUN"),
    argument("--level", "1: only GB2312's level 1 (3,755); 2: all 6,763 (default: all)", type=int),
    argument("--min-probability", "refuse what no character reaches, such as 0.15", default=0.0),
    _ANY_LAYOUT,
    NO_TTA,
    group(
        "files",
        argument("--csv", "write a row for each file", metavar="FILE"),
        argument("--cam", "draw where the network saw the characters", metavar="DIR"),
        argument(
            "--steps",
            "draw each image as it came, as it was cleaned and what was read",
            metavar="DIR",
        ),
    ),
)
def run_predict(paths, workdir, top_k, csv, cam, steps, single, min_probability, **options) -> None:
    """Reads images of single characters: scans, photographs, drawings.

    Dark ink or light, coloured paper, uneven light, margins, ruling: images are cleaned
    first. Printed are character, probability, code point and alternatives. Files that
    can't be read, and images of several characters, are named with the reason.

    Examples:
      hccr predict docs/images/photographs
      hccr predict scans/ '*.png' --top-k 3 --csv read.csv
      curl -s https://example.org/a.png | hccr predict -
      hccr predict photo.jpg --workdir runs/demo/model1 --cam maps
    """
    from hccr_tf.images.decoding import find_images, read_input

    files = find_images(paths, lambda message: print(printable(message), file=sys.stderr))
    if csv and Path(csv).is_dir():
        raise HccrError(f"--csv {csv} is a folder; name a file.")
    for name, folder in (("--cam", cam), ("--steps", steps)):
        if folder and Path(folder).is_file():
            raise HccrError(f"{name} {folder} is a file; name a folder.")
    if cam and str(workdir).endswith(".onnx"):
        raise HccrError("--cam takes a run's folder as --workdir: ONNX files give no maps.")
    from hccr_tf.inference.recognizer import Recognition, Recognizer

    # Whatever is wrong with these shows before the first image is read.
    if cam:  # maps take Keras; what is printed is what they're of
        with backend.without_notes():
            from hccr_tf.inference.predictor import Predictor
        from hccr_tf.pretrained import find_run

        workdir = Predictor(find_run(workdir))
    recognizer = Recognizer(workdir, **options)
    inputs = [read_input(file) for file in files]
    reading = {"single": single, "min_probability": min_probability, "on_error": "return"}
    answers = recognizer.predict(inputs, top_k, **reading, progress=True)
    _print_answers([printable(file) for file in files], answers, csv)
    _print_score(files, answers, recognizer.charset)
    read = [i for i, answer in enumerate(answers) if isinstance(answer, Recognition)]
    if cam and read:
        _draw_maps(recognizer, [(files[i], inputs[i], answers[i].character) for i in read], cam)
    if steps:
        _draw_steps(recognizer, files, inputs, steps, single)
    if len(read) < len(files):
        raise HccrError(f"{len(files) - len(read)} of {len(files)} images weren't read; see above.")


def _print_answers(files, answers, csv) -> None:
    """Prints a line for each file, and writes a row for each into a file, if one is named."""
    from hccr_tf.images.decoding import ImageError

    ranks = [1 if isinstance(a, ImageError) else 1 + len(a.alternatives) for a in answers]
    named = [
        f"{name}_{i}" for i in range(2, max(ranks) + 1) for name in ("character", "probability")
    ]
    rows, width = [], max(map(len, files))
    for i, (file, answer) in enumerate(zip(files, answers, strict=True)):
        if isinstance(answer, ImageError):
            # Standard input is named by its place among the images.
            reason = printable(str(answer)).removeprefix(f"{file}: ").removeprefix(f"image {i}: ")
            print(f"{file}: {reason}", file=sys.stderr)
            rows.append([file, "", "", "", *[""] * len(named), reason])
            continue
        others = "  ".join(f"{c} {100 * p:.1f} %" for c, p in answer.alternatives)
        line = f"{answer.character}  {100 * answer.probability:5.1f} %  {answer.code_point}"
        print(f"{file:<{width}}  {line}" + (f"   or {others}" if others else ""))
        first = answer.character, round(answer.probability, 6), answer.code_point
        cells = [cell for c, p in answer.alternatives for cell in (c, round(p, 6))]
        rows.append([file, *first, *cells, ""])
    if csv:
        from hccr_tf.utils.files import write_rows

        Path(csv).parent.mkdir(parents=True, exist_ok=True)
        write_rows(csv, ["path", "character", "probability", "code_point", *named, "error"], rows)
        print(f"table in {csv}")


def _print_score(files, answers, charset) -> None:
    """Prints how many were read rightly, if folders are named by characters that the run knows."""
    from hccr_tf.data.sources.folder_names import decide_form, read_name
    from hccr_tf.evaluation.significance import wilson_interval
    from hccr_tf.images.decoding import ImageError

    folders = [Path(file).absolute().parent.name for file in files]
    form, doubt = decide_form(set(folders), charset)
    characters = {name: (read_name(name, form) or (None,))[0] for name in set(folders)}
    if doubt:
        return
    is_right = [
        answer.character == characters[folder]
        for folder, answer in zip(folders, answers, strict=True)
        if not isinstance(answer, ImageError) and characters.get(folder) in charset
    ]
    if is_right:
        right, total = sum(is_right), len(is_right)
        low, high = (100 * limit for limit in wilson_interval(right, total))
        print(
            f"{right:,} of {total:,} read as their folders are named: {100 * right / total:.2f} % "
            f"(95 % interval {low:.1f} to {high:.1f} %)"
        )


def _draw_maps(recognizer, read, folder) -> None:
    """Draws maps of (file, image, character) triples."""
    from hccr_tf.inference.cam import NamedImage, write_cams

    images = [
        NamedImage(
            printable(file),
            f"{Path(file).stem}: {character}",
            recognizer.look(image, single=False)[0][0],
        )
        for file, image, character in read
    ]
    write_cams([recognizer], images, folder)
    print(f"maps in {Path(folder) / 'cam.png'}")


def _draw_steps(recognizer, files, inputs, folder, single) -> None:
    """Draws for each file the image, the sheet on it, and the candidates with their readings."""
    from hccr_tf.images.contact_sheet import draw_sheet
    from hccr_tf.images.decoding import ImageError, decode
    from hccr_tf.images.paper import opaque, straighten_sheet

    Path(folder).mkdir(parents=True, exist_ok=True)
    for i, (file, data) in enumerate(zip(files, inputs, strict=True)):
        with contextlib.suppress(ImageError, OSError):
            image = opaque(decode(data if isinstance(data, bytes) else Path(data).read_bytes()))
            looked = recognizer.look(data, single=single)
            sheet = straighten_sheet(image)
            steps = [(image, "as it came")] + ([] if sheet is None else [(sheet, "sheet")])
            read = [f"{a.character} {100 * a.probability:.1f} %" for _, a in looked]
            names = ["answer", *["instead"] * len(read)]  # what else was tried
            steps += [(one[0], f"{n}: {r}") for one, n, r in zip(looked, names, read, strict=False)]
            images, texts = zip(*steps, strict=True)
            draw_sheet(images, texts, Path(folder) / f"{i:04d}_{Path(file).stem}.png", tile=200)
    print(f"images of the steps in {folder}")


@command(
    "cam",
    "draw where runs see a character",
    _IMAGES,
    argument("--workdir", "trained runs, a column each", required=True, nargs="+", metavar="RUN"),
    argument("--out", "folder for the images and tables", required=True),
    argument("--top-k", "maps of the k most probable classes", default=1),
    argument("--layer", "whose output is mapped (default: the last map of at least 2×2)"),
    switch("--save-input", "write what each network saw of an image, too (inputs/)"),
    _ANY_LAYOUT,
    group(
        "samples of a store in place of images",
        argument("--data", "take samples of --characters from here", metavar="STORE"),
        argument("--characters", "such as 己已: of each a sample that all runs read"),
        argument("--split", "of --data", default="test"),
    ),
)
def run_cam(images, workdir, out, data, characters, split, single, **options) -> None:
    r"""Draws class activation maps: the places of an image that made a run read what it reads.

    Writes cam.png (a row for each image and rank, a column for each run, the image at the
    right), cam.csv, maps.npz and overlays/. Networks that end in a pooling are mapped by their
    weights (Melnyk et al. 2018, eqs. 1, 8, 9), all others through gradients. Images are one
    character each, scans or photographs, and cleaned as by `hccr predict`.

    Examples:
      hccr cam docs/images/photographs --workdir runs/demo/model1 --out runs/cams
      hccr cam --data runs/demo/store --characters 千百 --workdir runs/demo/model1 \
          runs/demo/model2 --top-k 3 --out runs/cams
    """
    if bool(data) != bool(characters) or bool(images) == bool(data):
        raise HccrError("Name either image files, or --data and --characters.")
    backend.start()
    from hccr_tf.inference.cam import images_of_characters, read_images, write_cams
    from hccr_tf.inference.predictor import Predictor
    from hccr_tf.inference.recognizer import Recognizer

    predictors = [Predictor(path) for path in workdir]
    if data:
        chosen = images_of_characters(data, split, characters, predictors)
    else:
        chosen = read_images(images, single=single)
    table = write_cams([Recognizer(p) for p in predictors], chosen, out, **options)
    print(table.drop(columns=["overlay", "layer"]).to_string(index=False))
    print(f"maps in {Path(out) / 'cam.png'}")


@command(
    "refine",
    "show what refinement does, step by step",
    _IMAGES,
    argument("--workdir", "a run with refinement", required=True, metavar="RUN"),
    argument("--out", "folder for images and tables", required=True, type=Path),
    argument("--top-k", "characters a step", default=5),
    argument("--steps", "T (default: that of the training)", type=int),
    _ANY_LAYOUT,
    group(
        "samples of a store in place of images",
        argument("--data", "count what every step corrects and breaks", metavar="STORE"),
        argument("--split", "of --data", default="test"),
        argument("--cases", "to draw that refinement corrects, and that it breaks", default=8),
    ),
)
def run_refine(images, workdir, out, top_k, steps, data, split, cases, single) -> None:
    r"""Shows what a network with iterative refinement reads at each step, and where it looks.

    Of images: refine.png (attention over the image at every step), refine.txt (the best
    characters with probabilities, as figure 5 of Yang et al. 2017) and refine.csv. With --data:
    steps.csv (accuracy at every step, samples corrected and broken), and the same three files
    of samples that are wrong at first and right at last (corrected.*), and the reverse
    (broken.*). --steps tries another number of steps than the run was trained with.

    Examples:
      hccr train convnet_ir --data runs/demo/store --workdir runs/refined \
          --image-size 16 --model.width 4 --epochs 1
      hccr refine --data runs/demo/store --workdir runs/refined --steps 8 --out runs/steps
      hccr refine photo.jpg --workdir runs/refined --out runs/steps
    """
    if bool(images) == bool(data):
        raise HccrError("Name either image files or --data.")
    backend.start()
    from hccr_tf.inference.cam import read_images
    from hccr_tf.inference.refinement import StepPredictor, count_steps, write_changed, write_steps

    predictor = StepPredictor(workdir, steps)
    if images:
        write_steps(predictor, read_images(images, single=single), out, top_k=top_k)
        print((out / "refine.txt").read_text("utf-8"))
        print(f"attention in {out / 'refine.png'}")
        return
    from hccr_tf.data.opening import open_dataset
    from hccr_tf.utils.files import write_csv

    if cases < 0:
        raise HccrError("--cases is at least 0.")
    store = open_dataset(data)
    counts = count_steps(predictor, store, split)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "steps.csv", counts.table)
    print(counts.table.to_string(index=False))
    for name in ("corrected", "broken"):
        number = counts.table[f"{name}_since_first"].iloc[-1]
        print(f"{name}: {number} samples from the first to the last step")
    write_changed(predictor, counts, store, out, top_k=top_k, most=cases)
    print(f"all of it in {out}")
