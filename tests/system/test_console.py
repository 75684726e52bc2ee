"""The commands and the library from another folder, as `pip install -e .` makes them importable."""

import os
import subprocess
import sys

import pytest

from torchlight.system.paths import ROOT


@pytest.fixture
def elsewhere(tmp_path):
    """Runs Python in a folder from which only `torchlight` can be imported, as after an installation."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed/torchlight").symlink_to(ROOT / "torchlight")
    (tmp_path / "work").mkdir()

    def run(code):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"PYTHONPATH": str(tmp_path / "installed"), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, "-c", code]
        return subprocess.run(words, cwd=tmp_path / "work", env=environment, capture_output=True, text=True)

    return run


def test_the_command_runs_a_configuration_of_the_project(elsewhere):
    code = "import sys; sys.argv[1:] = ['--config', 'config/NW-UCLA/ctrgcn.yaml', '--phase', 'show']; "
    found = elsewhere(code + "from torchlight.system.console import main; sys.exit(main())")
    assert found.returncode == 0 and "model.ctrgcn.Model" in found.stdout, found.stderr


def test_the_library_is_importable_and_names_a_package_that_hides_its_own(elsewhere, tmp_path):
    code = "from torchlight.predict import Recognizer; print(Recognizer.__name__)"
    (tmp_path / "work/data").mkdir()  # a folder with data hides nothing
    assert elsewhere(code).stdout.strip() == "Recognizer"
    (tmp_path / "work/model.py").touch()
    found = elsewhere(code)
    assert found.returncode and "torchlight needs its package model" in found.stderr
