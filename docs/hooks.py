"""The site's pages that are made of other files of the repository; mkdocs calls the `on_…`.

A link to a CSV file with a title is a table on the site:
[caption](file.csv "column; column = heading {:.1f} | rows"), `rows` as pandas queries take them.
"""

import os
import posixpath
import re
from functools import partial
from pathlib import Path

import nbformat
import pandas as pd
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

import hccr_tf
from hccr_tf.cli.flags import COMMANDS, Parser
from hccr_tf.cli.parsers import hccr_parser

ROOT = Path(__file__).parents[1]
_PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "results.md": "benchmarks/README.md",
    "model_card.md": "hccr_tf/pretrained/recogniser/MODEL_CARD.md",
    **{
        f"papers/{path.parent.name}.md": path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.glob("hccr_tf/papers/*/README.md"))
    },
    **{
        f"notebooks/{path.stem}.md": path.relative_to(ROOT).as_posix()
        for path in sorted(ROOT.glob("notebooks/*.ipynb"))
    },
}
_TABLE = re.compile(r'^\[([^\]]+)\]\((\S+\.csv) "([^"|]+?)(?: *\| *([^"]+))?"\)$', re.M)
_COLUMN = re.compile(r"(\w+)(?: = ([^{]+?))?(?: (\{.*\}.*))?")
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(?=[)\s])")


def on_files(files, config):
    """Adds the pages that aren't in docs/."""
    for uri, source in _PAGES.items():
        if source.endswith(".ipynb"):
            text, images = _notebook(ROOT / source)
            for name, content in images.items():
                files.append(File.generated(config, f"notebooks/{name}", content=content))
        else:
            text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, uri, content=text))
    for uri, text in (("commands.md", _commands()), ("api.md", _api())):
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes tables of links to CSV files, and links of those to files outside docs/."""
    origin = _PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.M | re.S)
    for i in range(0, len(parts), 2):  # what isn't code
        parts[i] = _TABLE.sub(partial(_table, folder=posixpath.dirname(origin)), parts[i])
        parts[i] = _LINK.sub(
            lambda match: (
                (match[1] + _linked(match[2], origin, page.file.src_uri, config, files))
                + (match[3] or "")
            ),
            parts[i],
        )
    return "".join(parts)


def _linked(target: str, origin: str, uri: str, config, files) -> str:
    """Where on the site a link of a file of the repository leads, which is copied if need be."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    there = {source: page for page, source in _PAGES.items()}
    there["notebooks"] = next(page for page in there.values() if page.startswith("notebooks/"))
    place = there.get(path, path.removeprefix("docs/"))
    if place == path and (ROOT / path).is_file() and files.get_file_from_path(path) is None:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return posixpath.relpath(place, posixpath.dirname(uri) or ".")


def _table(match: re.Match, folder: str) -> str:
    caption, path, columns, rows = match.groups()
    frame = pd.read_csv(ROOT / folder / path)
    frame = frame.query(rows) if rows else frame
    table = {}
    for column in columns.split(";"):
        name, heading, form = _COLUMN.fullmatch(column.strip()).groups()
        show = partial(_shown, form=form or "{}")
        table[heading or name.replace("_", " ")] = frame[name].map(show)
    lines = [list(table), ["---"] * len(table), *zip(*table.values(), strict=True)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{caption}** ([all rows]({path}))\n\n{body}\n"


def _shown(value, form: str) -> str:
    if pd.isna(value):
        return ""
    try:
        return form.format(float(value)) if ":" in form else str(value)
    except ValueError:  # a word among numbers
        return str(value)


def _notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, with its outputs if `make docs` has executed it; its images."""
    executed = ROOT / "build" / "notebooks" / path.name
    notebook = nbformat.read(executed if executed.exists() else path, as_version=4)
    for cell in notebook.cells:  # without what frameworks say of the machine
        outputs = cell.get("outputs", [])
        outputs[:] = [output for output in outputs if output.get("name") != "stderr"]
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    names = {name: f"{path.stem}_{name}" for name in resources.get("outputs", {})}
    for name, new in names.items():
        text = text.replace(f"({name})", f"({new})")
    return text, {names[n]: content for n, content in resources.get("outputs", {}).items()}


def _commands() -> str:
    os.environ["COLUMNS"] = "100"
    helps = {"hccr": hccr_parser().format_help()}
    for name, command in COMMANDS.items():
        parser = Parser(f"hccr {name}")
        command.fill(parser)
        helps[f"hccr {name}"] = parser.format_help()
    sections = [f"## {name}\n\n```text\n{text}```\n" for name, text in helps.items()]
    intro = "What `--help` prints. `--help-all` adds the settings that are seldom changed.\n"
    return "\n".join(["# Commands\n", intro, *sections])


def _api() -> str:
    intro = "All that is public, imported as `from hccr_tf import NAME`.\n"
    places = (place.partition(":") for place in hccr_tf._PUBLIC.values())
    names = [
        f"::: {module}.{attribute or name}\n"
        for name, (module, _, attribute) in zip(hccr_tf._PUBLIC, places, strict=True)
    ]
    return "\n".join(["# Python\n", intro, *names])
