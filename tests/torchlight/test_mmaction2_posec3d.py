"""mmaction2's configuration files of PoseConv3D mean the tests of its checkpoints and its training."""

import inspect

import pytest

from graph import coco
from torchlight.config.load import load_config
from torchlight.config.options import ConfigError
from torchlight.config.python_configs import read_python_config
from torchlight.training import build

JOINT = "with_kp=True, with_limb=False"
LIMB = "with_kp=False, with_limb=True, skeletons=skeletons"
SIDES = "left_kp=left_kp, right_kp=right_kp"
LIMB_SIDES = f"{SIDES}, left_limb=left_limb, right_limb=right_limb"


def pipeline(part: str, target: str, sides: str, side: int, crops: bool, first: str) -> str:
    """One of the three lists of transforms; side: pixels of the heatmaps in tests; first: of the transforms."""
    sampler = {"train": "", "val": ", num_clips=1, test_mode=True", "test": ", num_clips=10, test_mode=True"}[part]
    size = f"dict(type='Resize', scale=(-1, {side})), dict(type='CenterCrop', crop_size={side}),"
    if not crops:
        size = f"dict(type='Resize', scale=({side}, {side}), keep_ratio=False),"
    if part == "train":
        size = f"""dict(type='Resize', scale=(-1, 64)),
    dict(type='RandomResizedCrop', area_range=(0.56, 1.0)),
    dict(type='Resize', scale=({side - 8}, {side - 8}), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5, {SIDES}),"""
    both = f", double=True, {sides}" if part == "test" else ""
    return f"""{part}_pipeline = [{first}
    dict(type='UniformSampleFrames', clip_len=48{sampler}), dict(type='PoseDecode'),
    dict(type='PoseCompact', hw_ratio=1., allow_imgpad=True),
    {size}
    dict(type='GeneratePoseTarget', sigma=0.6, use_score=True, {target}{both}),
    dict(type='FormatShape', input_format='NCTHW_Heatmap'), dict(type='PackActionInputs')]
"""


def config(
    num_class=60,
    blocks="(4, 6, 3)",
    data="ntu/ntu60_2d",
    split="xsub_val",
    target=JOINT,
    side=64,
    crops=True,
    first="",
    more="",
):
    """A file in the form of the published ones."""
    train = split.replace("val", "train").replace("test", "train")
    sides = LIMB_SIDES if target == LIMB else SIDES
    return f"""
_base_ = '../../_base_/default_runtime.py'
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3dSlowOnly', depth=50, pretrained=None, in_channels=17, base_channels=32, num_stages=3,
        out_indices=(2, ), stage_blocks={blocks}, conv1_stride_s=1, pool1_stride_s=1, inflate=(0, 1, 1),
        spatial_strides=(2, 2, 2), temporal_strides=(1, 1, 2), dilations=(1, 1, 1)),
    cls_head=dict(
        type='I3DHead', in_channels=512, num_classes={num_class}, dropout_ratio=0.5, average_clips='prob'))
dataset_type = 'PoseDataset'
ann_file = 'data/{data}.pkl'
left_kp = [1, 3, 5, 7, 9, 11, 13, 15]
right_kp = [2, 4, 6, 8, 10, 12, 14, 16]
skeletons = {[list(limb) for limb in coco.LIMBS]}
left_limb = {list(coco.LEFT_LIMBS)}
right_limb = {list(coco.RIGHT_LIMBS)}
{"".join(pipeline(part, target, sides, side, crops, first) for part in ("train", "val", "test"))}
train_dataloader = dict(
    batch_size=16, num_workers=8, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='RepeatDataset', times=10, dataset=dict(
        type=dataset_type, ann_file=ann_file, split='{train}', pipeline=train_pipeline)))
val_dataloader = dict(batch_size=16, dataset=dict(
    type=dataset_type, ann_file=ann_file, split='{split}', pipeline=val_pipeline, test_mode=True))
test_dataloader = dict(batch_size=1, dataset=dict(
    type=dataset_type, ann_file=ann_file, split='{split}', pipeline=test_pipeline, test_mode=True))
val_evaluator = [dict(type='AccMetric')]
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_begin=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, T_max=24, by_epoch=True, convert_to_iter_based=True)]
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=0.0003), clip_grad=dict(max_norm=40, norm_type=2))
{more}"""


START = "load_from = 'https://somewhere/k400.pth'\n"
UCF = {"num_class": 101, "blocks": "(3, 4, 6)", "data": "ucf101/ucf101_hrnet", "split": "test1", "side": 56}
K400 = {"num_class": 400, "blocks": "(3, 4, 6)", "data": "kinetics/k400_hrnet", "split": "val", "crops": False}
K400["first"] = "\n    dict(type='DecompressPose', squeeze=True),"
FILES = {  # entry of the zoo: the file that trained it
    "mmaction2_posec3d-slowonly_ntu60_xsub_hrnet2d_j": config(),
    "mmaction2_posec3d-slowonly_ntu60_xsub_hrnet2d_limb": config(target=LIMB),
    "mmaction2_posec3d-slowonly_finegym_val_hrnet2d_j": config(99, data="finegym/gym_hrnet", split="val"),
    "mmaction2_posec3d-slowonly346_k400_val_hrnet2d_j": config(**K400),
    "mmaction2_posec3d-slowonly346_ucf101_split1_hrnet2d_j": config(**UCF, more=START),
}


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "file.py").write_text(text)
        return tmp_path / "file.py"

    return write


@pytest.mark.parametrize("name", FILES)
def test_a_file_means_the_test_of_the_checkpoint_that_it_trained(write, name):
    found = load_config(write(FILES[name]))
    zoo = load_config(None, {"weights": f"zoo:{name}", "phase": "test"})
    assert (found.model, found.feeder, found.modality) == (zoo.model, zoo.feeder, zoo.modality)
    classes = build.preflight(found, ("model", "feeder"))
    for key, kind in (("model_args", "model"), ("test_feeder_args", "feeder")):
        defaults = {name: p.default for name, p in inspect.signature(classes[kind]).parameters.items()}
        sides = (defaults | {"width": 32, "data_path": ""} | getattr(config, key) for config in (found, zoo))
        sides = [{k: list(v) if isinstance(v, tuple) else v for k, v in side.items()} for side in sides]
        assert sides[0] == sides[1], key


def test_a_file_means_the_published_training(write):
    found = load_config(write(config()))
    assert (found.batch_size, found.optimizer, found.base_lr, found.nesterov) == (128, "SGD", 0.2, False)
    assert (found.lr_schedule, found.lr_interval, found.num_epoch, found.clip_grad) == ("cosine", "step", 24, 40)
    assert found.model_args["drop_out"] == 0.5
    train = found.train_feeder_args
    assert (train["repeat"], train["size"], train["window_size"], train["pipeline"]) == (10, 56, 48, "mmaction2")


def test_the_weights_that_a_training_starts_from_are_named(write):
    notes = [read_python_config(write(config(**UCF, more=more)))[1] for more in ("", START)]
    assert [any("starts from https://somewhere/k400.pth" in note for note in found) for found in notes] == [False, True]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("crop_size=64", "crop_size=56", "test pipeline: Resize.scale: expected [-1, 56], got [-1, 64]"),
        ("depth=50", "depth=101", "model.backbone.depth: expected 50, got 101"),
        ("dilations=(1, 1, 1)", "dilations=(1, 1, 2)", "model.backbone.dilations: expected [1, 1, 1], got [1, 1, 2]"),
        ("'prob'", "'score'", "model.cls_head.average_clips: expected 'prob', got 'score'"),
        ("'ResNet3dSlowOnly'", "'ResNet3dSlowFast'", "model.backbone.type: expected ResNet3dSlowOnly, C3D, X3D"),
        ("dict(type='CenterCrop'", "dict(type='ThreeCrop'", "expected transforms of PoseConv3D, got 'ThreeCrop'"),
    ],
)
def test_options_without_an_equivalent_are_refused_by_their_key(write, old, new, words):
    text = config()
    assert old in text
    with pytest.raises(ConfigError) as error:
        load_config(write(text.replace(old, new)))
    assert any(words in problem for problem in error.value.problems), error.value.problems
