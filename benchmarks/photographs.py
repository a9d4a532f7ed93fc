"""How many photographs of each kind are read rightly, with and without second looks.

`python benchmarks/photographs.py FOLDER --out photographs.csv`. FOLDER holds a folder a kind, of
images whose names begin with their character (`circle/德.png`), or images named `德_kind_3.jpg`.
"""

import argparse
from pathlib import Path

import pandas as pd

from hccr_tf import Recognizer
from hccr_tf.images.cleaning import ImageError
from hccr_tf.images.decoding import SUFFIXES, read_clean


def main() -> None:
    """Reads all images and writes a row a kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("photographs.csv"))
    arguments = parser.parse_args()
    recognizer = Recognizer()
    rows = []
    for file in sorted(arguments.folder.rglob("*")):
        if file.suffix.lower() not in SUFFIXES:
            continue
        _, *named = file.stem.split("_")
        kind = named[0] if named else file.parent.name
        answer = recognizer.predict(file, on_error="return")[0]
        try:
            once = recognizer.logits([read_clean(file)])
            first = recognizer.charset.char(int(recognizer.rank(once, 1)[0][0, 0]))
        except ImageError:
            first = ""
        right = not isinstance(answer, ImageError) and answer.character == file.name[0]
        refused = isinstance(answer, ImageError)
        rows.append((kind, 1, first == file.name[0], right, refused))
    columns = ["kind", "images", "first_candidate", "right", "refused"]
    table = pd.DataFrame(rows, columns=columns).groupby("kind").sum()
    table.to_csv(arguments.out)
    print(table.to_string())


if __name__ == "__main__":
    main()
