"""The contrastive objectives against records of the published programs, and their training from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model import contrastive as networks
from tests.model.golden import Case, deviation, fill
from tests.torchlight import tiny
from torchlight import contrastive
from torchlight.config.load import load_config
from torchlight.objective import Classification

RECORD = np.load(Path(__file__).parent / "golden" / "contrastive.npz")
EXACT = 1e-9


class Head(nn.Module):
    """The embedding and the state of a loss, filled by name."""

    def __init__(self, name: str, **state: torch.Tensor):
        super().__init__()
        weight = fill(f"{name}.cl_fc.weight", {"csc": (8, 9), "inter": (6, 4), "intra": (8, 9)}[name])
        self.cl_fc = nn.Linear(*weight.shape[::-1]).double()
        with torch.no_grad():
            self.cl_fc.weight.copy_(torch.from_numpy(weight))
            self.cl_fc.bias.copy_(torch.from_numpy(fill(f"{name}.cl_fc.bias", weight.shape[:1])))
        for key, value in state.items():
            self.register_buffer(key, value)

    def embed(self, feature: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(feature).requires_grad_()
        return x, self.cl_fc(x)


def of(key: str) -> np.ndarray:
    return RECORD[key]


def test_the_class_specific_contrast_is_that_of_protogcn():
    head = Head("csc", memory=torch.from_numpy(fill("csc.memory", (8, 5))))
    for i in range(3):
        x, embedding = head.embed(of("csc/feature")[i])
        label, logits = (torch.from_numpy(of(f"csc/{key}")[i]) for key in ("label", "logits"))
        loss = contrastive.class_contrast(embedding, label, logits.argmax(1), head)
        head.cl_fc.weight.grad = None
        loss.backward()
        assert deviation(loss.item(), of("csc/loss")[i]) < EXACT
        assert deviation(x.grad.numpy(), of("csc/grad_feature")[i]) < EXACT
        assert deviation(head.cl_fc.weight.grad.numpy(), of("csc/grad_weight")[i]) < EXACT
        assert deviation(head.memory.numpy(), of("csc/memory_after")[i]) < EXACT


def test_the_affinity_contrast_and_its_lists_are_those_of_aclnet():
    K, lists, gradients = 50, json.loads(str(of("inter/lists"))), []
    state = {"confusions": torch.zeros(K, K, dtype=torch.long), "similar": torch.zeros(K, K, dtype=torch.bool)}
    head = Head("inter", memory=torch.from_numpy(fill("inter.memory", (6, K))), listed=torch.tensor(0), **state)
    for i, epoch in enumerate([30] * 8 + [31] * 2 + [32] * 2):
        x, embedding = head.embed(of("inter/feature")[i])
        label, predicted = (torch.from_numpy(of(f"inter/{key}")[i]) for key in ("label", "pred"))
        loss = contrastive.affinity_contrast(embedding, label, predicted, head, epoch, epoch - 30)
        assert deviation(loss.item(), of("inter/loss")[i]) < EXACT
        if epoch > 30:
            loss.backward()
            gradients.append(x.grad.numpy())
            assert [row.nonzero().flatten().tolist() for row in head.similar] == lists[str(epoch)]
        else:
            assert not loss.requires_grad
    assert deviation(np.stack(gradients), of("inter/grad_last4")) < EXACT
    assert deviation(head.memory.numpy(), of("inter/memory_after")) < EXACT


def test_the_contrast_with_the_bank_is_that_of_aclnet():
    L, gradients = 12, []
    bank = {"bank": torch.zeros(L, 8).double(), "bank_label": torch.full((L,), -1), "filled": torch.tensor(0)}
    head = Head("intra", **bank)
    for i in range(6):
        x, embedding = head.embed(of("intra/feature")[i])
        loss = contrastive.bank_contrast(embedding, torch.from_numpy(of("intra/label")[i]), head)
        loss.backward()
        assert deviation(loss.item(), of("intra/loss")[i]) < EXACT
        gradients.append(x.grad.numpy())
    assert not np.any(gradients[:2]) and deviation(np.stack(gradients[2:]), of("intra/grad_last4")) < EXACT
    with pytest.raises(ValueError, match="bank: expected at least the clips of a batch, 13, got 12"):
        contrastive.bank_contrast(torch.zeros(13, 8), torch.zeros(13, dtype=torch.long), head)


@pytest.fixture(scope="module")
def protogcn():
    """ProtoGCN with the weights of the record, float64, without dropout; and its clips."""
    case = Case("protogcn_ntu60")
    model = networks.ProtoGCN(60, 25, 2, "graph.ntu_rgb_d.Graph", prototype_drop_out=0).double()
    state = case.state_dict(model.state_dict())
    own = {key: fill(key, value.shape) for key, value in model.state_dict().items() if key not in state}
    memory = torch.from_numpy(fill("csc.memory", (256, 60)))
    own = {key: torch.from_numpy(np.asarray(value)) for key, value in own.items()}
    own |= {"backbone.bn.num_batches_tracked": torch.tensor(0), "cls_head.csc_loss.memory": memory}
    model.load_state_dict(state | own)
    return model, case.input()


def test_the_topology_and_its_reconstruction_are_those_of_protogcn(protogcn):
    model, data = protogcn
    with torch.no_grad():
        topology = model.eval().features_and_topology(data)[1]
        assert deviation(networks.ContrastiveNetwork.describe(model, topology).numpy(), of("proto/graph_eval")) < EXACT
        assert deviation(model.describe(topology).numpy(), of("proto/reconstructed_eval")) < EXACT


def test_a_training_step_is_that_of_protogcn(protogcn):
    model, data = protogcn
    batch = {"data": data, "label": torch.from_numpy(of("proto/labels"))}
    loss, logits, terms = contrastive.ClassContrast(weight=0.2)(model.train(), batch)
    loss.backward()
    assert deviation(loss.item(), of("proto/loss_train")) < EXACT and set(terms) == {"ce", "csc"}
    assert logits.argmax(1).tolist() == of("proto/logits_pred").tolist()
    names = json.loads(str(of("proto/grad_names")))
    norms = {name: 0.0 if p.grad is None else float(p.grad.norm()) for name, p in model.named_parameters()}
    assert deviation([norms[name] for name in names], np.maximum(of("proto/grad_norm"), 0)) < EXACT
    assert set(norms) == set(names)


NETWORK = {"num_class": 5, "num_point": 20, "num_person": 1, "graph": "graph.ucla.Graph", "channels": [16, 16]}
CASES = {
    "proto": {
        "model": "model.contrastive.ProtoGCN",
        "model_args": NETWORK | {"prototypes": 7},
        "objective": "torchlight.contrastive.ClassContrast",
    },
    "acl": {
        "model": "model.contrastive.ACLNet",
        "model_args": NETWORK | {"bank": 16},
        "objective": "torchlight.contrastive.AffinityContrast",
        "objective_args": {"start_epoch": 1},
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_training_continues_the_state_of_the_losses_to_the_bit(name, experiment, main, tmp_path):
    """The state is in the checkpoint: memories, confusions and the bank."""
    file = experiment(**CASES[name], num_epoch=3)
    straight, parted = tmp_path / "straight", tmp_path / "parted"
    assert main("--config", file, "--work-dir", straight)[0] == 0
    first = experiment(**CASES[name], num_epoch=2)
    assert main("--config", first, "--work-dir", parted)[0] == 0
    assert main("--config", file, "--work-dir", parted, "--resume", "true")[0] == 0
    assert tiny.equal(tiny.weights(straight), tiny.weights(parted))
    lines = tiny.metrics(straight)
    assert lines == tiny.metrics(parted)
    terms = {key for key in lines[-1] if key.startswith("train_")}
    assert {f"train_{term}" for term in ("ce", *(["csc"] if name == "proto" else ["inter", "intra"]))} <= terms
    if name == "acl":
        assert lines[0]["train_inter"] == 0 < min(lines[1]["train_inter"], lines[0]["train_intra"])


@pytest.mark.parametrize("name", CASES)
def test_fine_tuning_keeps_the_objective_and_smooths_its_labels(name, experiment, main, tmp_path):
    assert main("--config", experiment(**CASES[name], num_epoch=1), "--work-dir", tmp_path / "source")[0] == 0
    files = ("--config", experiment(**CASES[name]), "config/finetune.yaml", "--finetune", tmp_path / "source/last.pt")
    code, _, err = main(*files, "--num-epoch", 1, "--warm-up-epoch", 0, "--work-dir", tmp_path / "run")
    assert code == 0, err
    config = load_config(tmp_path / "run/config.yaml")
    assert config.objective == CASES[name]["objective"] and config.objective_args["label_smoothing"] == 0.1


def test_labels_are_smoothed_in_the_cross_entropy():
    model = networks.ProtoGCN(**NETWORK, prototypes=7)
    batch = {"data": torch.randn(4, 3, 8, 20, 1), "label": torch.arange(4)}
    _, logits, terms = contrastive.ClassContrast(label_smoothing=0.1)(model.train(), batch)
    expected = nn.functional.cross_entropy(logits, batch["label"], label_smoothing=0.1)
    torch.testing.assert_close(terms["ce"], expected)


def test_a_network_without_the_embeddings_of_a_loss_is_refused(main, experiment, tmp_path):
    for changes, message in (
        (
            {"objective": CASES["proto"]["objective"]},
            "model: expected one such as model.contrastive.ProtoGCN, got Model",
        ),
        (CASES["acl"] | {"objective": CASES["proto"]["objective"], "objective_args": {}}, "expected embeddings of csc"),
    ):
        code, _, err = main("--config", experiment(**changes), "--work-dir", tmp_path / "run")
        assert code == 2 and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        (contrastive.ClassContrast, {"weight": -1}, "weight: expected a finite number, 0 or more, got -1"),
        (contrastive.AffinityContrast, {"intra": float("inf")}, "intra: expected a finite number"),
        (contrastive.AffinityContrast, {"start_epoch": 0}, "start_epoch: expected 1 or more, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(objective, arguments, message):
    with pytest.raises(ValueError, match=message):
        objective(**arguments)


def test_evaluation_is_that_of_the_plain_network(protogcn):
    model, data = protogcn
    batch = {"data": data[:1]}
    with torch.no_grad():
        logits = contrastive.ClassContrast().predict(model.eval(), batch)
        assert torch.equal(logits, Classification().predict(model, batch)) and logits.shape == (1, 60)
        torch.testing.assert_close(model.for_inference()(data[:1]), logits)
