"""Trains the demo model; export.py writes what it learned.

See README.md. Checkpoints go to --work, outside the repository; a run resumes
from the one it finds there, with the schedule of its own --epochs.
"""

import argparse
import math
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import torch.nn.functional as F

import bpe
import corpus
from model import Config, Model

BOS_SHARE = 0.5  # of the training windows, so that the model knows both ways to begin


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--text", required=True, help="output of: bible -f gen1:1-rev22:21")
    p.add_argument("--work", required=True, help="directory for tokenizer and checkpoints")
    p.add_argument("--epochs", type=float, default=6, help="length of the rate's schedule")
    p.add_argument("--batch", type=int, default=8, help="windows a step")
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--warmup", type=int, default=200, help="steps")
    p.add_argument("--decay", type=float, default=0.1, help="weight decay of the matrices")
    p.add_argument("--dropout", type=float, default=0.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--fp32", action="store_true", help="do not train in bfloat16")
    p.add_argument("--stop", type=float, default=math.inf, help="epochs to stop after, before the schedule ends")
    return p.parse_args()


class Windows:
    """An endless stream of batches. Each epoch shuffles the chapters, joins them and cuts windows."""

    def __init__(self, chapters: list[list[int]], separator: list[int], c: Config, batch: int, seed: int):
        self.chapters = [np.array(x + separator, dtype=np.int64) for x in chapters]
        self.c, self.batch, self.seed = c, batch, seed
        self.tokens = sum(map(len, self.chapters))
        self.steps = (self.tokens - 1) // c.context // batch

    def epoch(self, number: int):
        rng = np.random.default_rng([self.seed, number])
        stream = np.concatenate([self.chapters[i] for i in rng.permutation(len(self.chapters))])
        stream = np.roll(stream, int(rng.integers(len(stream))))
        starts = rng.permutation((len(stream) - 1) // self.c.context) * self.c.context
        for s in range(self.steps):
            part = [stream[i : i + self.c.context + 1] for i in starts[s * self.batch : (s + 1) * self.batch]]
            ids = torch.from_numpy(np.stack(part))
            x, y = ids[:, :-1].clone(), ids[:, 1:]
            x[torch.from_numpy(rng.random(self.batch) < BOS_SHARE), 0] = bpe.BOS
            yield x, y


@torch.no_grad()
def loss_on(model: Model, ids: list[int]) -> float:
    """Mean loss in nats per token, windows of the whole context, no BOS, tail dropped, fp32."""
    model.eval()
    n = model.c.context
    windows = torch.tensor(ids[: len(ids) // n * n]).view(-1, n)
    total = 0.0
    for w in windows.split(8):
        total += F.cross_entropy(model(w)[:, :-1].flatten(0, 1), w[:, 1:].flatten(), reduction="sum").item()
    model.train()
    return total / (windows.shape[0] * (n - 1))


class Optimizers:
    """Muon for the blocks' matrices, AdamW for the embedding and the norms; one rate for both."""

    def __init__(self, model: Model, decay: float):
        blocks = [p for p in model.blk.parameters() if p.dim() == 2]
        norms = [p for p in model.parameters() if p.dim() == 1]
        groups = [
            {"params": [model.token_embd.weight], "weight_decay": decay},
            {"params": norms, "weight_decay": 0.0},
        ]
        self.parts = [
            torch.optim.Muon(blocks, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True),
        ]

    def step(self, rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def rate(step: int, steps: int, a: argparse.Namespace) -> float:
    if step < a.warmup:
        return a.lr * (step + 1) / a.warmup
    return a.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - a.warmup) / (steps - a.warmup))))


def main() -> None:
    a = arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(a.seed)
    work = Path(a.work)
    work.mkdir(parents=True, exist_ok=True)

    split = corpus.split(corpus.read(a.text))
    tokenizer = bpe.train([c.text() for c in split.train], Config.vocab)
    tokenizer.save(str(work / "tokenizer.json"))

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text).ids

    separator = encode("\n") * 2
    validation = encode(corpus.join(split.validation))
    c = Config(dropout=a.dropout)
    data = Windows([encode(x.text()) for x in split.train], separator, c, a.batch, a.seed)
    sample = encode(corpus.join(split.train[::40]))[: len(validation)]

    model = Model(c)
    steps = round(a.epochs * data.steps)
    end = min(steps, a.stop * data.steps)
    opt = Optimizers(model, a.decay)
    size = sum(p.numel() for p in model.parameters())
    print(f"{size} parameters, {data.tokens} training tokens, {len(validation)} validation tokens, {steps} steps", flush=True)

    step, checkpoint = 0, work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        opt.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        step = state["step"]
        print(f"resumed at step {step}", flush=True)
    began, first = time.time(), step
    while step < end:
        running = []
        for i, (x, y) in enumerate(data.epoch(step // data.steps)):
            if i < step % data.steps:
                continue
            with torch.autocast("cpu", torch.bfloat16, enabled=not a.fp32):
                logits = model(x)
            loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step(rate(step, steps, a))
            running.append(loss.item())
            step += 1
            if step >= end:
                break
        seconds = (time.time() - began) / (step - first)
        print(f"epoch {step / data.steps:5.1f}  step {step:6d}  running {np.mean(running):.4f}  train {loss_on(model, sample):.4f}"
              f"  val {loss_on(model, validation):.4f}  {seconds:.3f} s/step", flush=True)
        torch.save({"model": model.state_dict(), "optimizer": opt.state_dict(), "rng": torch.get_rng_state(), "step": step}, checkpoint)


if __name__ == "__main__":
    main()
