"""Damaged inputs of every kind, some seconds each; `benchmarks/fuzz.py` tries many thousands."""

import fuzzed_data  # noqa: F401 (registers its kinds)
import fuzzed_files  # noqa: F401
import pytest
from fuzzing import KINDS, fuzz

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("kind", KINDS)
def test_every_ending_is_an_answer_or_an_error_by_name(kind, tmp_path):
    verdict = fuzz(kind, tmp_path, range(10_000_000, 20_000_000), seconds=5)
    print(verdict)
    assert not verdict.others, next(iter(verdict.others.items()))
    assert verdict.tried and verdict.slowest < 60
