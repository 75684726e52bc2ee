"""The classification loss and its mixup."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchlight.objective import Classification, mix

BATCH = {
    "data": torch.randn(6, 3, 4, 5, 2, generator=torch.Generator().manual_seed(0)),
    "label": torch.tensor([0, 1, 2, 3, 3, 1]),
}


class Means(nn.Module):
    """Remembers what it saw; logits (N, 4)."""

    def forward(self, data):
        self.seen = data
        return data.mean((2, 3, 4)) @ torch.arange(12.0).view(3, 4)


def soft_cross_entropy(logits, target):
    return -(target * logits.log_softmax(1)).sum(1).mean()


def test_the_loss_is_cross_entropy_with_smoothed_targets():
    model = Means()
    loss, logits, terms = Classification(label_smoothing=0.1)(model, BATCH)
    target = 0.9 * F.one_hot(BATCH["label"], 4) + 0.1 / 4
    torch.testing.assert_close(loss, soft_cross_entropy(logits, target))
    assert terms == {} and model.seen is BATCH["data"]


def test_mixup_blends_each_clip_and_its_smoothed_target_with_its_mirror_image_in_the_batch():
    torch.manual_seed(3)
    model, objective = Means(), Classification(label_smoothing=0.1, mixup_alpha=0.8)
    loss, logits, _ = objective(model, BATCH)
    assert logits is None  # no training accuracy where clips are mixed
    torch.manual_seed(3)
    torch.rand(())
    lam = torch.distributions.Beta(0.8, 0.8).sample()
    assert 0 < lam < 1
    torch.testing.assert_close(model.seen, lam * BATCH["data"] + (1 - lam) * BATCH["data"].flip(0))
    target = 0.9 * F.one_hot(BATCH["label"], 4) + 0.1 / 4
    torch.testing.assert_close(loss, soft_cross_entropy(model(model.seen), lam * target + (1 - lam) * target.flip(0)))


def test_half_of_the_batches_are_mixed_with_shares_of_the_beta_distribution():
    torch.manual_seed(0)
    shares = [Classification(mixup_alpha=0.8, mixup_prob=0.5).draw_share() for _ in range(4000)]
    drawn = torch.tensor([share for share in shares if share is not None])
    assert 0.47 < len(drawn) / 4000 < 0.53
    assert (
        abs(drawn.mean() - 0.5) < 0.02 and abs(drawn.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.01
    )  # variance of Beta(a, a)


def test_without_mixup_no_random_number_is_drawn():
    before = torch.get_rng_state()
    Classification()(Means(), BATCH)
    assert torch.equal(torch.get_rng_state(), before)


def test_prediction_sees_no_labels_and_mixes_nothing():
    model = Means()
    logits = Classification(mixup_alpha=0.8).predict(model, {"data": BATCH["data"]})
    assert logits.shape == (6, 4) and model.seen is BATCH["data"]


@pytest.mark.parametrize(
    "arguments", [{"label_smoothing": 1.0}, {"mixup_alpha": -1}, {"mixup_prob": 1.5}, {"mixup_alpha": float("nan")}]
)
def test_invalid_numbers_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}: expected .*, got"):
        Classification(**arguments)


class Penalized(Means):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def penalty(self):
        return self.weight.square()


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.8])
def test_the_penalty_of_a_network_is_a_term_of_the_loss_also_of_a_wrapped_network(mixup_alpha):
    model, losses = Penalized(), []
    for objective in (Classification(mixup_alpha=mixup_alpha), Classification(mixup_alpha=mixup_alpha, penalty=0.5)):
        torch.manual_seed(0)
        losses.append(objective(nn.Sequential(model), BATCH))
    torch.testing.assert_close(losses[1][0], losses[0][0] + 4.5)
    assert losses[0][2] == {} and losses[1][2]["penalty"] == 9


def test_a_penalty_that_the_network_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"penalty: expected 0 for a network without a penalty\(\) method, got Means"):
        Classification(penalty=1)(Means(), BATCH)
    with pytest.raises(ValueError, match="penalty: expected a finite number"):
        Classification(penalty=-1)


def test_a_share_in_a_tensor_mixes_as_the_number_does_to_the_bit():
    x, y = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    for share in torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1)):
        for a, b in ((x, y), (x[0], y[0])):
            assert torch.equal(mix(a, b, share), mix(a, b, float(share)))
            assert mix(a, b, share).dtype == torch.float32
