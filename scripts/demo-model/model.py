"""The demo model in torch: LLaMA's architecture, small.

Rotary embedding turns neighbouring pairs (2i, 2i+1), which is how GGUF files of
architecture "llama" store the query and key rows; the export needs no
permutation of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    vocab: int = 1024
    context: int = 512
    hidden: int = 256
    ffn: int = 768
    layers: int = 4
    heads: int = 8
    kv_heads: int = 2
    eps: float = 1e-5
    rope_base: float = 10000.0
    dropout: float = 0.1

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


def rope_table(c: Config) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each context × head_dim/2."""
    frequency = c.rope_base ** (-torch.arange(0, c.head_dim, 2).float() / c.head_dim)
    angle = torch.outer(torch.arange(c.context).float(), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the pairs of x (batch, heads, time, head_dim)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def causal(q: Tensor, k: Tensor, v: Tensor, strip: int = 128) -> Tensor:
    """Causal attention of scaled queries (batch, heads, time, head_dim) on fewer key heads.

    A strip of queries at a time, against the keys up to its end: on one CPU
    thread half the time of torch's scaled_dot_product_attention. The query
    heads of a key head lie side by side as rows of one product.
    """
    batch, heads, time, dim = q.shape
    kv = k.shape[1]
    k, v, outputs = k.flatten(0, 1), v.flatten(0, 1), []
    for lo in range(0, time, strip):
        hi = min(lo + strip, time)
        rows = q[:, :, lo:hi].reshape(batch * kv, -1, dim)
        scores = torch.bmm(rows, k[:, :hi].transpose(1, 2)).view(batch, heads, hi - lo, hi)
        future = torch.ones(hi - lo, hi, dtype=torch.bool).triu(lo + 1)
        scores = scores + torch.zeros(hi - lo, hi, dtype=q.dtype).masked_fill(future, -torch.inf)
        weights = scores.softmax(-1, dtype=q.dtype).view(batch * kv, -1, hi)
        outputs.append(torch.bmm(weights, v[:, :hi]).view(batch, heads, hi - lo, dim))
    return torch.cat(outputs, 2)


class RMSNorm(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.eps = c.eps
        self.weight = nn.Parameter(torch.ones(c.hidden))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        kv = c.kv_heads * c.head_dim
        self.attn_norm = RMSNorm(c)
        self.attn_q = nn.Linear(c.hidden, c.hidden, bias=False)
        self.attn_k = nn.Linear(c.hidden, kv, bias=False)
        self.attn_v = nn.Linear(c.hidden, kv, bias=False)
        self.attn_output = nn.Linear(c.hidden, c.hidden, bias=False)
        self.ffn_norm = RMSNorm(c)
        self.ffn_gate = nn.Linear(c.hidden, c.ffn, bias=False)
        self.ffn_up = nn.Linear(c.hidden, c.ffn, bias=False)
        self.ffn_down = nn.Linear(c.ffn, c.hidden, bias=False)
        self.drop = nn.Dropout(c.dropout)

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        def split(y: Tensor, heads: int) -> Tensor:
            return y.unflatten(-1, (heads, -1)).transpose(1, 2)

        c = self.c
        q = rotate(split(self.attn_q(x), c.heads), cos, sin)
        k = rotate(split(self.attn_k(x), c.kv_heads), cos, sin)
        v = split(self.attn_v(x), c.kv_heads).contiguous()
        y = causal(q * c.head_dim**-0.5, k, v)
        return self.attn_output(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.attn_norm(x), cos, sin))
        h = self.ffn_norm(x)
        return x + self.drop(self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h)))


class Model(nn.Module):
    """Maps token ids (batch, time) to logits (batch, time, vocab)."""

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.token_embd = nn.Embedding(c.vocab, c.hidden)
        self.blk = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.output_norm = RMSNorm(c)
        self.drop = nn.Dropout(c.dropout)
        cos, sin = rope_table(c)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(p, std=0.02 / (2 * c.layers) ** 0.5 if residual else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = self.drop(self.token_embd(ids))
        for block in self.blk:
            x = block(x, cos, sin)
        return F.linear(self.output_norm(x), self.token_embd.weight)
