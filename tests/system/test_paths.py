"""Where configurations and data are found, from any folder."""

from pathlib import Path

import pytest

from torchlight.system import paths


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(paths.DATA_ROOT, raising=False)
    return tmp_path


def test_a_configuration_of_the_project_is_found_from_another_folder(elsewhere):
    assert paths.locate("config/demo/ctrgcn.yaml") == paths.ROOT / "config/demo/ctrgcn.yaml"
    own = elsewhere / "config/demo/ctrgcn.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert paths.locate("config/demo/ctrgcn.yaml") == Path("config/demo/ctrgcn.yaml")


def test_data_is_below_the_data_root_then_the_current_folder_then_the_project(elsewhere, monkeypatch):
    assert paths.locate("data/ntu/x.clips") == Path("data/ntu/x.clips")
    assert paths.locate("data/demo/classes.txt") == paths.ROOT / "data/demo/classes.txt"
    monkeypatch.setenv(paths.DATA_ROOT, str(elsewhere / "big"))
    assert paths.locate("data/ntu/x.clips") == elsewhere / "big/ntu/x.clips"
    assert paths.locate("other/x.clips") == Path("other/x.clips") and paths.locate("/abs/x") == Path("/abs/x")


def test_preparation_and_training_agree_on_the_data_root(elsewhere, monkeypatch):
    assert paths.data_root() == Path("data")
    monkeypatch.setenv(paths.DATA_ROOT, "big")
    assert paths.data_root() == Path("big")


def test_a_data_root_that_does_not_exist_is_refused(elsewhere, monkeypatch):
    paths.set_data_root(None)  # nothing is given: data/ may be missing
    monkeypatch.setenv(paths.DATA_ROOT, "none")
    with pytest.raises(ValueError, match="SKELETON_DATA: expected a folder that exists, got 'none'"):
        paths.set_data_root(None)
    assert paths.data_root() == Path("none")
    with pytest.raises(ValueError, match="--data-root: expected a folder that exists, got 'typo'"):
        paths.set_data_root("typo")
    paths.set_data_root(elsewhere)
    assert paths.data_root() == elsewhere
