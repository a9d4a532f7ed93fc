"""Images for the server's tests, and what the recogniser reads in them."""

import photographs as made
import pytest

from hccr_tf import Recognizer


@pytest.fixture(scope="session")
def recognizer():
    return Recognizer()


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """An image file of each numeral."""
    return [made.encoded(made.on_paper(c, seed=3)) for c in "零一二三四五六七八九十百千万亿"]


@pytest.fixture(scope="session")
def expected(recognizer, images):
    """What the recogniser reads in them."""
    return recognizer.predict(images)


@pytest.fixture(scope="session")
def assert_same():
    """A function that compares a result with a `Recognition`; batches differ in last digits."""

    def compare(result, recognition):
        pairs = [(result["character"], result["probability"]), *result["alternatives"]]
        expected = [(recognition.character, recognition.probability), *recognition.alternatives]
        assert [character for character, _ in pairs] == [character for character, _ in expected]
        assert [p for _, p in pairs] == pytest.approx([p for _, p in expected], abs=1e-5)

    return compare
