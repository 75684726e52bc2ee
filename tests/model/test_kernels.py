"""Triton's kernels equal PyTorch's operations; they run in Triton's interpreter on a CPU."""

import importlib
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from model import ctrgcn, gpu, kernels, ops
from tests.model.zoo import build, clip
from torchlight.system.paths import ROOT

products, norms, block = (
    importlib.import_module(f"model.kernels.{name}") if gpu.can_load_block() else None
    for name in ("products", "norms", "block")
)
needs_triton = pytest.mark.skipif(products is None, reason="triton is not installed, or too old")


def same(found, expected, bound):
    """Whether the largest difference is at most this fraction of the largest value."""
    return (found - expected).abs().max() <= bound * expected.abs().max()


def inputs(persons, C, K, R, V, T):
    """Inputs of the products; the last weight of each channel must be 1."""
    weight = torch.cat([torch.randn(K, C, R + 1), torch.ones(K, C, 1)], dim=2)
    psi, phi, A = torch.randn(persons, K, R, V), torch.randn(persons, K, R, V), torch.randn(K, V, V)
    return [weight, psi, phi, A, torch.randn(persons, T, V, K, C), torch.randn(K, C)]


def products_by_pytorch(weight, psi, phi, A, T, bias):
    """The equation, with the layouts of `ops`."""
    M = torch.tanh(psi.unsqueeze(3) - phi.unsqueeze(4))  # (N, K, R, V, V), row source
    A = A.transpose(1, 2).expand(len(psi), 1, *A.shape).transpose(1, 2)
    basis = torch.cat([M, torch.ones_like(A), A], dim=2).flatten(3)
    return ops.sum_of_products(weight, basis, (T + bias).permute(0, 4, 3, 2, 1)).transpose(1, 3)


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
    given = [x.to(dtype).requires_grad_() for x in inputs(persons, C, K, R, V, T)]
    exact = [x.detach().double().requires_grad_() for x in given]
    found, expected = products.refined_products(*given), products_by_pytorch(*exact)
    grad = torch.randn(found.shape).to(dtype)
    weight, *others = torch.autograd.grad(found, given, grad)
    weight_expected, *others_expected = torch.autograd.grad(expected, exact, grad.double())
    bound = 1e-6 if dtype == torch.float32 else 1e-2
    pairs = zip(
        (found, weight[..., :-1], *others), (expected, weight_expected[..., :-1], *others_expected), strict=True
    )
    assert all(a.dtype == dtype and same(a, b, bound) for a, b in pairs)
    assert not weight[..., -1].any()


@needs_triton
def test_the_kernels_are_operators_for_autograd_and_the_compiler_also_with_other_strides():
    given = inputs(2, 9, 2, 3, 17, 5)
    torch.library.opcheck(products.refined_products, [x.requires_grad_() for x in given])
    across = [x.detach() for x in given]
    across[4] = torch.randn(2, 9, 2, 17, 5).permute(0, 4, 3, 2, 1)
    torch.library.opcheck(products.gradients, [*across, torch.randn(2, 9, 17, 5).permute(0, 3, 2, 1)])
    wide, x, vector, statistics = torch.randn(40, 12), torch.randn(40, 5), torch.randn(12), torch.rand(3, 12)
    xs, sums = [wide[:, 3:10], x], (torch.randn(12), torch.randn(12))
    torch.library.opcheck(norms.statistics, [xs, 1e-5])
    torch.library.opcheck(norms.relu_of_norms, [xs, [statistics, vector, vector], wide, []])
    torch.library.opcheck(norms.masked_gradient, [wide, wide, xs, statistics, wide, statistics])
    torch.library.opcheck(norms.norm_gradient, [wide, xs, statistics, vector, *sums])
    torch.library.opcheck(norms.sum_of_gradients, [[wide[:, :5], x], torch.randn(2, 4, 5)])


def sum_of_norms(function, dtype, to, widths, residual):
    """y = function(maps, residual), all gradients, and the buffers of the norms; the values are rounded to `dtype`.

    All maps except the last are parts of one wider map; the last one was computed without its bias.
    """
    torch.manual_seed(0)
    leaves, layers = [], []

    def leaf(*shape):
        leaves.append((3 + 2 * torch.randn(shape)).to(dtype).to(to))
        return leaves[-1].requires_grad_()

    def normed(x, bias=None):
        layers.append(nn.BatchNorm2d(x.shape[1]).to(torch.float64 if to == torch.float64 else torch.float32))
        for value in (layers[-1].weight, layers[-1].bias, layers[-1].running_mean):
            value.data.copy_(1 + torch.randn(x.shape[1]))
        return block.Normed(x, layers[-1], bias)

    def random_map(C):
        return leaf(2, 33, 25, C).permute(0, 3, 1, 2)  # 1650 positions: two programs for the sums

    maps = [normed(x) for x in random_map(sum(widths[:-1])).split(widths[:-1], dim=1)]
    maps.append(normed(random_map(widths[-1]), torch.randn(widths[-1]).to(layers[0].weight.dtype)))
    r = None if residual == "none" else random_map(sum(widths))
    y = function(maps, normed(r) if residual == "norm" else r)
    wanted = leaves + [parameter for layer in layers for parameter in layer.parameters()]
    grads = torch.autograd.grad(y, wanted, torch.randn(y.shape).to(dtype).to(to))
    assert y.dtype == to and [g.dtype for g in grads] == [x.dtype for x in wanted]
    return [y, *grads, *(buffer for layer in layers for buffer in layer.buffers())]


def relu_of_sum_by_pytorch(parts, residual):
    """The equation; the bias that a convolution omitted has no effect except on the running mean."""
    other = [residual] if isinstance(residual, block.Normed) else []
    *maps, last = [
        part.norm(part.x if part.bias is None else part.x + part.bias[:, None, None]) for part in (*parts, *other)
    ]
    return F.relu(
        torch.cat(maps, 1) + last if other else torch.cat([*maps, last], 1) + (0 if residual is None else residual)
    )


@needs_triton
@pytest.mark.parametrize("residual", ["none", "map", "norm"])
@pytest.mark.parametrize(
    ("dtype", "widths"), [(torch.float32, (9, 3, 5)), (torch.float32, (70, 2)), (torch.bfloat16, (9, 3, 5))]
)
def test_norms_their_statistics_and_all_gradients_equal_those_of_pytorch_in_float64(dtype, widths, residual):
    found = sum_of_norms(block.relu_of_sum, dtype, dtype, widths, residual)
    expected = sum_of_norms(relu_of_sum_by_pytorch, dtype, torch.float64, widths, residual)
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    assert len(found) == len(expected) and all(same(a, b, bound) for a, b in zip(found, expected, strict=True))


@needs_triton
def test_undefined_values_stay_visible():
    x = torch.randn(2, 3, 4, 5)
    x[0, 1, 2, 3] = float("nan")
    y = block.relu_of_sum([block.Normed(x, nn.BatchNorm2d(3))])
    assert y[:, 1].isnan().all() and y[:, ::2].isfinite().all()


@needs_triton
@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradients_of_a_map_and_of_its_mean_are_added_in_one_pass(count):
    x = torch.randn(2, 7, 3, 5, requires_grad=True)
    mean, *copies = block._Inputs.apply(x)
    factors = torch.randn(count, 2, 7, 3, 5)
    expected = factors.sum(0) + mean.detach().unsqueeze(2).expand_as(x) / 3
    loss = (mean**2).sum() / 2 + sum((a * f).sum() for a, f in zip(copies, factors, strict=False))
    assert torch.allclose(torch.autograd.grad(loss, x)[0], expected, atol=1e-6)


def gradients(model, option, network, data):
    """Gradients and buffers after one training step with this option `kernels`. network: model, or compiled."""
    for module in model.modules():
        if isinstance(module, ctrgcn.Block):
            module.kernels = option
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    model.zero_grad()
    F.cross_entropy(network(data).float(), torch.tensor([0, 1])).backward()
    return [p.grad.clone() for p in model.parameters()], [b.clone() for b in model.buffers()]


@needs_triton
@pytest.mark.parametrize(
    ("options", "precision"),
    [({}, None), ({"relu_after_tcn": True}, None), ({}, torch.bfloat16)],
    ids=["plain", "relu_after_tcn", "bfloat16"],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_training_step_with_the_kernels_has_the_same_gradients(compiled, options, precision, monkeypatch):
    launched, kernel, compiler = [], products._products, CompileCounterWithBackend("aot_eager")

    class Launches:
        def __getitem__(self, grid):
            launched.append(grid)
            return kernel[grid]

    monkeypatch.setattr(products, "_products", Launches())
    monkeypatch.setattr(gpu, "use_triton", lambda option, *_: option == "triton")
    model, data = build("ctrgcn", channels=[8, 16], **options).train(), clip("ctrgcn")
    for block_ in (model.l1, model.l2):
        nn.init.ones_(block_.gcn1.alpha)
        nn.init.ones_(block_.gcn1.bn.weight)
    with torch.autocast("cpu", precision, enabled=precision is not None):
        network = torch.compile(model, backend=compiler) if compiled else model
        expected, buffers = gradients(model, "torch", model, data)
        found, found_buffers = gradients(model, "triton", network, data)
    assert len(launched) == 2 and compiler.frame_count == compiled
    # the interpreter truncates to bfloat16, and does not round
    largest, bound = max(float(g.abs().max()) for g in expected), 1e-5 if precision is None else 0.1
    assert all((a - b).abs().max() <= bound * largest for a, b in zip(found, expected, strict=True))
    assert all(torch.allclose(a, b, 0.1 * bound, bound) for a, b in zip(found_buffers, buffers, strict=True))


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from model.kernels import norms, products

PRODUCTS = {"K": 3, "R": 32, "V": 25, "VP": 32, "PRECISION": "PRECISION_"}
WIDE = {"BC": products.CHANNELS, "BT": products.FRAMES}
TILE = {"BL": norms.TILE // norms.CHANNELS, "BC": norms.CHANNELS}
SUMS = TILE | {"ROWS": norms.ROWS}
KERNELS = {
    products._products: PRODUCTS | WIDE,
    products._grad_T: PRODUCTS | WIDE,
    products._grad_terms: PRODUCTS | {"BC": 16, "BT": 16, "BI": products.TARGETS, "RP": 64},
    norms._moments: SUMS,
    norms._combine: SUMS,
    norms._relu_of_norms: TILE | {"HAS_R": True, "NORM_R": True},
    norms._masked_gradient: SUMS | {"HAS_R": True},
    norms._norm_gradient: TILE,
    norms._sum: TILE | {"COUNT": 3},
}
MAPS = {"x", "y", "z", "r", "T", "Z", "grad", "grad_T", "masked", "mean"}
PARTIAL = {"grad_weight", "grad_phi", "grad_A", "grad_bias", "sums", "parts", "norm", "norm_r", "total", "product"}
NUMBERS = {"C", "frames", "L", "P", "V", "C_total", "positions"}

def kind(kernel, argument, constants):
    if argument in constants:
        return "constexpr"
    if argument in NUMBERS or argument.startswith("stride"):
        return "i32"
    if argument == "eps" or argument in PARTIAL:
        return "fp32" if argument == "eps" else "*fp32"
    of_norms = kernel.__module__.endswith("norms")
    return "*fp32" if of_norms and argument not in MAPS and argument != "out" else "*TYPE_"

for kernel, constants in KERNELS.items():
    signature = {argument: kind(kernel, argument, constants) for argument in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(c),): value for c, value in constants.items()})
    warps = 8 if kernel.__module__.endswith("products") else 4
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    print(kernel.__name__, compiled.metadata.shared, "mma" in compiled.asm["ptx"])
"""


@needs_triton
@pytest.mark.parametrize(("dtype", "precision"), [("fp32", "ieee"), ("fp32", "tf32"), ("bf16", "tf32")])
def test_the_kernels_compile_for_hopper_within_its_shared_memory_and_use_tensor_cores_for_tf32(dtype, precision):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    code = COMPILE.replace("PRECISION_", precision).replace("TYPE_", dtype)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 9 and max(int(shared) for _, shared, _ in lines) <= 227 * 1024
    assert [used for name, _, used in lines[:3]] == [str(precision == "tf32")] * 3


def test_kernels_are_only_used_in_training_on_a_gpu_and_only_if_selected(monkeypatch):
    model, x = build("ctrgcn", channels=[8]), torch.zeros(1, device="meta")
    block = model.l1.train()
    assert block.kernels == "auto" and not gpu.use_triton("auto", block, x)
    assert gpu.use_triton("triton", block, x) and not gpu.use_triton("triton", block, torch.zeros(1))
    assert not gpu.use_triton("triton", block, x.double()) and not gpu.use_triton("triton", block.eval(), x)
    assert not gpu.use_triton("triton", block.train(), torch.zeros(33, device="meta"))
    block.gcn1.bn.eval()
    assert not gpu.use_triton("triton", block, x)
    assert not gpu.use_triton("triton", nn.SyncBatchNorm.convert_sync_batchnorm(block.train()), x)
    with pytest.raises(ValueError, match="kernels: expected auto, torch or triton, got cuda"):
        build("ctrgcn", channels=[8], kernels="cuda")


@needs_triton
def test_a_version_of_triton_that_cannot_compile_the_kernels_is_named(monkeypatch):
    monkeypatch.setattr(products.triton, "__version__", "3.4.0")
    with pytest.raises(ImportError, match=r"expected triton 3\.5 or later.*got 3\.4\.0"):
        importlib.reload(products)


def test_without_triton_a_message_names_the_file_to_install(monkeypatch):
    monkeypatch.setattr(gpu, "use_triton", lambda option, *_: option == "triton")
    monkeypatch.delattr(kernels, "block", raising=False)
    monkeypatch.setitem(sys.modules, "model.kernels.block", None)
    with pytest.raises(
        ValueError,
        match="kernels: expected auto or torch, because the kernels cannot be imported.*requirements/triton.txt",
    ):
        build("ctrgcn", channels=[8], kernels="triton").train()(clip("ctrgcn"))
