"""Chinese MNIST: 15,000 images of fifteen numerals by 100 writers.

`input_{suite}_{sample}_{code}.jpg`, 64×64, white ink on black; suites are writers. The file's name
says all there is to know; `chinese_mnist.csv` beside them is checked against it. The same as one
CSV, `chineseMNIST.csv`: 4,096 columns of pixels, the character in the last.
"""

import csv
import io
import math
import re
from collections.abc import Iterator

import numpy as np

from hccr_tf.charset import NUMERALS
from hccr_tf.data.sources.image_folder import read_image
from hccr_tf.data.sources.reader import Reader, SourceFile
from hccr_tf.data.sources.records import Sample, Skipped
from hccr_tf.utils.errors import HccrError

_IMAGE = re.compile(r"(?:.*/)?input_(\d+)_(\d+)_(\d+)\.jpe?g", re.IGNORECASE)
_TABLE = re.compile(r"(?:.*/)?chinese[-_ ]?mnist[^/]*\.csv", re.IGNORECASE)


class ChineseMnistReader(Reader):
    """Reads the images, inverted: ink dark on white, as in all other sources."""

    kind = "Chinese MNIST (input_{suite}_{sample}_{code}.jpg, chinese_mnist.csv, chineseMNIST.csv)"
    priority = 20

    @classmethod
    def claims(cls, name: str) -> bool:
        """Claims an image by its name, and the tables."""
        return bool(_IMAGE.fullmatch(name) or _TABLE.fullmatch(name))

    def read(self, file: SourceFile) -> Iterator[Sample | Skipped]:
        """Yields an image's sample, with "suite N" as its writer; checks the table.

        Raises:
            HccrError: The table says something else of a code than this reader knows.
        """
        match = _IMAGE.fullmatch(file.name)
        try:
            if match is None:
                table = file.read()
            else:
                suite, _, code = (int(group) for group in match.groups())
                if not 1 <= code <= len(NUMERALS):
                    raise HccrError("code outside 1 to 15")
                image = read_image(file)
        except HccrError as error:
            yield Skipped(file.source, None, file.num_bytes, str(error))
            return
        if match is None:
            wide = table.partition(b"\n")[0].count(b",") > 100
            yield from (_read_pixels if wide else _check_table)(table, file)
        else:
            yield Sample(255 - image, NUMERALS[code - 1], f"suite {suite}", file.source, None)


def _read_pixels(table: bytes, file: SourceFile) -> Iterator[Sample | Skipped]:
    """Yields a sample a line: pixels of a square image, and the character in the last cell."""
    lines = iter(io.BytesIO(table))
    side = math.isqrt(next(lines).count(b","))
    for number, line in enumerate(lines, 2):
        source, cells = f"{file.source}#{number}", line.decode("utf-8", "replace").split(",")
        try:
            image = np.array(cells[: side * side], np.float32).reshape(side, side)
            character = NUMERALS[NUMERALS.index(cells[-1].strip())]
            yield Sample(255 - image.astype(np.uint8), character, None, source, None)
        except ValueError:
            yield Skipped(source, None, len(line), "row without pixels and a numeral")


def _check_table(table: bytes, file: SourceFile) -> Iterator[Skipped]:
    try:
        rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error):
        yield Skipped(file.source, None, file.num_bytes, "table cannot be read")
        return
    for line, row in enumerate(rows, 2):
        code = row.get("code") or ""
        if not code.isdigit() or not 1 <= int(code) <= len(NUMERALS):
            yield Skipped(file.source, None, 0, "table row without a code of 1 to 15")
        elif (character := row.get("character")) != (known := NUMERALS[int(code) - 1]):
            raise HccrError(
                f"{file.source}, line {line}: code {code} is {character!r}, and this reader knows "
                f"it as {known!r}; the table is another edition or damaged. Download it again, or "
                "leave it out to read the images by their names"
            )
