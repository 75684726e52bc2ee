"""Accuracies beside top-1, class weights, balanced batches, and clips with several or soft labels."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from torchlight.objective import Classification, MultiLabel
from torchlight.training import metrics
from torchlight.training.sampler import TrainBatches, balanced_order


def test_the_mean_recall_weights_all_classes_equally_and_excludes_empty_ones():
    label = np.array([0, 0, 0, 0, 2])
    scores = np.eye(4)[[0, 0, 0, 1, 2]]
    recall = metrics.class_recall(scores, label)
    assert recall[[0, 2]].tolist() == [75, 100] and np.isnan(recall[[1, 3]]).all()
    assert metrics.accuracies(scores, label) == {"top1": 80, "macro": 87.5}
    assert metrics.lowest(recall, list("abcd")) == "a 75.00 %, c 100.00 %"


@pytest.mark.parametrize(("classes", "shown"), [(5, False), (6, True)])
def test_top_5_is_reported_for_six_or_more_classes(classes, shown):
    assert ("top5" in metrics.accuracies(np.eye(classes), np.arange(classes))) == shown


def test_average_precision_is_the_area_under_the_steps_and_classes_without_clips_do_not_count():
    target = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 1]], np.float32)
    scores = np.array([[3, 0, 9], [2, 0, 8], [1, 0, 7], [0, 0, 6]], float)
    found = metrics.average_precision(scores, target)
    assert found[0] == pytest.approx(100 * (1 + 2 / 3) / 2) and np.isnan(found[1])
    assert found[2] == pytest.approx(100 * (1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert metrics.mean_average_precision(scores, target) == pytest.approx(np.mean(found[[0, 2]]))


def loss_of(objective, logits, **batch) -> float:
    batch = {"data": logits, "label": torch.tensor([0, 1, 1, 1])} | batch
    return float(objective(torch.nn.Identity(), batch)[0])


LOGITS = torch.tensor([[1.0, 0.5], [0.2, 0.1], [0.0, 2.0], [3.0, 1.0]])


@pytest.mark.parametrize(("given", "expected"), [("balanced", [2, 2 / 3]), ([3.0, 1.0], [3, 1]), ({"wave": 5}, [5, 1])])
def test_class_weights_are_balanced_or_given_and_multiply_the_loss_of_each_clip(given, expected):
    objective = Classification(class_weight=given, label_smoothing=0.1)
    objective.set_classes(["wave", "clap"], np.array([1, 3]), 4)
    assert objective.weight.tolist() == pytest.approx(expected)
    weight = torch.tensor(expected, dtype=torch.float32)
    label = torch.tensor([0, 1, 1, 1])
    each = F.cross_entropy(LOGITS, label, weight, label_smoothing=0.1, reduction="none")
    assert loss_of(objective, LOGITS) == pytest.approx(float(each.sum()) / 4)
    halves = [float(objective.cross_entropy(LOGITS[i : i + 2], label[i : i + 2])) for i in (0, 2)]
    assert loss_of(objective, LOGITS) == pytest.approx(np.mean(halves))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0], "class_weight: expected 2 weights, one for each class, got 1"),
        ({"wafe": 2.0}, "class_weight: unknown class 'wafe'; did you mean wave?"),
        ([1.0, -1.0], "class_weight: expected finite weights of 0 or more"),
        ([0.0, 0.0], "not all 0"),
    ],
)
def test_impossible_class_weights_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Classification(class_weight=given).set_classes(["wave", "clap"], np.array([1, 3]), 4)


def test_soft_labels_and_mixed_soft_labels_give_the_cross_entropy_with_their_weights():
    target = torch.tensor([[0.7, 0.3], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    expected = -(target * LOGITS.log_softmax(1)).sum(1).mean()
    assert loss_of(Classification(), LOGITS, target=target) == pytest.approx(float(expected))
    lam = torch.tensor(0.25, dtype=torch.float64)
    mixed = 0.25 * LOGITS + 0.75 * LOGITS.flip(0)
    expected = -((0.25 * target + 0.75 * target.flip(0)) * mixed.log_softmax(1)).sum(1).mean()
    assert loss_of(Classification(), LOGITS, target=target, mixup=lam) == pytest.approx(float(expected), rel=1e-5)


def test_several_labels_are_trained_with_a_binary_cross_entropy_each():
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    objective = MultiLabel(pos_weight="balanced")
    objective.set_classes(["wave", "clap"], target.numpy().sum(0), 4)
    assert objective.weight.tolist() == pytest.approx([1 / 3, 3])
    p = LOGITS.sigmoid()
    expected = -(objective.weight * target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert loss_of(objective, LOGITS, target=target) == pytest.approx(float(expected), rel=1e-5)
    assert torch.equal(objective.probabilities(LOGITS), p)


LABEL = np.array([0] * 50 + [1] * 8 + [2] * 2)


def epoch(number, *part, label=LABEL, first_step=0, length=120):
    batches = TrainBatches(length, 12, 3, *part, label=label)
    batches.set(number, first_step)
    return list(batches)


def test_label_smoothing_of_several_labels_moves_the_targets_to_the_middle():
    logits, target = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    loss, *_ = MultiLabel(label_smoothing=0.2)(lambda data: logits, {"data": logits, "target": target})
    assert torch.allclose(loss, F.binary_cross_entropy_with_logits(logits, torch.tensor([[0.9, 0.1]])))
    with pytest.raises(ValueError, match="label_smoothing: expected 0 <= label_smoothing < 1, got 1"):
        MultiLabel(label_smoothing=1)


def test_an_epoch_of_the_balanced_sampler_contains_each_class_and_each_clip_of_a_class_equally_often():
    drawn = np.concatenate(epoch(0))
    assert len(drawn) == 120 and np.bincount(LABEL[drawn % 60]).tolist() == [40, 40, 40]
    small = np.bincount(drawn, minlength=120)
    assert set(small[50:58]) | set(small[110:118]) == {2, 3} and small[:50].max() == 1
    assert epoch(0) == epoch(0) != epoch(1)
    order = balanced_order(np.array([0, 0, 0, 0, 1, 1, 2]), torch.Generator().manual_seed(0))
    assert sorted(np.bincount(np.array([0, 0, 0, 0, 1, 1, 2])[order])) == [2, 2, 3]


def test_balanced_batches_do_not_depend_on_the_number_of_processes_or_on_resuming():
    whole = epoch(2)
    ranks = [epoch(2, rank, 2, 2) for rank in (0, 1)]
    micro = [list(np.concatenate([a, b])) for a, b in zip(*ranks, strict=True)]
    assert [list(np.concatenate(micro[i : i + 2])) for i in range(0, len(micro), 2)] == whole
    assert epoch(2, first_step=4) == whole[4:]
