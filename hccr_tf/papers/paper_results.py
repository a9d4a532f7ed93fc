"""The papers' own numbers, from `paper_results.csv`: paper, table, row, column, value, note."""

from pathlib import Path

import pandas as pd

from hccr_tf.utils.errors import HccrError

PATH = Path(__file__).with_suffix(".csv")


def paper_table(paper: str, table: str) -> pd.DataFrame:
    """A table as its paper prints it.

    Args:
        paper: such as "melnyk-2018".
        table: such as "table 3".

    Returns:
        Texts, rows and columns in the paper's order, the row's name as index.

    Raises:
        HccrError: there's no such table.
    """
    cells = pd.read_csv(PATH, dtype=str, keep_default_na=False)
    cells = cells[(cells["paper"] == paper) & (cells["table"] == table)]
    if cells.empty:
        raise HccrError(f"{PATH.name} holds no {table} of {paper}.")
    wide = cells.pivot(index="row", columns="column", values="value")
    return wide.loc[cells["row"].unique(), cells["column"].unique()]
