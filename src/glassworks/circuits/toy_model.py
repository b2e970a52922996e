"""Two small models to learn on: one that is trained on indirect objects, one that is written by hand.

The trained one (3 layers, 4 heads, width 64) reads "BOS N1 and N2 went B gave to" and names the other person. The
written one (2 layers, 2 heads) maps the first symbol of a row through its first MLP and moves the result with one
head; other parts are busy with what no output reads. Its circuit is known by construction: input -> m0,
m0 -> a1.h0.v, a1.h0 -> output under interchange ablation. Both are GPT-2 in transformers' own class.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from glassworks.circuits.pairs import TextPair
from glassworks.errors import NonFiniteLoss
from glassworks.foundations.graph import Edge

NAMES = (
    "Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Karen", "Leo", "Mary",
    "Nora", "Oscar", "Paul", "Rose", "Simon", "Tina", "Walter",
)  # fmt: skip
SYMBOLS = ("a", "b", "c", "d", "e", "f", "g", "h")
START = "<s>"
ENOUGH = 0.003
PLACES = 16
TRUE_EDGES = (Edge("embeds", "m0"), Edge("m0", "a1.h0.v"), Edge("a1.h0", "resid_post"))


def word_tokenizer(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, with a start token that it puts in front."""
    vocabulary = {word: index for index, word in enumerate((START, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=START))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=START, unk_token=START, pad_token=START)


def indirect_object_rows(n: int, seed: int) -> list[TextPair]:
    """Rows of the small task: two names, one gives; corrupted: three fresh names."""
    draw, rows = random.Random(f"toy {seed}"), []
    for _ in range(n):
        receiver, giver, *fresh = draw.sample(NAMES, 5)
        one, two = (receiver, giver) if draw.random() < 0.5 else (giver, receiver)
        clean, corrupted = (
            f"{first} and {second} went {third} gave to" for first, second, third in ((one, two, giver), fresh)
        )
        rows.append(TextPair(clean, corrupted, f" {receiver}", distractor=f" {giver}"))
    return rows


def train_indirect_object(
    seed: int, *, steps: int = 2500, log: Callable[[dict[str, float]], None] | None = None
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """Train the small model until its loss is below 0.003, or for `steps`. Raises NonFiniteLoss."""
    tokenizer = word_tokenizer((*NAMES, "and", "went", "gave", "to"))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(_config(len(tokenizer), layers=3, heads=4, width=64))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for step in range(steps):
        tokens, answers = _sentences(128, generator)
        loss = torch.nn.functional.cross_entropy(model(tokens, logits_to_keep=1).logits[:, -1], answers)
        if not bool(torch.isfinite(loss)):
            raise NonFiniteLoss(f"the loss is {float(loss)}", place=f"step {step}", remedy="Choose another seed.")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if log is not None and step % 50 == 0:
            log({"step": step, "loss": float(loss.detach())})
        if float(loss.detach()) < ENOUGH:
            break
    return model.eval(), tokenizer


def symbol_rows(n: int, seed: int) -> list[TextPair]:
    """Rows of the written model: three symbols, the answer being the successor of the first."""
    draw, rows = random.Random(f"symbols {seed}"), []
    for _ in range(n):
        clean, corrupted = draw.sample(SYMBOLS, 3), draw.sample(SYMBOLS, 3)
        while any(one == two for one, two in zip(clean, corrupted, strict=True)):
            corrupted = draw.sample(SYMBOLS, 3)
        answers = [f" {SYMBOLS[(SYMBOLS.index(side[0]) + 1) % len(SYMBOLS)]}" for side in (clean, corrupted)]
        rows.append(TextPair(" ".join(clean), " ".join(corrupted), answers[0], answers[1]))
    return rows


@torch.no_grad()
def written_model() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """The model whose circuit is TRUE_EDGES, every weight set by hand.

    Each feature is a pair of opposite coordinates, so that the mean of a stream is 0; norms have so large an
    epsilon that they are the identity.
    """
    tokenizer, n = word_tokenizer(SYMBOLS), len(SYMBOLS)
    sizes = (n + 1, PLACES, n, n, n)
    ends = [sum(sizes[: at + 1]) for at in range(len(sizes))]
    token, place, successor, idle, out = (slice(end - size, end) for end, size in zip(ends, sizes, strict=True))
    width = 2 * ends[-1]
    model = GPT2LMHeadModel(_config(n + 1, layers=2, heads=2, width=width, epsilon=1e8))
    for name, parameter in model.named_parameters():
        parameter.fill_(1e4 if ".ln_" in name and name.endswith("weight") else 0)
    core: Any = model.transformer
    half = size = width // 2

    def write(rows: Tensor, features: slice, values: Tensor) -> None:
        """Let `rows` [n, width] write `values` [n, features] as opposite pairs."""
        rows[:, features] += values
        rows[:, features.start + half : features.stop + half] -= values

    write(core.wte.weight, token, torch.eye(n + 1))
    write(core.wpe.weight, place, torch.eye(PLACES))
    read, cycle = torch.eye(n) / 2, torch.eye(n).roll(1, dims=1)

    def head(layer: int, number: int, source: slice, target: slice) -> None:
        """A head that looks at the first symbol and moves `source` there to `target` here."""
        attention, columns = core.h[layer].attn, slice(number * size, number * size + n)
        query, key = number * size, width + number * size
        attention.c_attn.bias[query] = 100
        attention.c_attn.weight[place.start + 1, key] = 10
        value = slice(2 * width + columns.start, 2 * width + columns.stop)
        attention.c_attn.weight[source, value] += read
        attention.c_attn.weight[source.start + half : source.stop + half, value] -= read
        write(attention.c_proj.weight[columns], target, torch.eye(n))

    def mlp(layer: int, source: slice, target: slice, mapping: Tensor) -> None:
        """One unit for each feature of `source`, on above a half, that writes a feature of `target`."""
        block = core.h[layer].mlp
        block.c_fc.weight[source, :n] = torch.eye(n) * 2
        block.c_fc.bias[:n] = -1
        write(block.c_proj.weight[:n], target, mapping)

    symbols = slice(token.start + 1, token.stop)
    head(0, 0, symbols, idle)
    head(0, 1, symbols, idle)
    mlp(0, symbols, successor, cycle)
    head(1, 0, successor, out)
    head(1, 1, idle, idle)
    mlp(1, idle, idle, torch.eye(n))
    model.lm_head.weight[1:, out] = torch.eye(n) * 10
    return model.eval(), tokenizer


def _config(vocabulary: int, *, layers: int, heads: int, width: int, epsilon: float = 1e-5) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocabulary,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        n_positions=PLACES,
        layer_norm_epsilon=epsilon,
        activation_function="relu" if epsilon > 1 else "gelu_new",
        tie_word_embeddings=epsilon < 1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )


def _sentences(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Token ids [n, 8] of fresh sentences and their answers [n]: names are 1 to 20, then and, went, gave, to."""
    people = torch.rand(n, len(NAMES), generator=generator).argsort(1)[:, :2] + 1
    giver = torch.randint(2, (n, 1), generator=generator)
    start, words = torch.zeros(n, 1, dtype=torch.long), torch.tensor([[21, 22, 23, 24]]).expand(n, 4)
    conjunction, went, gave, to = words.split(1, dim=1)
    given = people.gather(1, giver)
    tokens = torch.cat([start, people[:, :1], conjunction, people[:, 1:], went, given, gave, to], dim=1)
    return tokens, people.gather(1, 1 - giver)[:, 0]
