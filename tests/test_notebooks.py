"""The notebooks run on a small result of the same steps as `make demo`."""

import ast
import base64
import json
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import hccr_tf
from hccr_tf import Store, fuse, get_recipe, predict_split, train
from hccr_tf.cli.main import main

FOLDER = Path(__file__).parents[1] / "notebooks"
IMAGES = {
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
MODELS = (1, 2, 3)

notebooks = pytest.mark.parametrize("name", IMAGES)
on_runs = pytest.mark.parametrize("name", [name for name in IMAGES if name not in RESULTS])
on_results = pytest.mark.parametrize("name", RESULTS)


@pytest.fixture(scope="session")
def demo_results(sample_store, tmp_path_factory) -> Path:
    """A folder like runs/demo: a store, three trained models, their logits, the fusion."""
    runs = tmp_path_factory.mktemp("demo")
    store = Store(shutil.copytree(sample_store.path, runs / "store"))
    logits = [runs / f"logits{i}.h5" for i in MODELS]
    for i, path in zip(MODELS, logits, strict=True):
        # Not narrower: TensorFlow 2.21's CPU kernels crash in strided 1x1 convolutions of fewer
        # than 16 channels when a batch's size is odd.
        recipe = get_recipe(f"brick_model{i}").override(
            image_size=32, **{"model.num_bricks": 2, "model.width": 16}, epochs=2, batch_size=32
        )
        train(recipe, store, runs / f"model{i}")
        predict_split(runs / f"model{i}", store, path)
    fuse(logits, runs / "results", weights=[0.3, 0.2, 0.5])
    return runs


@pytest.fixture(scope="session")
def results(demo_results, sample_store, tmp_path_factory) -> Path:
    """A folder like results/, of small runs."""
    folder = tmp_path_factory.mktemp("results")
    runs, model1 = folder / "runs", demo_results / "model1"
    store = Store(shutil.copytree(sample_store.path, folder / "sample" / "store"))
    small = {"image_size": 32, "model.width": 16, "epochs": 1, "batch_size": 32}
    recipe = get_recipe("brick_model1").override(
        **small, **{"loss.gamma": 0.0, "model.num_bricks": 3}
    )
    train(recipe, store, runs / "model1_gamma0")
    recipe = get_recipe("transfer").override(
        model="brick_net", **{"model.num_bricks": 2}, **(small | {"epochs": 2}), stages=()
    )
    train(recipe, store, runs / "transferred", init_from=model1)
    small = {"image_size": 16, "model.width": 4, "epochs": 1, "batch_size": 32}
    for name in ("mrbc", "mrbc_ir"):
        train(get_recipe(name).override(**small), store, runs / name)
    for name, chosen in {
        "kriuk_figure8": [model1, runs / "model1_gamma0"],
        "kriuk_figure9": [model1, runs / "model1_gamma0"],
        "yang_table1": [runs / "mrbc", runs / "mrbc_ir"],
        "chen_transfer": [model1, runs / "transferred"],
    }.items():
        paths = [str(path) for path in chosen]
        assert (
            main(
                [
                    "reproduce",
                    name,
                    "--data",
                    str(store.path),
                    "--workdir",
                    *paths,
                    "--out",
                    str(folder / name),
                ]
            )
            == 0
        )
    return folder


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(name: str) -> list[str]:
    return [cell.source for cell in read(name).cells if cell.cell_type == "code"]


def test_every_notebook_is_listed_here():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(IMAGES)


@pytest.mark.slow
@notebooks
def test_runs_and_draws(name, demo_results, results, monkeypatch):
    monkeypatch.setenv("HCCR_RUNS", str(demo_results))
    monkeypatch.setenv("HCCR_RESULTS", str(results))
    assert execute(name, FOLDER) == IMAGES[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITTED)
def test_opens_on_committed_results(name, tmp_path, monkeypatch):
    monkeypatch.delenv("HCCR_RESULTS", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "benchmarks").symlink_to(FOLDER.parent / "benchmarks")
    assert execute(name, tmp_path / "notebooks") == COMMITTED[name]


def execute(name: str, folder: Path) -> int:
    """Runs a notebook in a folder, in which no cell fails or warns; how many images it draws."""
    notebook = read(name)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()  # raises CellExecutionError where a cell fails
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    # Whatever warns, such as Matplotlib of a glyph that its font lacks, is a fault.
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    images = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    for image in images:
        assert base64.b64decode(image).startswith(b"\x89PNG")
    return len(images)


@on_runs
def test_says_which_command_makes_missing_results(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HCCR_RUNS", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="nothing.*make demo.*HCCR_RUNS"):
        exec(code(name)[0], {})


@on_results
def test_says_which_command_makes_missing_tables(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HCCR_RESULTS", str(tmp_path / "nothing"))
    command = f"nothing.*`hccr reproduce {RESULTS[name]} --.*HCCR_RESULTS"
    with pytest.raises(FileNotFoundError, match=command):
        exec(code(name)[0], {})


@on_runs
def test_takes_the_demo_by_default(name):
    assert 'RUNS = Path(os.environ.get("HCCR_RUNS", "../runs/demo"))' in code(name)[0]


@on_results
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
        (place / "about.json").write_text(json.dumps({"experiment": RESULTS[name]}))
        names = {}
        exec(code(name)[0], names)
        assert names["RESULTS"] == place


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
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    ours = [imported.split(".") for imported in names if imported.startswith("hccr_tf")]
    assert ours
    for parts in ours:
        assert not any(part.startswith("_") for part in parts)
        if len(parts) == 2:
            assert parts[1] in hccr_tf.__all__
