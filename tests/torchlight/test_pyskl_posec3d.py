"""PYSKL's configuration files of PoseConv3D mean the networks, data and tests of the published checkpoints."""

import inspect

import pytest

from graph import coco
from torchlight.config.load import load_config
from torchlight.config.options import ConfigError
from torchlight.config.python_configs import read_python_config
from torchlight.config.python_literals import read_python
from torchlight.training import build

SLOWONLY = """type='ResNet3dSlowOnly', in_channels=17, base_channels=32, num_stages=3, out_indices=(2, ),
        stage_blocks=(4, 6, 3), conv1_stride=(1, 1), pool1_stride=(1, 1), inflate=(0, 1, 1),
        spatial_strides=(2, 2, 2), temporal_strides=(1, 1, 2)"""
C3D = "type='C3D', in_channels=17, base_channels=32, num_stages=3, temporal_downsample=False"
X3D = """type='X3D', gamma_d=1, in_channels=17, base_channels=24, num_stages=3, se_ratio=None, use_swish=False,
        stage_blocks=(2, 5, 3), spatial_strides=(2, 2, 2)"""
LIMBS = f"skeletons = {[list(limb) for limb in coco.LIMBS]}\n"
LIMBS += f"left_limb = {list(coco.LEFT_LIMBS)}\nright_limb = {list(coco.RIGHT_LIMBS)}\n"
KINETICS = "box_thr = 0.5\nvalid_ratio = 0.0\nmemcached = True\nmc_cfg = ('localhost', 22077)\n"
JOINT = ("with_kp=True, with_limb=False", ", double=True, left_kp=left_kp, right_kp=right_kp")
LIMB = (
    "with_kp=False, with_limb=True, skeletons=skeletons",
    ", double=True, left_kp=left_kp, right_kp=right_kp, left_limb=left_limb, right_limb=right_limb",
)
DEFAULT_LIMBS = ("with_kp=False, with_limb=True", JOINT[1])


def pipeline(name: str, first: str, target: str, T: int = 48) -> str:
    """One of the three lists of transforms."""
    clips = {"train": "", "val": ", num_clips=1", "test": ", num_clips=10"}[name]
    crop = """
    dict(type='Resize', scale=(-1, 64)),
    dict(type='RandomResizedCrop', area_range=(0.56, 1.0)),
    dict(type='Resize', scale=(56, 56), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5, left_kp=left_kp, right_kp=right_kp),"""
    size = crop if name == "train" else "\n    dict(type='Resize', scale=(64, 64), keep_ratio=False),"
    return f"""{name}_pipeline = [{first}
    dict(type='UniformSampleFrames', clip_len={T}{clips}),
    dict(type='PoseDecode'),
    dict(type='PoseCompact', hw_ratio=1., allow_imgpad=True),{size}
    dict(type='GeneratePoseTarget', {target}),
    dict(type='FormatShape', input_format='NCTHW_Heatmap'),
    dict(type='Collect', keys=['imgs', 'label'], meta_keys=[]),
    dict(type='ToTensor', keys=['imgs'])
]
"""


def config(
    backbone: str,
    num_class: int = 60,
    split: str = "xsub_{}",
    data: str = "nturgbd/ntu60",
    target: tuple[str, str] = JOINT,
    first: str = "",
    more: str = "",
    weight_decay: float = 0.0003,
    T: int = 48,
) -> str:
    """A file in the form of the published ones; first: of the transforms; more: entries of the training part."""
    train, test = split.format("train"), split.format("val")
    return f"""
model = dict(
    type='Recognizer3D',
    backbone=dict(
        {backbone}),
    cls_head=dict(type='I3DHead', in_channels=512, num_classes={num_class}, dropout=0.5),
    test_cfg=dict(average_clips='prob'))

dataset_type = 'PoseDataset'
ann_file = 'data/{data}_hrnet.pkl'
left_kp = [1, 3, 5, 7, 9, 11, 13, 15]
right_kp = [2, 4, 6, 8, 10, 12, 14, 16]
{LIMBS}{KINETICS if first else ""}class_prob = [1] * 60 + [2] * 60
{"".join(pipeline(n, first, target[0] + target[1] * (n == "test"), T) for n in ("train", "val", "test"))}
data = dict(
    videos_per_gpu=32,
    workers_per_gpu=4,
    test_dataloader=dict(videos_per_gpu=1),
    train=dict(
        type='RepeatDataset',
        times=10,
        dataset=dict(type=dataset_type, ann_file=ann_file, split='{train}', pipeline=train_pipeline{more})),
    val=dict(type=dataset_type, ann_file=ann_file, split='{test}', pipeline=val_pipeline),
    test=dict(type=dataset_type, ann_file=ann_file, split='{test}', pipeline=test_pipeline))
optimizer = dict(type='SGD', lr=0.4, momentum=0.9, weight_decay={weight_decay})
optimizer_config = dict(grad_clip=dict(max_norm=40, norm_type=2))
lr_config = dict(policy='CosineAnnealing', by_epoch=False, min_lr=0)
total_epochs = 24
checkpoint_config = dict(interval=1)
evaluation = dict(interval=1, metrics=['top_k_accuracy', 'mean_class_accuracy'], topk=(1, 5))
log_config = dict(interval=20, hooks=[dict(type='TextLoggerHook')])
log_level = 'INFO'
work_dir = './work_dirs/posec3d/x'
"""


BIG = SLOWONLY.replace("(4, 6, 3)", "(3, 4, 6)")
K400 = {
    "num_class": 400,
    "split": "{}",
    "data": "k400/k400",
    "first": "\n    dict(type='DecompressPose', squeeze=True),",
}
K400 |= {"more": ", box_thr=box_thr, valid_ratio=valid_ratio, memcached=memcached, mc_cfg=mc_cfg"}
K400 |= {"weight_decay": 0.0001}
GYM = {"num_class": 99, "split": "{}", "data": "gym/gym"}
FILES = {  # entry of the zoo: the file that trained it
    "posec3d-slowonly_ntu60_xsub_hrnet2d_j": config(SLOWONLY),
    "posec3d-slowonly_ntu60_xview_hrnet2d_limb": config(SLOWONLY, split="xview_{}", target=LIMB),
    "posec3d-c3d_ntu60_xsub_hrnet2d_limb": config(C3D, target=LIMB),
    "posec3d-x3d_ntu60_xsub_hrnet2d_j": config(X3D),
    "posec3d-slowonly_ntu120_xsub_hrnet2d_limb": config(
        SLOWONLY, 120, data="nturgbd/ntu120", target=LIMB, more=", class_prob=class_prob"
    ),
    "posec3d-slowonly346_k400_val_hrnet2d_j": config(BIG, **K400),
    "posec3d-slowonly_k400_val_hrnet2d_limb": config(SLOWONLY, target=LIMB, **K400),
    "posec3d-c3d_finegym_val_hrnet2d_j": config(C3D, **GYM),
    "posec3d-slowonly346_ucf101_split1_hrnet2d_j": config(BIG, 101, "{}1", "ucf101/ucf101")
    .replace("(56, 56)", "(48, 48)")
    .replace("(64, 64)", "(56, 56)")
    .replace("val1", "test1")
    + "load_from = 'https://somewhere/k400.pth'\n",
    "posec3d-poseonly_ntu60_xsub_hrnet2d_j": config(
        SLOWONLY.replace("(1, 1, 2)", "(1, 1, 1)"), target=(JOINT[0], ""), T=32
    ).replace("scale=(-1, 64)", "scale=(64, 64), keep_ratio=False"),
}
RECIPES = {  # recipes here of entries of the zoo
    "posec3d-slowonly_ntu60_xsub_hrnet2d_j": "ntu/xsub/posec3d",
    "posec3d-slowonly_ntu60_xview_hrnet2d_limb": "ntu/xview/posec3d",
    "posec3d-c3d_ntu60_xsub_hrnet2d_limb": "ntu/xsub/posec3d_c3d",
    "posec3d-x3d_ntu60_xsub_hrnet2d_j": "ntu/xsub/posec3d_x3d",
    "posec3d-slowonly_ntu120_xsub_hrnet2d_limb": "ntu120/xsub/posec3d",
    "posec3d-slowonly346_k400_val_hrnet2d_j": "kinetics/posec3d_346",
    "posec3d-slowonly_k400_val_hrnet2d_limb": "kinetics/posec3d",
    "posec3d-c3d_finegym_val_hrnet2d_j": "finegym/posec3d_c3d",
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "joint.py").write_text(text)
        return tmp_path / "joint.py"

    return write


def arguments(config, key: str) -> dict:
    """The arguments of a configuration with the defaults of its class; the place of the data differs."""
    target = build.preflight(config, ("model", "feeder"))[key.split("_")[0] if key == "model_args" else "feeder"]
    defaults = {name: p.default for name, p in inspect.signature(target).parameters.items()}
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in (defaults | getattr(config, key)).items()}
    return {name: value for name, value in found.items() if name not in ("data_path", "width")}


@pytest.mark.parametrize("name", FILES)
def test_a_published_checkpoint_is_tested_by_its_own_file_as_by_the_zoo(write, name):
    found, zoo = load_config(write(FILES[name])), load_config(None, {"weights": f"zoo:{name}", "phase": "test"})
    assert (found.model, found.feeder, found.modality) == (zoo.model, zoo.feeder, zoo.modality)
    for key in ("model_args", "test_feeder_args"):
        assert arguments(found, key) == arguments(zoo, key), key


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_here_is_the_one_of_the_published_file(write, name):
    found = load_config(write(FILES[name]))
    ours = load_config(f"config/{RECIPES[name]}.yaml", {"modality": found.modality})
    for key in ("model_args", "train_feeder_args", "test_feeder_args"):
        assert arguments(found, key) == arguments(ours, key), key
    keys = "batch_size optimizer base_lr momentum weight_decay nesterov clip_grad lr_schedule lr_interval num_epoch"
    for key in keys.split():
        assert getattr(found, key) == getattr(ours, key), key
    build.build_model(found, build.preflight(found, ("model",))["model"])


def test_settings_that_a_file_only_describes_in_comments_are_listed(write):
    notes = {name: read_python_config(write(text))[1] for name, text in FILES.items()}
    assert any(
        "starts from https://somewhere/k400.pth" in n for n in notes["posec3d-slowonly346_ucf101_split1_hrnet2d_j"]
    )
    assert any("before the random crop" in n for n in notes["posec3d-poseonly_ntu60_xsub_hrnet2d_j"])
    assert notes["posec3d-slowonly_ntu60_xsub_hrnet2d_j"] == [
        "batch_size 256: 8 GPUs x 32 clips, as in the published recipes"
    ]


def test_limbs_without_a_list_are_drawn_in_the_default_order(write):
    found = load_config(write(config(SLOWONLY, 120, target=DEFAULT_LIMBS)))
    assert found.modality == "limb" and found.test_feeder_args["limbs"] == "default"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("type='ResNet3dSlowOnly'", "type='SlowFast'", "model.backbone.type: expected ResNet3dSlowOnly, C3D, X3D"),
        ("inflate=(0, 1, 1),", "", "model.backbone.inflate: expected [0, 1, 1], got 'nothing'"),
        ("pool1_stride=(1, 1)", "pool1_stride=(1, 2)", "model.backbone.pool1_stride: expected [1, 1], got [1, 2]"),
        ("num_stages=3", "num_stages=3, non_local=1", "model.backbone.non_local: expected nothing"),
        ("type='I3DHead'", "type='SlowFastHead'", "model.cls_head.type: expected 'I3DHead'"),
        ("'prob'", "'score'", "model.test_cfg.average_clips: expected 'prob', got 'score'"),
        (
            "clip_len=48)",
            "clip_len=48, num_clips=2)",
            "UniformSampleFrames.num_clips: expected 1, got 2",
        ),
        ("hw_ratio=1.", "hw_ratio=2.", "train pipeline: PoseCompact.hw_ratio: expected 1.0, got 2.0"),
        ("scale=(-1, 64)", "scale=(-1, 56)", "train pipeline: Resize.scale: expected (-1, 64), (64, 64), got [-1, 56]"),
        ("(56, 56), keep_ratio=False", "(56, 48), keep_ratio=False", "train pipeline: Resize: expected a square"),
        ("    dict(type='Resize', scale=(-1, 64)),\n", "", "train pipeline: expected PoseCompact, Resize, RandomRes"),
        ("with_limb=False", "with_limb=True", "expected one of with_kp and with_limb, got True and True"),
        ("with_limb=False", "with_limb=False, sigma=1", "GeneratePoseTarget.sigma: expected 0.6, got 1"),
        ("left_kp = [1, 3", "left_kp = [3, 1", "train pipeline: Flip.left_kp: expected [1, 3, 5, 7"),
        ("[1] * 60 + [2] * 60", "[1] * 60 + [3] * 60", "class_prob: expected 1, and 2 for one range of classes"),
        ("'xsub_train'", "'xview_train'", "expected one split in training and test, got ['xview', 'xsub']"),
        ("dict(type='PoseDecode'),", "dict(type='Noise'),", "train pipeline: expected transforms of PoseConv3D"),
    ],
)
def test_options_without_an_equivalent_are_refused_by_their_key(write, old, new, words):
    text = config(SLOWONLY, more=", class_prob=class_prob" if "60" in old else "")
    assert old in text
    with pytest.raises(ConfigError) as error:
        load_config(write(text.replace(old, new)))
    assert any(words in problem for problem in error.value.problems), error.value.problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = [1] * 60 + ['x']\n", "BinOp"),
        ("a = [1] * 2.0\n", "BinOp"),
        ("a = 2 * [1]\n", "BinOp"),
        ("a = [1]\n" + "a = a + a\n" * 20, "a list of more than 10000 numbers"),
        ("a = [1] * 100000000000\n", "a list of more than 10000 numbers"),
    ],
)
def test_lists_of_numbers_alone_are_repeated_and_joined_up_to_a_length(write, text, words):
    assert read_python(write("a = [1] * 2 + [2]\n")) == {"a": [1, 1, 2]}
    with pytest.raises(ValueError, match=words):
        read_python(write(text))
