"""An epoch and an evaluation, without files."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.torchlight.parts import Plain
from torchlight.objective import Classification
from torchlight.training import engine, scores
from torchlight.training.sampler import TestBatches, TrainBatches


def batches(number: int, size: int, seed: int = 0) -> list[dict]:
    draw = torch.Generator().manual_seed(seed)
    data = torch.randn(number * size, 3, 4, 2, 1, generator=draw)
    label = torch.randint(3, (number * size,), generator=draw)
    index = torch.arange(number * size)
    return [
        {"data": d, "label": y, "index": i}
        for d, y, i in zip(data.split(size), label.split(size), index.split(size), strict=True)
    ]


def train(parts: list[dict], update_freq: int, clip_grad: float = 0.0, objective: nn.Module | None = None):
    """Weights, means and the number of optimizer steps after one pass."""
    torch.manual_seed(0)
    model, meter, steps = Plain(3, 2, 1), engine.Meter(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    stepper = engine.Stepper(
        optimizer,
        torch.device("cpu"),
        update_freq,
        clip_grad,
        after_step=lambda: steps.append(torch.cat([p.detach().flatten() for p in model.parameters()])),
    )
    engine.train_one_epoch(model, objective or Classification(), parts, stepper, meter, engine.Clock())
    return model.state_dict(), meter.means(), steps


def test_two_half_batches_accumulated_are_one_whole_batch():
    whole, means, steps = train(batches(6, 16), 1)
    half, half_means, half_steps = train(
        [{k: v[i : i + 8] for k, v in b.items()} for b in batches(6, 16) for i in (0, 8)], 2
    )
    assert len(steps) == len(half_steps) == 6
    assert means == pytest.approx(half_means, abs=1e-6)
    for name in whole:
        torch.testing.assert_close(whole[name], half[name], rtol=0, atol=1e-6)


def test_clipping_limits_the_norm_of_the_whole_gradient():
    _, _, (free,) = train(batches(1, 16), 1)
    _, _, (clipped,) = train(batches(1, 16), 1, clip_grad=1e-3)
    torch.manual_seed(0)
    start = torch.cat([p.detach().flatten() for p in Plain(3, 2, 1).parameters()])
    decay = 0.19 * 1e-3 * start.norm()  # Nesterov's first step is (1 + momentum) lr (gradient + decay)
    assert (free - start).norm() > 1e-2
    assert (clipped - start).norm() <= 0.19 * 1e-3 + decay


def test_the_means_of_an_epoch_weight_every_sample_equally():
    parts = [batches(1, 12)[0], batches(1, 4, seed=1)[0]]

    class Silent(Classification):
        """Gives the network no gradient, so that all batches see the same weights."""

        def forward(self, model, batch):
            loss, logits, terms = super().forward(model, batch)
            return loss.detach().requires_grad_(), logits, {"twice": 2 * loss.detach()}

    torch.manual_seed(0)
    model = Plain(3, 2, 1)
    logits, label = torch.cat([model(b["data"]) for b in parts]).detach(), torch.cat([b["label"] for b in parts])
    _, means, _ = train(parts, 1, objective=Silent())
    loss = float(nn.functional.cross_entropy(logits, label))
    assert means == pytest.approx(
        {"loss": loss, "twice": 2 * loss, "top1": 100 * float((logits.argmax(1) == label).double().mean())}
    )


def test_training_accuracy_counts_only_batches_that_are_not_mixed():
    assert "top1" not in train(batches(3, 8), 1, objective=Classification(mixup_alpha=0.8))[1]
    assert "top1" in train(batches(12, 8), 1, objective=Classification(mixup_alpha=0.8, mixup_prob=0.5))[1]


class Lookup(nn.Module):
    """Logits are what stands in the first joint's first values."""

    def forward(self, data):
        return data[:, :, 0, 0, 0]


def test_an_evaluation_returns_every_sample_once_in_the_order_of_the_data_set():
    parts = batches(3, 4)
    found = engine.evaluate(Lookup(), Classification(), reversed(parts), torch.device("cpu"))
    assert found.index.tolist() == list(range(12)) and found.scores.dtype == np.float32 and not found.probabilities
    np.testing.assert_array_equal(found.scores, torch.cat([b["data"] for b in parts])[:, :, 0, 0, 0].numpy())
    logits, label = torch.from_numpy(found.scores), torch.from_numpy(found.label)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, label)))


def test_several_clips_of_a_sample_give_the_mean_of_their_probabilities_and_its_loss():
    parts = [
        b | {"data": torch.randn(12, 3, 4, 2, 1, generator=torch.Generator().manual_seed(i)), "clips": 3}
        for i, b in enumerate(batches(2, 4))
    ]
    found = engine.evaluate(Lookup(), Classification(), parts, torch.device("cpu"))
    views = torch.cat([b["data"] for b in parts])[:, :, 0, 0, 0].view(8, 3, 3).softmax(2)
    np.testing.assert_allclose(found.scores, views.mean(1).numpy(), rtol=1e-6)
    expected = -views.mean(1)[range(8), torch.from_numpy(found.label)].log().mean()
    assert found.probabilities and found.loss == pytest.approx(float(expected), rel=1e-6)


def test_features_of_several_clips_are_averaged_as_they_are():
    part = batches(1, 4)[0] | {"data": torch.randn(8, 3, 4, 2, 1), "clips": 2}
    found = engine.evaluate(Lookup(), Classification(), [part], torch.device("cpu"), features=True)
    np.testing.assert_allclose(found.scores, part["data"][:, :, 0, 0, 0].view(4, 2, 3).mean(1).numpy(), rtol=1e-6)


def test_a_probability_that_underflowed_gives_a_finite_loss():
    found = engine.Prediction(np.array([[1.0, 0.0]], np.float32), np.array([1]), np.array([0]), probabilities=True)
    assert 80 < found.loss < 100


def test_evaluating_changes_neither_weights_nor_statistics():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(24), nn.Linear(24, 3))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine.evaluate(model, Classification(), batches(2, 4), torch.device("cpu"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def drawn(**settings) -> list[list[int]]:
    settings = {"length": 37, "batch_size": 12, "seed": 1} | settings
    sampler = TrainBatches(**{k: v for k, v in settings.items() if k not in ("epoch", "first_step")})
    sampler.set(settings.get("epoch", 0), settings.get("first_step", 0))
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


def test_an_epoch_is_a_shuffle_without_repetition_and_another_one_each_time():
    first, second, other = drawn(), drawn(epoch=1), drawn(seed=2)
    assert [len(batch) for batch in first] == [12, 12, 12] and len(set(sum(first, []))) == 36
    assert first == drawn() and first != second and first != other


@pytest.mark.parametrize(("world_size", "update_freq"), [(2, 1), (1, 3), (2, 2), (3, 4)])
def test_a_step_uses_the_same_clips_for_every_division_into_ranks_and_accumulation_steps(world_size, update_freq):
    shares = [drawn(world_size=world_size, update_freq=update_freq, rank=rank) for rank in range(world_size)]
    for step, whole in enumerate(drawn()):
        parts = [share[step * update_freq + micro] for share in shares for micro in range(update_freq)]
        assert sorted(sum(parts, [])) == sorted(whole) and {len(part) for part in parts} == {
            12 // world_size // update_freq
        }


def test_an_epoch_that_begins_in_the_middle_is_the_rest_of_it():
    assert drawn(first_step=2, update_freq=2) == drawn(update_freq=2)[4:]


@pytest.mark.parametrize("settings", [{"world_size": 5}, {"update_freq": 7}, {"length": 11}])
def test_a_batch_that_cannot_be_divided_or_filled_is_refused(settings):
    with pytest.raises(ValueError, match="batch_size: expected .*got 12"):
        drawn(**settings)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_every_test_clip_is_on_one_rank_in_the_same_batch_for_any_number_of_ranks(world_size):
    found = [batch for rank in range(world_size) for batch in TestBatches(21, 4, rank, world_size)]
    assert sorted(found) == list(TestBatches(21, 4)) and sorted(sum(found, [])) == list(range(21))
    assert sum(len(TestBatches(21, 4, rank, world_size)) for rank in range(world_size)) == len(found)


def test_a_test_with_several_clips_writes_probabilities(tmp_path, experiment, main, trained):
    argv = ("--work-dir", tmp_path, "--phase", "test", "--weights", trained / "last.pt", "--save-score", "true")
    assert main("--config", experiment(), *argv)[0] == 0
    one = np.stack(list(scores.read_scores(tmp_path / "epoch1_test_score.pkl").values()))
    code, out, _ = main(
        "--config", experiment(feeder="tests.torchlight.parts.SeveralClips"), *argv, "--save-feature", "true"
    )
    two = np.stack(list(scores.read_scores(tmp_path / "epoch1_test_score.pkl").values()))
    assert (
        code == 0
        and not np.allclose(one.sum(1), 1)
        and two == pytest.approx(two.clip(0, 1))
        and two.sum(1) == pytest.approx(1)
    )
    assert np.stack(list(scores.read_scores(tmp_path / "epoch1_test_feature.pkl").values())).shape == (20, 8)
