"""A tiny benchmark, an experiment on it, and the programs that run it."""

import logging

import pytest
import yaml

from tests.torchlight import tiny
from torchlight.commands import main as cli
from torchlight.config import imports
from torchlight.report import class_tables


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Admit dotted paths into these tests, and send the log to the terminal of the current test."""
    monkeypatch.setattr(imports, "ROOTS", (*imports.ROOTS, "tests"))
    forget_terminal()
    yield
    forget_terminal()


def forget_terminal() -> None:
    log = logging.getLogger("torchlight")
    for handler in [handler for handler in log.handlers if type(handler) is logging.StreamHandler]:
        log.removeHandler(handler)


@pytest.fixture
def no_class_tables(monkeypatch):
    """Do not write the tables of the classes, because their picture takes seconds for hundreds of classes."""
    monkeypatch.setattr(class_tables, "write_class_tables", lambda *_: None)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The clip store of `tiny.write_benchmark`."""
    return tiny.write_benchmark(tmp_path_factory.mktemp("data") / "tiny.clips")


@pytest.fixture(scope="session")
def experiment(tmp_path_factory, store):
    """A function that writes a configuration and returns its path: `tiny.options` with changes."""
    folder = tmp_path_factory.mktemp("config")

    def write(**changes):
        path = folder / f"{len(list(folder.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(tiny.options(store) | changes))
        return path

    return write


@pytest.fixture
def main(capfd):
    """The command line in this process: main("--config", ...) -> (exit code, standard output, standard error)."""

    def call(*argv):
        capfd.readouterr()
        code = cli.main([str(word) for word in argv])
        return code, *capfd.readouterr()

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory, experiment):
    """The run directory of a complete, uninterrupted run with moving average, mixup and dropout."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    assert tiny.finish(tiny.start("--config", experiment(**tiny.RICH), "--work-dir", path)) == 0
    return path
