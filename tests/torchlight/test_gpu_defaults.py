"""Settings, devices and transfers of a run on GPUs, and that a run on the CPU does not touch the GPUs."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.pretend import OnGpu, gpu
from torchlight.config.options import Config, ConfigError
from torchlight.runtime import distributed
from torchlight.training import checkpoint, device, engine, optim

CUDA = torch.device("cuda:0")
FLAGS = ((torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32"))
FLAGS += ((torch.backends.cudnn, "benchmark"), (torch.utils.deterministic, "fill_uninitialized_memory"))


@pytest.fixture
def flags():
    """Settings of the process, which the test may change."""
    saved = [getattr(place, name) for place, name in FLAGS]
    yield
    torch.use_deterministic_algorithms(False)
    for (place, name), value in zip(FLAGS, saved, strict=True):
        setattr(place, name, value)


@pytest.mark.parametrize(
    ("options", "convolutions", "products"),
    [({}, True, False), ({"tf32": False}, False, False), ({"tf32": True}, True, True)],
)
def test_tf32_is_for_convolutions_as_in_pytorch_or_for_everything_or_for_nothing(
    flags, options, convolutions, products
):
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = not convolutions, not products
    device.set_arithmetic(Config(**options))
    assert torch.backends.cudnn.allow_tf32 is convolutions
    assert torch.backends.cuda.matmul.allow_tf32 is products


@pytest.mark.parametrize(
    ("options", "tries"), [({}, True), ({"deterministic": True}, False), ({"phase": "predict"}, False)]
)
def test_algorithms_of_convolutions_are_tried_in_training_unless_it_is_deterministic(
    flags, monkeypatch, options, tries
):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    device.set_arithmetic(Config(**options))
    assert torch.backends.cudnn.benchmark is tries
    assert torch.utils.deterministic.fill_uninitialized_memory is not options.get("deterministic", False)


def chosen(monkeypatch, numbers: list[str], count: int, **environment: str) -> torch.device:
    """The device of a process on a machine with `count` GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return device.choose_device(Config(device=numbers))


@pytest.mark.parametrize(("numbers", "rank", "index"), [([], 0, 0), ([], 1, 1), (["3", "2"], 0, 3), (["3", "2"], 1, 2)])
def test_each_process_uses_the_gpu_of_its_local_rank(flags, monkeypatch, numbers, rank, index):
    found = chosen(monkeypatch, numbers, 4, LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")
    assert found == torch.device("cuda", index)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_fewer_gpu_numbers_than_processes_are_refused(flags, monkeypatch, rank):
    with pytest.raises(ConfigError, match="device: expected 2 GPU numbers, one for each process, or none, got 1"):
        chosen(monkeypatch, ["1"], 2, LOCAL_RANK=rank, LOCAL_WORLD_SIZE="2")


def test_tasks_that_only_see_their_own_gpu_use_the_same_number(flags, monkeypatch):
    task = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "SLURM_STEP_ID": "0"}
    assert chosen(monkeypatch, ["0"], 1, **task) == CUDA


@pytest.mark.parametrize("word", ["broadcast_buffers", "forward_sync_buffers"])  # before and since PyTorch 2.13
def test_gradients_are_exchanged_in_place_and_running_statistics_only_before_they_are_tested(monkeypatch, word):
    given = {}
    parallel = {
        "broadcast_buffers": lambda model, device_ids, gradient_as_bucket_view, broadcast_buffers=True: given.update(
            device_ids=device_ids, view=gradient_as_bucket_view, buffers=broadcast_buffers
        ),
        "forward_sync_buffers": lambda model, device_ids, gradient_as_bucket_view, forward_sync_buffers=True: (
            given.update(device_ids=device_ids, view=gradient_as_bucket_view, buffers=forward_sync_buffers)
        ),
    }
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", parallel[word])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        device.wrap(nn.Linear(1, 1), Config(), CUDA)
        warnings.warn("Grad strides do not match bucket view strides. This may ...", stacklevel=1)
        warnings.warn("another one", stacklevel=1)
    assert given == {"device_ids": [0], "view": True, "buffers": False}
    assert [str(warning.message) for warning in seen] == ["another one"]


def test_running_statistics_are_sent_in_one_message_for_each_type(monkeypatch):
    model, sent = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm2d(2)), []

    def broadcast(x, source):
        sent.append(x.dtype)
        x.copy_(torch.arange(len(x)))

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "broadcast", broadcast)
    distributed.broadcast_buffers(model)
    assert sent == [torch.float32, torch.int64]
    found = [buffer.tolist() for buffer in model.buffers()]
    assert found == [[0, 1, 2], [3, 4, 5], 0, [6, 7], [8, 9], 1]


def test_a_run_on_the_cpu_does_not_touch_the_gpus_of_the_machine(tmp_path, experiment, main, monkeypatch):
    def refuse():
        raise AssertionError("CUDA was initialized")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_lazy_init", refuse)
    code, _, err = main("--config", experiment(ema_decay=0.9, num_epoch=1), "--work-dir", tmp_path, "--device", "cpu")
    assert (code, err) == (0, "") and (tmp_path / "last.pt").exists()


class FakeEvent:
    """Half a second passes between two events."""

    count = 0

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self, stream) -> None:
        assert stream == "stream of cuda:0"
        FakeEvent.count += 1
        self.time = FakeEvent.count / 2

    def elapsed_time(self, other) -> float:
        return 1000 * (other.time - self.time)


def test_waiting_for_data_is_measured_in_the_time_of_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    clock = engine.Clock(CUDA)
    assert list(clock.wait(iter("abc"))) == ["a", "b", "c"]
    assert clock.data == 4 * 0.5  # with the look for a fourth batch


def test_a_checkpoint_leaves_the_gpu_in_one_transfer_for_each_type(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    content = {"model": model.state_dict(), "optimizer": [{"lr": 0.1}, (torch.ones(2, 2), None)], "epoch": 3}
    checkpoint.save(tmp_path / "cpu.pt", content)
    with gpu(monkeypatch) as watch:
        model.to(CUDA)
        away = content | {"model": model.state_dict(), "again": model[0].weight}
        assert isinstance(away["model"]["0.weight"], OnGpu)
        watch.waits.clear()
        checkpoint.save(tmp_path / "gpu.pt", away)
        assert len(watch.waits) == 2  # float32 and int64
    expected, found = checkpoint.load(tmp_path / "cpu.pt"), checkpoint.load(tmp_path / "gpu.pt")
    assert torch.equal(found.pop("again"), expected["model"]["0.weight"])
    assert found["model"]._metadata == expected["model"]._metadata
    assert all(torch.equal(found["model"][name], value) for name, value in expected.pop("model").items())
    assert torch.equal(found["optimizer"][1][0], torch.ones(2, 2)) and found["optimizer"][0] == {"lr": 0.1}
    sizes = {value.untyped_storage().nbytes() for value in found["model"].values()}
    assert max(sizes) == 4 * 6  # none holds the memory of all


def test_the_moving_average_builds_no_state_dict_in_a_step_and_follows_a_buffer_that_is_replaced(monkeypatch):
    model = nn.BatchNorm1d(2)
    average = optim.MovingAverage(model, 0.5)
    monkeypatch.setattr(nn.Module, "state_dict", None)
    model.running_mean = torch.full((2,), 4.0)
    average.update()
    assert average.model.running_mean.tolist() == [2, 2]
