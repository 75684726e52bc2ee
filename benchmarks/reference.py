"""The networks as their papers write them: one operation for each term of an equation, nothing merged, nothing moved.

    plain = literal(model)

is a copy of a network of `model/` with the same parameters under the same names, whose forward passes stand below. It is what the
speed of `model/` is measured against, and it gives the same numbers: the tests hold both to the same records.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import aagcn, agcn, baseline, blocks, ctrgcn, dgstgcn, msg3d, stgcn, stgcnpp, tsgcnext


def literal(model: nn.Module) -> nn.Module:
    """A copy of the network that computes every equation literally."""
    model = copy.deepcopy(model)
    for module in model.modules():
        module.__class__ = LITERAL.get(type(module), type(module))
    return model


class DataNorm(blocks.DataNorm):
    """Maps in the order of their axes, channels before frames and joints."""

    def forward(self, data: Tensor) -> Tensor:
        return super().forward(data).contiguous()


class MultiScaleTemporalConv(blocks.MultiScaleTemporalConv):
    """Every branch by itself, MS-G3D (CVPR 2020) and CTR-GCN (ICCV 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layers(x) for layers in self.branches], dim=1)


class CTRGraphConv(ctrgcn.GraphConv):
    """CTR-GCN (ICCV 2021), equations 1 to 6: M_k = PA_k + alpha conv4(tanh(conv1(x) - conv2(x))), y = sum of M_k conv3(x)."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros((), device=x.device)
        for PA, subset in zip(self.PA, self.convs, strict=True):
            target, source = subset.conv1(x).mean(2), subset.conv2(x).mean(2)  # (N, R, V)
            M = self.alpha * subset.conv4(torch.tanh(target.unsqueeze(-1) - source.unsqueeze(-2))) + PA  # (N, C_out, V, V)
            y = y + torch.einsum("ncuv,nctv->nctu", M, subset.conv3(x))
        return F.relu(self.bn(y) + self.down(x))


def sum_of_subsets(x: Tensor, topologies: list[Tensor], convs: nn.ModuleList) -> Tensor:
    """y = sum of conv_d(x S) over the subsets, S (V, V) for all rows or (N, V, V)."""
    y = torch.zeros((), device=x.device)
    for S, conv in zip(topologies, convs, strict=True):
        gathered = x.flatten(1, 2) @ S  # (N, C * T, V)
        y = y + conv(gathered.view_as(x))
    return y


def affinities(x: Tensor, conv_a: nn.ModuleList, conv_b: nn.ModuleList) -> list[Tensor]:
    """E = theta(x)^T phi(x) / (R T) of each subset: (N, C, T, V) -> (N, V, V)."""
    found = []
    for a, b in zip(conv_a, conv_b, strict=True):
        theta, phi = a(x).flatten(1, 2), b(x).flatten(1, 2)  # (N, R * T, V)
        found.append(theta.transpose(1, 2) @ phi / theta.shape[1])
    return found


class AGraphConv(agcn.GraphConv):
    """2s-AGCN (CVPR 2019), equation 3: S_k = A_k + PA_k + softmax of the affinity."""

    def forward(self, x: Tensor) -> Tensor:
        S = [E.softmax(1) + A + PA for E, A, PA in zip(affinities(x, self.conv_a, self.conv_b), self.A, self.PA, strict=True)]
        return F.relu(self.bn(sum_of_subsets(x, S, self.conv_d)) + self.down(x))


class AAGraphConv(aagcn.GraphConv):
    """MS-AAGCN (TIP 2020): S_k = PA_k + alpha tanh(affinity), then the three gates."""

    def forward(self, x: Tensor) -> Tensor:
        S = list(self.PA)
        if self.adaptive:
            S = [PA + self.alpha * torch.tanh(E) for PA, E in zip(S, affinities(x, self.conv_a, self.conv_b), strict=True)]
        z = F.relu(self.bn(sum_of_subsets(x, S, self.conv_d)) + self.down(x))
        if not self.attention:
            return z
        z = z + z * torch.sigmoid(self.conv_sa(z.mean(2))).unsqueeze(2)
        z = z + z * torch.sigmoid(self.conv_ta(z.mean(3))).unsqueeze(3)
        return z + z * torch.sigmoid(self.fc2c(F.relu(self.fc1c(z.mean(3).mean(2))))).unsqueeze(2).unsqueeze(3)


class BaselineGraphConv(baseline.GraphConv):
    """CTR-GCN's baseline: learned topologies of unit columns."""

    def forward(self, x: Tensor) -> Tensor:
        A = self.PA / (self.PA.norm(dim=1, keepdim=True) + 1e-4) if self.adaptive else self.PA
        return F.relu(self.bn(sum_of_subsets(x, list(A), self.conv_d)) + self.down(x))


class STGraphConv(stgcn.GraphConv):
    """ST-GCN (AAAI 2018), equation 10: the subsets' convolutions as one, then every subset spread and summed."""

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (len(A), -1)), A)  # (N, C, T, V)


class STPPGraphConv(stgcnpp.GraphConv):
    """ST-GCN++ (ACM MM 2022): the same with a learned adjacency and a residual."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("nkctv,kvw->nctw", self.conv(x).unflatten(1, (len(self.A), -1)), self.A)  # (N, C, T, V)
        return F.relu(self.bn(y) + self.down(x))


class MultiScaleTemporalUnit(blocks.MultiScaleTemporalUnit):
    """ST-GCN++ (ACM MM 2022): every branch by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.transform(torch.cat([layers(x) for layers in self.branches], dim=1)))


class DGGraphConv(dgstgcn.GraphConv):
    """DG-GCN (arXiv 2210.05895): topology A + alpha tanh(difference) + beta softmax(affinity) of every channel."""

    def forward(self, x: Tensor) -> Tensor:
        K, mean = len(self.A), x.mean(2, keepdim=True)
        source = self.conv1(mean).squeeze(2).unflatten(1, (K, -1))  # (N, K, C, V)
        target = self.conv2(mean).squeeze(2).unflatten(1, (K, -1))
        difference = torch.tanh(source.unsqueeze(-1) - target.unsqueeze(-2))  # (N, K, C, V, V)
        affinity = torch.einsum("nkcu,nkcw->nkuw", source, target).softmax(2)
        G = self.alpha[0] * difference + self.A.unsqueeze(1) + self.beta[0] * affinity.unsqueeze(2)
        y = torch.einsum("nkctu,nkcuw->nkctw", self.pre(x).unflatten(1, (K, -1)), G).flatten(1, 2)  # (N, C, T, V)
        return F.relu(self.bn(self.post(y)) + self.down(x))


class DGTemporalUnit(dgstgcn.TemporalUnit):
    """DG-TCN (arXiv 2210.05895): branches over the joints and their mean, fused joint by joint."""

    def forward(self, x: Tensor) -> Tensor:
        V = x.shape[-1]
        x = torch.cat([x, x.mean(-1, keepdim=True)], dim=-1)  # (N, C, T, V + 1)
        z = torch.cat([layers(x) for layers in self.branches], dim=1)
        fused = z[..., :V] + torch.einsum("nct,v->nctv", z[..., V], self.add_coeff[:V])  # (N, C, T, V)
        return self.bn(self.transform(fused))


class NeXtBlock(tsgcnext.Block):
    """DS-SMG (arXiv 2304.11631): widen, deal the channels out to four groups, mix three of them, join, GELU, narrow."""

    def mix(self, u: Tensor) -> Tensor:
        h = self.pwconv1(u.permute(0, 2, 3, 1)).unflatten(-1, (-1, 4))  # (N, T, V, C, 4)
        groups = [torch.einsum("uk,ntkc->ntuc", self.PA[i], h[..., i]) for i in range(3)]
        y = self.pwconv2(F.gelu(torch.stack([*groups, h[..., 3]], dim=-1).flatten(3)))  # (N, T, V, C)
        return y.permute(0, 3, 1, 2).contiguous()  # (N, C, T, V)


class G3DGraphConv(msg3d.GraphConv):
    """MS-G3D (CVPR 2020), equations 4 and 8: (A + A_res) x for all scales, then one 1x1 convolution, batch norm, ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        gathered = torch.einsum("wv,nctv->nctw", self.A + self.A_res, x).unflatten(3, (self.num_scales, -1))
        return self.mlp["layers"](gathered.permute(0, 3, 1, 2, 4).flatten(1, 2))  # (N, C_out, T, V)


class WindowConv(msg3d.WindowConv):
    """G3D (CVPR 2020): joints of every window side by side, graph convolution, collapse to one frame."""

    def forward(self, x: Tensor) -> Tensor:
        half = self.window // 2
        windows = F.unfold(x, (self.window, 1), stride=(self.gcn3d[0].stride, 1), padding=(half, 0))
        windows = windows.view(len(x), x.shape[1], self.window, -1, x.shape[3]).transpose(2, 3).flatten(3)  # (N, C, T', W * V)
        frames = self.gcn3d[1](windows).unflatten(3, (self.window, -1))  # (N, C, T', W, V)
        return self.out_bn(self.out_conv(frames).squeeze(3))  # (N, C_out, T', V)


class G3DTemporalConv(msg3d.TemporalConv):
    """MS-TCN (CVPR 2020): every branch by itself, with a residual."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([layers(x) for layers in self.branches], dim=1) + self.residual(x)
        return y if self.last else F.relu(y)


LITERAL = {
    blocks.DataNorm: DataNorm,
    blocks.MultiScaleTemporalConv: MultiScaleTemporalConv,
    blocks.MultiScaleTemporalUnit: MultiScaleTemporalUnit,
    ctrgcn.GraphConv: CTRGraphConv,
    agcn.GraphConv: AGraphConv,
    aagcn.GraphConv: AAGraphConv,
    baseline.GraphConv: BaselineGraphConv,
    stgcn.GraphConv: STGraphConv,
    stgcnpp.GraphConv: STPPGraphConv,
    dgstgcn.GraphConv: DGGraphConv,
    dgstgcn.TemporalUnit: DGTemporalUnit,
    tsgcnext.Block: NeXtBlock,
    msg3d.GraphConv: G3DGraphConv,
    msg3d.WindowConv: WindowConv,
    msg3d.TemporalConv: G3DTemporalConv,
}
