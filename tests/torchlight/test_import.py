"""Networks, objectives, graphs and feeders outside of this project, admitted with --import."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.torchlight import tiny
from torchlight.predict import Recognizer
from torchlight.system import consent
from torchlight.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = re.search(r"```python\n(# mine.py\n.*?)```", README, re.DOTALL)[1]
YAML = re.search(r"```yaml\n(# mine.yaml\n.*?)```", README, re.DOTALL)[1]
OBJECTIVE = """
import torch

from feeders.feeder_ucla import Feeder as UclaFeeder
from graph.body import BodyGraph
from graph.ucla import SKELETON
from torchlight.objective import Classification


class Loss(Classification):
    def forward(self, model, batch):
        loss, logits, terms = super().forward(model, batch)
        return 2 * loss, logits, terms | {"doubled": loss.detach()}


class Graph(BodyGraph):
    skeleton = SKELETON


class Feeder(UclaFeeder):
    pass
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The example of README.md and a module with the other classes, in a folder of their own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in (("mine_net", EXAMPLE), ("mine_more", OBJECTIVE)):
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    consent.ADMITTED.clear()
    for name in ("mine", "mine_net", "mine_more"):
        sys.modules.pop(name, None)


@pytest.fixture
def config(mine, store):
    options = tiny.options(store) | {
        "model": "mine_net.Net",
        "model_args": {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "mine_more.Graph"},
        "feeder": "mine_more.Feeder",
        "objective": "mine_more.Loss",
    }
    (mine / "mine.yaml").write_text(yaml.safe_dump(options))
    return mine / "mine.yaml"


def test_the_example_of_the_page_runs_every_phase_from_another_folder(config, mine, main):
    run, admit = mine / "run", ("--import", mine / "mine_net.py", mine / "mine_more.py")
    for words in (
        ("--phase", "train", "--work-dir", run),
        ("--phase", "train", "--work-dir", run, "--resume", "true"),
        ("--phase", "test", "--weights", run / "last.pt", "--work-dir", run),
        ("--phase", "export-weights", "--weights", run / "last.pt"),
        ("--phase", "model_size"),
        ("--phase", "report", "--work-dir", run),
        ("--phase", "show"),
    ):
        code, _, err = main("--config", config, *words, *admit)
        assert code == 0, (words, err)
    assert "train_doubled" in tiny.metrics(run)[0]
    assert f"--work-dir {run} {' '.join(map(str, admit))}<" in (run / "report.html").read_text()  # to write the scores
    np.savez(mine / "clip.npz", keypoint=np.random.default_rng(0).normal(size=(1, 20, 20, 3)))
    code, out, err = main("--phase", "predict", "--weights", run / "last.pt", "--source", mine / "clip.npz", *admit)
    assert code == 0 and "%" in out, err


def test_the_commands_of_the_page_work_as_they_are_written(mine, store, main, monkeypatch):
    (command,) = re.findall(r"`(--config mine.yaml --import mine.py)`", README)
    (mine / "mine.py").write_text(EXAMPLE)
    (mine / "mine.yaml").write_text(YAML)
    (mine / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(mine)
    fast = ("--num-epoch", "1", "--warm-up-epoch", "0", "--step", "--train-feeder-args.repeat", "1", "--device", "cpu")
    small = ("--feeder-args", f"data_path={store}", "--model-args.num_class", "5")
    code, _, err = main(*command.split(), *small, *fast)
    assert code == 0 and (mine / "work_dir/mine/joint/last.pt").is_file(), err


def test_two_processes_train_a_network_from_outside(config, mine):
    admit = ("--import", mine / "mine_net.py", mine / "mine_more.py")
    processes = tiny.start_ranks(2, "--config", config, *admit, "--work-dir", mine / "run")
    assert tiny.finish(*processes) == 0 and (mine / "run/last.pt").is_file()


def test_without_consent_neither_a_configuration_nor_a_checkpoint_imports_anything(config, mine, main):
    code, _, err = main("--config", config, "--work-dir", mine / "run")
    assert code == 2 and "give --import mine_net to admit a module of your own" in err and "mine_net" not in sys.modules
    text = config.read_text() + "import: [mine_net]\n"
    config.write_text(text)
    code, _, err = main("--config", config, "--work-dir", mine / "run")
    assert code == 2 and "import: unknown option" in err


def test_a_checkpoint_of_own_classes_is_predicted_with_consent_only(config, mine, main):
    admit = ("--import", mine / "mine_net.py", mine / "mine_more.py")
    assert main("--config", config, "--work-dir", mine / "run", *admit)[0] == 0
    assert checkpoint.load(mine / "run/last.pt")["clips"]["num_class"] == 5
    consent.ADMITTED.clear()
    with pytest.raises(ValueError, match="model: expected a class of this project, got 'mine_net.Net'"):
        Recognizer(mine / "run/last.pt", device="cpu")
    consent.admit(str(mine / "mine_net.py"))
    consent.admit(str(mine / "mine_more.py"))
    assert Recognizer(mine / "run/last.pt", device="cpu").streams[0].num_class == 5


@pytest.mark.parametrize(
    ("word", "content", "message"),
    [
        ("gone.py", None, "expected a .py file, got 'gone.py', which does not exist"),
        ("gone.pt2", None, "expected a .pt2 file, got 'gone.pt2', which does not exist"),
        ("../x", None, "expected the name of a module"),
        ("broken_one.py", "1 / 0", "got ZeroDivisionError: division by zero"),
        ("numpy.py", "", "expected a name that no other module has"),
        ("no_such_module_of_mine", None, "got ModuleNotFoundError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_a_one_line_error(word, content, message, mine, main, monkeypatch):
    monkeypatch.chdir(mine)
    if content is not None:
        (mine / word).write_text(content)
    code, _, err = main("--phase", "show", "--import", word)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1
