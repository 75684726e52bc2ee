"""Every network as a file of another program: the same logits, common operators, no shape arithmetic."""

import json

import pytest
import torch

from model import catalog
from tests.model.golden import fill_model
from tests.model.zoo import NETWORKS, build, clip
from torchlight.contract import network_inputs
from torchlight.export.convert import Served, trace
from torchlight.export.run import ExportedNetwork, open_exported
from torchlight.export.write import BOUNDS, compare, export_network
from torchlight.objective import Classification
from torchlight.system.consent import admit
from torchlight.training.engine import for_inference

SMALL = {  # two or three blocks of each network: constants of its file
    "blockgcn": {"LAYERS": [(128, 128, 1), (128, 256, 2)]},
    "hypergcn": {"LAYERS": {"base": [(128, 256, 2), (256, 256, 1), (256, 256, 1)]}, "STAGES": ((1, 2, 3),)},
}
ARGS = {  # arguments that make a network small
    "msg3d": {"num_gcn_scales": 4, "num_g3d_scales": 3},
    "posec3d": {"body": "coco", "in_channels": 17, "blocks": (1, 1, 1), "width": 4},
    "skateformer": {"depths": (1, 1), "channels": (32, 32)},
    "tsgcnext": {"depths": (1, 1), "base_channels": 16},
}
COMMON = set(
    """Abs Add ArgMin BatchNormalization Cast Concat Conv Cos Div Equal Erf Exp Expand Gather GatherElements Gemm
    Greater LayerNormalization LeakyRelu MatMul Max MaxPool Min Mul Neg Or Pad Pow ReduceL1 ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceSum Relu Reshape ScatterElements Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh
    TopK Transpose Unsqueeze Where""".split()
)


def network(name, monkeypatch):
    """A small network with weights that matter, for inference, and clips, the last one with one person."""
    module = catalog.load(name)
    small = SMALL.get(name, {"WIDTHS": (64, 128)} if hasattr(module, "WIDTHS") and name != "msg3d" else {})
    for key, value in small.items():
        monkeypatch.setattr(module, key, value)
    torch.manual_seed(0)
    data = (torch.rand(3, 17, 4, 16, 16) if name == "posec3d" else clip(name, N=3, frames=16)).double()
    model = fill_model(build(name, **ARGS.get(name, {})), data)
    data[2, ..., 1] = 0
    return for_inference(model.float()), data.float()


def inputs(model, data):
    """The inputs of a network: clips, and times that are not evenly spread if it takes them."""
    takes_time = getattr(type(model), "takes_time", False)
    return (data, torch.rand(data.shape[0], data.shape[2]) * 2 - 1) if takes_time else (data,)


def write(path, name, monkeypatch, format, **options):
    model, data = network(name, monkeypatch)
    clips = inputs(model, data)
    metadata, difference = export_network(model, Classification(), clips, path, format, {"num_class": 5}, **options)
    assert difference <= BOUNDS[options.get("precision", "float32")]
    return model, clips, metadata


@pytest.mark.parametrize("name", [*NETWORKS, "posec3d"])
def test_every_network_becomes_a_file_of_onnx_with_common_operators_and_without_shape_arithmetic(
    name, tmp_path, monkeypatch
):
    model, clips, metadata = write(tmp_path / "n.onnx", name, monkeypatch, "onnx")
    assert set(metadata["operators"]) <= COMMON
    exported = open_exported(tmp_path / "n.onnx")
    assert compare(Served(model, Classification()), exported, clips) <= 1e-4
    assert exported.metadata == json.loads(json.dumps(metadata)) and exported.metadata["opset"] == 18


@pytest.mark.parametrize("name", ["ctrgcn", "hypergcn"])
def test_a_file_of_onnx_for_any_number_of_clips_gives_the_logits_of_every_number(name, tmp_path, monkeypatch):
    model, clips, metadata = write(tmp_path / "n.onnx", name, monkeypatch, "onnx", dynamic=True)
    assert metadata["input"]["data"][0] == "batch"
    exported = open_exported(tmp_path / "n.onnx")
    many = tuple(torch.cat([x, x.flip(0)]) for x in clips)
    assert compare(Served(model, Classification()), exported, many) <= 1e-4


@pytest.mark.parametrize("name", ["agcn", "blockgcn", "dgstgcn", "hdgcn", "tsgcnext"])
def test_networks_can_be_traced_for_any_number_of_clips(name, monkeypatch):
    model, data = network(name, monkeypatch)
    clips, served = inputs(model, data), Served(model, Classification())
    program = trace(served, [x[:2] for x in clips], dynamic=True).module()
    with torch.no_grad():
        for n in (1, 3):
            some = [x[:n] for x in clips]
            assert torch.allclose(program(*some), served(*some), atol=1e-4)


@pytest.mark.parametrize(("name", "dynamic"), [("baseline", False), ("skateformer", True)])
def test_a_file_of_torch_export_gives_the_same_logits(name, dynamic, tmp_path, monkeypatch):
    path = tmp_path / "n.pt2"
    model, clips, metadata = write(path, name, monkeypatch, "torch", dynamic=dynamic)
    with pytest.raises(ValueError, match="can run code .* --import"):
        open_exported(path)
    admit(str(path))
    exported = open_exported(path)
    assert torch.export.load(path).example_inputs is None  # clips are no part of the file
    assert compare(Served(model, Classification()), exported, clips) <= 1e-4
    assert exported.metadata == json.loads(json.dumps(metadata))
    batch = dict(zip(("data", "time"), clips, strict=False)) | {"time": torch.zeros(3, 16)}
    assert len(network_inputs(exported, batch)) == len(clips)  # only SkateFormer takes the times


@pytest.mark.parametrize(
    ("name", "format"), [("baseline", "onnx"), ("blockgcn", "onnx"), ("hypergcn", "onnx"), ("baseline", "torch")]
)
def test_float16_halves_the_file_and_keeps_float32_inputs_and_logits(name, format, tmp_path, monkeypatch):
    monkeypatch.setitem(BOUNDS, "float16", 0.5)  # Hyper-GCN with random weights chooses other neighbors
    path = tmp_path / ("n.onnx" if format == "onnx" else "n.pt2")
    model, clips, metadata = write(path, name, monkeypatch, format, precision="float16")
    weights = sum(value.numel() for value in model.state_dict().values())
    assert metadata["precision"] == "float16" and path.stat().st_size < 3 * weights + 1e5
    if format == "torch":
        admit(str(path))
    assert open_exported(path)(*clips).dtype == torch.float32


def test_inputs_of_another_shape_are_refused_with_the_expected_one(tmp_path, monkeypatch):
    _, (data,), _ = write(tmp_path / "n.onnx", "baseline", monkeypatch, "onnx")
    exported = open_exported(tmp_path / "n.onnx")
    assert isinstance(exported, ExportedNetwork)
    for wrong in (data[:, :, :8], data[:, :2], data[..., :1], data[0], data[:0]):
        with pytest.raises(ValueError, match=r"n.onnx: data: expected the shape \(N, 3, 16, 25, 2\), got"):
            exported(wrong)
    with pytest.raises(ValueError, match="n.onnx: expected the inputs data, got 2 tensors"):
        exported(data, data)
    with pytest.raises(ValueError, match="expected a checkpoint for features"):
        exported.features(data)


@pytest.mark.parametrize("bound", [0.0, float("nan")])
def test_a_file_with_other_logits_is_not_written(bound, tmp_path, monkeypatch):
    monkeypatch.setitem(BOUNDS, "float32", bound)
    with pytest.raises(ValueError, match="n.onnx: expected logits that differ by at most .* nothing was written"):
        write(tmp_path / "n.onnx", "baseline", monkeypatch, "onnx")
    assert not list(tmp_path.iterdir())
