"""`hccr data`: prepare, show, audit, strokes, sample."""

from pathlib import Path

from hccr_tf.cli.flags import Parser, add_settings, argument, command, group, switch
from hccr_tf.utils import backend
from hccr_tf.utils.errors import HccrError, naming_extra
from hccr_tf.utils.settings import settings_of

_SPLIT_ARGUMENTS = (
    argument(
        "--split",
        "source: as the source's folders say; writer: no writer on both sides; shuffle: "
        "at random; auto: the first of these that the source allows",
        default="auto",
    ),
    argument("--seed", "of the split", default=1),
    argument("--test-fraction", "where there's no test set; 1 makes all of it one", default=0.2),
    argument("--validation-fraction", "of the training samples", default=0.05),
    argument(
        "--validation-split", "writer, shuffle, or auto: by writer where --split is", default="auto"
    ),
)


@command(
    "data prepare",
    "read sources into a checked store",
    argument("source", "files, folders or zips; see above", nargs="+"),
    argument("--out", "folder of the new store", required=True),
    switch("--photographs", "clean image files, scans and photographs, as hccr predict does"),
    argument(
        "--charset",
        "keep only its characters, in its order: gb2312-1 (3,755), gb2312 (6,763), "
        "chinese-mnist, a charset file, a run or a store (default: all there are)",
        metavar="NAME|FILE",
    ),
    argument(
        "--labels",
        "which path, folder or number is which character: CSV or TSV of path and label, JSON, "
        "label.txt, char_dict",
        metavar="FILE",
    ),
    argument("--workers", "reading processes (default: one a processor)", type=int),
    switch("--overwrite", "replace the store at --out"),
    argument("--shard", "read the I-th of N parts only, into OUT.parts", metavar="I/N"),
    switch("--join", "make the store of all parts in OUT.parts, with the same arguments"),
    group("who trains, who validates, who tests", *_SPLIT_ARGUMENTS),
)
def run_prepare(source, charset, workers, shard, **options) -> None:
    """Reads handwriting into a checked store that every other command takes as --data.

    A source is a folder, a zip archive or a file; a folder of downloads is read as it is.
    Known are, at any depth and in archives within archives:
      - CASIA .gnt files (Gnt1.0TrainPart1.zip …, HWDB1.0trn_gnt.zip …, competition-gnt.zip;
        the .alz archive in HWDB1.1trn_gnt.zip is unpacked first, with the program unalz)
      - images by class: Train/<character>/<n>.png (the Kaggle repack
        CASIA-HWDB_Train.zip, CASIA-HWDB_Test.zip); broken names are repaired. Also 5B9E/,
        0001_实/, 实/writer1/, 实_3.png, and with --labels any name
      - .npz of images and labels (x_train, y_train …), Chinese MNIST (chinese_mnist.csv and
        input_1_1_1.jpg …, or chineseMNIST.csv)
      - other stores: several together are joined
    What can't be read is skipped and listed in the store's skipped.csv. An interrupted or
    killed command leaves no half store, and is given again.

    Examples:
      hccr data prepare runs/demo/sample --out runs/store
      hccr data prepare downloads/ --out store
      hccr data prepare CASIA-HWDB_Train.zip CASIA-HWDB_Test.zip --out store
      hccr data prepare chinese_mnist/ --split writer --out chinese_mnist_store
      hccr data prepare competition-gnt.zip --test-fraction 1 --out icdar
      hccr data prepare store1 store2 --charset gb2312-1 --out joined
      hccr data prepare my_images/ --photographs --test-fraction 0 --out mine
      hccr data prepare numbered/ --labels char_dict --out numbered_store
      hccr data prepare downloads/ --out store --shard 2/8
    """
    from hccr_tf.charset import Charset
    from hccr_tf.data.store.prepare import prepare, prepare_part

    if workers is not None and workers < 1:
        raise HccrError("--workers is at least 1.")
    charset = None if charset is None else Charset.open(charset)
    if shard is None:
        print(prepare(source, charset=charset, workers=workers, **options).summary())
        return
    try:
        index, count = map(int, shard.split("/"))
    except ValueError:
        raise HccrError(f"--shard is I/N, such as 2/8, not {shard!r}.") from None
    how = {name: options[name] for name in ("photographs", "labels")}
    how |= {"charset": charset, "workers": workers}
    part = prepare_part(source, options["out"], (index, count), **how)
    print(f"{part}; when all {count} are there, --join makes the store of them")


@command(
    "data show",
    "print a store and draw a sample sheet",
    argument("store", "folder written by `hccr data prepare`"),
    argument("--split", "train, validation, test or all (default)"),
    argument("--sheet", "image to draw (default: STORE-sheet.png beside it)"),
    argument("--rows", "classes on the sheet", default=10),
    switch("--verify", "check every file's checksum"),
)
def run_show(store, split, sheet, rows, verify) -> None:
    """Prints what a store holds, its faults included, and draws a sheet of its images.

    Example:
      hccr data show runs/demo/store --split test
    """
    from hccr_tf.data.opening import open_dataset
    from hccr_tf.data.store_sheet import store_sheet

    dataset = open_dataset(store)
    if verify:
        dataset.verify()
        print("Every file has the checksum it was written with.")
    print(dataset.summary())
    path = Path(sheet or f"{Path(store)}-sheet.png")
    store_sheet(dataset, path, split=split, rows=rows)
    print(f"sheet       {path}")


@command(
    "data audit",
    "look for faults in a store",
    argument("store", "folder written by `hccr data prepare`"),
    argument("--run", "a trained run, whose charset covers the store's: ranks labels it doubts"),
    argument("--out", "folder for the findings (default: STORE-audit beside it)"),
    argument("--split", "train, validation, test or all (default: held-out too)"),
    argument("--batch-size", "of --run", default=64),
)
def run_audit(store, run, out, split, batch_size) -> None:
    """Looks for faults in a store and ranks them; changes nothing.

    Duplicates, writers on both sides, broken and merged class names, odd sizes, blank
    and inverted images, imbalance; with --run also the labels that the model doubts.
    Writes audit.csv (every finding), classes.csv, summary.json and sheets of images.

    Example:
      hccr data audit runs/demo/store --run runs/demo/model1 --out runs/audit
    """
    with naming_extra("audit"):
        from hccr_tf.audit.audit import audit
    from hccr_tf.data.store.store import Store

    opened, label_issues = Store(store), None
    if run is not None:
        backend.start()
        from hccr_tf.audit.label_issues import predict_label_issues
        from hccr_tf.pretrained import find_run
        from hccr_tf.runs.workdir import Workdir

        label_issues = predict_label_issues(
            run, opened, split=split or "all", batch_size=batch_size
        )
        trained_on = Workdir(find_run(run)).read_run()["data_hash"]
        if trained_on != opened.data_hash:
            print(
                f"{run} was trained on other data (hash {trained_on[:16]}): which of these "
                "samples it has seen is not known."
            )
    result = audit(opened, split, label_issues)
    print(result.text(result.write(out or f"{Path(store)}-audit")))


def _style_settings(parser: Parser) -> None:
    from hccr_tf.synthesis.style import HandwritingStyle

    style = parser.add_argument_group(
        "how handwriting varies: standard deviations unless said otherwise, lengths as fractions "
        "of the character's side, angles in radians"
    )
    for action in add_settings(style, settings_of(HandwritingStyle), "style."):
        parser.add_rare(action)


_OF_FILES = {
    "weight": (float, "how often a font, or FILE, is drawn (default 1)"),
    "haste": (float, "how much of its haste a hand keeps, 0 to 1: less if a font runs (default 1)"),
    "licence": (str, "what a font is under whose own licence field is empty or reserved"),
}


@command(
    "data strokes",
    "make a store of handwriting drawn when asked for",
    argument("file", "graphics.txt, or .json, or either .gz; see above"),
    argument("fonts", "font files, or folders of one font's subsets", nargs="*"),
    group(
        "of one source, by the NAME of its file or folder",
        *(
            argument(f"--{name}", what, action="append", default=[], metavar="NAME=VALUE")
            for name, (_, what) in _OF_FILES.items()
        ),
    ),
    argument("--out", "folder of the new store", required=True),
    argument(
        "--charset",
        "which characters: gb2312, gb2312-1, a charset file, a run, or all",
        metavar="NAME|FILE",
        default="gb2312",
    ),
    argument("--per-class", "new images of each character in every epoch", default=8),
    argument("--common", "times as many of each of GB2312 level 1", default=1),
    argument("--held-out", "validation images of each character, as many to test", default=1),
    argument("--seed", "of all images", default=1),
    switch("--overwrite", "replace a store of strokes"),
    argument("--sheet", "image to draw (default: OUT-sheet.png beside it)"),
    _style_settings,
)
def run_strokes(file, fonts, charset, sheet, **options) -> None:
    """Makes a store that draws its images when they're asked for: new ones in every epoch.

    FILE holds stroke centre lines: graphics.txt of Make Me a Hanzi (Arphic Public License,
    docs/recogniser.md says where to get it), or JSON {character: [[[x, y], ...], ...]}.
    FONTS are further hands: TrueType, OpenType or WOFF2, whose glyphs are traced into strokes
    (pip install hccr_tf[synthesis]). `hccr train --data` takes the store like any other.

    --style.NAME VALUE changes how handwriting varies; --help-all lists them.

    Examples:
      hccr data strokes hccr_tf/synthesis/numerals.json --charset all --out runs/strokes
      hccr data strokes graphics.txt long-cang/ Klee.ttf --weight long-cang=3 --out strokes
      hccr train recogniser --data strokes --workdir runs/recogniser
    """
    from hccr_tf.charset import Charset
    from hccr_tf.data.store_sheet import store_sheet
    from hccr_tf.synthesis.dataset import make_stroke_store
    from hccr_tf.synthesis.sources import read_font
    from hccr_tf.synthesis.strokes import load_strokes
    from hccr_tf.synthesis.style import HandwritingStyle
    from hccr_tf.utils.files import sha256_file

    strokes = load_strokes(file)
    charset = None if charset == "all" else Charset.open(charset)
    names = [Path(path).name for path in (file, *fonts)]
    given: dict[str, dict] = {name: {} for name in names}
    for option, (kind, _) in _OF_FILES.items():
        for text in options.pop(option):
            name, _, value = text.partition("=")
            try:
                given[name][option] = kind(value)
            except KeyError:
                known = f"there is no file of that name; there are {', '.join(names)}"
                raise HccrError(f"--{option} {text}: {known}.") from None
            except ValueError as error:
                raise HccrError(f"--{option} {text}: {error}.") from error
    style = {name: options.pop(name) for name in list(options) if name.startswith("style.")}
    store = make_stroke_store(
        strokes,
        source={"name": names[0], "sha256": sha256_file(file)},
        weight=given[names[0]].get("weight", 1.0),
        fonts=[
            read_font(path, strokes, charset or strokes, **given[name])
            for path, name in zip(fonts, names[1:], strict=True)
        ],
        charset=charset,
        variation=HandwritingStyle(**{k.removeprefix("style."): v for k, v in style.items()}),
        **options,
    )
    print(store.summary())
    path = Path(sheet or f"{store.path}-sheet.png")
    store_sheet(store, path, split="train", rows=12, columns=8)
    print(f"sheet       {path}")


@command(
    "data sample",
    "write the embedded sample as .gnt files",
    argument("--out", "folder for the .gnt files", required=True),
    argument("--strokes", "centre lines of other characters, .json or .json.gz"),
    argument("--characters", "which of them (default: all)"),
    argument("--writers", "for training", default=40, dest="num_writers"),
    argument("--test-writers", "for testing", default=10, dest="num_test_writers"),
    argument("--per-writer", "images of a character", default=4, dest="samples_per_writer"),
    argument("--size", "of a character, pixels", default=64),
    argument("--seed", "of all images", default=0),
)
def run_sample(out, strokes, characters, **options) -> None:
    """Draws handwriting-like images from stroke centre lines and writes .gnt files.

    The package carries the centre lines of the fifteen numerals 零一二三四五六七八九十百千万亿;
    --strokes takes those of any character. Training and test writers differ.

    Example:
      hccr data sample --out runs/sample
    """
    from hccr_tf.synthesis.sample import generate_gnt
    from hccr_tf.synthesis.strokes import load_strokes

    paths = generate_gnt(out, load_strokes(strokes), characters, **options)
    print(f"{len(paths)} writers' files in {out}")
