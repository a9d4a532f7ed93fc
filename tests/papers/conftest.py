"""Tables of runs of the sample, as `hccr reproduce NAME --workdir RUN…` makes them."""

import pytest

from hccr_tf.papers.base import reproduce


@pytest.fixture
def make_tables(sample_store, tmp_path):
    """A function that makes an experiment's tables, by name, in the test's folder."""

    def make(name, runs):
        tables = reproduce(name, data=sample_store, workdir=runs, out=tmp_path)
        return {path.stem.removeprefix(f"{name}_"): table for path, table in tables.items()}

    return make
