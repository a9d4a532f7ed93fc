"""Plans: every cell is a command that builds; what is killed or missing is said and goes on."""

import shlex

import pandas as pd
import pytest

from hccr_tf.cli.flags import Parser, add_recipe_settings, recipe_settings
from hccr_tf.cli.main import main
from hccr_tf.models import blueprint
from hccr_tf.papers.base import get_experiment, list_experiments
from hccr_tf.papers.plans import SCALES, Cell, train_cells
from hccr_tf.papers.recipes import get_recipe
from hccr_tf.recipe import Stage

PLANNED = [name for name in list_experiments() if get_experiment(name).plan]


@pytest.fixture(scope="module")
def cells():
    """All cells of all plans, by experiment and scale."""
    return {(n, s): list(get_experiment(n).plan(s)) for n in PLANNED for s in SCALES}


def test_every_table_and_figure_of_training_has_a_plan():
    assert set(PLANNED) >= {
        "kriuk_table1",
        "kriuk_table2",
        "kriuk_figures4to6",
        "kriuk_figure7",
        "kriuk_figure8",
        "kriuk_figure9",
        "melnyk_table2",
        "melnyk_table3",
        "yang_table1",
        "chen_table1",
        "chen_table2",
        "chen_figures2to4",
        "chen_figure5",
    }


def test_cells_of_one_name_are_one_run_at_each_scale(cells):
    # They share a folder.
    for scale in SCALES:
        known = {}
        for (_, cell_scale), some in cells.items():
            for cell in some if cell_scale == scale else ():
                assert known.setdefault(cell.name, cell.build()) == cell.build(), cell.name


def test_commands_say_what_cells_build(cells):
    parser = Parser()
    add_recipe_settings(parser)
    for cell in {c.command: c for some in cells.values() for c in some}.values():
        hccr, train, recipe, *words = shlex.split(cell.command)
        settings = recipe_settings(parser.parse_args(words))
        assert (hccr, train) == ("hccr", "train")
        assert get_recipe(recipe).override(settings) == cell.build(), cell.command


def test_smoke_cells_build(cells):
    for recipe in {
        repr(c.build()): c.build() for (_, s), some in cells.items() if s == "smoke" for c in some
    }.values():
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
    cell = Cell(
        "x",
        "transfer",
        {
            "stages": (Stage(2, "backbone"), Stage(3, 100, 1e-4)),
            "epochs": 5,
            "crop_ink": False,
            "learning_rate": 2e-4,
            "model.units": 8,
        },
    )
    assert cell.command == (
        "hccr train transfer --stages backbone:2,100:3:0.0001 --epochs 5 --no-crop-ink "
        "--learning-rate 0.0002 --model.units 8"
    )


@pytest.mark.integration
def test_what_was_not_run_is_said_and_goes_on(sample_store, tmp_path, capsys):
    def mini(name, **settings):
        return Cell(
            name, "melnyk_net_a", {"image_size": 32, "model.width": 4, "epochs": 1, **settings}
        )

    some = [mini("a"), mini("b", seed=2)]
    with pytest.raises(ValueError, match="no cells \\['c'\\]; there are a, b"):
        train_cells(some, sample_store, tmp_path, only=["c"])
    assert train_cells(some, sample_store, tmp_path, only=["b"]) == [tmp_path / "b"]
    assert train_cells(some, sample_store, tmp_path, collect=True) == [tmp_path / "b"]
    assert not (tmp_path / "a" / "recipe.json").exists()
    capsys.readouterr()
    assert train_cells(some, sample_store, tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert "is finished; nothing to do" in capsys.readouterr().out


@pytest.mark.integration
def test_one_figure_from_nothing_to_a_page(tmp_path, capsys):
    """The command as a user gives it: store, runs, tables, images, page."""
    out = tmp_path / "results" / "melnyk_table2"
    arguments = ["reproduce", "melnyk_table2", "--scale", "smoke", "--out", str(out)]
    assert main([*arguments, "--only", "melnyk_net_a", "melnyk_net_c"]) == 0
    cells = pd.read_csv(out / "cells.csv")
    assert cells["state"].tolist() == ["finished", "not run", "finished"]
    assert cells["command"].str.startswith("hccr train melnyk_net_").all()
    assert cells["data_hash"].nunique() == 1 and cells["hardware"].notna().sum() == 2
    ours = pd.read_csv(out / "melnyk_table2_ours.csv")
    assert ours["model"].tolist() == ["melnyk_net_a", "melnyk_net_c"]
    # Another table of the same runs trains nothing anew.
    capsys.readouterr()
    third = tmp_path / "results" / "melnyk_table3"
    assert (
        main(["reproduce", "melnyk_table3", "--scale", "smoke", "--collect", "--out", str(third)])
        == 0
    )
    assert "epoch 1" not in capsys.readouterr().out
    assert (third / "melnyk_table3.png").exists()
    assert (
        main(
            [
                "reproduce",
                "kriuk_figures4to6",
                "--scale",
                "smoke",
                "--out",
                str(tmp_path / "results" / "kriuk_figures4to6"),
            ]
        )
        == 0
    )
    assert main(["report", str(tmp_path / "results")]) == 0
    page = (tmp_path / "results" / "report.html").read_text("utf-8")
    assert "3 tables and figures" in capsys.readouterr().out
    for text in (
        "Melnyk, You &amp; Li 2018",
        "Kriuk &amp; Kriuk 2024",
        "not run",
        'alt="kriuk_figures4to6"',
    ):
        assert text in page
    assert page.count('src="data:image/png') >= 2


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "cell"),
    [("kriuk_figure8", "model1"), ("yang_table1", "mrbc"), ("chen_table1", "efficientnet_v2s_70")],
)
def test_a_cell_of_each_paper(name, cell, tmp_path, capsys):
    assert (
        main(
            ["reproduce", name, "--scale", "smoke", "--out", str(tmp_path / "out"), "--only", cell]
        )
        == 0
    )
    cells = pd.read_csv(tmp_path / "out" / "cells.csv").set_index("cell")["state"]
    assert cells[cell] == "finished" and (cells.drop(cell) == "not run").all()
    runs = pd.read_csv(tmp_path / "out" / f"{name}_runs.csv")
    assert runs["run"].tolist() == [cell] and runs["epochs"].tolist() == [2]


def test_what_cannot_be_tested_is_said_before_training(sample_store, tmp_path, capsys):
    arguments = ["reproduce", "kriuk_figure8", "--scale", "smoke", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--data", str(sample_store.path), "--split", "tset"]) == 2
    assert "no samples in split 'tset'; it has train" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert (
        main(
            [*arguments, "--data", str(sample_store.path), "--test-data", str(tmp_path / "nothing")]
        )
        == 2
    )
    assert "nothing" in capsys.readouterr().err
    assert (
        main(["reproduce", "all", "--scale", "smoke", "--out", str(tmp_path), "--only", "modle1"])
        == 2
    )
    assert "no cells ['modle1']" in capsys.readouterr().err


def test_wrong_combinations_say_so(tmp_path, capsys):
    for arguments, message in (
        ([], "Name what to make"),
        (["kriuk_figure8"], "only --scale smoke brings its own"),
        (["kriuk_figure8", "--scale", "smoke", "--workdir", "x"], "either --workdir or --scale"),
        (["all", "--data", "x"], "all takes a --scale"),
    ):
        assert main(["reproduce", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "no results below" in capsys.readouterr().err
