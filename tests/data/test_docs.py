"""The commands in docs/custom_skeleton.md run as printed, from files to predictions; only outputs are elsewhere."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

from data import cli as preparing
from data.custom.example import BODY
from feeders.clip_store import ClipStore
from tests.torchlight.conftest import forget_terminal
from torchlight import protocol
from torchlight.commands import main as cli
from torchlight.commands import programs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "custom_skeleton.md").read_text()
PLACES = re.compile(r"(?:data/(?:custom|deeplabcut)|work_dir)/(?:raw|stick|wave)\w*")
FASTER = ["--num-epoch", "1", "--step"]  # a single epoch instead of twenty


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def elsewhere(text: str, folder: Path) -> str:
    return PLACES.sub(lambda found: f"{folder}/{found[0]}", text)


def run(line: str, folder: Path) -> None:
    """A command of the page, in this process."""
    python, script, *words = elsewhere(line, folder).split()
    assert python == "python"
    if script == "main.py":
        assert cli.main(words + (FASTER if "--phase" not in words else [])) == 0, line
    elif script == "-m":
        assert words[0] == "torchlight.protocol"
        words = words[1:] if "--" in words else [*words[1:], "--"]
        assert protocol.main(words + FASTER) == 0, line
    else:
        module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        is_preparation = hasattr(module, "BENCHMARK")
        words = [*words, "--workers", "1"] if is_preparation else words
        code = preparing.main(module.BENCHMARK, module.__doc__, words) if is_preparation else module.main(words)
        assert code == 0, line


@pytest.fixture
def in_this_process(monkeypatch):
    """The protocol runs main.py in this process, which is faster than starting one for each training."""

    def call(words, environment=None):
        assert words[0] == "main.py" and cli.main(words[1:]) == 0

    forget_terminal()
    monkeypatch.setattr(programs, "call", call)
    monkeypatch.chdir(ROOT)


def follow(page: str, folder: Path) -> None:
    for place in ("data/custom", "data/deeplabcut", "work_dir"):
        (folder / place).mkdir(parents=True)
    for line in "".join(blocks("bash", page)).splitlines():
        run(line, folder)


def test_the_page_leads_from_files_to_predictions_and_cross_validation(tmp_path, in_this_process, capfd):
    follow(PAGE.partition("## DeepLabCut")[0], tmp_path)
    out = capfd.readouterr().out
    store, folder = ClipStore(tmp_path / "data/custom/stick.clips"), tmp_path / "work_dir/stick"
    assert len(store) == 96 and (tmp_path / "data/custom/wave.gif").is_file()
    assert {"report.html", "robustness.csv", "last.pt", "each_class_acc.csv"} <= {
        file.name for file in folder.iterdir()
    }
    assert "lowest recall: " in out and "subject0_wave_0.npz  " in out and "standard deviation of folds" in out
    assert len(list((tmp_path / "work_dir/stick_folds/stick").iterdir())) == 4
    config = yaml.safe_load((tmp_path / "data/custom/raw/stick.yaml").read_text())
    assert config == yaml.safe_load(elsewhere(blocks("yaml")[1], tmp_path))


def test_the_page_leads_from_tables_of_deeplabcut_to_predictions(tmp_path, in_this_process, capfd):
    follow(PAGE.partition("## DeepLabCut")[2], tmp_path)
    out = capfd.readouterr().out
    assert "joints are missing in " in out and "subject0_wave_0.csv  " in out and "standard deviation of folds" in out
    store = ClipStore(tmp_path / "data/deeplabcut/stick.clips")
    assert len(store.part("own", "train")) == 72 and store.manifest["missing"] == "interpolate"


def test_the_page_prints_the_body_that_the_example_writes():
    assert blocks("yaml")[0] == BODY
