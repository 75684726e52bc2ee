"""The commands in docs/custom_skeleton.md run, and its configuration describes what they make."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from data.custom.example import BODY
from feeders.clip_store import ClipStore

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "custom_skeleton.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_runs_as_printed(tmp_path):
    for line in "".join(blocks("bash")).splitlines():
        # Only what is written moves elsewhere; the scripts stay.
        words = re.sub(r"data/custom/(raw|stick|wave)", rf"{tmp_path}/\1", line).split()
        assert words[0] == "python"
        subprocess.run([sys.executable, *words[1:]], cwd=ROOT, check=True, capture_output=True)
    store = ClipStore(tmp_path / "stick.clips")
    assert (tmp_path / "wave.gif").is_file() and len(store) == 96
    config = yaml.safe_load(blocks("yaml")[1])
    args = config["model_args"]
    assert [args[key] for key in ("num_class", "num_point", "num_person")] == [4, 13, 1]
    assert all(args[key] == store.manifest[key] for key in ("num_class", "num_point", "num_person"))
    assert config["train_feeder_args"]["split"] in store.splits


def test_the_page_prints_the_body_that_the_example_writes():
    assert blocks("yaml")[0] == BODY
