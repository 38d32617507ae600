"""Writes the trained model as GGUF and the texts that are embedded beside it.

Matrices are stored as Q8_0, norms as F32. The perplexities that it prints are
those of the weights as stored, computed by torch in float32.
"""

import argparse
import gzip
import math
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import bpe
import corpus
from model import Config, Model
from train import loss_on

MAX_BYTES = 4_000_000
CALIBRATION_BYTES = 180_000


def as_stored(model: Model) -> None:
    """Rounds the matrices to what Q8_0 keeps of them."""
    for p in model.parameters():
        if p.dim() == 2:
            packed = gguf.quantize(p.detach().numpy(), gguf.GGMLQuantizationType.Q8_0)
            p.data = torch.from_numpy(gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0))


def describe(w: gguf.GGUFWriter, c: Config) -> None:
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name("besa demo")
    w.add_size_label("3.3M")
    w.add_description(
        "A tiny LLaMA-architecture model for demonstrations and tests of besa. It knows "
        "nothing but the English of the King James Bible."
    )
    w.add_license("mit")
    w.add_languages(["en"])
    w.add_dataset_count(1)
    w.add_dataset_name(0, "King James Bible (1611, public domain), Debian package bible-kjv-text 4.38")
    w.add_sampling_temp(0.8)
    w.add_sampling_top_k(40)
    w.add_sampling_top_p(0.95)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_vocab_size(c.vocab)
    w.add_context_length(c.context)
    w.add_embedding_length(c.hidden)
    w.add_feed_forward_length(c.ffn)
    w.add_block_count(c.layers)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_layer_norm_rms_eps(c.eps)
    w.add_rope_dimension_count(c.head_dim)
    w.add_rope_freq_base(c.rope_base)


def add_tokenizer(w: gguf.GGUFWriter, tokenizer: Tokenizer, merges: list[str]) -> None:
    size = tokenizer.get_vocab_size()
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([tokenizer.id_to_token(i) for i in range(size)])
    w.add_token_types([gguf.TokenType.CONTROL if i == bpe.BOS else gguf.TokenType.NORMAL for i in range(size)])
    w.add_token_merges(merges)
    w.add_bos_token_id(bpe.BOS)
    w.add_eos_token_id(bpe.BOS)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)


def write_gguf(path: Path, model: Model, tokenizer: Tokenizer, merges: list[str]) -> None:
    w = gguf.GGUFWriter(str(path), "llama")
    describe(w, model.c)
    add_tokenizer(w, tokenizer, merges)
    for name, p in model.named_parameters():
        value = p.detach().numpy().astype(np.float32)
        if value.ndim == 2:
            packed = gguf.quantize(value, gguf.GGMLQuantizationType.Q8_0)
            w.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            w.add_tensor(name, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


@torch.no_grad()
def llama_cpp_perplexity(model: Model, ids: list[int]) -> float:
    """What llama-perplexity computes: windows that begin with BOS, the second half scored."""
    model.eval()
    n = model.c.context
    ids = [bpe.BOS, *ids]
    windows = torch.tensor(ids[: len(ids) // n * n]).view(-1, n)
    windows[:, 0] = bpe.BOS
    total = 0.0
    for w in windows.split(8):
        logits = model(w)[:, n // 2 : -1].flatten(0, 1)
        total += F.cross_entropy(logits, w[:, n // 2 + 1 :].flatten(), reduction="sum").item()
    return math.exp(total / (len(windows) * (n - n // 2 - 1)))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--text", required=True, help="output of: bible -f gen1:1-rev22:21")
    p.add_argument("--work", required=True, type=Path, help="the directory that train.py filled")
    p.add_argument("--out", required=True, type=Path, help="internal/demomodel")
    a = p.parse_args()
    torch.set_num_threads(1)

    split = corpus.split(corpus.read(a.text))
    texts = {
        "calibration": corpus.join(corpus.calibration(split.train, CALIBRATION_BYTES)),
        "evaluation": corpus.join(split.evaluation),
    }
    for name, text in texts.items():
        packed = gzip.compress(text.encode("ascii"), 9, mtime=0)
        (a.out / f"{name}.txt.gz").write_bytes(packed)
        print(f"{name}: {len(text)} bytes, {len(packed)} packed")

    tokenizer = Tokenizer.from_file(str(a.work / "tokenizer.json"))
    model = Model(Config(dropout=0.0))
    model.load_state_dict(torch.load(a.work / "checkpoint.pt")["model"])
    validation = tokenizer.encode(corpus.join(split.validation)).ids
    evaluation = tokenizer.encode(texts["evaluation"]).ids
    trained = math.exp(loss_on(model, validation))
    as_stored(model)
    path = a.out / "model.gguf"
    write_gguf(path, model, tokenizer, bpe.merges(tokenizer))
    size = path.stat().st_size
    print(f"{path}: {sum(x.numel() for x in model.parameters())} parameters, {size} bytes")
    print(f"validation perplexity {math.exp(loss_on(model, validation)):.4f} (before rounding {trained:.4f})")
    print(f"evaluation perplexity {math.exp(loss_on(model, evaluation)):.4f} over {len(evaluation)} tokens;"
          f" by llama.cpp's protocol {llama_cpp_perplexity(model, evaluation):.4f}")
    if size > MAX_BYTES:
        raise SystemExit(f"{path} is larger than {MAX_BYTES} bytes")


if __name__ == "__main__":
    main()
