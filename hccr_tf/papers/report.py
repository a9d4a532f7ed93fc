"""Results that `hccr reproduce` wrote: found again, and as one page with what was not run."""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd

from hccr_tf import __version__
from hccr_tf.evaluation.significance import beyond_chance
from hccr_tf.images.contact_sheet import encode_png, text_image
from hccr_tf.papers.base import EXPERIMENTS, SCALES
from hccr_tf.utils.files import atomic_write, read_json
from hccr_tf.utils.schema import FileName, read_table

_TITLES = {
    "kriuk": "Kriuk & Kriuk 2024",
    "melnyk": "Melnyk, You & Li 2018",
    "yang": "Yang et al. 2017",
    "chen": "Chen, Xiao & Meng 2023",
}
_ABOUT = {
    **{"experiment": str, "description": str, "tables": list[FileName]},
    **dict.fromkeys(("scale?", "data?", "data_hash?", "split?", "made?", "version?"), str | None),
}
_REMEDY = "make these results again with `hccr reproduce`"
_TABLES = {"ours": "Ours", "paper": "The paper's", "final": "Ours on the test set"}
_COMPARISONS = "Networks beside each other"
_SHOWN_ROWS = 40
_GLYPH_PIXELS = 40  # drawn larger than shown, for screens with many pixels
_CHINESE = re.compile("[\u2e80-\u9fff\U00020000-\U0003ffff]")
# What says how a row came about, and stands in the runs' own table.
_MAKING = {"train_command", "hardware", "train_minutes", "epochs_asked", "best_epoch", "epochs"}
_MAKING |= {"seed", "data_hash", "state", "samples", "test_set"}
_HEADINGS = {
    "gmac": "GMAC",
    "size_mb": "MB",
    "train_minutes": "minutes",
    "minutes": "minutes",
    "p": "p (McNemar)",
    "difference": "difference, points",
    "only_first_right": "only the first right",
    "only_second_right": "only the second right",
    "with_blur": "with blur, %",
    "without": "without, %",
}


def find_results(name: str, folders: Sequence[str | Path]) -> Path:
    """Finds an experiment's tables and images in folders of `hccr reproduce`, the best first.

    In each, those of the paper's scale go before smaller ones, named runs before smoke, which
    only shows that it works.

    Raises:
        FileNotFoundError: there are none; it says which command makes them.
    """
    *real, smoke = SCALES
    for folder in map(Path, folders):
        for place in (*(folder / scale for scale in real), folder, folder / smoke):
            about = place / name / "about.json"
            if about.exists():
                return about.parent
    looked = " or ".join(str(Path(folder).resolve()) for folder in folders)
    smallest = EXPERIMENTS[name].scales[-1]
    data = "" if smallest == smoke else " --data STORE"
    raise FileNotFoundError(
        f"There are no results of {name} in {looked}. In the repository's folder run `hccr "
        f"reproduce {name} --scale {smallest}{data}`, or `hccr reproduce {name} --data STORE "
        "--workdir RUN…` with runs that are trained; or set HCCR_RESULTS to the folder of your "
        "own results before starting Jupyter."
    )


def read_results(name: str, folders: Sequence[str | Path]) -> tuple[dict, dict[str, pd.DataFrame]]:
    """Reads what `find_results` finds: `about.json`, and tables by name ("ours", "pairs", …)."""
    folder = find_results(name, folders)
    about = read_json(folder / "about.json", _ABOUT, _REMEDY)
    tables = {file.removeprefix(f"{name}_").removesuffix(".csv"): file for file in about["tables"]}
    return about, {t: read_table(folder / file, remedy=_REMEDY) for t, file in tables.items()}


def pairs_by_setting(
    tables: Mapping[str, pd.DataFrame], setting: str, within: str | None = None
) -> pd.DataFrame:
    """Tells which runs with different values of a setting differ by more than chance.

    Args:
        tables: `ours` of an experiment, and `pairs` unless there is a single run.
        setting: column of `ours`.
        within: column in which both runs of a pair must be equal; None for every pair.

    Returns:
        The pairs by `p`, with the setting's values in place of the runs' names.
    """
    runs = tables["ours"].set_index("run")
    columns = ["first", "second", "difference", "only_first_right", "only_second_right", "p"]
    pairs = tables.get("pairs", pd.DataFrame(columns=columns)).copy()
    if within is not None:
        pairs.insert(0, within, pairs["first"].map(runs[within]))
        pairs = pairs[pairs[within] == pairs["second"].map(runs[within])]
    names = {"first": setting, "second": f"other {setting}"}
    values = {name: pairs[name].map(runs[setting]) for name in names}
    return beyond_chance(pairs.assign(**values).rename(columns=names))


def write_report(folder: Path, out: Path) -> int:
    """Writes an HTML page of all that `hccr reproduce` wrote below a folder, at any depth.

    Returns:
        How many tables and figures, by their experiments, are on it.

    Raises:
        FileNotFoundError: there are no results.
    """
    abouts = sorted(folder.rglob("about.json"))
    results = {path.parent: read_json(path, _ABOUT, _REMEDY) for path in abouts}
    for path in folder.rglob("cells.csv"):
        waiting = "No tables of it yet; its runs stand as below."
        nothing = {"experiment": path.parent.name, "tables": [], "description": waiting}
        results.setdefault(path.parent, nothing)
    if not results:
        raise FileNotFoundError(
            f"There are no results below {folder}; `hccr reproduce NAME` makes some."
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    environment.filters |= {"drawn": _drawn, "image": _image}
    sections = [_section(path, about) for path, about in results.items()]
    page = environment.get_template("report.html").render(
        sections=sorted(sections, key=lambda s: (s["order"], s["scale"])),
        titles=[*_TITLES.values(), _COMPARISONS],
        shown_rows=_SHOWN_ROWS,
        date=date.today().isoformat(),
        version=__version__,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as temporary:
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))
    return len(sections)


def _section(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Reads what the page shows of a table or figure."""
    name, scale = about["experiment"], about.get("scale") or ""
    paper = name.partition("_")[0]
    # "Kriuk & Kriuk 2024, table 2: accuracy as …" stands under its paper's own heading.
    title = re.sub(r"^.*? \d{4}[,:] ", "", about["description"]).rstrip(".")
    facts = [
        scale and f"scale {scale}",
        f"{about.get('data', '')} {about.get('split', '')}".strip(),
    ]
    facts += [f"data hash {about['data_hash'][:16]}"] if about.get("data_hash") else []
    facts += [f"made {about[key]}" for key in ("made",) if about.get(key)]
    facts += [f"hccr_tf {about['version']}"] if about.get("version") else []
    read = partial(read_table, remedy=_REMEDY)
    frames = {
        file.removeprefix(f"{name}_").removesuffix(".csv"): read(folder / file)
        for file in about["tables"]
        if (folder / file).exists()
    }
    cells = folder / "cells.csv"
    runs = read(cells) if cells.exists() else frames.get("runs", pd.DataFrame())
    for left_out in ("runs", "history"):  # curves are drawn; runs stand below
        frames.pop(left_out, None)
    return {
        "paper": _TITLES.get(paper, _COMPARISONS),
        "order": reading_order(name),
        "scale": scale,
        "anchor": f"{name}-{scale}" if scale else name,
        "name": name,
        "title": title[:1].upper() + title[1:],
        "facts": ", ".join(filter(None, facts)),
        "verdict": _verdict(frames),
        "figures": sorted(folder.glob("*.png")),
        "tables": [
            (_TABLES.get(kind, kind.replace("_", " ")), kind == "pairs", readable(table))
            for kind, table in frames.items()
            if len(table)
        ],
        "runs": _text(runs),
    }


def reading_order(name: str) -> tuple:
    """Puts experiments in order: papers; in each its tables, its figures, what it leaves open."""
    paper, _, rest = name.partition("_")
    kind, number = re.match(r"(table|figure|)s?(\d*)", rest).groups()  # type: ignore[union-attr]
    place = list(_TITLES).index(paper) if paper in _TITLES else len(_TITLES)
    return place, {"table": 0, "figure": 1}.get(kind, 2), int(number or 0), rest


def _verdict(frames: Mapping[str, pd.DataFrame]) -> str:
    """Says in a sentence our best accuracy, the paper's, and which pairs chance doesn't explain."""
    ours, paper = frames.get("ours", pd.DataFrame()), frames.get("paper", pd.DataFrame())
    ours = frames.get("final", ours)
    if "accuracy" not in ours:
        return ""
    names = ours.columns.intersection(["accuracy", "low", "high"])
    ours = ours.assign(**ours[names].apply(pd.to_numeric, errors="coerce")).dropna(
        subset="accuracy"
    )
    if not len(ours):
        return ""
    best = ours.iloc[int(ours["accuracy"].argmax())]
    what = f"{best.iloc[0]} reads most here, " if len(ours) > 1 else "Here "
    said = f"{what}{best['accuracy']:.2f} %"
    if {"low", "high"} <= set(names) and best[["low", "high"]].notna().all():
        said += f" ({best['low']:.1f} to {best['high']:.1f})"
    if "test_set" in best:
        said += f" of {best['test_set']}"
    own = paper[paper.iloc[:, 0].astype(str).str.match("Our|Model")] if len(paper) else paper
    theirs = pd.to_numeric(own["accuracy"], errors="coerce") if "accuracy" in own else own
    if len(theirs) and theirs.notna().any():
        said += f"; the paper's best is {theirs.max():.2f} %, of its own data"
    if len(pairs := frames.get("pairs", pd.DataFrame())):
        differ = int(beyond_chance(pairs)["beyond chance"].astype(bool).sum())
        said += f"; {differ} of {len(pairs)} pairs differ by more than chance"
    return f"{said}."


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Makes a table for people: percent with their interval, sensible digits, no columns of making.

    Accuracies that are shares of 1 become percent; `accuracy`, `low` and `high` one column.
    """
    shown = {}
    for name in map(str, table):
        if name in _MAKING or (name in ("low", "high") and "accuracy" in table):
            continue
        numbers = pd.to_numeric(table[name], errors="coerce")
        heading = _HEADINGS.get(name, str(name).replace("_", " "))
        is_share = "accuracy" in name and numbers.max() <= 1 and "drop" not in name
        if "accuracy" in name and numbers.notna().any() and "drop" not in name:
            heading += ", %"
            texts = (numbers * (100 if is_share else 1)).map("{:.2f}".format)
            if name == "accuracy" and "low" in table:
                interval = [
                    "" if pd.isna(low) else f" ({low:.1f} – {high:.1f})"
                    for low, high in table[["low", "high"]]
                    .apply(pd.to_numeric, errors="coerce")
                    .values
                ]
                texts, heading = texts + interval, f"{heading} (95 % interval)"
            shown[heading] = texts.where(
                numbers.notna(), table[name].astype(object).fillna("").astype(str)
            )
        else:
            shown[heading] = _text(table[[name]])[name]
    return pd.DataFrame(shown)


def _text(table: pd.DataFrame) -> pd.DataFrame:
    """Every value as text, numbers with four digits that count and thousands apart."""

    def text(value: Any) -> str:
        if pd.isna(value):
            return ""
        if isinstance(value, float) and value != int(value):
            return f"{value:.4g}" if abs(value) > 1e-3 else f"{value:.1e}"
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        return (f"{int(value):,}" if abs(value) > 9999 else f"{int(value)}") if is_number else value

    return table.map(text).astype(str)


def _image(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@cache
def _glyph(character: str) -> str:
    source = _image(encode_png(text_image(character, _GLYPH_PIXELS)))
    return f'<img class="glyph" alt="{character}" src="{source}">'


def _drawn(text: str) -> markupsafe.Markup:
    """Text with Chinese characters as images, which need no font."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(_CHINESE.sub(lambda match: _glyph(match[0]), escaped))
