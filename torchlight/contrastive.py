"""The contrastive objectives of ProtoGCN (CVPR 2025) and ACLNet, with a memory of each class.

Both add terms to the cross entropy. These terms compare embeddings (N, D) of the clips, which the network returns in
training (`torchlight.contract.ContrastModel`). The network also stores the state of each loss in buffers, so that
checkpoints contain it: `memory` (D, K), a moving average of the embeddings of each class, and the buffers named below.
Checkpoints of the published programs do not contain this state. All terms are computed in float32 or higher precision.

Axes: N batch, D channels of an embedding, K classes, L clips of the bank.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchlight.contract import Batch, ContrastModel, network_inputs

MOMENTUM, EPSILON = 0.1, 1e-12
SIMILAR, SHARED = 10, 5  # most confused classes of a class; number of them that two similar classes have in common


class ContrastiveObjective(nn.Module):
    """Cross entropy plus the terms of `contrast`. Terms to log: ce and the unweighted terms of `contrast`.

    label_smoothing: of the cross entropy; none in the publications.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected 0 <= label_smoothing < 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss, logits (N, num_class), further terms to log)."""
        heads, label = heads_of(model), batch["label"]
        logits, embeddings = model(*network_inputs(model, batch))
        with torch.autocast(logits.device.type, enabled=False):
            found = {name: x.to(torch.promote_types(x.dtype, torch.float32)) for name, x in embeddings.items()}
            precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
            ce = F.cross_entropy(precise, label, label_smoothing=self.label_smoothing)
            loss, terms = self.contrast(found, heads, label, logits.detach().argmax(1))
        return ce + loss, logits, {"ce": ce, **terms}

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (N, num_class); sees no labels."""
        return model(*network_inputs(model, batch))

    def contrast(
        self, embeddings: dict[str, Tensor], heads: dict[str, nn.Module], label: Tensor, predicted: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the terms, and the terms.

        embeddings, heads: embeddings (N, D) and state by the name of the loss. label, predicted: (N,) classes.
        """
        raise NotImplementedError


class ClassContrast(ContrastiveObjective):
    """ProtoGCN: CE + weight * class-specific contrastive loss, for `model.contrastive.ProtoGCN`.

    weight: in the publication 0.2 for joint and joint motion, 0.3 for bones, 0.1 for K-bones.

    >>> ClassContrast(weight=0.3).weight
    0.3
    """

    def __init__(self, weight: float = 0.2, label_smoothing: float = 0.0):
        super().__init__(label_smoothing)
        check_weights(weight=weight)
        self.weight = weight

    def contrast(self, embeddings, heads, label, predicted):
        check_losses(embeddings, "csc")
        loss = class_contrast(embeddings["csc"], label, predicted, heads["csc"])
        return self.weight * loss, {"csc": loss}


class AffinityContrast(ContrastiveObjective):
    """ACLNet: CE + inter * loss between similar classes + intra * loss within classes, for `model.contrastive.ACLNet`.

    start_epoch: the first epoch, counted from 1, in which confusions are counted. The loss between similar classes is
    added in the epochs after it.
    """

    def __init__(self, inter: float = 0.1, intra: float = 0.1, start_epoch: int = 30, label_smoothing: float = 0.0):
        super().__init__(label_smoothing)
        check_weights(inter=inter, intra=intra)
        if start_epoch < 1:
            raise ValueError(f"start_epoch: expected 1 or more, got {start_epoch}")
        self.inter, self.intra, self.start_epoch = inter, intra, start_epoch
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch, counted from 1."""
        self.epoch = epoch

    def contrast(self, embeddings, heads, label, predicted):
        check_losses(embeddings, "inter", "intra")
        active = self.epoch - self.start_epoch
        inter = affinity_contrast(embeddings["inter"], label, predicted, heads["inter"], self.epoch, active)
        intra = bank_contrast(embeddings["intra"], label, heads["intra"])
        return self.inter * inter + self.intra * intra, {"inter": inter, "intra": intra}


def check_weights(**weights: float) -> None:
    """Raise ValueError for a weight that is negative or not finite."""
    for name, value in weights.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: expected a finite number, 0 or more, got {value}")


def check_losses(embeddings: dict[str, Tensor], *names: str) -> None:
    """Raise ValueError unless the embeddings are those of the losses `names`."""
    if set(embeddings) != set(names):
        raise ValueError(f"model: expected embeddings of {', '.join(names)}, got those of {', '.join(embeddings)}")


def heads_of(model: nn.Module) -> dict[str, nn.Module]:
    """The heads of a network, which may be wrapped by DistributedDataParallel or torch.compile.

    Raises:
        ValueError: it has none.
    """
    for module in model.modules():
        if isinstance(module, ContrastModel):
            return module.contrast_heads
    raise ValueError(f"model: expected one such as model.contrastive.ProtoGCN, got {type(model).__name__}")


# The losses and their state


def class_contrast(x: Tensor, label: Tensor, predicted: Tensor, head: nn.Module) -> Tensor:
    """Cross entropy of the similarities between embeddings and the memories of all classes: (N, D) -> ()."""
    return F.cross_entropy(similarity(x, update_memory(head, x, label, predicted)) / 0.125, label)


def update_memory(head: nn.Module, x: Tensor, label: Tensor, predicted: Tensor) -> Tensor:
    """Update the memory (D, K) and return it; gradients flow only through the contribution of this batch.

    The memory of a class moves toward the mean embedding of its correctly classified clips. The memory of a class
    without such clips does not change.
    """
    counting = F.one_hot(label, head.memory.shape[1]).to(x) * (predicted == label).to(x)[:, None]  # (N, K)
    count = counting.sum(0)
    mean = x.T @ counting / (count + EPSILON)
    new = torch.where(count > 0, (1 - MOMENTUM) * head.memory + MOMENTUM * mean, head.memory.to(x))
    head.memory.copy_(new.detach())
    return new


def similarity(x: Tensor, memory: Tensor) -> Tensor:
    """Cosine similarities of embeddings (N, D) and class memories (D, K): (N, K)."""
    return x @ memory / ((x.norm(dim=1) + EPSILON)[:, None] * (memory.norm(dim=0) + EPSILON))


def affinity_contrast(x: Tensor, label: Tensor, predicted: Tensor, head: nn.Module, epoch: int, active: int) -> Tensor:
    """Cross entropy of the similarity to a clip's own class against those to the classes often confused with it:
    (N, D) -> ().

    active: below 0, only the memory is updated; from 0 on, confusions are counted; above 0, the loss is computed.
    head: `confusions` (K, K) int; `similar` (K, K) bool, updated at the first step of each epoch; `listed`: the epoch
    of this update.
    """
    memory = update_memory(head, x, label, predicted)
    if active >= 0:
        head.confusions += count_confusions(label, predicted, head.memory.shape[1])
    if active <= 0:
        # without a gradient, weight decay does not change the embedding; DistributedDataParallel needs a gradient
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        return 0 * x.sum() if several else x.new_zeros(())
    if int(head.listed) != epoch:
        head.similar.copy_(similar_classes(head.confusions))
        head.listed.fill_(epoch)
    similar = head.similar[label]  # (N, K)
    size = similar.sum(1)
    tau = x.new_tensor([0.1, 0.5, 1.0])[(size > 10).long() + (size > 20).long()]
    s = similarity(x, memory) / tau[:, None]
    own = s.gather(1, label[:, None])
    others = s.masked_fill(~similar, -float("inf"))
    return (torch.cat([own, others], 1).logsumexp(1) - own.squeeze(1)).mean()


def count_confusions(label: Tensor, predicted: Tensor, K: int) -> Tensor:
    """Confusions in a batch, (K, K) int64.

    Entry (i, j) is the number of clips of class i that are predicted as j, plus the number of clips of class i times
    the number of clips of class j that are predicted as i.
    """
    true = F.one_hot(label, K).float()  # exact for these counts; CUDA has no matrix product of integers
    as_other = true.T @ (F.one_hot(predicted, K) * (predicted != label)[:, None]).float()
    return (as_other + true.sum(0)[:, None] * as_other.T).long()


def similar_classes(confusions: Tensor) -> Tensor:
    """(K, K) bool: the ten classes that a class is most often confused with, and the classes with which it has five or
    more of these ten in common. If counts are equal, the class with the lower number comes first."""
    top = torch.zeros_like(confusions, dtype=torch.float32)
    top.scatter_(1, confusions.sort(dim=1, descending=True, stable=True).indices[:, :SIMILAR], 1.0)
    related = (top @ top.T >= SHARED) & ~torch.eye(len(top), dtype=torch.bool, device=top.device)
    return top.bool() | related


def bank_contrast(x: Tensor, label: Tensor, head: nn.Module) -> Tensor:
    """Supervised contrastive loss between the clips of a batch and the last L clips, which include the batch; 0 until
    the bank is full: (N, D) -> ().

    head: `bank` (L, D) embeddings of length 1, `bank_label` (L,), `filled`: the number of clips in the bank.

    Raises:
        ValueError: the batch is larger than the bank.
    """
    N, L = len(x), len(head.bank)
    if N > L:
        raise ValueError(f"bank: expected at least the clips of a batch, {N}, got {L}")
    E = x / (x.norm(dim=1, keepdim=True) + EPSILON)
    every, labels = torch.cat([head.bank[N:].to(E), E]), torch.cat([head.bank_label[N:], label])  # (L, D), (L,)
    head.bank.copy_(every.detach())
    head.bank_label.copy_(labels)
    head.filled.add_(N).clamp_(max=L)
    s = E @ every.T / 0.1
    s = s - s.detach().amax(1, keepdim=True)
    same = label[:, None] == labels
    positive = same.clone()
    positive[torch.arange(N), torch.arange(L - N, L)] = False  # the clip itself
    negatives = (s.exp() * ~same).sum(1, keepdim=True)
    log_share = s - torch.log(torch.exp(x.new_tensor(-0.1)) * s.exp() + negatives + 1e-6)
    loss = -(log_share * positive).sum(1) / positive.sum(1).clamp(min=1)
    return torch.where(head.filled == L, loss.mean(), torch.zeros_like(loss[0]))
