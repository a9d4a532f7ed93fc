"""Fixtures that several test files share."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data, or a skip that says how to name one."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HCCR_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set HCCR_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def hwdb100(real_data) -> Path:
    """The folder with 100 classes of CASIA-HWDB, or a skip."""
    folder = real_data / "hwdb100"
    if not folder.is_dir():
        pytest.skip(f"no hwdb100 in {real_data}")
    return folder


@pytest.fixture
def make_picture():
    """A function that makes a small picture, shape (height, width), different for every seed."""

    def make(seed: int, height: int = 5, width: int = 4) -> np.ndarray:
        picture = np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)
        # The seed in the first pixels keeps pictures apart whatever the generator draws.
        picture.flat[:3] = seed % 251, seed // 251 % 251, height
        return picture

    return make
