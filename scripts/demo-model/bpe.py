"""The demo model's tokenizer: byte-level BPE with GPT-2's pre-tokenizer.

Id 0 is the one special token, beginning and end of text; then the 256 bytes,
then what the merges make.
"""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = "<|endoftext|>"
BOS = 0


def train(texts: list[str], vocab: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab or tokenizer.token_to_id(SPECIAL) != BOS:
        raise ValueError("the tokenizer came out with other sizes than asked for")
    return tokenizer


def merges(tokenizer: Tokenizer) -> list[str]:
    """The merge rules in order, each as GGUF keeps it: two tokens with a blank between."""
    return [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
