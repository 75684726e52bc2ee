"""PYSKL's configuration files: read as Python would, never executed, translated or refused."""

import ast
import re

import pytest

from tests.torchlight.tiny import options as tiny_options
from torchlight.config.load import load_config
from torchlight.config.options import ConfigError
from torchlight.config.python_configs import read_python_config
from torchlight.config.python_literals import read_python
from torchlight.training import build

HEAD = "cls_head=dict(type='GCNHead', num_classes=60, in_channels=256)"
THREE = "dict(type='PreNormalize3D'), dict(type='GenSkeFeat', dataset='nturgb+d', feats=['b']),"
END = """
    dict(type='PoseDecode'),
    dict(type='FormatGCNInput', num_person=2),
    dict(type='Collect', keys=['keypoint', 'label'], meta_keys=[]),
    dict(type='ToTensor', keys=['keypoint'])
]
"""
RECIPE = """
# optimizer
optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0005, nesterov=True)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='CosineAnnealing', min_lr=0, by_epoch=False)
total_epochs = 16
checkpoint_config = dict(interval=1)
evaluation = dict(interval=1, metrics=['top_k_accuracy'])
log_config = dict(interval=100, hooks=[dict(type='TextLoggerHook')])
log_level = 'INFO'
work_dir = './work_dirs/x'
"""
DATA = """
data = dict(
    videos_per_gpu=16,
    workers_per_gpu=2,
    test_dataloader=dict(videos_per_gpu=1),
    train=dict(
        type='RepeatDataset',
        times=5,
        dataset=dict(type=dataset_type, ann_file=ann_file, pipeline=train_pipeline, split='xsub_train')),
    val=dict(type=dataset_type, ann_file=ann_file, pipeline=val_pipeline, split='xsub_val'),
    test=dict(type=dataset_type, ann_file=ann_file, pipeline=test_pipeline, split='xsub_val'))
"""


def config(backbone: str, layout: str = "nturgb+d", mode: str = "spatial", streams: str = THREE) -> str:
    """A file in the form of the 176 that sample 100 frames."""
    graph = f"graph_cfg=dict(layout='{layout}', mode='{mode}')"
    parts = [
        f"model = dict(type='RecognizerGCN', backbone=dict({backbone}, {graph}), {HEAD})",
        f"dataset_type = 'PoseDataset'\nann_file = 'data/nturgbd/ntu60_{'3danno' if '3D' in streams else 'hrnet'}.pkl'",
    ]
    for name, sampler in (
        ("train", "clip_len=100"),
        ("val", "clip_len=100, num_clips=1"),
        ("test", "clip_len=100, num_clips=10"),
    ):
        parts.append(f"{name}_pipeline = [\n    {streams} dict(type='UniformSample', {sampler}),{END}")
    return "\n".join([*parts, DATA, RECIPE])


def as_vanilla(text: str) -> str:
    """A file in the form of vanilla ST-GCN, which pads clips to 300 frames."""
    text = re.sub(
        r"dict\(type='UniformSample', clip_len=100(, num_clips=1)?\)",
        "dict(type='PadTo', length=300, mode='zero')",
        text,
    )
    for old, new in (
        ("pipeline=test_pipeline", "pipeline=val_pipeline"),
        ("dict(policy='CosineAnnealing', min_lr=0, by_epoch=False)", "dict(policy='step', step=[2, 10])"),
        ("nesterov=True", ""),
        ("test=dict(type=dataset_type, ann_file=ann_file, pipeline=val_pipeline, split='xsub_val')", ""),
    ):
        text = text.replace(old, new)
    return text + "data['test'] = data['val']\n"


VANILLA = as_vanilla(config("type='STGCN', tcn_dropout=.5", mode="stgcn_spatial"))
DGSTGCN = """
modality = 'jm'
graph = 'nturgb+d'
work_dir = f'./work_dirs/dgstgcn/ntu60_xsub_3dkp/{modality}'
""" + config(
    "type='DGSTGCN', gcn_ratio=0.125, gcn_ctr='T', gcn_ada='T', "
    "tcn_ms_cfg=[(3, 1), (3, 2), (3, 3), (3, 4), ('max', 3), '1x1']",
    streams="dict(type='PreNormalize3D', align_spine=False), dict(type='RandomScale', scale=0.1), "
    "dict(type='RandomRot', theta=0.2), dict(type='GenSkeFeat', feats=[modality]),",
).replace(
    "graph_cfg=dict(layout='nturgb+d', mode='spatial')",
    "graph_cfg=dict(layout=graph, mode='random', num_filter=8, init_off=.04, init_std=.02)",
).replace("UniformSample", "UniformSampleDecode")
TWO = "dict(type='PreNormalize2D'),\tdict(type='GenSkeFeat', dataset='coco', feats=['jm']),"
FILES = {
    "stgcn_vanilla": VANILLA,
    "stgcn": config("type='STGCN'", mode="stgcn_spatial"),
    "stgcn++": config("type='STGCN', gcn_adaptive='init', gcn_with_res=True, tcn_type='mstcn'", "coco", streams=TWO),
    "aagcn": config("type='AAGCN'"),
    "ctrgcn": config("type='CTRGCN'"),
    "msg3d": config("type='MSG3D'", mode="binary_adj"),
    "dgstgcn": DGSTGCN,
}
MODELS = {
    "stgcn_vanilla": ("stgcn", {"dropout": 0.5, "graph_args": {"labeling_mode": "stgcn_spatial"}}),
    "stgcn": ("stgcn", {"graph_args": {"labeling_mode": "stgcn_spatial"}}),
    "stgcn++": ("stgcnpp", {"graph": "graph.coco.Graph", "num_point": 17}),
    "aagcn": ("aagcn", {"graph_args": {"labeling_mode": "spatial"}}),
    "ctrgcn": ("ctrgcn", {"relu_after_tcn": True}),
    "msg3d": ("msg3d", {"graph_args": {"labeling_mode": "binary"}, "num_gcn_scales": 13, "num_g3d_scales": 6}),
    "dgstgcn": ("dgstgcn", {"num_filter": 8, "init_off": 0.04, "init_std": 0.02}),
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "j.py").write_text(text)
        return tmp_path / "j.py"

    return write


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_python_would_execute_it(write, name):
    executed: dict = {}
    exec(compile(ast.parse(FILES[name]), "j.py", "exec"), {}, executed)
    assert read_python(write(FILES[name])) == executed


@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_a_valid_configuration(write, name):
    network, args = MODELS[name]
    found = load_config(write(FILES[name]))
    assert found.model == f"model.{network}.Model" and args.items() <= found.model_args.items()
    assert found.model_args["num_class"] == 60 and found.model_args["num_person"] == 2
    classes = build.preflight(found, ("model", "feeder"))
    build.build_model(found, classes["model"])
    assert found.num_epoch == 16 and found.batch_size == 128 and found.weight_decay == 0.0005
    assert (found.save_interval, found.eval_interval, found.log_interval) == (1, 1, 100)


def test_the_recipe_of_vanilla_st_gcn_is_translated(write):
    found = load_config(write(FILES["stgcn_vanilla"]))
    common = {"data_path": "data/nturgbd/ntu60_3danno.pkl", "split": "xsub", "skeleton": "graph.ntu_rgb_d"}
    common |= {"num_person": 2, "pre_normalize": "3d", "align_spine": True, "sampling": "pad", "window_size": 300}
    assert found.train_feeder_args == common | {"repeat": 5} and found.test_feeder_args == common
    assert (found.lr_schedule, found.step, found.lr_decay_rate) == ("step", [2, 10], 0.1)
    assert (found.modality, found.nesterov) == ("bone", False)


def test_dg_stgcn_and_two_dimensional_poses_are_translated(write):
    found = load_config(write(FILES["dgstgcn"]))
    assert found.modality == "joint_motion" and found.test_feeder_args["num_clips"] == 10
    assert found.train_feeder_args["random_rot"] == 0.2 and found.train_feeder_args["random_scale"] == 0.1
    assert found.train_feeder_args["sampling"] == "uniform_decode" and not found.train_feeder_args["align_spine"]
    assert (found.lr_schedule, found.min_lr, found.lr_interval) == ("cosine", 0, "step")
    flat = load_config(write(FILES["stgcn++"]))
    assert flat.test_feeder_args["pre_normalize"] == "2d" and flat.test_feeder_args["skeleton"] == "graph.coco"
    assert "align_spine" not in flat.test_feeder_args and "num_clips" not in flat.train_feeder_args


def test_the_published_recipe_here_is_the_one_of_the_file(write):
    theirs = load_config(
        write(FILES["stgcn++"].replace("coco", "nturgb+d").replace("2D", "3D").replace("hrnet", "3danno"))
    )
    ours = load_config("config/ntu/xsub/stgcnpp.yaml")
    for key in (
        "model",
        "batch_size",
        "base_lr",
        "weight_decay",
        "lr_schedule",
        "lr_interval",
        "num_epoch",
        "nesterov",
    ):
        assert getattr(theirs, key) == getattr(ours, key), key
    assert theirs.model_args == ours.model_args
    assert theirs.train_feeder_args["repeat"] == ours.train_feeder_args["repeat"]


def test_the_command_line_overrides_the_file_and_assumptions_are_logged(write, tmp_path, store, main):
    options = tiny_options(store)
    file = write(FILES["ctrgcn"])
    argv = ("--phase", "show", "--train-feeder-args.window_size", "8", "--batch-size", options["batch_size"])
    code, out, _ = main("--config", file, *argv)
    assert code == 0 and "batch_size 128: 8 GPUs x 16 clips" in out
    assert "batch_size: 8 " in out and "window_size: 8" in out


REFUSED = [  # text, line, words
    ("import os\n", 1, "a statement of the kind Import"),
    ("a = 1\nb = open('x')\n", 2, "an expression of the kind Call"),
    ("a = dict(1)\n", 1, "Call"),
    ("a = dict(**b)\n", 1, "Call"),
    ("a = {'b': 1}\n", 1, "Dict"),
    ("a = [x for x in b]\n", 1, "ListComp"),
    ("a = 1 + 2\n", 1, "BinOp"),
    ("a = -'x'\n", 1, "UnaryOp"),
    ("a = b = 1\n", 1, "Assign"),
    ("a += 1\n", 1, "AugAssign"),
    ("a: int = 1\n", 1, "AnnAssign"),
    ("a, b = 1, 2\n", 1, "a target of the kind Tuple"),
    ("a = dict(b=1)\na.b = 2\n", 2, "a target of the kind Attribute"),
    ("a = dict(b=1)\nc = a.b\n", 2, "Attribute"),
    ("a = b\n", 1, "the name b, which has no value yet"),
    ("a = dict(b=1)\n\nc = a['d']\n", 3, "the key 'd', which does not exist"),
    ("a = [1]\nb = a[0]\n", 2, "a subscript other than"),
    ("a = f'{1 + 1}'\n", 1, "an f-string with more"),
    ("a = 1\nb = f'{a!r}'\n", 2, "an f-string with more"),
    ("a = [1]\nb = f'{a}'\n", 2, "an f-string with more"),
    ("a = 'x' if 1 else 2\n", 1, "IfExp"),
    ("a = lambda: 1\n", 1, "Lambda"),
    ("a = b'x'\n", 1, "Constant"),
    ("a = 1j\n", 1, "Constant"),
    ("a = ...\n", 1, "Constant"),
    ("a = 'x'\n" + "a = f'{a}{a}'\n" * 40, 15, "an f-string of more than"),
    ("class A: pass\n", 1, "ClassDef"),
    ("def a(): pass\n", 1, "FunctionDef"),
    ("a = dict(\n", 1, "SyntaxError"),
    ("a = " + "[" * 5000 + "\n", 1, ""),
]


@pytest.mark.parametrize(("text", "line", "words"), REFUSED)
def test_expressions_are_refused_with_their_line_and_not_evaluated(write, text, line, words):
    with pytest.raises(ValueError) as error:
        read_python(write(text))
    assert f"j.py:{line}: " in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a = [1]\n" + "a = [a, a]\n" * 30,  # 2^30 values
        "a = [1]\n" + "a = [a]\n" * 60,
        "a = dict(b=1)\na['c'] = a\n",
    ],
)
def test_values_that_grow_without_end_are_refused(write, text):
    with pytest.raises(ValueError, match="expected up to 100,000 values in 50 levels, got more"):
        read_python(write(text))


def test_arguments_that_a_file_of_dgstgcn_leaves_out_have_the_defaults_of_pyskl(write):
    with pytest.raises(ConfigError, match="model.backbone.gcn_ratio: expected 0.125, got 0.25"):
        load_config(write(DGSTGCN.replace("gcn_ratio=0.125, ", "")))
    args = load_config(write(DGSTGCN.replace(", num_filter=8, init_off=.04, init_std=.02", ""))).model_args
    assert (args["num_filter"], args["init_off"], args["init_std"]) == (3, 0.04, 0.02)


def test_the_graph_of_pyskl_is_named_where_it_differs(write):
    notes = {name: read_python_config(write(FILES[name]))[1] for name in ("stgcn", "stgcn++")}
    assert any("--model-args.graph graph.ntu_rgb_d_tips.Graph" in note for note in notes["stgcn"])
    assert not any("graph.ntu_rgb_d_tips" in note for note in notes["stgcn++"])  # of the body coco


def test_nothing_in_a_file_is_executed(write, tmp_path, main):
    trace = tmp_path / "trace"
    file = write(f"__import__('os').system('touch {trace}')\n" + FILES["aagcn"])
    code, _, err = main("--config", file, "--phase", "show")
    assert code == 2 and f"{file}:1: expected an assignment" in err and not trace.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("RecognizerGCN", "Recognizer2D", "model.type: expected RecognizerGCN, Recognizer3D, got 'Recognizer2D'"),
        ("type='AAGCN'", "type='GCN_7_1_1'", "model.backbone.type: expected STGCN"),
        ("type='AAGCN'", "type='ProtoGCN', depth=3", "model.backbone.depth: expected nothing"),
        (
            "dict(type='PoseDecode'),",
            "dict(type='PreNormalize3D'),",
            "expected before the sampling of frames, got behind",
        ),
        ("type='AAGCN'", "type='AAGCN', depth=3", "model.backbone.depth: expected nothing"),
        ("type='AAGCN'", "type='STGCN', tcn_type='mstcn'", "model.backbone.gcn_adaptive: expected 'init', got None"),
        ("type='AAGCN'", "type='DGSTGCN', gcn_ratio=0.25", "gcn_ratio: expected 0.125, got 0.25"),
        ("'nturgb+d', mode", "'hand', mode", "graph_cfg.layout: expected nturgb+d"),
        ("mode='spatial'", "mode='other'", "graph_cfg.mode: expected stgcn_spatial"),
        ("feats=['b']", "feats=['j', 'b']", "GenSkeFeat.feats: one stream"),
        ("dataset='nturgb+d', feats", "dataset='coco', feats", "GenSkeFeat.dataset: expected nturgb+d, got 'coco'"),
        ("dict(type='PoseDecode')", "dict(type='Flip', flip_ratio=0.5)", "train pipeline: expected transforms"),
        ("'xsub_train'", "'xview_train'", "expected one split in training and test, got ['xview', 'xsub']"),
        ("ann_file=ann_file,", "ann_file=ann_file, valid_ratio=0.5,", "data.train.valid_ratio: expected nothing"),
        ("min_lr=0", "min_lr=0, warmup='linear'", "lr_config.warmup: expected nothing"),
        ("'CosineAnnealing'", "'poly'", "lr_config.policy: expected CosineAnnealing, step, got 'poly'"),
        ("momentum=0.9", "paramwise=1", "optimizer.paramwise: expected nothing"),
        ("grad_clip=None", "grad_clip=None, cumulative_iters=4", "optimizer_config.cumulative_iters: expected nothing"),
        (
            "grad_clip=None",
            "grad_clip=dict(max_norm=40, norm_type=1)",
            "optimizer_config.grad_clip.norm_type: expected 2",
        ),
        (
            "cls_head=",
            "test_cfg=dict(average_clips='score'), cls_head=",
            "test_cfg.average_clips: expected 'prob'",
        ),
        ("cls_head=", "neck=dict(type='X'), cls_head=", "model.neck: expected nothing"),
        ("clip_len=100)", "clip_len=100, num_clips=2)", "train pipeline: UniformSample.num_clips: expected 1, got 2"),
        ("total_epochs = 16", "epochs = 16", "expected the structure of a configuration of PYSKL"),
        ("total_epochs = 16", "_base_ = 'x.py'", "x.py: cannot be read"),
        ("num_classes=60", "num_classes='many'", "num_class"),
    ],
)
def test_options_without_an_equivalent_are_refused_by_their_key(write, old, new, words):
    text = FILES["aagcn"]
    assert old in text
    with pytest.raises(ConfigError) as error:
        build.preflight(load_config(write(text.replace(old, new))), ("model",))
    assert any(words in problem for problem in error.value.problems), error.value.problems


def test_names_without_effect_are_listed(write):
    _, notes = read_python_config(write(FILES["aagcn"] + "load_from = None\n"))
    assert "without effect here: load_from" in notes


# the descendants of PYSKL

SWITCHES = "gcn_ratio=0.125, gcn_ctr='T', gcn_ada='T', tcn_ms_cfg=[(3, 1), (3, 2), (3, 3), (3, 4), ('max', 3), '1x1']"
RANDOM = ("mode='spatial'", "mode='random', num_filter=8, init_off=.04, init_std=.02")
AUGMENTED = THREE.replace("feats=['b']", "feats=['k']").replace(
    "dict(type='PreNormalize3D')", "dict(type='PreNormalize3D', align_spine=False)"
)
PROTOGCN = (
    config(f"type='ProtoGCN', num_prototype=400, {SWITCHES}", streams=AUGMENTED)
    .replace(*RANDOM)
    .replace(
        "dict(type='GenSkeFeat'", "dict(type='Spatial_Flip', dataset='nturgb+d', p=0.5), dict(type='GenSkeFeat'", 1
    )
    .replace("in_channels=256", "in_channels=384, joint_cfg='nturgb+d', data_cfg='ntu60', weight=0.2")
    .replace("UniformSample", "UniformSampleDecode")
)


def flat(backbone: str, layout: str, transform: str, name: str) -> str:
    """A file in the form of those of Kinetics, FineGYM and UAV-Human: streams of the sampled frames."""
    text = config(f"type='{backbone}', {SWITCHES}", layout, streams="").replace(*RANDOM)
    text = text.replace("UniformSample", "UniformSampleFrames").replace(
        "dict(type='PoseDecode'),",
        f"dict(type='PoseDecode'), {transform} dict(type='GenSkeFeat', dataset='{layout}', feats=['bm']),",
    )
    text = text.replace("xsub_", "").replace("ntu60_hrnet", name)
    more = "box_thr=box_thr, valid_ratio=valid_ratio, memcached=memcached, mc_cfg=mc_cfg, "
    head = "box_thr = 0.5\nvalid_ratio = 0.0\nmemcached = True\nmc_cfg = ('localhost', 22077)\n"
    return head + text.replace("ann_file=ann_file, ", f"ann_file=ann_file, {more}")


def test_a_file_of_a_derived_project_is_read_for_testing(write, main):
    found = load_config(write(PROTOGCN), {"phase": "test"})
    assert found.model == "model.dgstgcn.Model" and found.model_args["channels"] == [96] * 4 + [192] * 3 + [384] * 3
    assert found.modality == "kbone" and not found.train_feeder_args
    args = {"sampling": "uniform_decode", "num_clips": 10, "align_spine": False, "split": "xsub"}
    assert args.items() <= found.test_feeder_args.items()
    classes = build.preflight(found, ("model", "feeder"))
    build.build_model(found, classes["model"])
    code, out, err = main("--config", write(PROTOGCN))
    assert code == 2 and "for testing only: the training objective of ProtoGCN is not read from its file" in out + err


@pytest.mark.parametrize(
    ("backbone", "layout", "transform", "name"),
    [
        ("GCN_Module_LLM_K400", "coco_new", "dict(type='Kinetics_Transform'),", "k400_hrnet"),
        ("GCN_Module", "coco_new", "dict(type='Kinetics_Transform'),", "gym_hrnet"),
        ("GCN_Module_LLM", "uav", "", "uav"),
    ],
)
def test_two_dimensional_files_of_derived_projects_equal_the_entries_of_the_zoo(
    write, backbone, layout, transform, name
):
    found = load_config(write(flat(backbone, layout, transform, name)), {"phase": "test"})
    entry = {
        "k400_hrnet": "skeletonagent_k400_val_hrnet2d_j",
        "gym_hrnet": "aclnet_finegym_val_hrnet2d_j",
        "uav": "skeletonagent_uav-human_csv1_2d_j",
    }[name]
    zoo = load_config(None, {"weights": f"zoo:{entry}", "phase": "test"})
    assert found.modality == "bone_motion" and found.model == zoo.model
    keys = ("channels", "joint_embedding", "num_point", "num_person", "graph")
    assert [found.model_args.get(key) for key in keys] == [zoo.model_args.get(key) for key in keys]
    keys = ("sample_first", "middle_joints", "sampling", "window_size", "num_clips", "num_person", "pre_normalize")
    assert [found.test_feeder_args.get(key) for key in keys] == [zoo.test_feeder_args.get(key) for key in keys]
    assert found.test_feeder_args.get("subtract_scores", False) == (name == "k400_hrnet")
    body = found.test_feeder_args["skeleton"]
    assert body == ("graph.uav" if name == "uav" else "graph.coco") and found.test_feeder_args["split"] == ""


def test_a_share_of_valid_frames_is_refused(write):
    text = flat("GCN_Module", "coco_new", "dict(type='Kinetics_Transform'),", "k400_hrnet")
    with pytest.raises(ConfigError, match=r"data.test.valid_ratio: expected 0.0, got 0.3"):
        load_config(write(text.replace("valid_ratio = 0.0", "valid_ratio = 0.3")), {"phase": "test"})
