"""Triton's kernels equal PyTorch's operations; they run in Triton's interpreter on a CPU."""

import importlib
import sys
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from model import ctrgcn, ops
from tests.model.zoo import build, clip

products = importlib.import_module("model.kernels.products") if find_spec("triton") else None
needs_triton = pytest.mark.skipif(products is None, reason="triton is not installed")


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "persons", "C", "K", "R", "V", "T"),
    [
        (torch.float32, 1, 9, 3, 10, 25, 7),
        (torch.float32, 2, 3, 1, 17, 17, 33),
        (torch.float32, 2, 17, 2, 3, 20, 1),
        (torch.float32, 1, 2, 1, 2, 18, 5),
        (torch.float32, 2, 2, 1, 2, 21, 65),
        (torch.bfloat16, 2, 9, 3, 10, 25, 7),
    ],
)
def test_products_and_all_gradients_equal_those_of_pytorch_in_float64(dtype, persons, C, K, R, V, T):
    shapes = (K, C, R), (persons, K, R, V * V), (persons, C, K, V, T)
    given = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in given]
    found, expected = products.sum_of_products(*given), ops.sum_of_products(*exact)
    grad = torch.randn(found.shape).to(dtype)
    sides = [
        (Z, *torch.autograd.grad(Z, leaves, g))
        for Z, leaves, g in ((found, given, grad), (expected, exact, grad.double()))
    ]
    bound = 1e-6 if dtype == torch.float32 else 1e-2
    for a, b in zip(*sides, strict=True):
        assert a.dtype == dtype and (a - b).abs().max() <= bound * b.abs().max()


@needs_triton
def test_a_training_step_with_the_kernels_has_the_same_gradients(monkeypatch):
    used = []
    kernel = products.sum_of_products
    monkeypatch.setattr(products, "sum_of_products", lambda *args: used.append(args) or kernel(*args))
    monkeypatch.setattr(ops, "takes_triton", lambda x: True)
    model, data, gradients = build("ctrgcn", channels=[8, 16]).train(), clip("ctrgcn"), []
    torch.nn.init.ones_(model.l2.gcn1.alpha)
    for kernels in ("torch", "triton"):
        for block in (model.l1, model.l2):
            block.gcn1.kernels = kernels
        model.zero_grad()
        F.cross_entropy(model(data), torch.tensor([0, 1])).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert len(used) == 2
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(float(g.abs().max()) for g in gradients[0]))


def test_kernels_are_for_training_on_a_gpu_and_only_if_asked_for(monkeypatch):
    assert not ops.takes_triton(torch.zeros(1))
    assert build("ctrgcn", channels=[8]).l1.gcn1.kernels == "auto"
    monkeypatch.setattr(ops, "takes_triton", lambda x: True)
    monkeypatch.setitem(sys.modules, "model.kernels", None)
    model = build("ctrgcn", channels=[8])
    assert model(clip("ctrgcn")).isfinite().all()
    model.l1.gcn1.kernels = "triton"
    with pytest.raises(ValueError, match="kernels: expected auto or torch, because triton cannot be imported"):
        model(clip("ctrgcn"))
    with pytest.raises(ValueError, match="kernels: expected auto, torch or triton, got cuda"):
        ctrgcn.Model(5, 25, 2, "graph.ntu_rgb_d.Graph", kernels="cuda")
