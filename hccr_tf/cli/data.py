"""`hccr data`: prepare, show, audit, strokes, sample."""

from pathlib import Path

from hccr_tf.cli.flags import Parser, add_settings, argument, command
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError
from hccr_tf.utils.settings import settings_of


@command(
    "data prepare",
    "read sources into a checked store",
    argument("source", nargs="+", help="files, folders or zips; see above"),
    argument("--out", required=True, help="folder of the new store"),
    argument(
        "--split",
        default="auto",
        choices=["auto", "source", "writer", "shuffle"],
        help="source: as the source's folders say; writer: no writer on both sides; shuffle: "
        "at random; auto: the first of these that the source allows (default)",
    ),
    argument("--seed", type=int, default=1, help="of the split (default 1)"),
    argument(
        "--test-fraction",
        type=float,
        default=0.2,
        help="where the source gives no test set (default 0.2); 1 makes all of it one",
    ),
    argument(
        "--validation-fraction",
        type=float,
        default=0.05,
        help="of the training samples (default 0.05)",
    ),
    argument(
        "--validation-split",
        default="auto",
        choices=["auto", "writer", "shuffle"],
        help="by writer or at random (default: by writer where --split is)",
    ),
    argument(
        "--charset",
        metavar="NAME|FILE",
        help="keep only its characters, in its order: gb2312-1 (3,755), gb2312 (6,763), "
        "chinese-mnist, a charset file, a run or a store (default: all there are)",
    ),
    argument("--workers", type=int, help="reading processes (default: one a processor)"),
    argument(
        "--photographs",
        action="store_true",
        help="clean image files, scans and photographs, as hccr predict does",
    ),
    argument("--overwrite", action="store_true", help="replace the store at --out"),
)
def run_prepare(options) -> None:
    """Reads handwriting into a checked store that every other command takes as --data.

    A source is a folder, a zip archive or a file; a folder of downloads is read as it is.
    Known are, at any depth and in archives within archives:
      - CASIA .gnt files (Gnt1.0TrainPart1.zip …, HWDB1.0trn_gnt.zip …, competition-gnt.zip;
        the .alz archive in HWDB1.1trn_gnt.zip is unpacked first, with the program unalz)
      - images by class: Train/<character>/<n>.png (the Kaggle repack
        CASIA-HWDB_Train.zip, CASIA-HWDB_Test.zip); broken names are repaired
      - Chinese MNIST (chinese_mnist.csv, input_1_1_1.jpg …)
      - other stores: several together are joined
    What can't be read is skipped and listed in the store's skipped.csv. An interrupted or
    killed command leaves no half store, and is given again.

    Examples:
      hccr data prepare downloads/ --out store
      hccr data prepare CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --out store
      hccr data prepare chinese_mnist/ --split writer --out chinese_mnist_store
      hccr data prepare competition-gnt.zip --test-fraction 1 --out icdar
      hccr data prepare store1 store2 --charset gb2312-1 --out joined
      hccr data prepare my_images/ --photographs --test-fraction 0 --out mine
    """
    from hccr_tf.charset import Charset
    from hccr_tf.data.store.prepare import prepare
    from hccr_tf.data.store.store import summary

    if options.workers is not None and options.workers < 1:
        raise HccrError("--workers is at least 1.")
    store = prepare(
        options.source,
        options.out,
        split=options.split,
        seed=options.seed,
        test_fraction=options.test_fraction,
        validation_fraction=options.validation_fraction,
        validation_split=options.validation_split,
        overwrite=options.overwrite,
        workers=options.workers,
        charset=None if options.charset is None else Charset.open(options.charset),
        photographs=options.photographs,
    )
    print(summary(store))


@command(
    "data show",
    "print a store and draw a sample sheet",
    argument("store", help="folder written by `hccr data prepare`"),
    argument("--split", help="train, validation, test or all (default)"),
    argument("--sheet", help="image to draw (default: STORE-sheet.png beside it)"),
    argument("--rows", type=int, default=10, help="classes on the sheet (default 10)"),
    argument("--verify", action="store_true", help="check every file's checksum"),
)
def run_show(options) -> None:
    """Prints what a store holds, its faults included, and draws a sheet of its images.

    Example:
      hccr data show store --split test
    """
    from hccr_tf.data.dataset import open_dataset
    from hccr_tf.data.store.store import Store, summary
    from hccr_tf.data.store_sheet import store_sheet
    from hccr_tf.synthesis.dataset import StrokeDataset, stroke_summary

    store = open_dataset(options.store)
    if options.verify:
        store.verify()
        print("Every file has the checksum it was written with.")
    if isinstance(store, StrokeDataset):
        print(stroke_summary(store))
        return
    assert isinstance(store, Store)
    print(summary(store))
    path = Path(options.sheet or f"{Path(options.store)}-sheet.png")
    store_sheet(store, path, split=options.split, rows=options.rows)
    print(f"sheet       {path}")


@command(
    "data audit",
    "look for faults in a store",
    argument("store", help="folder written by `hccr data prepare`"),
    argument(
        "--run",
        help="a trained run: ranks the labels that it doubts (its charset must cover the "
        "store's characters)",
    ),
    argument("--out", help="folder for the findings (default: STORE-audit beside it)"),
    argument("--split", help="train, validation, test or all (default: held-out too)"),
    argument("--batch-size", type=int, default=64, help="of --run (default 64)"),
)
def run_audit(options) -> None:
    """Looks for faults in a store and ranks them; changes nothing.

    Duplicates, writers on both sides, broken and merged class names, odd sizes, blank
    and inverted images, imbalance; with --run also the labels that the model doubts.
    Writes audit.csv (every finding), classes.csv, summary.json and sheets of images.

    Examples:
      hccr data audit store
      hccr data audit store --run runs/model1 --out audit
    """
    from hccr_tf.audit.audit import audit
    from hccr_tf.data.store.store import Store

    store = Store(options.store)
    label_issues = None
    if options.run is not None:
        backend.start()
        from hccr_tf.audit.label_issues import predict_label_issues
        from hccr_tf.pretrained import find_run
        from hccr_tf.runs.workdir import Workdir

        label_issues = predict_label_issues(
            options.run, store, split=options.split or "all", batch_size=options.batch_size
        )
        trained_on = Workdir(find_run(options.run)).read_run()["data_hash"]
        if trained_on != store.data_hash:
            print(
                f"{options.run} was trained on other data (hash {trained_on[:16]}): which "
                "of these samples it has seen is not known."
            )
    result = audit(store, options.split, label_issues, options.run)
    folder = result.write(options.out or f"{Path(options.store)}-audit")
    print(result.text(folder))


def _style_settings(parser: Parser) -> None:
    from hccr_tf.synthesis.style import HandwritingStyle

    style = parser.add_argument_group(
        "how handwriting varies",
        "Lengths are fractions of the character's side, angles radians; standard deviations "
        "unless said otherwise.",
    )
    add_settings(style, settings_of(HandwritingStyle), "style.")


@command(
    "data strokes",
    "make a store of handwriting drawn when asked for",
    argument("file", help="graphics.txt, or .json, or either .gz; see above"),
    argument("fonts", nargs="*", help="font files, or folders of one font's subsets"),
    *(
        argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"{what}; NAME is the file's or folder's",
        )
        for name, what in (
            ("weight", "how often a font, or FILE, is drawn (default 1)"),
            (
                "haste",
                "how much of its haste a hand keeps, 0 to 1: less if a font runs (default 1)",
            ),
            ("licence", "what a font is under whose own licence field is empty or reserved"),
        )
    ),
    argument("--out", required=True, help="folder of the new store"),
    argument(
        "--charset",
        metavar="NAME|FILE",
        default="gb2312",
        help="which characters: gb2312 (default), gb2312-1, a charset file, a run, or all",
    ),
    argument(
        "--per-class",
        type=int,
        default=8,
        help="new images of each character in every epoch (default 8)",
    ),
    argument(
        "--held-out",
        type=int,
        default=1,
        help="images of each character in validation, and as many in test (default 1)",
    ),
    argument("--seed", type=int, default=1, help="of all images (default 1)"),
    argument("--overwrite", action="store_true", help="replace a store of strokes"),
    argument("--sheet", help="image to draw (default: OUT-sheet.png beside it)"),
    _style_settings,
)
def run_strokes(options) -> None:
    """Makes a store that draws its images when they're asked for: new ones in every epoch.

    FILE holds stroke centre lines: graphics.txt of Make Me a Hanzi (Arphic Public License,
    docs/recogniser.md says where to get it), or JSON {character: [[[x, y], ...], ...]}.
    FONTS are further hands: TrueType, OpenType or WOFF2, whose glyphs are traced into strokes
    (pip install hccr_tf[synthesis]). `hccr train --data` takes the store like any other.

    Example:
      hccr data strokes graphics.txt --out strokes
      hccr data strokes graphics.txt long-cang/ Klee.ttf --weight long-cang=3 --out strokes
      hccr train recogniser --data strokes --workdir runs/recogniser
    """
    import numpy as np

    from hccr_tf.charset import Charset
    from hccr_tf.images.contact_sheet import draw_sheet
    from hccr_tf.synthesis.dataset import make_stroke_store, stroke_summary
    from hccr_tf.synthesis.sources import read_font
    from hccr_tf.synthesis.strokes import load_strokes
    from hccr_tf.synthesis.style import HandwritingStyle
    from hccr_tf.utils.files import sha256_file

    style = {k[6:]: v for k, v in vars(options).items() if k.startswith("style.")}
    strokes = load_strokes(options.file)
    charset = None if options.charset == "all" else Charset.open(options.charset)
    named = [Path(path).name for path in (options.file, *options.fonts)]
    weight, haste, licence = (
        _by_name(options, name, named, kind)
        for name, kind in (("weight", float), ("haste", float), ("licence", str))
    )
    fonts = [
        read_font(
            path,
            strokes,
            charset or strokes,
            weight=weight.get(name, 1.0),
            haste=haste.get(name, 1.0),
            licence=licence.get(name),
        )
        for path, name in zip(options.fonts, named[1:], strict=True)
    ]
    store = make_stroke_store(
        strokes,
        options.out,
        source={"name": named[0], "sha256": sha256_file(options.file)},
        weight=weight.get(named[0], 1.0),
        fonts=fonts,
        charset=charset,
        variation=HandwritingStyle(**style),
        per_class=options.per_class,
        held_out=options.held_out,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    print(stroke_summary(store))
    path = Path(options.sheet or f"{Path(options.out)}-sheet.png")
    # A dozen characters spread over all, each as eight hands write it.
    classes = len(store.charset)
    chosen = [i * classes // 12 for i in range(min(12, classes))]
    rows = [c + (2 * store.held_out + j) * classes for c in chosen for j in range(8)]
    texts = [store.charset.char(number % classes) for number in rows]
    draw_sheet(store.images(np.array(rows)), texts, path, columns=8)
    print(f"sheet       {path}")


def _by_name(options, option: str, known, kind: type) -> dict:
    """Reads NAME=VALUE texts of an option, each for one of the files that the command has."""
    values = {}
    for text in getattr(options, option):
        name, _, value = text.partition("=")
        try:
            if name not in known:
                raise ValueError(f"there is no file of that name; there are {', '.join(known)}")
            values[name] = kind(value)
        except ValueError as error:
            raise HccrError(f"--{option} {text}: {error}.") from error
    return values


@command(
    "data sample",
    "write the embedded sample as .gnt files",
    argument("--out", required=True, help="folder for the .gnt files"),
    argument("--strokes", help="centre lines of other characters, .json or .json.gz"),
    argument("--characters", help="which of them (default: all)"),
    argument("--writers", type=int, default=40, help="for training (default 40)"),
    argument("--test-writers", type=int, default=10, help="for testing (default 10)"),
    argument(
        "--per-writer", type=int, default=4, help="images of a character a writer (default 4)"
    ),
    argument("--size", type=int, default=64, help="of a character, pixels (default 64)"),
    argument("--seed", type=int, default=0, help="of all images (default 0)"),
)
def run_sample(options) -> None:
    """Draws handwriting-like images from stroke centre lines and writes .gnt files.

    The package carries the centre lines of the fifteen numerals 零一二三四五六七八九十百千万亿;
    --strokes takes those of any character. Training and test writers differ.

    Example:
      hccr data sample --out runs/sample
    """
    from hccr_tf.synthesis.sample import generate_gnt
    from hccr_tf.synthesis.strokes import load_strokes

    paths = generate_gnt(
        options.out,
        load_strokes(options.strokes),
        options.characters,
        num_writers=options.writers,
        num_test_writers=options.test_writers,
        samples_per_writer=options.per_writer,
        seed=options.seed,
        size=options.size,
    )
    print(f"{len(paths)} writers' files in {options.out}")
