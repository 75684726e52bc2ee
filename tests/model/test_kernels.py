"""Triton's kernels equal PyTorch's operations; they run in Triton's interpreter on a CPU."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from model import ctrgcn, ops
from tests.model.zoo import build, clip
from torchlight.system.paths import ROOT

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
def test_the_products_are_an_operator_for_autograd_and_the_compiler_also_with_other_strides():
    N, C, K, R, V, T = 2, 9, 2, 3, 17, 5
    weight, basis, maps = torch.randn(K, C, R), torch.randn(N, K, R, V * V), torch.randn(N, C, K, V, T)
    across = torch.randn(N, C, K, T, V).transpose(3, 4)
    for given in ((weight, basis, maps), (weight, basis, across)):
        torch.library.opcheck(products.sum_of_products, [x.requires_grad_() for x in given])
        torch.library.opcheck(products.gradients, [x.detach() for x in (*given, torch.randn(N, C, V, T))])


@needs_triton
@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_step_with_the_kernels_has_the_same_gradients(compiled, monkeypatch):
    launched, kernel, compiler = [], products._products, CompileCounterWithBackend("aot_eager")

    class Launches:
        def __getitem__(self, grid):
            launched.append(grid)
            return kernel[grid]

    monkeypatch.setattr(products, "_products", Launches())
    monkeypatch.setattr(ops, "takes_triton", lambda x: True)
    model, data, gradients = build("ctrgcn", channels=[8, 16]).train(), clip("ctrgcn"), []
    torch.nn.init.ones_(model.l2.gcn1.alpha)
    for kernels in ("torch", "triton"):
        for block in (model.l1, model.l2):
            block.gcn1.kernels = kernels
        model.zero_grad()
        network = torch.compile(model, backend=compiler) if compiled else model
        F.cross_entropy(network(data), torch.tensor([0, 1])).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert len(launched) == 2 and compiler.frame_count == 2 * compiled
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * max(float(g.abs().max()) for g in gradients[0]))


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from model.kernels import products

TILES = {
    "_products": {"BC": products.CHANNELS, "BT": products.FRAMES},
    "_grad_T": {"BC": products.CHANNELS, "BT": products.FRAMES},
    "_grad_terms": {"BC": 16, "BT": 16, "BI": products.TARGETS, "RP": 64},
}
for name, tiles in TILES.items():
    kernel, constants = getattr(products, name), {"K": 3, "R": 34, "V": 25, "VP": 32, "PRECISION": "PRECISION_"} | tiles
    kinds = dict.fromkeys(constants, "constexpr") | {"C": "i32", "frames": "i32", "grad_weight": "*fp32"}
    signature = {argument: kinds.get(argument, "*TYPE_") for argument in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(c),): value for c, value in constants.items()})
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
    print(compiled.metadata.shared, "mma" in compiled.asm["ptx"])
"""


@needs_triton
@pytest.mark.parametrize(("dtype", "precision"), [("fp32", "ieee"), ("fp32", "tf32"), ("bf16", "tf32")])
def test_the_kernels_compile_for_hopper_within_its_shared_memory_and_use_tensor_cores_for_tf32(dtype, precision):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    code = COMPILE.replace("PRECISION_", precision).replace("TYPE_", dtype)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shared, tensor_cores = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert len(shared) == 3 and max(map(int, shared)) <= 227 * 1024
    assert set(tensor_cores) == {str(precision == "tf32")}


def test_kernels_are_only_used_in_training_on_a_gpu_and_only_if_selected(monkeypatch):
    assert not ops.takes_triton(torch.zeros(1))
    assert build("ctrgcn", channels=[8]).l1.gcn1.kernels == "auto"
    monkeypatch.setattr(ops, "takes_triton", lambda x: True)
    monkeypatch.setitem(sys.modules, "model.kernels", None)
    model = build("ctrgcn", channels=[8])
    assert model(clip("ctrgcn")).isfinite().all()
    model.l1.gcn1.kernels = "triton"
    with pytest.raises(ValueError, match="kernels: expected auto or torch, because triton cannot be imported"):
        model.train()(clip("ctrgcn"))
    assert model.eval()(clip("ctrgcn")).isfinite().all()
    with pytest.raises(ValueError, match="kernels: expected auto, torch or triton, got cuda"):
        ctrgcn.Model(5, 25, 2, "graph.ntu_rgb_d.Graph", kernels="cuda")
