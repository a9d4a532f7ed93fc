"""Runs that differ from a trained one without a training of their own."""

import json
import shutil


def copy_run(run, path, facts=None, **recipe):
    """Copies a run's folder, with other fields of its recipe and other facts of its run.json."""
    shutil.copytree(run, path)
    for name, changes in (("recipe.json", recipe), ("run.json", facts or {})):
        config = json.loads((path / name).read_text("utf-8"))
        (path / name).write_text(json.dumps(config | changes), "utf-8")
    return path
