"""One page of all results: tables, figures, and what was not run."""

import base64
import html
from functools import cache
from pathlib import Path

import pandas as pd

from hccr_tf.images.contact_sheet import encode_png, text_image
from hccr_tf.utils.files import atomic_write, read_json

_TITLES = {
    "kriuk": "Kriuk & Kriuk 2024",
    "melnyk": "Melnyk, You & Li 2018",
    "yang": "Yang et al. 2017",
    "chen": "Chen, Xiao & Meng 2023",
}
_MOST_ROWS = 200
_GLYPH_PIXELS = 40  # drawn larger than shown, for screens with many pixels

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
       color: #222; }
h1, h2, h3 { line-height: 1.2; } h2 { border-bottom: 2px solid #ccc; margin-top: 2em; }
nav a { margin-right: 1em; white-space: nowrap; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; margin: .5em 0; }
th, td { border: 1px solid #ddd; padding: .2em .5em; text-align: left; vertical-align: top; }
th { background: #f3f3f3; cursor: pointer; user-select: none; white-space: nowrap; }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.missing td { color: #999; font-style: italic; }
img.figure { max-width: 100%; } img.glyph { height: 1.25em; vertical-align: -0.25em; }
.about { color: #666; font-size: 13px; }
"""

# Sorting: numbers as numbers, empty cells last.
_SCRIPT = """
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = row => row.cells[column].dataset.value;
  const rows = [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return up ? order : -order;
  });
  body.append(...rows);
}));
"""


def write_report(folder: Path, out: Path) -> int:
    """Writes a page of all results below a folder.

    Args:
        folder: with folders that `hccr reproduce` wrote, at any depth.
        out: HTML file.

    Returns:
        How many tables and figures, by their experiments, are on it.

    Raises:
        FileNotFoundError: there are no results.
    """
    found = sorted(Path(folder).rglob("about.json"))
    found = [path for path in found if "experiment" in read_json(path)]
    waiting = sorted(
        path
        for path in Path(folder).rglob("cells.csv")
        if not (path.parent / "about.json").exists()
    )
    if not found and not waiting:
        raise FileNotFoundError(
            f"There are no results below {folder}; `hccr reproduce NAME` makes some."
        )
    sections = [_section(path.parent, read_json(path)) for path in found]
    sections += [
        _section(
            path.parent,
            {
                "experiment": path.parent.name,
                "tables": [],
                "description": "No tables of it yet; its runs stand as below.",
            },
        )
        for path in waiting
    ]
    sections.sort(key=lambda s: s[0])
    body, last = [], None
    for (paper, name), text in sections:
        if paper != last:
            body.append(f"<h2>{html.escape(_TITLES.get(paper, 'Comparisons'))}</h2>")
            last = paper
        body.append(f'<section id="{_anchor(name)}">{text}</section>')
    links = " ".join(
        f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for (_, name), _ in sections
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>hccr_tf: tables and figures</title><style>{_STYLE}</style></head><body>"
        f"<h1>Tables and figures</h1><nav>{links}</nav>{''.join(body)}"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as temporary:
        temporary.write_text(page, "utf-8")
    return len(sections)


def _anchor(name: str) -> str:
    """Such as "kriuk_table1-smoke"."""
    return html.escape(name.replace(" (", "-").rstrip(")"))


def _section(folder: Path, about: dict) -> tuple[tuple[str, str], str]:
    name = about["experiment"]
    paper = name.partition("_")[0]
    parts = [f"<h3>{html.escape(name)}</h3><p>{_text(about['description'])}</p>"]
    facts = [
        f"{key.replace('_', ' ')}: {about[key]}"
        for key in ("scale", "data", "split")
        if about.get(key)
    ]
    if about.get("data_hash"):
        facts.append(f"data hash: {about['data_hash'][:16]}")
    parts.append(f'<p class="about">{html.escape(", ".join(facts))}</p>')
    for path in sorted(folder.glob("*.png")):
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(
            f'<p><img class="figure" alt="{html.escape(path.stem)}" '
            f'src="data:image/png;base64,{data}"></p>'
        )
    for table in about["tables"]:
        if (folder / table).exists():
            title = table.removesuffix(".csv").removeprefix(f"{name}_").replace("_", " ")
            parts.append(_table(folder / table, {"paper": "the paper's"}.get(title, title)))
    if (folder / "cells.csv").exists():
        parts.append(_table(folder / "cells.csv", "runs"))
    shown = f"{name} ({about['scale']})" if about.get("scale") else name
    return (paper if paper in _TITLES else "~", shown), "".join(parts)


def _table(path: Path, title: str) -> str:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if table.empty:
        return ""
    head = "".join(f"<th>{html.escape(c.replace('_', ' '))}</th>" for c in table.columns)
    rows = []
    for values in table.head(_MOST_ROWS).itertuples(index=False):
        missing = ' class="missing"' if "not run" in values else ""
        rows.append(f"<tr{missing}>{''.join(map(_cell, values))}</tr>")
    more = ""
    if len(table) > _MOST_ROWS:
        more = f"<p>{len(table) - _MOST_ROWS} more rows are in {html.escape(path.name)}.</p>"
    return (
        f'<h4>{html.escape(title)}</h4><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _cell(value: str) -> str:
    kind = ""
    try:
        float(value)
        kind = ' class="number"'
    except ValueError:
        pass
    return f'<td{kind} data-value="{html.escape(value)}">{_text(value)}</td>'


def _text(text: str) -> str:
    """Text with Chinese characters as images, which need no font."""
    return "".join(_glyph(c) if _is_chinese(c) else html.escape(c) for c in text)


def _is_chinese(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or character >= "\U00020000"


@cache
def _glyph(character: str) -> str:
    data = base64.b64encode(encode_png(text_image(character, _GLYPH_PIXELS))).decode()
    return f'<img class="glyph" alt="{character}" src="data:image/png;base64,{data}">'
