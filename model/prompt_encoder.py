"""Prompts: a sentence -> one embedding, learned from scratch with everything else.

Differs: the paper has a pretrained sentence embedding. The vocabulary here is the set of words of the training prompts,
so a word that was never trained on means nothing: it maps to one shared "unknown" embedding, and `tokenize` warns.
"""

import unicodedata
import warnings

import torch
from torch import nn

from model.layers import Attention

PAD, UNKNOWN = 0, 1  # token ids; words start at 2


def words(prompt):
    """Lower-case words of a sentence in any script: letters, the marks on them (vowel signs of Hindi) and numbers."""
    text = unicodedata.normalize("NFC", prompt.lower())  # so that there is one way to write an accent
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()


def vocabulary(prompts):
    """Sorted tuple of the distinct words in `prompts`."""
    return tuple(sorted({word for prompt in prompts for word in words(prompt)}))


def tokenize(prompts, vocab, length):
    """Sentences -> token ids (B, length) int64, padded with PAD. Warns of words that are unknown or beyond `length`."""
    index = {word: i + 2 for i, word in enumerate(vocab)}
    tokens = torch.full((len(prompts), length), PAD)
    for row, prompt in zip(tokens, prompts, strict=True):
        unknown = [word for word in words(prompt) if word not in index]
        if unknown:
            warnings.warn(f"words never seen in training: {', '.join(unknown)} (prompt: {prompt!r})", stacklevel=2)
        ids = [index.get(word, UNKNOWN) for word in words(prompt)]
        if len(ids) > length:
            warnings.warn(f"only the first {length} words count of the prompt {prompt!r}", stacklevel=2)
        row[: len(ids)] = torch.tensor(ids[:length], dtype=torch.long)
    return tokens


class PromptEncoder(nn.Module):
    """Token ids (B, L) -> (B, D): word and position embeddings, one attention layer (padding takes part, as one more
    learned token), mean over the words. Prompts with drop (B,) become a learned "no prompt" vector, for guidance.
    """

    def __init__(self, vocab_size, length, width):
        super().__init__()
        self.word = nn.Embedding(vocab_size + 2, width)
        with torch.no_grad():
            self.word.weight[UNKNOWN] = 0  # never trained, so it should say nothing
        self.position = nn.Parameter(torch.randn(length, width) * 0.1)
        self.attention = Attention(width)
        self.none = nn.Parameter(torch.zeros(width))

    def forward(self, tokens, drop):
        x = self.attention(self.word(tokens) + self.position)  # (B, L, D)
        real = (tokens != PAD).unsqueeze(-1).to(x.dtype)
        x = (x * real).sum(1) / real.sum(1).clamp(min=1)  # (B, D)
        return torch.where(drop[:, None], self.none.to(x.dtype), x)
