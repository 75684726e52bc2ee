"""Raw files, reference arrays and the command line for the tests of data/."""

import importlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

RECORDS = Path(__file__).parent / "golden"


def _unzipped(name: str, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(name)
    with zipfile.ZipFile(RECORDS / f"{name}.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def ntu_raw(tmp_path_factory) -> Path:
    """45 synthetic recordings in NTU RGB+D's format, each with one special case."""
    return _unzipped("ntu_raw", tmp_path_factory)


@pytest.fixture(scope="session")
def kinetics_raw(tmp_path_factory) -> Path:
    """Synthetic Kinetics-Skeleton clips, and DeepLabCut tables in dlc/."""
    return _unzipped("kinetics_raw", tmp_path_factory)


@pytest.fixture(scope="session")
def reference():
    """name -> (arrays, meta) of a reference record."""

    def load(name: str) -> tuple[dict[str, np.ndarray], dict]:
        with np.load(RECORDS / f"{name}.npz") as file:
            arrays = dict(file)
        return arrays, json.loads(str(arrays.pop("meta")))

    return load


@pytest.fixture(scope="session")
def cli():
    """(benchmark folder, arguments) -> exit code of its prepare.py, run in this process with one worker."""
    from data.cli import main

    def run(folder: str, *arguments) -> int:
        module = importlib.import_module(f"data.{folder}.prepare")
        return main(module.BENCHMARK, module.__doc__, ["--workers", "1", *map(str, arguments)])

    return run
