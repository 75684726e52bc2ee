"""Old configuration files and command lines: their translation, their training, and refused options."""

import json
import logging
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from feeders.clip_store import FORMAT
from model.skateformer import Model
from tests.model.zoo import FEW, NETWORKS, narrow
from torchlight.commands.main import main, parse
from torchlight.config import legacy
from torchlight.config.load import load_config
from torchlight.config.options import ConfigError

FOLDER = Path(__file__).parent / "legacy"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
OURS = sorted((FOLDER.parents[2] / "config").glob("*/**/*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def records(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("torchlight"), "propagate", True)
    caplog.set_level(logging.INFO, "torchlight")
    return caplog


def changed(name: str, tmp_path: Path, **changes) -> Path:
    """An old file with other options, given by dotted names with __ for the dot."""
    options = yaml.safe_load(FILES[name].read_text())
    for dotted, value in changes.items():
        *parents, leaf = dotted.split("__")
        inner = options
        for key in parents:
            inner = inner[key]
        inner[leaf] = value
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


# What old files become


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(FOLDER.parents[2])))
def test_files_of_this_project_are_not_changed(path, records):
    options = yaml.safe_load(path.read_text())
    assert not legacy.is_old([("file", options)])
    assert legacy.translate([("file", options)], problems := []) == [("file", options)] and not problems
    assert not records.records


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs_are_recognized(name):
    assert legacy.is_old([("file", yaml.safe_load(FILES[name].read_text()))])


def test_the_table_of_old_names_is_not_read_for_our_own_options(monkeypatch):
    monkeypatch.setattr(legacy, "read_words", None)
    monkeypatch.setattr(legacy, "translate", None)
    assert load_config(OURS[0], parse(["--base-lr", "1", "--train-feeder-args.repeat", "2"])).base_lr == 1


@pytest.mark.parametrize("name", FILES)
def test_a_translated_file_loads_again_to_the_same_configuration(name, tmp_path):
    config = load_config(FILES[name])
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    again = load_config(tmp_path / "again.yaml", {"phase": config.phase, "weights": config.weights})
    assert vars(again) | {"origins": 0, "config": 0} == vars(config) | {"origins": 0, "config": 0}


def test_ctrgcn_means_our_recipe_of_the_same_name():
    old, ours = load_config(FILES["ctrgcn_ntu"]), load_config(FOLDER.parents[2] / "config/ntu/xsub/ctrgcn.yaml")
    recipe = (
        "batch_size base_lr weight_decay warm_up_epoch step num_epoch "
        "nesterov optimizer model model_args feeder modality lr_decay_rate"
    )
    assert {key: getattr(old, key) for key in recipe.split()} == {key: getattr(ours, key) for key in recipe.split()}
    for key in ("train_feeder_args", "test_feeder_args"):
        assert getattr(old, key) | {"data_path": 0, "split": 0} == getattr(ours, key) | {"data_path": 0, "split": 0}


RECIPE = (
    "batch_size test_batch_size optimizer base_lr min_lr weight_decay decay_all lr_schedule lr_interval step num_epoch "
    "nesterov warm_up_epoch warm_up_interval warm_up_lr clip_grad precision objective objective_args feeder model"
)
ELSEWHERE = {  # what old files give in other places: data files, and the sizes that are our defaults
    "data_path": None,
    "split": None,
    **{f"type_{i}_size": None for i in (1, 2, 3, 4)},
    **{"num_heads": 32, "kernel_size": 7, "mlp_ratio": 4.0, "intra_prob": 0.5, "inter_prob": 0.2, "window_size": 64},
}


@pytest.mark.parametrize(
    ("name", "ours", "modality"),
    [
        ("hdgcn_ntu", "ntu/xsub/hdgcn_com1", "bone"),
        ("blockgcn_ntu", "ntu/xsub/blockgcn", "joint"),
        ("hypergcn_ntu", "ntu/xsub/hypergcn_large", "bone_motion"),
        ("skateformer_ntu", "ntu/xsub/skateformer", "bone"),
        ("skateformer_ucla", "NW-UCLA/skateformer", "joint"),
    ],
)
def test_files_of_later_networks_mean_our_recipes(name, ours, modality):
    old, own = load_config(FILES[name]), load_config(FOLDER.parents[2] / f"config/{ours}.yaml")
    assert old.modality == modality
    for key in RECIPE.split():
        if not (key == "nesterov" and own.optimizer == "AdamW"):
            assert getattr(old, key) == getattr(own, key), key
    for key in ("model_args", "train_feeder_args", "test_feeder_args"):
        found, expected = getattr(old, key), getattr(own, key)
        different = {option for option in {*found, *expected} if found.get(option) != expected.get(option)}
        assert different <= set(ELSEWHERE), key
        assert all(found[option] == ELSEWHERE[option] for option in different if ELSEWHERE[option] is not None)


def test_the_sizes_of_windows_in_files_of_skateformer_are_our_defaults():
    for name in ("skateformer_ntu", "skateformer_ucla"):
        given = load_config(FILES[name]).model_args
        plain = {key: value for key, value in given.items() if not key.startswith("type_")}
        shapes = [{key: x.shape for key, x in Model(**args).state_dict().items()} for args in (given, plain)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("feeder", ["feeder_ntu_inter", "feeder_ntu"])
def test_files_of_skateformer_for_two_persons_choose_their_classes(feeder, tmp_path):
    changes = {"feeder": f"feeders.{feeder}.Feeder", "model_args__num_classes": 11}
    old = load_config(changed("skateformer_ntu", tmp_path, **changes))
    own = load_config(FOLDER.parents[2] / "config/ntu/xsub/skateformer_interaction.yaml")
    assert old.feeder == own.feeder and old.model_args["num_class"] == own.model_args["num_class"]
    assert old.train_feeder_args["classes"] == old.test_feeder_args["classes"] == own.test_feeder_args["classes"]


@pytest.mark.parametrize("spelling", ["BlockGCN", "BLockGCN", "block_gcn"])
def test_the_command_line_that_names_blockgcn_changes_the_network_that_its_files_name(spelling, tmp_path):
    path = changed("blockgcn_ntu", tmp_path, model="model.ctrgcn.Model")
    config, own = load_config(path, {"model": f"model.{spelling}.Model"}), load_config(FILES["blockgcn_ntu"])
    for key in ("model", "model_args", "train_feeder_args", "test_feeder_args", "precision"):
        assert getattr(config, key) == getattr(own, key), key
    with pytest.raises(ConfigError, match="window_size: expected nothing, got 64; for a file of BlockGCN give --model"):
        load_config(path)


def test_the_files_of_hypergcn_without_virtual_joints_get_the_published_number(tmp_path):
    assert load_config(FILES["hypergcn_ntu"]).model_args["hyper_joints"] == 3
    base = load_config(changed("hypergcn_ntu", tmp_path, model="model.Hyper_GCN.Model", model_args__hyper_joints=1))
    assert base.model_args["hyper_joints"] == 1 and "size" not in base.model_args


def test_names_of_timm_are_read(tmp_path):
    config = load_config(None, parse("--sched cosine --warmup-epochs 5 --warmup_lr 1e-6 --warmup_prefix false".split()))
    assert (config.lr_schedule, config.lr_interval, config.warm_up_lr) == ("cosine", "step", 1e-6)


def test_bone_and_vel_become_the_modality_from_the_file_or_from_the_command_line(tmp_path):
    def modality(bone, vel, **flags):
        both = {
            f"{part}_feeder_args__{key}": value
            for part in ("train", "test")
            for key, value in (("bone", bone), ("vel", vel))
        }
        return load_config(changed("ctrgcn_ntu", tmp_path, **both), flags).modality

    assert [modality(b, v) for b in (False, True) for v in (False, True)] == [
        "joint",
        "joint_motion",
        "bone",
        "bone_motion",
    ]
    flags = parse(["--train_feeder_args", "bone=True", "--test_feeder_args", "bone=True"])
    assert modality(False, False, **flags) == "bone"
    assert modality(False, True, **flags) == "bone_motion"
    assert load_config(FILES["ctrgcn_ntu"], {"modality": "joint_motion"}).modality == "joint_motion"


def test_arrays_of_bones_and_words_for_ucla_become_the_modality():
    assert load_config(FILES["agcn_ntu_bone"]).modality == "bone"
    assert load_config(FILES["aagcn_ntu"]).modality == "joint"
    ucla = load_config(FILES["ctrgcn_ucla"])
    assert ucla.modality == "bone" and ucla.test_feeder_args == {"data_path": "data/NW-UCLA/ctrgcn.clips"}


def test_a_part_frozen_through_epoch_five_is_frozen_for_six_epochs():
    config = load_config(FILES["aagcn_ntu"])
    assert (config.freeze, config.freeze_epoch) == (["PA"], 6)


def test_stgcn_names_of_bodies_and_partitions_are_read():
    config = load_config(FILES["stgcn_kinetics"])
    assert config.model == "model.stgcn.Model" and config.feeder == "feeders.feeder_kinetics.Feeder"
    assert config.model_args["graph"] == "graph.kinetics.Graph" and config.model_args["num_point"] == 18
    assert (
        config.model_args["graph_args"] == {"labeling_mode": "stgcn_spatial"} and config.model_args["num_person"] == 2
    )
    ntu = load_config(FILES["stgcn_ntu"])
    assert ntu.train_feeder_args["skeleton"] == "graph.ntu_rgb_d" and ntu.model_args["num_point"] == 25


def test_stgcn_without_a_strategy_has_the_uniform_one_as_in_the_published_code(tmp_path):
    config = load_config(changed("stgcn_ntu", tmp_path, model_args__graph_args={"layout": "openpose"}))
    assert config.model_args["graph_args"] == {"labeling_mode": "uniform"}


def test_tsgcnext_without_cutmix_mixes_every_batch(tmp_path):
    assert load_config(FILES["tsgcnext_ntu"]).objective_args["mixup_prob"] == 0.5
    for value in (0, 0.0):
        assert load_config(changed("tsgcnext_ntu", tmp_path, cutmix=value)).objective_args["mixup_prob"] == 1


def test_options_that_a_file_of_stgcn_omits_have_the_defaults_of_its_program(tmp_path):
    kept = {
        key: value
        for key, value in yaml.safe_load(FILES["stgcn_ntu"].read_text()).items()
        if key not in ("base_lr", "batch_size", "num_epoch")
    }
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(kept))
    config = load_config(tmp_path / "short.yaml")
    assert (config.base_lr, config.batch_size, config.num_epoch) == (0.01, 256, 80)


def test_tsgcnext_gets_the_settings_that_are_fixed_in_its_program():
    old, ours = load_config(FILES["tsgcnext_ntu"]), load_config(FOLDER.parents[2] / "config/ntu/xsub/tsgcnext.yaml")
    assert old.model == "model.tsgcnext.Model" and old.model_args["depths"] == [4, 3, 2] and old.modality == "bone"
    recipe = (
        "batch_size update_freq optimizer base_lr min_lr weight_decay "
        "decay_all lr_schedule lr_interval warm_up_epoch num_epoch ema_decay"
    )
    for key in [*recipe.split(), "objective_args"]:
        assert getattr(old, key) == getattr(ours, key), key


def test_partial_batch_sizes_become_the_global_batch_size(tmp_path, records):
    assert load_config(FILES["tsgcnext_ntu"]).batch_size == 32 * 2 * 2
    assert "batch_size 32 x update_freq 2 x 2 processes is batch_size 128" in records.text
    config = load_config(changed("tsgcnext_ntu", tmp_path, update_freq=8))
    assert (config.batch_size, config.update_freq) == (32 * 8 * 2, 8)
    config = load_config(FILES["msg3d_ntu"])
    assert (config.batch_size, config.update_freq) == (32, 2)
    given = load_config(FILES["tsgcnext_ntu"], {"batch_size": 64})
    assert given.batch_size == 64  # a flag is not translated
    assert "batch_size: a flag has the meaning of this program: clips per optimizer step" in records.text


def test_options_without_effect_are_listed_in_one_line(records):
    load_config(FILES["ctrgcn_ntu"])
    lines = [record.getMessage() for record in records.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    for name in (
        "model_saved_name",
        "train_feeder_args.random_choose",
        "test_feeder_args.debug",
        "train_feeder_args.normalization",
    ):
        assert lines[0].count(name) == 1


def test_configurations_in_run_directories_of_other_programs_are_read():
    written = {
        "config": "a.yaml",
        "print_log": True,
        "show_topk": [1, 5],
        "start_epoch": 0,
        "save_epoch": 30,
        "weights": None,
        "seed": 1,
    }
    assert legacy.translate([("file", written)], problems := [])[0][1] == {"weights": None, "seed": 1} and not problems


def test_naming_the_network_again_on_the_command_line_brings_no_defaults(tmp_path):
    path = changed("stgcn_ntu", tmp_path, eval_interval=2)
    assert load_config(path, {"model": "net.st_gcn.Model"}).eval_interval == 2


# What is refused


@pytest.mark.parametrize("order", [("graph", "graph_args"), ("graph_args", "graph")])
def test_a_hierarchy_of_nw_ucla_without_a_center_has_that_of_its_published_graph(order):
    for graph_args, center in (({"CoM": 3}, 2), ({"labeling_mode": "spatial"}, 1)):  # one file after the other
        given = {"graph": "graph.ucla_hierarchy.Graph", "graph_args": graph_args}
        options = {"model": "model.HDGCN.Model", "model_args": {key: given[key] for key in order}}
        problems = []
        found = legacy.translate([("f.yaml", options)], problems)[-1][1]["model_args"]
        assert not problems and found["graph"] == "graph.ucla.Graph"
        assert found["graph_args"] == {"labeling_mode": "hierarchy", "center": center}


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("ctrgcn_ntu", {"test_feeder_args__bone": True}, "bone: expected the same value for training and test clips"),
        ("ctrgcn_ntu", {"show_topk": [1, 3]}, "show_topk: expected .*, got \\[1, 3\\]"),
        ("ctrgcn_ntu", {"start_epoch": 7}, "start_epoch: expected 0, got 7.*--resume true"),
        ("ctrgcn_ntu", {"modle": "x"}, "modle: unknown option; did you mean model?"),
        (
            "ctrgcn_ucla",
            {"train_feeder_args__label_path": "val"},
            "train_feeder_args.label_path: expected train, got 'val'.*training split",
        ),
        (
            "ctrgcn_ucla",
            {"test_feeder_args__data_path": "joint"},
            "modality: expected one value, got 'joint' and 'bone' from two old options",
        ),
        (
            "agcn_ntu_bone",
            {"train_feeder_args__normalization": True},
            "normalization: expected False, got True.*no published recipe",
        ),
        (
            "stgcn_ntu",
            {"model_args__graph_args": {"layout": "rat"}},
            "layout: expected openpose or ntu-rgb\\+d, got 'rat'.*custom_skeleton",
        ),
        ("stgcn_ntu", {"pavi_log": True}, "pavi_log: expected False, got True"),
        ("stgcn_ntu", {"model": ["net.st_gcn.Model"]}, "model: expected text or null, got"),
        ("hdgcn_ntu", {"loss_type": "LS"}, "loss_type: expected CE, got 'LS'.*objective_args.label_smoothing"),
        (
            "hdgcn_ntu",
            {"model_args__graph_args": {"CoM": 5}},
            "expected 1 or 2 or 3 or 21, got 5.*graph_args.center",
        ),
        ("hdgcn_ntu", {"train_feeder_args__random_scale": True}, "random_scale: expected False or 0, got True"),
        (
            "hypergcn_ntu",
            {"model_args__graph_args": {"labeling_mode": "spatial"}},
            "expected virtual_ensemble or binary",
        ),
        ("skateformer_ntu", {"model_args__index_t": False}, "index_t: expected True, got False.*times of the frames"),
        ("skateformer_ntu", {"model_args__num_points": 48}, "num_points: expected 24 or 20, got 48.*groups"),
        ("skateformer_ntu", {"train_feeder_args__aug_method": "a5"}, "aug_method: expected a123489.*steps"),
        ("skateformer_ntu", {"test_feeder_args__uniform": False}, "uniform: expected True.*feeder_ntu.Feeder resizes"),
        ("msg3d_ntu", {"forward_batch_size": 12}, "forward_batch_size: expected a divisor of batch_size 32, got 12"),
    ],
)
def test_unsupported_options_are_refused_with_the_reason(name, changes, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        load_config(changed(name, tmp_path, **changes))


def test_options_that_never_had_an_effect_are_dropped_at_any_value(tmp_path):
    names = ("random_choose", "random_shift", "random_move", "normalization", "debug")
    changes = {f"train_feeder_args__{name}": True for name in names}
    config = load_config(changed("ctrgcn_ntu", tmp_path, **changes))
    assert not set(names) & set(config.train_feeder_args)


def test_the_two_stream_network_of_st_gcn_has_its_own_class(tmp_path):
    config = load_config(changed("stgcn_ntu", tmp_path, model="net.st_gcn_twostream.Model"))
    assert config.model == "model.stgcn.TwoStream" and config.model_args["num_point"] == 25


# Command lines


def test_old_command_lines_are_understood():
    argv = (
        "recognition -c FILE --test_batch_size 8 --lr 0.1 --epochs 7 --model_ema true --device 0 1 2 3 "
        "--print_log False --use_gpu False"
    )
    options = parse([word.replace("FILE", str(FILES["stgcn_ntu"])) for word in argv.split()])
    config = load_config(options.pop("config"), options)
    assert (config.test_batch_size, config.base_lr, config.num_epoch, config.ema_decay) == (8, 0.1, 7, 0.9999)
    assert config.device == ["cpu"]
    assert load_config(None, parse(["--device", "0", "1", "2", "3"])).device == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        ("--num-workers 4", "num_worker", 4),
        ("--smoothing 0.1", "objective_args", {"label_smoothing": 0.1}),
        ("--opt adamw", "optimizer", "AdamW"),
        ("--half", "precision", "float16"),
        ("--finetune weights.pth", "finetune", "weights.pth"),
        ("--model_ema false", "ema_decay", 0.0),
        ("--model_ema_decay 0.99", "ema_decay", 0.99),
        ("--phase test --save_result true", "save_score", True),
        ("--eval true", "phase", "test"),
        ("-w somewhere", "work_dir", "somewhere"),
        ("--local_rank=0 --show_topk 1 5 --dist_eval true", "seed", 1),
    ],
)
def test_flags_of_the_old_programs(argv, field, value):
    assert getattr(load_config(None, parse(argv.split())), field) == value


def test_options_that_old_command_lines_cannot_have_are_refused():
    with pytest.raises(ValueError, match="video demo"):
        parse(["demo", "--video", "x.mp4"])
    with pytest.raises(ConfigError, match="ema_decay: expected one value, got .* from two old options"):
        load_config(None, parse(["--model_ema", "false", "--model_ema_decay", "0.99"]))
    with pytest.raises(ConfigError, match="layer_decay: expected 1 or 1.0, got 0.7"):
        load_config(None, parse(["--layer_decay", "0.7"]))


def test_our_options_and_old_ones_can_be_combined():
    rows = re.findall(r"^\|.*\|.*\|(.*)\|$", (FOLDER.parents[2] / "docs/coming-from.md").read_text(), re.M)
    commands = [command for row in rows for command in re.findall(r"`python main\.py (.*?)`", row)]
    assert len(commands) > 15
    for command in commands:
        options = parse(command.split())
        assert load_config(FOLDER.parents[2] / options.pop("config"), options).model


# Old files run


def write_npz(path: Path) -> None:
    """CTR-GCN's file: (N, T, 150), one-hot labels of 60 classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    arrays = {f"x_{part}": random.normal(size=(5, 20, 150)).astype(np.float32) for part in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{part}": np.eye(60)[[0, 1, 2, 3, 59]] for part in ("train", "test")})


def write_npy(folder: Path, stream: str, joints: int, classes: int) -> None:
    """ST-GCN's and 2s-AGCN's files: (N, 3, T, V, 2), pickled names and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        data = np.random.default_rng(0).normal(size=(5, 3, 20, joints, 2)).astype(np.float32)
        np.save(folder / f"{part}_data{stream}.npy", data)
        (folder / f"{part}_label.pkl").write_bytes(
            pickle.dumps(([f"{part}{i}.skeleton" for i in range(5)], [0, 1, 2, 3, classes - 1]))
        )


def write_ucla(folder: Path) -> None:
    """A clip store of NW-UCLA."""
    folder.mkdir(parents=True)
    np.save(folder / "frames.npy", np.random.default_rng(0).normal(size=(10 * 12, 20, 3)).astype(np.float32))
    names, ten = np.array([f"clip{i}" for i in range(10)]), np.arange(10)
    index = {"name": names, "label": ten, "start": 12 * ten, "length": np.full(10, 12), "valid": np.full(10, 12)}
    parts = {"split/xview/train": ten[:5], "split/xview/test": ten[5:]}
    np.savez(folder / "index.npz", **index, persons=np.zeros((10, 1), np.int64), **parts)
    facts = {"num_class": 10, "num_point": 20, "num_person": 1, "channels": 3, "skeleton": "graph.ucla"}
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT, **facts}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the field's files, made up, where the old configurations look for them."""
    folder = tmp_path_factory.mktemp("place")
    write_npz(folder / "data/ntu/NTU60_CS.npz")
    write_npy(folder / "data/ntu/xview", "_bone", 25, 60)
    write_npy(folder / "data/ntu/xsub", "_joint", 25, 60)
    write_npy(folder / "data/NTU-RGB-D/xsub", "", 25, 60)
    write_npy(folder / "data/Kinetics/kinetics-skeleton", "", 18, 400)
    write_ucla(folder / "data/NW-UCLA/ctrgcn.clips")
    return folder


WINDOW_16 = ["--train_feeder_args", "window_size=16", "--test_feeder_args", "window_size=16"]
NARROW_SKATEFORMER = ["--model_args", *(f"{key}={value}" for key, value in FEW["skateformer"].items())]
SMALLER = {
    "tsgcnext_ntu": [
        "--train_feeder_args",
        "window_size=32",
        "--test_feeder_args",
        "window_size=32",
        "--update_freq",
        "1",
        "--model_args",
        "base_channels=16",
    ],
    **dict.fromkeys(("ctrgcn_ntu", "hdgcn_ntu", "hypergcn_ntu"), WINDOW_16),
    "blockgcn_ntu": [*WINDOW_16, "--precision", "float32"],  # which is faster on a CPU
    "skateformer_ntu": [*NARROW_SKATEFORMER, "--warm_up_epoch", "1"],  # its schedule has a first rate of the warm-up
    "skateformer_ucla": [*NARROW_SKATEFORMER, "--warm_up_epoch", "1", "--train_feeder_args", "repeat=1"],
    "stgcn_kinetics": ["--train_feeder_args", "window_size=10"],
}


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("test")])
def test_an_old_file_trains_and_tests(name, place, monkeypatch, no_class_tables):
    monkeypatch.chdir(place)
    for network in NETWORKS:
        narrow(network, monkeypatch)
    small = [
        "--device",
        "cpu",
        "--num_worker",
        "0",
        "--batch_size",
        "4",
        "--num_epoch",
        "1",
        "--step",
        "--work_dir",
        f"runs/{name}",
    ]
    warm = ["--warm_up_epoch", "0"]  # overridden by SMALLER
    assert main(["-c", str(FILES[name]), *small, *warm, *SMALLER.get(name, [])]) == 0
    line = json.loads(Path(f"runs/{name}/metrics.jsonl").read_text())
    assert np.isfinite(line["train_loss"]) and np.isfinite(line["test_loss"])
    if name == "agcn_ntu_bone":  # its test file names the test part alone, and the published weights
        Path("runs/ntu_cv_agcn_bone-49-29400.pt").write_bytes(Path(f"runs/{name}/last.pt").read_bytes())
        assert (
            main(
                [
                    "--config",
                    str(FILES["agcn_ntu_test"]),
                    "--device",
                    "cpu",
                    "--num_worker",
                    "0",
                    "--save_score",
                    "True",
                ]
            )
            == 0
        )
        assert Path("work_dir/ntu/xview/agcn_test_bone/epoch1_test_score.pkl").exists()
