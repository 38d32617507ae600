"""Checks the exported model against llama.cpp: the same token ids, the same perplexity.

Needs llama-tokenize and llama-perplexity of a llama.cpp build.
"""

import argparse
import gzip
import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer

from export import llama_cpp_perplexity
from model import Config, Model


def load(path: Path) -> Model:
    """The model back from the GGUF file, so that the file itself is what is compared."""
    state = {}
    for t in GGUFReader(str(path)).tensors:
        value = torch.from_numpy(dequantize(t.data, t.tensor_type).copy())
        state[t.name] = value.reshape([int(n) for n in reversed(t.shape)])
    model = Model(Config(dropout=0.0))
    model.load_state_dict(state)
    return model


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", required=True, type=Path, help="the directory that train.py filled")
    p.add_argument("--out", required=True, type=Path, help="internal/demomodel")
    p.add_argument("--llama-bin", required=True, type=Path, help="directory of llama.cpp's programs")
    a = p.parse_args()
    torch.set_num_threads(1)
    model_path = a.out / "model.gguf"
    text = gzip.decompress((a.out / "evaluation.txt.gz").read_bytes()).decode("ascii")
    # Beyond the text itself: what besides letters the pre-tokenizer treats on its own.
    samples = [text, "  two  blanks\t\ttab\r\n\r\n x = 0x1F; don't I'LL 3.14 café 東京 🙂\u00a0end  \n"]
    tokenizer = Tokenizer.from_file(str(a.work / "tokenizer.json"))

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "text.txt"
        for sample in samples:
            file.write_text(sample, newline="")
            command = [a.llama_bin / "llama-tokenize", "-m", model_path, "-f", file, "--ids", "--no-bos", "--log-disable"]
            got = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            want = tokenizer.encode(sample).ids
            if got != want:
                raise SystemExit("llama.cpp and tokenizers disagree on the token ids")
            print(f"{len(want)} token ids equal")
        file.write_text(text, newline="")
        command = [a.llama_bin / "llama-perplexity", "-m", model_path, "-f", file, "-c", "512", "-t", "1"]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
    # The running value after the last window; the final line goes to an asynchronous log that may lose it.
    there = float(re.findall(r"\[\d+\]([\d.]+),", run.stdout)[-1])
    here = llama_cpp_perplexity(load(model_path), tokenizer.encode(text).ids)
    print(f"perplexity: torch {here:.4f}, llama.cpp {there:.4f}, difference {there / here - 1:+.2%}")
    if abs(there / here - 1) > 0.01:
        raise SystemExit("the perplexities differ by more than 1 %")


if __name__ == "__main__":
    main()
