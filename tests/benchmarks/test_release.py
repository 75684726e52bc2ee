"""The files for a download page: of finished runs only, small, and with the accuracy of the run."""

import csv
import hashlib

import pytest
import yaml

from benchmarks import release
from tests.torchlight import tiny
from tests.torchlight.conftest import clean  # noqa: F401
from torchlight.commands import main as cli
from torchlight.training import checkpoint


@pytest.fixture
def runs(tmp_path):
    """A folder with a finished run and one that has no scores."""
    config, folder = tmp_path / "tiny.yaml", tmp_path / "runs/seed1/net/joint"
    config.write_text(yaml.safe_dump(tiny.options(tiny.write_benchmark(tmp_path / "tiny.clips")) | {"num_epoch": 1}))
    assert cli.main(["--config", str(config), "--work-dir", str(folder)]) == 0
    test = ["--phase", "test", "--weights", str(folder / "last.pt"), "--save-score", "true"]
    assert cli.main(["--config", str(config), "--work-dir", str(folder), *test]) == 0
    other = tmp_path / "runs/seed2/net/joint"
    other.mkdir(parents=True)
    for name in ("config.yaml", "last.pt", "metrics.jsonl"):
        (other / name).write_bytes((folder / name).read_bytes())
    return tmp_path / "runs"


def test_finished_runs_become_small_files_that_test_to_the_same_accuracy(runs, tmp_path, capfd, caplog):
    out = tmp_path / "release"
    assert release.main([str(runs), "--out", str(out)]) == 0
    assert (
        f"left out, because it is not finished or has no scores: {runs / 'seed2/net/joint'}" in capfd.readouterr().out
    )
    with (out / "index.csv").open() as file:
        (row,) = csv.DictReader(file)
    start = f"{out}/{row['name']}"
    assert row["name"] == "seed1_net_joint" and "optimizer" not in checkpoint.load(f"{start}.pt")
    sums = dict(line.split()[::-1] for line in (out / "SHA256SUMS").read_text().splitlines())
    assert len(sums) == 6 and all(hashlib.sha256((out / name).read_bytes()).hexdigest() == sums[name] for name in sums)
    test = ["--phase", "test", "--weights", f"{start}.pt", "--work-dir", str(tmp_path / "again")]
    assert cli.main(["--config", f"{start}.yaml", *test]) == 0
    assert f"{start}.pt: test top-1 {float(row['test_top1']):.2f} %" in caplog.text


def test_an_existing_folder_and_a_folder_without_finished_runs_are_refused(runs, tmp_path, capfd):
    assert release.main([str(runs), "--out", str(tmp_path)]) == 2
    assert release.main([str(runs / "seed2"), "--out", str(tmp_path / "new")]) == 2
    errors = capfd.readouterr().err
    assert "--out: expected a new folder" in errors and "folder: expected finished runs" in errors
    assert not (tmp_path / "new").exists()
