"""The catalog of published checkpoints: its table, its rules and its command line."""

import pytest

from model.published import open_checkpoint
from tests.model.test_published import published_state
from torchlight.config.load import load_config
from torchlight.system.command import run
from torchlight.training import build
from torchlight.zoo import __main__ as zoo
from torchlight.zoo import catalog, page

ENTRIES = catalog.entries()


def test_names_are_unique_files_and_hashes_are_hexadecimal():
    assert len(ENTRIES) == 348
    for entry in ENTRIES.values():
        assert entry.file.name == f"{entry.name}.pth" and len(entry.file.parts) == 2
        assert entry.sha256 == "" or (len(entry.sha256) == 8 and int(entry.sha256, 16) >= 0)
        assert entry.url.startswith(("http://", "https://")) and (entry.top1 == "" or 0 < float(entry.top1) < 100)
    counts = {family: sum(e.family == family for e in ENTRIES.values()) for family in ("pyskl", "firework8")}
    assert counts == {"pyskl": 234, "firework8": 58}


@pytest.mark.parametrize(
    "name",
    sorted({e.experiment + "_" + e.stream[:1] for e in ENTRIES.values() if e.network != "posec3d"} & set(ENTRIES)),
)
def test_an_entry_has_a_valid_configuration(name):
    entry = ENTRIES[name]
    without_place = entry.dataset in ("pku-mmd", "uav-human") or entry.family == "mmaction2-0.x"
    given = {"feeder_args": {"data_path": "some.pkl"}} if without_place else {}
    config = load_config(None, {"weights": f"zoo:{name}", "phase": "test"} | given)
    build.preflight(config, ("model", "feeder"))
    assert bool(catalog.notes(entry)) == without_place
    assert config.modality == {"j": "joint", "b": "bone", "k": "kbone"}[entry.stream]
    args, whole_split = config.test_feeder_args, entry.split in ("val", "csv1", "csv2") or entry.family[-3:] == "0.x"
    assert args.get("split", "") == ("" if whole_split else entry.split)
    one = entry.variant == "vanilla" or entry.family == "mmaction2-0.x"
    assert args.get("num_clips", 1) == (1 if one else 10)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("ctrgcn_ntu60_xsub_3d_j", "pyskl_ctrgcn"),
        ("msg3d_ntu60_xsub_3d_j", "pyskl_msg3d"),
        ("stgcn-vanilla_ntu60_xsub_3d_j", "pyskl_stgcn"),
        ("stgcn++_ntu60_xsub_3d_j", "pyskl_stgcn++"),
        ("aagcn_ntu60_xsub_3d_j", "pyskl_aagcn"),
        ("dgstgcn_ntu60_xsub_3d_j", "pyskl_dgstgcn"),
        ("mmaction2_2s-agcn_ntu60_xsub_3d_j", "mmaction2-1.x_2s-agcn"),
        ("mmaction2_stgcn_ntu60_xsub_3d_j", "mmaction2-1.x_stgcn"),
        ("mmaction2-0_agcn_ntu60_xsub_3d_j", "mmaction2-0.x_agcn"),
        ("mmaction2-0_stgcn_ntu60_xsub_3d_j", "mmaction2-0.x_stgcn"),
        ("protogcn_ntu60_xsub_3d_j", "firework8_protogcn"),
        ("protogcn_k400_val_hrnet2d_j", "firework8_protogcn_k400"),
        ("aclnet_ntu60_xsub_3d_j", "firework8_aclnet"),
        ("skeletonagent_ntu60_xsub_3d_j", "firework8_skeletonagent"),
        ("skeletonagent_k400_val_hrnet2d_j", "firework8_skeletonagent_k400"),
    ],
)
def test_the_network_of_an_entry_follows_from_its_keys(name, keys):
    config, found = load_config(None, {"weights": f"zoo:{name}"}), open_checkpoint(published_state(keys))
    assert config.model == found.model
    assert found.model_args.items() <= ({"graph_args": None, "attention": True} | config.model_args).items()


@pytest.mark.parametrize("entry", [e for e in ENTRIES.values() if e.network == "posec3d"], ids=lambda e: e.name)
def test_an_entry_of_posec3d_has_its_network_and_heatmaps(entry):
    config = load_config(None, {"weights": f"zoo:{entry.name}", "phase": "test"})
    given = {"feeder_args": {"data_path": "mm.pkl"}} if "data_path" not in config.test_feeder_args else {}
    config = load_config(None, {"weights": f"zoo:{entry.name}", "phase": "test"} | given)
    assert build.preflight(config, ("model", "feeder"))["feeder"].__module__ == "feeders.feeder_heatmap"
    classes = {"ntu60": 60, "ntu120": 120, "finegym": 99, "k400": 400, "ucf101": 101, "hmdb51": 51, "diving48": 48}
    args, feeder = config.model_args, config.test_feeder_args
    assert args["num_class"] == classes[entry.dataset] and args["graph"] == "graph.coco.Graph"
    assert config.modality == {"j": "joint", "limb": "limb"}[entry.stream]
    assert args["network"] == {"c3d": "c3d", "x3d": "x3d"}.get(entry.variant, "slowonly")
    assert (args.get("blocks") == [3, 4, 6]) == (entry.variant == "slowonly346")
    assert feeder["mirror"] == (entry.variant != "poseonly") and feeder["num_clips"] == 10
    assert catalog.preset(entry) == "posec3d" and "sampling" not in feeder
    of_parts = entry.family == "mmaction2-0.x"  # one file for each part, in no known place
    assert bool(given) == of_parts and ("split" in feeder) == (
        not of_parts and entry.dataset not in ("k400", "finegym", "diving48")
    )


def test_a_configuration_of_the_user_is_not_mixed_with_that_of_an_entry():
    config = load_config("config/ntu/xsub/stgcnpp.yaml", {"weights": "zoo:ctrgcn_ntu60_xsub_3d_b"})
    assert config.model == "model.stgcnpp.Model" and config.modality == "joint" and config.work_dir is None


def test_words_find_entries(capsys):
    assert zoo.act(["list", "ctrgcn", "ntu120"]) == 0
    out = capsys.readouterr().out
    assert "ctrgcn_ntu120_xsub_3d_j" in out and out.endswith("16 checkpoints\n")
    assert len(catalog.search(["stgcn"])) == 48 + 16 + 6 and len(catalog.search(["vanilla", "jm"])) == 4
    assert catalog.search(["CTRGCN_ntu120", "zoo:xsub"]) == catalog.search(["ctrgcn", "ntu120", "xsub"])
    assert zoo.act(["show", "skeletonagent_k400_val_hrnet2d_j"]) == 0
    out = capsys.readouterr().out
    assert "python main.py --phase test --weights zoo:skeletonagent_k400_val_hrnet2d_j" in out
    assert "--preset protogcn" in out
    assert zoo.act(["show", "skeletonagent_uav-human_csv1_2d_j"]) == 0
    assert "give --test-feeder-args.data_path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "ctrgnc", "ntu120"], "got 'ctrgnc ntu120'; did you mean ctrgcn?"),
        (["list", "?"], "got '?'; the nearest are "),
        (["list", ""], "expected words in the names of checkpoints, got ''"),
        (["list", "uav-human", "ctrgcn"], "no entry has all of them"),
        (["show"], "show: expected names of checkpoints, got none"),
        (["get"], "get: expected names of checkpoints, got none"),
        (["page", "x"], "page: expected no words"),
        (["get", "../../etc/passwd"], "expected zoo:NAME, got 'zoo:../../etc/passwd'"),
    ],
)
def test_words_without_a_match_are_refused_with_the_nearest(capsys, words, message):
    assert run(zoo.act, words) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_an_unknown_name_is_refused_with_the_nearest(main):
    code, _, err = main("--phase", "test", "--weights", "zoo:ctrgcn_ntu120_xsub_3d_x")
    assert code == 2 and "did you mean ctrgcn_ntu120_xsub_3d_" in err and err.count("\n") == 1


def test_the_page_is_up_to_date():
    assert page.PAGE.read_text() == page.make_page(), "run python -m torchlight.zoo page"
