"""The notebooks run on a small result of the same steps as `make demo`."""

import ast
import json
import shutil
from pathlib import Path

import nbformat
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from nbclient import NotebookClient
from run_copies import copy_run

import hccr_tf
from hccr_tf.cli.main import main
from hccr_tf.runs.workdir import Workdir

FOLDER = Path(__file__).parents[1] / "notebooks"
IMAGES = {
    "00_start": 2,
    "01_data": 6,
    "02_training_curves": 2,
    "03_ensemble": 6,
    "04_gamma": 3,
    "05_bricks": 2,
    "06_activation_maps": 3,
    "07_refinement": 3,
    "08_transfer": 3,
}
# What a notebook opens on: runs of `make demo`, or results of `hccr reproduce`.
RESULTS = {
    "04_gamma": "kriuk_figure8",
    "05_bricks": "kriuk_figure9",
    "07_refinement": "yang_table1",
    "08_transfer": "chen_transfer",
}
# Of those, what is in benchmarks/results, and its images: attention takes a trained run.
COMMITTED = {**{name: IMAGES[name] for name in RESULTS}, "07_refinement": 2}

notebooks = pytest.mark.parametrize("name", IMAGES)


@pytest.fixture(scope="session")
def results(make_once, brick_run, convnet_runs, sample_store) -> Path:
    """A folder like results/, of small runs; some differ from another by their recipe only."""

    def fill(folder):
        store = shutil.copytree(sample_store.path, folder / "sample" / "store")
        runs = folder / "runs"
        model1 = shutil.copytree(brick_run, runs / "model1")
        gamma = {**Workdir(brick_run).recipe.loss_args, "gamma": 0.0}
        focal = copy_run(brick_run, runs / "gamma0", loss_args=gamma)
        origin = {"init_recipe": "brick_model1", "init_data_hash": sample_store.data_hash}
        begun = copy_run(brick_run, runs / "begun", origin)
        for name, chosen in {
            "kriuk_figure8": [model1, focal],
            "kriuk_figure9": [model1, focal],
            "yang_table1": [shutil.copytree(run, runs / run.name) for run in convnet_runs],
            "chen_transfer": [model1, begun],
        }.items():
            command = ["reproduce", name, "--data", store, "--out", folder / name, "--workdir"]
            assert main([str(part) for part in (*command, *chosen)]) == 0

    return make_once("results", fill)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(name: str) -> list[str]:
    return [cell.source for cell in read(name).cells if cell.cell_type == "code"]


def test_every_notebook_is_listed_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(IMAGES)


def execute(name: str, folder: Path, monkeypatch) -> int:
    """Runs a notebook's cells in a folder as a kernel does; how many images they show."""
    monkeypatch.chdir(folder)
    images = 0

    def display(value) -> None:
        nonlocal images
        if isinstance(value, Figure):
            value.canvas.draw()  # A glyph that a font lacks, for instance, warns only now.
            images += 1
        elif hasattr(value, "_repr_png_"):
            assert value._repr_png_()
            images += 1
        elif hasattr(value, "_repr_html_"):
            value._repr_html_()

    names: dict = {"display": display}
    for cell in code(name):
        statements = ast.parse(cell.replace("%matplotlib inline", ""))
        if isinstance(statements.body[-1], ast.Expr) and not cell.endswith(";"):
            last = ast.unparse(statements.body.pop())
            exec(compile(statements, name, "exec"), names)
            display(eval(last, names))
        else:
            exec(compile(statements, name, "exec"), names)
        for number in plt.get_fignums():
            display(plt.figure(number))
        plt.close("all")
    return images


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "00_start" else ()) for n in IMAGES]
)
def test_runs_and_draws(name, demo_results, results, monkeypatch):
    monkeypatch.setenv("HCCR_RUNS", str(demo_results))
    monkeypatch.setenv("HCCR_RESULTS", str(results))
    assert execute(name, FOLDER, monkeypatch) == IMAGES[name]


@pytest.mark.parametrize("name", COMMITTED)
def test_opens_on_committed_results(name, tmp_path, monkeypatch):
    monkeypatch.delenv("HCCR_RESULTS", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "benchmarks").symlink_to(FOLDER.parent / "benchmarks")
    assert execute(name, tmp_path / "notebooks", monkeypatch) == COMMITTED[name]


@pytest.mark.e2e
def test_a_kernel_shows_no_warning_and_every_image(demo_results, monkeypatch):
    monkeypatch.setenv("HCCR_RUNS", str(demo_results))
    notebook = read("03_ensemble")
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=100, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) == IMAGES["03_ensemble"]


@notebooks
def test_says_which_command_makes_what_is_missing(name, tmp_path, monkeypatch):
    first = code(name)[0]
    command = "make demo.*HCCR_RUNS"
    if name in RESULTS:
        command = f"`hccr reproduce {RESULTS[name]} --.*HCCR_RESULTS"
    else:
        assert 'RUNS = Path(os.environ.get("HCCR_RUNS", "../runs/demo"))' in first
    for variable in ("HCCR_RUNS", "HCCR_RESULTS"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match=f"nothing.*{command}"):
        exec(first, {})


@pytest.mark.parametrize("name", RESULTS)
def test_takes_ones_own_results_before_committed_ones(name, monkeypatch, tmp_path):
    monkeypatch.delenv("HCCR_RESULTS", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    # From the least to the best: what comes later is taken.
    for folder in (
        "../benchmarks/results/real-small",
        "../results/smoke",
        "../results",
        "../results/real-small",
        "../results/full",
    ):
        place = Path(folder) / RESULTS[name]
        place.mkdir(parents=True)
        about = {"experiment": RESULTS[name], "scale": folder, "tables": [], "description": ""}
        (place / "about.json").write_text(json.dumps(about))
        names: dict = {}
        exec(code(name)[0], names)
        assert names["RESULTS"] == place if "RESULTS" in names else names["about"] == about


@notebooks
def test_is_stripped(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@notebooks
def test_imports_only_what_is_public(name):
    source = "\n".join(code(name)).replace("%matplotlib inline", "")
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names += [f"{module}{alias.name}" for alias in node.names]
    ours = [imported.split(".") for imported in names if imported.startswith("hccr_tf")]
    assert ours
    for parts in ours:
        assert not any(part.startswith("_") for part in parts)
        if len(parts) == 2:
            assert parts[1] in hccr_tf.__all__
