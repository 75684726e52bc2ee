"""The search for students: its space, sizes and budget, and, with Optuna, its trainings, tables and continuation."""

import csv
import random
import subprocess
import sys

import numpy as np
import pytest
import yaml

from tests.feeders.synthetic import random_clips, rewrite_index, write_store
from tests.torchlight import tiny
from torchlight.commands import main as cli
from torchlight.commands import programs
from torchlight.config.imports import import_object
from torchlight.config.load import load_config
from torchlight.search import __main__ as search
from torchlight.search.space import Budget, Family, Size, Space, read_search, size_of
from torchlight.system.command import RunError
from torchlight.system.paths import ROOT

NAMES = [f"a0{a}_s0{s}_e00_v01" for s in (1, 2, 3) for a in range(1, 6)]
FAMILY = {"model": "model.ctrgcn.Model", "width": [8], "blocks": [[1, 2]], "choices": {"kernel_size": [3, 5]}}
SHARED = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph"}
SHIPPED = sorted((ROOT / "config/search").glob("*.yaml"))


# The space


def test_a_point_becomes_the_arguments_and_the_name_of_a_network():
    family = Family(
        model="m", width=[16, 24], blocks=[[1, 3], [0], [2]], choices={"kernel_size": [3]}, model_args={"a": 1}
    )
    space = Space({"net": family}, Budget(), [])
    offered = {}
    point = space.draw(lambda name, values: offered.setdefault(name, values)[-1])
    assert offered == {
        "network": ["net"],
        "net.width": [16, 24],
        **{"net.blocks1": [1, 3], "net.blocks2": [0], "net.blocks3": [2], "net.kernel_size": [3]},
    }
    arguments = {"a": 1, "channels": [24, 24, 24, 48, 48], "kernel_size": 3}  # a stage without blocks is left out
    assert space.network(point) == ("m", arguments) and space.title(point) == "net_3x24_2x48_kernel_size3"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_an_included_space_samples_networks_for_its_recipe_and_has_dke7_first_and_within_the_budget(file):
    declared, space = read_search(file)
    recipe = load_config(file.parent / declared.recipe)
    common = search.Common(file.parent, space, recipe, [])
    (point,) = space.first
    assert common.config(point).model_args["channels"] == recipe.model_args["channels"]
    size = common.size(point)
    assert size == Size(361_433, 247_033_920) and not space.excess(size)
    assert "361,433 parameters of 1,000" in Space({}, Budget(parameters=1000), []).excess(size)
    choose = random.Random(0).choice
    points = [space.draw(lambda name, values: choose(values)) for _ in range(8)]
    sizes = {space.title(point): common.size(point) for point in points}
    assert {"ctrgcn", "agcn"} == {name.split("_")[0] for name in sizes}
    assert len({bool(space.excess(size)) for size in sizes.values()}) == 2


@pytest.mark.parametrize(("network", "kernel_size"), [("ctrgcn", 5), ("agcn", 9), ("aagcn", 9)])
def test_kernel_size_is_that_of_the_temporal_convolutions(network, kernel_size):
    def size(**more):
        return size_of(import_object(f"model.{network}.Model")(**SHARED, channels=[16], **more), (3, 8, 20, 1))

    weights = 2 * 4 * 4 if network == "ctrgcn" else 16 * 16  # of one frame of the kernel
    assert size() == size(kernel_size=kernel_size)
    difference = (kernel_size - 3) * weights
    assert size().parameters - size(kernel_size=3).parameters == difference
    assert size().multiply_adds - size(kernel_size=3).multiply_adds == 8 * 20 * difference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": {}}, "budgets: unknown argument; did you mean budget?"),
        ({"budget": {"parameters": "many"}}, "budget.parameters: expected an integer or null, got 'many'"),
        ({"networks": {}}, "networks: expected one or more, got none"),
        ({"networks": {"a/b": FAMILY}}, "expected a name of letters, digits, _, - and ., got 'a/b'"),
        (
            {"networks": {"n": FAMILY | {"blocks": [[0, 1]]}}},
            "networks.n.blocks: expected one or more blocks in the first",
        ),
        ({"networks": {"n": FAMILY | {"blocks": [[1], [-1]]}}}, "blocks2: expected numbers of blocks, 0 or more"),
        ({"networks": {"n": FAMILY | {"blocks": []}}}, "width: expected both width and blocks, or neither"),
        ({"networks": {"n": FAMILY | {"width": [8, 8]}}}, "width: expected different numbers, booleans or words"),
        ({"networks": {"n": FAMILY | {"choices": {"adaptive": []}}}}, "adaptive: expected different numbers"),
        ({"first": [{"network": "m"}]}, "first: network: expected one of the networks, got 'm'; known: n"),
        ({"first": [{"network": ["n"]}]}, "first: network: expected one of the networks, got ['n']; known: n"),
        ({"first": [{"network": "n", "width": 8, "blocks": [3]}]}, "first: blocks1, kernel_size: expected values of n"),
    ],
)
def test_a_space_with_a_mistake_is_refused(tmp_path, changes, message):
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump({"recipe": "r.yaml", "flags": "", "networks": {"n": FAMILY}} | changes)
    )
    with pytest.raises(ValueError) as error:
        read_search(tmp_path / "s.yaml")
    assert message in str(error.value) and str(error.value).startswith(str(tmp_path / "s.yaml"))


# The search


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe for very small networks, clips of three performers, and a function that writes a search on them."""
    folder = tmp_path_factory.mktemp("search")
    splits = {"xview": {"train": range(len(NAMES)), "test": [0]}}
    clips = [clip[:1] for clip in random_clips([8] * len(NAMES), 20)[0]]
    label, facts = [int(name[2]) - 1 for name in NAMES], {"num_class": 5, "skeleton": "graph.ucla"}
    store = write_store(folder / "clips", clips, label, [(0,)] * len(NAMES), splits, **facts)
    rewrite_index(store, name=np.array(NAMES))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tiny.options(store) | {"num_epoch": 7}))
    return folder


@pytest.fixture
def declare(folder, monkeypatch):
    """Writes a search; returns a function: (words) -> exit code, in the folder `runs` of the test. Trainings run in
    this process."""

    def call(words, environment=None):
        print("$ python", *words)
        assert words[0] == "main.py" and cli.main(words[1:]) == 0

    monkeypatch.setattr(programs, "call", call)

    def write(runs, **changes):
        flags = "--hold-out s02 --num-epoch 1"
        options = {"recipe": "recipe.yaml", "flags": flags, "networks": {"net": FAMILY}} | changes
        (folder / "search.yaml").write_text(yaml.safe_dump(options))
        return lambda *words: search.main(["--config", str(folder / "search.yaml"), "--work-dir", str(runs), *words])

    return write


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason="pip install -r requirements/search.txt")


def rows(runs):
    with open(runs / "students.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_students_are_trained_on_some_performers_ranked_and_extended_and_no_training_is_repeated(
    optuna, declare, tmp_path, capfd
):
    first = {"network": "net", "width": 8, "blocks": [2], "kernel_size": 5}
    run = declare(tmp_path, first=[first])
    assert run("--trials", "1") == 0
    out = capfd.readouterr().out
    assert out.count("$ python main.py") == 1 and "student 1 of 1: net_2x8_kernel_size5, " in out
    assert run("--trials", "3") == 0
    out = capfd.readouterr().out
    table = rows(tmp_path)
    assert out.count("$ python main.py") == 2 and len({row["student"] for row in table}) == 3
    assert [float(row["held_out_top1"]) for row in table] == sorted(float(r["held_out_top1"]) for r in table)[::-1]
    (line,) = tiny.metrics(tmp_path / table[0]["student"])
    assert f"{line['test_top1']:.2f}" == table[0]["held_out_top1"]
    assert load_config(tmp_path / table[0]["student"] / "config.yaml").hold_out == ["s02"]
    best = load_config(tmp_path / "best.yaml")
    assert (best.num_epoch, best.hold_out) == (7, []) and f"# {table[0]['student']}: the best of 3" in (
        tmp_path / "best.yaml"
    ).read_text()
    assert len(best.model_args["channels"]) == int(table[0]["student"][4])
    (tmp_path / "students.csv").unlink()
    assert run("--trials", "3") == 0
    assert "$ python main.py" not in capfd.readouterr().out and rows(tmp_path) == table
    assert run("--trials", "3", "--", "--base-lr", "0.2") == 2
    assert "expected the space, budget and training of this search" in capfd.readouterr().err


def test_an_interrupted_training_is_continued_first(optuna, declare, tmp_path, monkeypatch, capfd):
    run = declare(tmp_path)
    with monkeypatch.context() as patch:

        def stop(words, environment=None):
            raise RunError("stopped")

        patch.setattr(programs, "call", stop)
        assert run("--trials", "2") == 1
    (place,) = tmp_path.glob("net_*")
    capfd.readouterr()
    assert run("--trials", "2") == 0
    assert f"student 1 of 2: {place.name}, " in capfd.readouterr().out and len(rows(tmp_path)) == 2


def test_a_student_that_cannot_be_trained_is_omitted_and_several_in_a_row_end_the_search(
    optuna, declare, tmp_path, monkeypatch, capfd
):
    broken, tried = ["kernel_size5"], []

    def train(common, point, size):
        tried.append(title := common.space.title(point))
        if any(word in title for word in broken):
            raise programs.ProgramError("main.py ended with code 1")
        return search.Student(point, title, size, top1=50.0, seconds=1.0)

    monkeypatch.setattr(search.Common, "train", train)
    monkeypatch.setattr(search, "DRAWS", 20)
    run = declare(tmp_path, first=[{"network": "net", "width": 8, "blocks": [1], "kernel_size": 5}])
    assert run("--trials", "2") == 0
    assert len(rows(tmp_path)) == 2 and all("kernel_size3" in row["student"] for row in rows(tmp_path))
    assert "net_1x8_kernel_size5 is left out: main.py ended with code 1" in capfd.readouterr().out
    broken.append("net")
    tried.clear()
    run = declare(tmp_path / "all", networks={"net": FAMILY | {"width": [8, 16]}})
    assert run("--trials", "2") == 1 and len(set(tried)) == len(tried) == 3
    assert "3 students in a row could not be trained" in capfd.readouterr().err


@pytest.mark.parametrize(("code", "kind"), [(1, programs.ProgramError), (2, programs.ProgramError), (143, RunError)])
def test_a_terminated_program_does_not_count_as_failed(code, kind, monkeypatch):
    monkeypatch.setattr(programs.subprocess, "run", lambda *words, **_: subprocess.CompletedProcess(words, code))
    with pytest.raises(RunError, match=f"main.py ended with code {code}") as error:
        programs.call(["main.py"])
    assert error.type is kind


def test_networks_over_the_budget_are_not_trained_and_a_space_without_further_ones_ends_the_search(
    optuna, declare, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(search, "DRAWS", 20)

    def train(common, point, size):
        return search.Student(point, common.space.title(point), size, top1=50.0, seconds=1.0)

    monkeypatch.setattr(search.Common, "train", train)
    small = Family(**FAMILY).arguments({"width": 8, "blocks1": 1, "kernel_size": 5})
    limit = size_of(import_object("model.ctrgcn.Model")(**SHARED, **small), (3, 8, 20, 1)).parameters
    run = declare(tmp_path, budget={"parameters": limit})
    assert run("--trials", "9") == 0
    out = capfd.readouterr().out
    assert {row["student"] for row in rows(tmp_path)} == {"net_1x8_kernel_size3", "net_1x8_kernel_size5"}
    assert "20 draws gave no new network" in out
    assert "net_2x8_kernel_size3: over the budget" in (tmp_path / "log.txt").read_text()
    assert declare(tmp_path / "other", budget={"parameters": 1})() == 2
    assert "budget: expected one that some networks of the space meet, got none in 20 draws" in capfd.readouterr().err


def test_mistakes_on_the_command_line_and_a_missing_package_are_reported_before_any_training(
    declare, tmp_path, monkeypatch, capfd
):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert declare(tmp_path)() == 2
    assert "optuna: the package is missing; pip install -r requirements/search.txt" in capfd.readouterr().err
    monkeypatch.setattr(search, "optional", lambda name, command: None)
    bad = FAMILY | {"choices": {"kernel_size": [4]}}
    for changes, message in (
        ({"flags": "--num-epoch 1"}, "flags: expected --hold-out, got none"),
        ({"flags": "--hold-out s02 --model-args.drop_out 1"}, "--model-args: expected nothing"),
        ({"recipe": "none.yaml"}, "none.yaml"),
        ({"flags": "--hold-out s09"}, "hold_out: expected"),
        ({"networks": {"net": FAMILY | {"model": "model.ctrgcn.Modell"}}}, "did you mean Model"),
        ({"networks": {"net": bad}}, "net_1x8_kernel_size4: model_args: kernel_size: expected an odd"),
    ):
        assert declare(tmp_path, **changes)() == 2
        assert message in capfd.readouterr().err
    assert declare(tmp_path)("--data-root", "/none") == 2
    assert "--data-root: expected a folder that exists, got '/none'" in capfd.readouterr().err
    assert not any(tmp_path.rglob("*.pt"))
