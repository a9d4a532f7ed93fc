"""Plans and their runner: every cell is a command; what is killed or missing is said, goes on."""

import logging
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from hccr_tf.cli.flags import Parser, add_recipe_settings
from hccr_tf.cli.main import main
from hccr_tf.cli.reproduce import _minutes
from hccr_tf.models import blueprint
from hccr_tf.papers.base import EXPERIMENTS, SCALES, Cell, register_experiment, train_cells
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.recipe import Stage


@pytest.fixture(scope="module")
def cells():
    """All cells of all plans, by experiment and scale."""
    return {(n, scale): e.cells(scale) for n, e in EXPERIMENTS.items() for scale in e.scales}


def test_every_table_and_figure_of_training_has_a_plan(cells):
    planned = {"kriuk_table1", "kriuk_table2", "kriuk_figure7", "kriuk_figure8", "kriuk_figure9"}
    planned |= {"kriuk_figures4to6", "melnyk_table2", "melnyk_table3", "yang_table1", "chen_table1"}
    planned |= {"chen_table2", "chen_figures2to4", "chen_figure5"}
    assert {(name, scale) for name in planned for scale in ("full", "real-small", "smoke")} <= set(
        cells
    )
    with pytest.raises(ValueError, match="chen_table1 has no plan .* hwdb100; there is one for"):
        EXPERIMENTS["chen_table1"].cells("hwdb100")


@pytest.mark.parametrize("scale", SCALES)
def test_cells_of_one_name_are_one_run_at_each_scale(cells, scale):
    # They share a folder.
    known = {}
    for some in (some for (_, of), some in cells.items() if of == scale):
        for cell in some:
            run = cell.build(), cell.init_from
            assert known.setdefault(cell.name, run) == run, cell.name
    # A run begins with one that its scale trains.
    assert {begin for _, begin in known.values() if begin} <= set(known)


def test_commands_say_what_cells_build(cells):
    parser = Parser()
    parser.add_argument("recipe")
    for option in ("--init-from", "--data", "--workdir"):
        parser.add_argument(option)
    add_recipe_settings(parser)
    command = partial(Cell.command, store=Path("store"), folder=Path("runs"))
    for cell in {command(cell): cell for some in cells.values() for cell in some}.values():
        hccr, train, *words = shlex.split(command(cell))
        assert (hccr, train) == ("hccr", "train")
        settings = vars(parser.parse_args(words))
        recipe, init_from = get_recipe(settings.pop("recipe")), settings.pop("init_from")
        assert init_from == (cell.init_from and f"runs/{cell.init_from}")
        assert settings.pop("data") == "store" and settings.pop("workdir") == f"runs/{cell.name}"
        assert recipe.override(settings) == cell.build()


def test_smoke_cells_build(cells):
    smoke = [c.build() for (_, scale), some in cells.items() if scale == "smoke" for c in some]
    for recipe in {repr(recipe): recipe for recipe in smoke}.values():
        blueprint(
            recipe.model,
            num_classes=15,
            image_shape=recipe.preprocessing.image_shape,
            **recipe.model_args,
        )


def test_the_papers_sweeps_are_complete(cells):
    gammas = [c.build().loss_args["gamma"] for c in cells["kriuk_figure8", "full"]]
    assert gammas == [0, 1, 2, 4, 6, 0, 4, 0, 4]
    bricks = [c.build().model_args["num_bricks"] for c in cells["kriuk_figure9", "real-small"]]
    assert bricks == [2, 3, 4, 5]
    assert len(cells["chen_table2", "full"]) == 9 and len(cells["chen_table1", "full"]) == 6
    assert len(cells["yang_table1", "full"]) == 6
    full = cells["kriuk_table1", "full"]
    assert [c.build() for c in full] == [get_recipe(f"kriuk_model{i}") for i in (1, 2, 3)]


def test_a_command_names_every_kind_of_setting():
    settings = {
        "stages": (Stage(2, "backbone"), Stage(3, 100, 1e-4)),
        "crop_ink": False,
        "learning_rate": 2e-4,
        "model.units": 8,
    }
    cell = Cell("x", "transfer", settings, init_from="y")
    assert cell.command(Path("a store"), Path("runs")) == (
        "hccr train transfer --stages backbone:2,100:3:0.0001 --no-crop-ink "
        "--learning-rate 0.0002 --model.units 8 --init-from runs/y "
        "--data 'a store' --workdir runs/x"
    )


@pytest.mark.slow
@pytest.mark.integration
def test_what_was_not_run_is_said_and_goes_on(sample_store, tmp_path, caplog):
    small = {"image_size": 16, "model.width": 4, "epochs": 1, "samples_per_class": 4}

    def run(only=None):
        with caplog.at_level(logging.INFO, "hccr_tf"):
            train = train_cells(some, sample_store, tmp_path, only=only)
            assert sorted(cell.name for cell in train) == ["a", "b"]
        return [cell.name for cell in some if (tmp_path / cell.name / "recipe.json").exists()]

    some = [Cell("a", "convnet", small, "b"), Cell("b", "convnet", {**small, "seed": 2})]
    with pytest.raises(ValueError, match="No cell is called 'c'. There are: a, b"):
        run(["c"])
    with pytest.raises(ValueError, match="a begins with the run b, which isn't trained"):
        run(["a"])
    assert run(["b"]) == ["b"] and run([]) == ["b"] and run() == ["a", "b"]
    assert "[2 of 2] b: hccr train convnet" in caplog.text


@pytest.mark.slow
@pytest.mark.integration
def test_one_figure_from_nothing_to_a_page(tmp_path, capsys):
    """The command as a user gives it: store, runs, tables, images, page."""
    results = tmp_path / "results"

    def reproduce(name, *arguments):
        out = results / name
        assert main(["reproduce", name, "--scale", "smoke", "--out", str(out), *arguments]) == 0
        return out

    out = reproduce("melnyk_table2", "--only", "melnyk_net_a", "melnyk_net_c")
    cells = pd.read_csv(out / "cells.csv")
    assert cells["state"].tolist() == ["finished", "not run", "finished"]
    assert cells["command"].str.startswith("hccr train melnyk_net_").all()
    assert cells["data_hash"].nunique() == 1 and cells["hardware"].notna().sum() == 2
    ours = pd.read_csv(out / "melnyk_table2_ours.csv")
    assert ours["model"].tolist() == ["melnyk_net_a", "melnyk_net_c"]
    assert ours["train_command"].tolist() == cells["command"][[0, 2]].tolist()
    # Another table of the same runs trains nothing anew.
    capsys.readouterr()
    third = reproduce("melnyk_table3", "--collect")
    assert "epoch 1" not in capsys.readouterr().out
    assert (third / "melnyk_table3.png").exists()
    reproduce("kriuk_figures4to6")
    assert main(["report", str(results)]) == 0
    page = (results / "report.html").read_text("utf-8")
    assert "3 tables and figures" in capsys.readouterr().out
    for text in ("Melnyk, You &amp; Li 2018", "not run", 'alt="kriuk_figures4to6"'):
        assert text in page
    assert page.count('src="data:image/png') >= 2


@pytest.mark.slow
@pytest.mark.integration
def test_all_makes_every_table_of_what_is_trained(tmp_path, capsys):
    cell = "efficientnet_v2s_70"
    assert (
        main(["reproduce", "all", "--scale", "smoke", "--out", str(tmp_path), "--only", cell]) == 0
    )
    assert "kriuk_table1: nothing is trained yet" in capsys.readouterr().out
    for name in ("chen_table1", "chen_figure5"):
        cells = pd.read_csv(tmp_path / name / "cells.csv").set_index("cell")["state"]
        assert cells[cell] == "finished" and (cells.drop(cell) == "not run").all()
        runs = pd.read_csv(tmp_path / name / f"{name}_runs.csv")
        assert runs["run"].tolist() == [cell] and runs["epochs"].tolist() == [2]
    assert (tmp_path / "melnyk_table1" / "melnyk_table1_ours.csv").exists()


def test_all_says_how_long_it_will_take():
    assert _minutes(0.0, 0, 17) == "" == _minutes(300.0, 17, 0)  # nothing to go by; nothing left
    assert _minutes(120.0, 4, 13) == ", about 6 minutes at the pace so far"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name what to make (`hccr reproduce --list`)"),
        (["kriuk_figure8"], "only --scale smoke brings its own"),
        (["nothing", "--data", "STORE"], "No experiment is called 'nothing'. There are: "),
        (["melnyk_table2", "--data", "STORE"], "Name the trained runs: --workdir"),
        (["kriuk_figure8", "--scale", "smoke", "--workdir", "x"], "either --workdir or --scale"),
        (["all", "--data", "x"], "all, --only, --collect, --dry-run and --runs go with"),
        (["all", "--scale", "smoke", "--only", "modle1"], "'modle1'. Did you mean model1"),
        # Before anything is trained:
        (["networks", "--data", "STORE", "--scale", "full"], "no plan of what to train"),
        (
            ["kriuk_figure8", "--scale", "smoke", "--data", "STORE", "--split", "tset"],
            "no samples in split 'tset'; it has train",
        ),
        (
            ["kriuk_figure8", "--scale", "smoke", "--data", "STORE", "--test-data", "nothing"],
            "nothing",
        ),
    ],
)
def test_what_cannot_be_made_says_so(arguments, message, sample_store, tmp_path, capsys):
    arguments = [str(sample_store.path) if a == "STORE" else a for a in arguments]
    assert main(["reproduce", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_experiments_are_listed(capsys):
    assert main(["reproduce", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert name in listed and EXPERIMENTS[name].description in listed
    with pytest.raises(ValueError, match="registered already"):
        register_experiment(plan=lambda scale: ())(EXPERIMENTS["melnyk_table2"].run)
