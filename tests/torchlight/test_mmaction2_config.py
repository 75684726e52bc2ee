"""mmaction2's configuration files: merged with the files they inherit from, translated or refused."""

import pytest

from torchlight.config.load import load_config
from torchlight.config.options import ConfigError
from torchlight.config.python_configs import read_python_config
from torchlight.training import build

RUNTIME = """
default_scope = 'mmaction'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    checkpoint=dict(type='CheckpointHook', interval=3, save_best='auto'))
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend='nccl'))
load_from = None
"""
NETWORKS = {
    "stgcn": "type='STGCN', graph_cfg=dict(layout='{layout}', mode='stgcn_spatial')",
    "2s-agcn": "type='AAGCN', graph_cfg=dict(layout='{layout}', mode='spatial'), gcn_attention=False",
    "stgcn++": "type='STGCN', gcn_adaptive='init', gcn_with_res=True, tcn_type='mstcn', "
    "graph_cfg=dict(layout='{layout}', mode='spatial')",
}
POSES = {"3d": ("nturgb+d", "dict(type='PreNormalize3D')"), "hrnet2d": ("coco", "dict(type='PreNormalize2D')")}


def pipelines(pose: str, stream: str) -> str:
    """The three lists of transforms."""
    layout, normalize = POSES[pose]
    samplers = {"train": "", "val": ", num_clips=1, test_mode=True", "test": ", num_clips=10, test_mode=True"}
    return "\n".join(
        f"""{part}_pipeline = [
    {normalize}, dict(type='GenSkeFeat', dataset='{layout}', feats=['{stream}']),
    dict(type='UniformSampleFrames', clip_len=100{sampler}), dict(type='PoseDecode'),
    dict(type='FormatGCNInput', num_person=2), dict(type='PackActionInputs')]"""
        for part, sampler in samplers.items()
    )


def joint(network: str, pose: str) -> str:
    """A whole configuration of the joint stream."""
    backbone = NETWORKS[network].format(layout=POSES[pose][0])
    return f"""
_base_ = '../../_base_/default_runtime.py'
model = dict(
    type='RecognizerGCN',
    backbone=dict({backbone}),
    cls_head=dict(type='GCNHead', num_classes=60, in_channels=256))
dataset_type = 'PoseDataset'
ann_file = 'data/ntu/ntu60_{pose.removeprefix("hrnet")}.pkl'
{pipelines(pose, "j")}
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='RepeatDataset',
        times=5,
        dataset=dict(type=dataset_type, ann_file=ann_file, pipeline=train_pipeline, split='xsub_train')))
val_dataloader = dict(
    batch_size=16,
    dataset=dict(type=dataset_type, ann_file=ann_file, pipeline=val_pipeline, split='xsub_val', test_mode=True))
test_dataloader = dict(
    batch_size=1,
    dataset=dict(type=dataset_type, ann_file=ann_file, pipeline=test_pipeline, split='xsub_val', test_mode=True))
val_evaluator = [dict(type='AccMetric')]
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=16, val_begin=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, T_max=16, by_epoch=True, convert_to_iter_based=True)]
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.0005, nesterov=True))
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=100))
auto_scale_lr = dict(enable=False, base_batch_size=128)
"""


def other(pose: str, stream: str) -> str:
    """A configuration of another stream: new transforms over those of the joint stream."""
    return f"""
_base_ = 'joint.py'
{pipelines(pose, stream)}
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes files of a folder of configurations, with the file that all of them inherit from."""
    folder = tmp_path / "configs/skeleton/any"
    folder.mkdir(parents=True)
    runtime = tmp_path / "configs/_base_/default_runtime.py"
    runtime.parent.mkdir()
    runtime.write_text(RUNTIME)

    def write_one(name, text):
        (folder / name).write_text(text)
        return folder / name

    return write_one


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("stream", ["j", "bm"])
def test_a_file_means_the_test_of_the_checkpoint_that_it_trained(write, network, pose, stream):
    file = write("joint.py", joint(network, pose))
    file = file if stream == "j" else write("other.py", other(pose, stream))
    found = load_config(file)
    zoo = load_config(None, {"weights": f"zoo:mmaction2_{network}_ntu60_xsub_{pose}_{stream}", "phase": "test"})
    assert (found.model, found.feeder, found.modality) == (zoo.model, zoo.feeder, zoo.modality)
    for key in ("model_args", "test_feeder_args"):
        sides = ({"align_spine": True} | getattr(config, key) for config in (found, zoo))  # the default of the feeder
        assert len({repr(sorted((k, v) for k, v in side.items() if k != "skeleton")) for side in sides}) == 1, key


def test_a_file_means_the_published_training(write):
    write("joint.py", joint("stgcn++", "3d"))
    found = load_config(write("other.py", other("3d", "b")))
    assert (found.batch_size, found.optimizer, found.base_lr, found.nesterov) == (128, "SGD", 0.1, True)
    assert (found.lr_schedule, found.lr_interval, found.min_lr, found.num_epoch) == ("cosine", "step", 0, 16)
    assert (found.save_interval, found.eval_interval) == (1, 1)  # of the file, not of what it inherits
    assert found.train_feeder_args["repeat"] == 5 and found.train_feeder_args["sampling"] == "uniform_mmaction2"


def test_steps_of_the_learning_rate_and_what_the_runtime_says_are_read(write):
    steps = "dict(type='MultiStepLR', milestones=[10, 50], gamma=0.2, by_epoch=True, begin=0, end=16)"
    text = joint("stgcn", "3d").replace("checkpoint=dict(interval=1), ", "")
    start = text.index("[dict(type='CosineAnnealingLR'")
    found = load_config(write("steps.py", text[:start] + steps + text[text.index("\n", start) :]))
    assert (found.lr_schedule, found.step, found.lr_decay_rate, found.lr_interval) == ("step", [10, 50], 0.2, "epoch")
    assert found.save_interval == 3


def test_a_copy_without_the_runtime_file_means_the_same(write, tmp_path):
    file = write("joint.py", joint("2s-agcn", "3d"))
    options = read_python_config(file)
    (tmp_path / "configs/_base_/default_runtime.py").unlink()
    assert read_python_config(file) == options


def test_a_mapping_with_delete_replaces_the_inherited_one(write):
    write("joint.py", joint("stgcn", "3d"))
    text = "_base_ = ['joint.py']\noptim_wrapper = dict(_delete_=True, optimizer=dict(type='SGD', lr=0.2))\n"
    options, _ = read_python_config(write("new.py", text))
    assert (options["base_lr"], options["momentum"], options["nesterov"]) == (0.2, 0, False)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("'RecognizerGCN'", "'Recognizer2D'", "model.type: expected RecognizerGCN, Recognizer3D, got 'Recognizer2D'"),
        ("_base_/default_runtime.py'", "_base_/schedules/sgd.py'", "sgd.py: cannot be read"),
        ("'../../_base_/default_runtime.py'", "'bad.py'", "_base_: expected other files, got one that inherits from"),
        ("'../../_base_/default_runtime.py'", "5", "_base_: expected names of files, got 5"),
        ("T_max=16", "T_max=8", "param_scheduler.T_max: expected 16, got 8"),
        ("'CosineAnnealingLR'", "'LinearLR'", "param_scheduler: one schedule: expected CosineAnnealingLR"),
        (
            "optim_wrapper = dict(",
            "optim_wrapper = dict(accumulative_counts=4, ",
            "accumulative_counts: expected nothing",
        ),
        ("optim_wrapper = dict(", "optim_wrapper = dict(type='AmpOptimWrapper', ", "type: expected 'OptimWrapper'"),
        (
            "optim_wrapper = dict(",
            "optim_wrapper = dict(clip_grad=dict(max_norm=40, norm_type=1), ",
            "optim_wrapper.clip_grad.norm_type: expected 2, got 1",
        ),
        ("eta_min=0", "eta_min=0, last_epoch=3", "param_scheduler.last_epoch: expected nothing"),
        (
            "dict(type='PreNormalize3D')",
            "dict(type='PreNormalize3D', align_shoulder=False)",
            "align_shoulder: expected",
        ),
        ("'UniformSampleFrames'", "'SampleFrames'", "pipeline: expected transforms of PYSKL's GCNs"),
        ("train_cfg =", "loop =", "expected the structure of a configuration of PYSKL or mmaction2 1.x"),
        ("gcn_attention=False", "gcn_attention='no'", "model_args.attention: expected"),
    ],
)
def test_options_without_an_equivalent_are_refused_by_their_key(write, old, new, words):
    text = joint("2s-agcn", "3d")
    assert old in text
    with pytest.raises(ConfigError) as error:
        build.preflight(load_config(write("bad.py", text.replace(old, new))), ("model",))
    assert any(words in problem for problem in error.value.problems), error.value.problems
