#!/usr/bin/env python3
"""Times one BESA step on a block of SmolLM2-135M's shape in PyTorch: what
`besa bench --only smollm2` times, for comparison (scripts/bench-torch.sh runs
both in turn). Float32 on the CPU, random weights, one window of 512 tokens.

A step is: mask operator, masked forward pass, loss, backward pass to all
weights (not to the input), gradients of the allocation, Prodigy. The dense
forward pass that gives the reference output is timed by itself. Masking is a
scatter by rank; its backward pass a gather and a cumulative sum, which is
faster here than leaving it to autograd.

Needs PyTorch: pip install torch
"""

import argparse
import json
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("torch-step.py needs PyTorch: pip install torch")

TOKENS, HIDDEN, FFN, HEADS, KV_HEADS = 512, 576, 1536, 9, 3
HEAD = HIDDEN // HEADS
KV = KV_HEADS * HEAD
SHAPES = {  # rows (outputs), columns (inputs)
    "q": (HIDDEN, HIDDEN), "k": (KV, HIDDEN), "v": (KV, HIDDEN), "o": (HIDDEN, HIDDEN),
    "gate": (FFN, HIDDEN), "up": (FFN, HIDDEN), "down": (HIDDEN, FFN),
}
CANDIDATES = torch.linspace(1, 0, 101)
TARGET, LAMBDA, D_COEF = 0.5, 5.0, 5.0


class Mask(torch.autograd.Function):
    """Weights with every row's least important ones set to zero."""

    @staticmethod
    def forward(ctx, weight, order, counts, beta, prune):
        kept = (torch.arange(weight.shape[1]) >= prune[:, None]).to(weight.dtype)
        ctx.save_for_backward(weight, order, counts)
        return weight * torch.empty_like(weight).scatter_(1, order, kept)

    @staticmethod
    def backward(ctx, grad):
        weight, order, counts = ctx.saved_tensors
        sums = (grad * weight).gather(1, order).cumsum(1)
        sums = F.pad(sums, (1, 0))  # a candidate may prune nothing
        return None, None, None, -sums[:, counts], None


class Prodigy:
    """Learning rate 1, no bias correction (Mishchenko and Defazio, 2023)."""

    def __init__(self, params):
        self.params = params
        self.state = [[p.detach().clone()] + [torch.zeros_like(p) for _ in range(3)] for p in params]
        self.d = self.d_max = 1e-6
        self.numerator = 0.0

    @torch.no_grad()
    def step(self):
        b1, b2, b3, d0, d = 0.9, 0.999, 0.999**0.5, 1e-6, self.d
        self.numerator *= b3
        denominator = 0.0
        for p, (start, s, m, v) in zip(self.params, self.state):
            g = p.grad
            self.numerator += d / d0 * d * torch.dot(g.flatten(), (start - p).flatten()).item()
            m.mul_(b1).add_(g, alpha=d * (1 - b1))
            v.mul_(b2).addcmul_(g, g, value=d * d * (1 - b2))
            s.mul_(b3).add_(g, alpha=d / d0 * d)
            denominator += s.abs().sum().item()
        if denominator == 0:
            return
        estimate = D_COEF * self.numerator / denominator
        if self.d == d0:
            self.d = max(self.d, estimate)
        self.d = self.d_max = max(self.d_max, estimate)
        for p, (_, _, m, v) in zip(self.params, self.state):
            p.addcdiv_(m, v.sqrt().add_(self.d * 1e-8), value=-d)
            p.grad = None


def rotary():
    angles = torch.outer(torch.arange(TOKENS).float(), 1e4 ** (-torch.arange(0, HEAD, 2).float() / HEAD))
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def forward(w, x, cos, sin):
    def heads(y, n):
        return y.view(TOKENS, n, HEAD).transpose(0, 1)

    ones = torch.ones(HIDDEN)
    h = F.rms_norm(x, (HIDDEN,), ones, 1e-5)
    q, k = rotate(heads(h @ w["q"].T, HEADS), cos, sin), rotate(heads(h @ w["k"].T, KV_HEADS), cos, sin)
    v = heads(h @ w["v"].T, KV_HEADS)
    a = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
    x = x + a.transpose(0, 1).reshape(TOKENS, HIDDEN) @ w["o"].T
    h = F.rms_norm(x, (HIDDEN,), ones, 1e-5)
    return x + (F.silu(h @ w["gate"].T) * (h @ w["up"].T)) @ w["down"].T


def prepare():
    torch.manual_seed(1)
    weights = {n: torch.randn(s) / s[1] ** 0.5 for n, s in SHAPES.items()}
    order = {n: w.abs().argsort(dim=1, stable=True) for n, w in weights.items()}
    counts = {n: (CANDIDATES * w.shape[1]).long() for n, w in weights.items()}
    logits = {n: torch.zeros(w.shape[0], len(CANDIDATES), requires_grad=True) for n, w in weights.items()}
    return weights, order, counts, logits


def step(weights, order, counts, logits, prodigy, x, ref, cos, sin):
    masked, expected, total = {}, 0.0, 0
    for n, w in weights.items():
        beta = torch.softmax(torch.sigmoid(logits[n]), dim=1)
        alpha = beta @ CANDIDATES
        masked[n] = Mask.apply(w, order[n], counts[n], beta, (alpha.detach() * w.shape[1]).long())
        expected = expected + alpha.sum() * w.shape[1]
        total += w.numel()
    out = forward(masked, x, cos, sin)
    loss = (((ref - out) / ref.norm(dim=0)) ** 2).sum() / HIDDEN
    loss = loss + LAMBDA * ((expected / total - TARGET) / TARGET) ** 2
    loss.backward()
    prodigy.step()
    return loss.item()


def best(repeat, f):
    f()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--repeat", type=int, default=10)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    weights, order, counts, logits = prepare()
    x, (cos, sin) = torch.randn(TOKENS, HIDDEN), rotary()
    with torch.no_grad():
        dense = best(a.repeat, lambda: forward(weights, x, cos, sin))
        ref = forward(weights, x, cos, sin)
    prodigy = Prodigy(list(logits.values()))
    losses = []
    one = best(a.repeat, lambda: losses.append(step(weights, order, counts, logits, prodigy, x, ref, cos, sin)))
    if losses[-1] != losses[-1]:
        sys.exit("the loss is not a number")
    json.dump({"torch": torch.__version__, "threads": a.threads, "dense_seconds": dense, "step_seconds": one}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
