"""Literal implementations of the networks: one operation for each term of an equation in the paper, in the same order.

`reference(model)` has the parameters of a network of `model/` under the same names and the forward passes below. The
speed of `model/` is measured relative to it, and tests compare both with the same reference records.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import (
    aagcn,
    agcn,
    baseline,
    blockgcn,
    blocks,
    ctrgcn,
    dgstgcn,
    hdgcn,
    hypergcn,
    msg3d,
    network,
    skateformer,
    stgcn,
    stgcnpp,
    tsgcnext,
)


def has_reference(model: nn.Module) -> bool:
    """Whether the network's own file, not only its shared building blocks, has a literal formulation here."""
    return any(type(m) in REFERENCE and type(m).__module__ == type(model).__module__ for m in model.modules())


def reference(model: nn.Module) -> nn.Module:
    """A copy of the network that computes every equation literally.

    Raises:
        ValueError: the network has no reference formulation.
    """
    if not has_reference(model):
        raise ValueError(f"{type(model).__module__}: no reference formulation")
    model = copy.deepcopy(model)
    for module in model.modules():
        module.__class__ = REFERENCE.get(type(module), type(module))
    return model


class DataNorm(network.DataNorm):
    """Returns contiguous maps."""

    def forward(self, data: Tensor) -> Tensor:
        return super().forward(data).contiguous()


class TemporalConv(blocks.TemporalConv):
    """BN(conv(x))."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ConvNorm(blocks.ConvNorm):
    """One layer after the other."""

    forward = nn.Sequential.forward


class MultiScaleTemporalConv(blocks.MultiScaleTemporalConv):
    """MS-G3D (CVPR 2020), CTR-GCN (ICCV 2021): one branch after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layers(x) for layers in self.branches], dim=1)


class CTRGraphConv(ctrgcn.GraphConv):
    """CTR-GCN (ICCV 2021): Q = xi(tanh(psi(x_i) - phi(x_j))), R = A + alpha Q, Z = sum_k R T(x)."""

    def forward(self, x: Tensor) -> Tensor:
        Z = torch.zeros((), device=x.device)
        for A, subset in zip(self.PA, self.convs, strict=True):
            psi, phi = subset.conv1(x).mean(2), subset.conv2(x).mean(2)  # (N, R, V)
            Q = subset.conv4(torch.tanh(psi.unsqueeze(-1) - phi.unsqueeze(-2)))  # (N, C_out, V, V)
            R = A + self.alpha * Q
            Z = Z + torch.einsum("ncij,nctj->ncti", R, subset.conv3(x))
        return F.relu(self.bn(Z) + self.down(x))


def sum_of_subsets(x: Tensor, topologies: list[Tensor], convs: nn.ModuleList) -> Tensor:
    """y = sum_k W_k(x S_k), S_k (V, V) for all clips or (N, V, V)."""
    return sum(conv((x.flatten(1, 2) @ S).view_as(x)) for S, conv in zip(topologies, convs, strict=True))


def affinities(x: Tensor, conv_a: nn.ModuleList, conv_b: nn.ModuleList) -> list[Tensor]:
    """E_k = theta_k(x)^T phi_k(x) / (R T) of every subset: (N, C, T, V) -> K times (N, V, V)."""
    found = []
    for a, b in zip(conv_a, conv_b, strict=True):
        theta, phi = a(x).flatten(1, 2), b(x).flatten(1, 2)  # (N, R * T, V)
        found.append(theta.transpose(1, 2) @ phi / theta.shape[1])
    return found


class AGraphConv(agcn.GraphConv):
    """2s-AGCN (CVPR 2019), equation 3: f = sum_k W_k x (A_k + B_k + C_k)."""

    def forward(self, x: Tensor) -> Tensor:
        C = [E.softmax(1) for E in affinities(x, self.conv_a, self.conv_b)]
        S = [A_k + B_k + C_k for A_k, B_k, C_k in zip(self.A, self.PA, C, strict=True)]
        return F.relu(self.bn(sum_of_subsets(x, S, self.conv_d)) + self.down(x))


class AAGraphConv(aagcn.GraphConv):
    """MS-AAGCN (TIP 2020): S_k = B_k + alpha tanh(E_k), then attention over joints, frames and channels."""

    def forward(self, x: Tensor) -> Tensor:
        S = list(self.PA)
        if self.adaptive:
            E = affinities(x, self.conv_a, self.conv_b)
            S = [B_k + self.alpha * torch.tanh(E_k) for B_k, E_k in zip(S, E, strict=True)]
        z = F.relu(self.bn(sum_of_subsets(x, S, self.conv_d)) + self.down(x))
        if not self.attention:
            return z
        z = z + z * torch.sigmoid(self.conv_sa(z.mean(2))).unsqueeze(2)
        z = z + z * torch.sigmoid(self.conv_ta(z.mean(3))).unsqueeze(3)
        return z + z * torch.sigmoid(self.fc2c(F.relu(self.fc1c(z.mean(3).mean(2))))).unsqueeze(2).unsqueeze(3)


class BaselineGraphConv(baseline.GraphConv):
    """CTR-GCN's baseline: learned topologies, every column divided by its norm."""

    def forward(self, x: Tensor) -> Tensor:
        A = self.PA / (self.PA.norm(dim=1, keepdim=True) + 1e-4) if self.adaptive else self.PA
        return F.relu(self.bn(sum_of_subsets(x, list(A), self.conv_d)) + self.down(x))


class STGraphConv(stgcn.GraphConv):
    """ST-GCN (AAAI 2018), equation 10: f = sum_k W_k(x) A_k."""

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (A.shape[0], -1)), A)  # (N, C, T, V)


class STPPGraphConv(stgcnpp.GraphConv):
    """ST-GCN++ (ACM MM 2022): as ST-GCN, with learned A_k and a residual connection."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (self.A.shape[0], -1)), self.A)  # (N, C, T, V)
        return F.relu(self.bn(y) + self.down(x))


class MultiBranchTemporalConv(blocks.MultiBranchTemporalConv):
    """ST-GCN++ (ACM MM 2022): one branch after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.transform(torch.cat([layers(x) for layers in self.branches], dim=1)))


class DGGraphConv(dgstgcn.GraphConv):
    """DG-GCN (arXiv 2210.05895): G = A + alpha D + beta S for every channel."""

    def forward(self, x: Tensor) -> Tensor:
        K, mean = self.A.shape[0], x.mean(2, keepdim=True)
        s = self.conv1(mean).squeeze(2).unflatten(1, (K, -1))  # (N, K, C, V)
        d = self.conv2(mean).squeeze(2).unflatten(1, (K, -1))
        D = torch.tanh(s.unsqueeze(-1) - d.unsqueeze(-2))  # (N, K, C, V, V)
        S = torch.einsum("nkcu,nkcw->nkuw", s, d).softmax(2)
        G = self.A.unsqueeze(1) + self.alpha[0] * D + self.beta[0] * S.unsqueeze(2)
        y = torch.einsum("nkctu,nkcuw->nkctw", self.pre(x).unflatten(1, (K, -1)), G).flatten(1, 2)  # (N, C, T, V)
        return F.relu(self.bn(self.post(y)) + self.down(x))


class DGTemporalConv(dgstgcn.TemporalConv):
    """DG-TCN (arXiv 2210.05895): branches over the joints and their mean, fused for every joint."""

    def forward(self, x: Tensor) -> Tensor:
        V = x.shape[-1]
        x = torch.cat([x, x.mean(-1, keepdim=True)], dim=-1)  # (N, C, T, V + 1)
        z = torch.cat([layers(x) for layers in self.branches], dim=1)
        fused = z[..., :V] + torch.einsum("nct,v->nctv", z[..., V], self.add_coeff[:V])  # (N, C, T, V)
        return self.bn(self.transform(fused))


class NeXtBlock(tsgcnext.Block):
    """DS-SMG (arXiv 2304.11631): y = W' GELU(A_0 h_0 | A_1 h_1 | A_2 h_2 | h_3) + b' with h = W u + b."""

    def mix(self, u: Tensor) -> Tensor:
        h = self.pwconv1(u.permute(0, 2, 3, 1)).unflatten(-1, (-1, 4))  # (N, T, V, C, 4)
        groups = [torch.einsum("uk,ntkc->ntuc", self.PA[i], h[..., i]) for i in range(3)]
        y = self.pwconv2(F.gelu(torch.stack([*groups, h[..., 3]], dim=-1).flatten(3)))  # (N, T, V, C)
        return y.permute(0, 3, 1, 2).contiguous()  # (N, C, T, V)


class G3DGraphConv(msg3d.GraphConv):
    """MS-GCN (CVPR 2020): ReLU(BN(sum_k W_k (A_k + A_res_k) x))."""

    def forward(self, x: Tensor) -> Tensor:
        aggregated = torch.einsum("wv,nctv->nctw", self.A + self.A_res, x).unflatten(3, (self.num_scales, -1))
        return self.mlp["layers"](aggregated.permute(0, 3, 1, 2, 4).flatten(1, 2))  # (N, C_out, T, V)


class WindowConv(msg3d.WindowConv):
    """G3D (CVPR 2020): windows as one graph, graph convolution, collapse to one frame."""

    def forward(self, x: Tensor) -> Tensor:
        half = self.window // 2
        windows = F.unfold(x, (self.window, 1), stride=(self.gcn3d[0].stride, 1), padding=(half, 0))
        windows = windows.view(x.shape[0], x.shape[1], self.window, -1, x.shape[3]).transpose(2, 3)  # (N, C, T', W, V)
        frames = self.gcn3d[1](windows.flatten(3)).unflatten(3, (self.window, -1))  # (N, C, T', W, V)
        return self.out_bn(self.out_conv(frames).squeeze(3))  # (N, C_out, T', V)


class G3DTemporalConv(msg3d.TemporalConv):
    """MS-TCN (CVPR 2020): one branch after the other, with a residual connection."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([layers(x) for layers in self.branches], dim=1) + self.residual(x)
        return y if self.last else F.relu(y)


def edge_conv(f: Tensor, layer: hdgcn.EdgeConv, k: int) -> Tensor:
    """max_j LeakyReLU(BN(W [f_j - f_i; f_i])) over the k points nearest to i: (N, C, P) -> (N, C, P)."""
    near = (f.unsqueeze(3) - f.unsqueeze(2)).square().sum(1).topk(k, largest=False).indices  # (N, P, k)
    f_i = f.unsqueeze(3).expand(-1, -1, -1, k)
    f_j = f.unsqueeze(2).expand(-1, -1, f.shape[2], -1).gather(3, near.unsqueeze(1).expand_as(f_i))
    return F.leaky_relu(layer.conv(torch.cat([f_j - f_i, f_i], dim=1)), 0.2).max(3).values


class HDLayerAttention(hdgcn.LayerAttention):
    """A-HA (ICCV 2023): w = sigmoid(W EdgeConv(p)), p_a the mean over the joints of layer a."""

    def forward(self, h: Tensor) -> Tensor:
        p = (F.relu(self.conv_down(h)) * self.inside).sum(3) / self.inside.sum(1)
        return torch.sigmoid(self.aggregate(edge_conv(p, self.edge_conv, hdgcn.NEAREST_LAYERS)))


class HDGraphConv(hdgcn.GraphConv):
    """HD-GCN (ICCV 2023): Z = sum_a w_a [BN(W_aj (A_aj d_a)); EdgeConv(d_a)]."""

    def forward(self, x: Tensor) -> Tensor:
        layers = []
        for A, down, (*convs, edge) in zip(self.PA, self.conv_down, self.conv, strict=True):
            d = F.relu(down(x))
            s = [conv(torch.einsum("vu,nctu->nctv", A_j, d)) for A_j, conv in zip(A, convs, strict=True)]
            e = edge_conv(d.mean(2), edge, hdgcn.NEAREST_JOINTS).unsqueeze(2).expand_as(d)
            layers.append(torch.cat([*s, e], dim=1))
        h = torch.stack(layers, 2)  # (N, C, L, T, V)
        Z = h.sum(2) if self.aha is None else (h * self.aha(h.max(3).values)[..., None, None]).sum(2)
        return F.relu(self.bn(Z) + self.down(x))


class BlockGraphConv(blockgcn.GraphConv):
    """BlockGC (CVPR 2024): Z = sum_i W_i(x (norm(F_i) + norm(P_i))) for every head."""

    def forward(self, x: Tensor) -> Tensor:
        Z = torch.zeros((), device=x.device)
        for learned, table, conv in zip(self.fc1, self.rpe, self.fc2, strict=True):
            A = blockgcn.unit_columns(learned) + blockgcn.unit_columns(table[:, self.steps])
            Z = Z + conv(torch.einsum("nhctv,hvw->nhctw", x.unflatten(1, (blockgcn.HEADS, -1)), A).flatten(1, 2))
        return F.relu(self.bn(Z) + self.down(x))


class HyperGraphConv(hypergcn.GraphConv):
    """Hyper-GCN (ICCV 2025): Z = (A_0 + ReLU(alpha) G) W [x; virtual joints], without the rows of virtual joints."""

    def forward(self, x: Tensor) -> Tensor:
        virtual = self.hyper_joint.t()[None, :, None].expand(x.shape[0], -1, x.shape[2], -1)
        joints = torch.cat([x, virtual], dim=3)  # (N, C, T, W)
        z = self.conv_d(joints).unflatten(1, (hypergcn.HEADS, -1))
        Z = torch.einsum("nhuv,nhctv->nhctu", self.topology(joints.mean(2)), z).flatten(1, 2)[..., : x.shape[3]]
        return F.relu(self.bn(Z) + self.down(x))


class SkateMSA(skateformer.SkateMSA):
    """Skate-MSA (ECCV 2024): softmax(q k^T / sqrt(H) + B) v in the windows of one type."""

    def forward(self, qkv: Tensor) -> Tensor:
        windows = self.split(qkv)  # (N, A, B, F, G, 3 C)
        tokens = windows.flatten(3, 4).unflatten(4, (3, self.num_heads, -1))  # (N, A, B, R, 3, H, d)
        q, k, v = tokens.permute(4, 0, 1, 2, 5, 3, 6)  # (N, A, B, H, R, d)
        weight = (q @ k.transpose(-2, -1) * self.num_heads**-0.5 + self.bias()).softmax(-1)
        weight = F.dropout(weight, self.attn_drop, self.training)
        y = (weight @ v).transpose(3, 4).flatten(4)  # (N, A, B, R, C)
        return self.merge(y.unflatten(3, (self.frames, self.joints)))


class SkateFormerBlock(skateformer.SkateFormerBlock):
    """SkateFormer (ECCV 2024): one matrix of joints for each group of channels."""

    def graph_conv(self, x: Tensor) -> Tensor:
        return torch.einsum("kvu,ntukc->ntvkc", self.gconv, x.unflatten(3, (self.gconv.shape[0], -1))).flatten(3)


_OWN = [kind for kind in list(vars().values()) if isinstance(kind, type) and kind.__module__ == __name__]
REFERENCE = {kind.__base__: kind for kind in _OWN}  # {class of model/: its literal implementation above}
