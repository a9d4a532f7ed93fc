"""Results that `hccr reproduce` wrote: found again, and as one page with what was not run."""

import base64
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd

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
    **dict.fromkeys(("scale?", "data?", "data_hash?", "split?"), str | None),
}
_REMEDY = "make these results again with `hccr reproduce`"
_MOST_ROWS = 200
_GLYPH_PIXELS = 40  # drawn larger than shown, for screens with many pixels
_CHINESE = re.compile("[\u2e80-\u9fff\U00020000-\U0003ffff]")


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
        sections=sorted(sections, key=lambda s: (s["paper"], s["name"])),
        titles=_TITLES,
        most_rows=_MOST_ROWS,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as temporary:
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))
    return len(sections)


def _section(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    name = about["experiment"]
    paper, scale = name.partition("_")[0], about.get("scale")
    facts = [f"{key}: {about[key]}" for key in ("scale", "data", "split") if about.get(key)]
    if about.get("data_hash"):
        facts.append(f"data hash: {about['data_hash'][:16]}")
    tables = []
    for file in [*about["tables"], "cells.csv"]:
        if (folder / file).exists():
            title = file.removesuffix(".csv").removeprefix(f"{name}_").replace("_", " ")
            title = {"paper": "the paper's", "cells": "runs"}.get(title, title)
            options: dict[str, Any] = {"dtype": str, "keep_default_na": False}
            tables.append((title, read_table(folder / file, remedy=_REMEDY, **options)))
    return {
        "paper": paper if paper in _TITLES else "~",  # comparisons last
        "name": f"{name} ({scale})" if scale else name,
        "anchor": f"{name}-{scale}" if scale else name,
        "description": about["description"],
        "facts": ", ".join(facts),
        "figures": sorted(folder.glob("*.png")),
        "tables": [(title, table) for title, table in tables if len(table)],
    }


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
