"""Fixtures shared by all tests."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from dd2core.pipeline import Pipeline
from tests import tiny


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def gradio_files(tmp_path_factory):
    """Gradio keeps what it serves below pytest's own folder, which pytest clears."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="session")
def teacher():
    """A random teacher."""
    return tiny.teacher()


@pytest.fixture(scope="session")
def tiny_pipe():
    """A pipeline over random weights: 16-pixel grey images, 16 steps, three classes."""
    return Pipeline(tiny.model())
