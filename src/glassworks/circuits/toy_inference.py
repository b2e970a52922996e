"""A toy language of inference on which a small BERT learns a heuristic first and roles later.

The scaled-down experiment: premises `a v b`, `a near c v b`, `b was v by a`, `a and c v b`; the hypothesis says who
does what to whom. Most false hypotheses hold a word that the premise lacks, so overlap of words answers nearly all;
the hard ones have all words from the premise in wrong roles. Hard cases are out of domain, each with its entailed
counterpart. Gives rows as `sentence_pairs` reads them, and a trained model with checkpoints. All is seeded.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from glassworks.circuits.sentence_pairs import Example, encode
from glassworks.errors import NonFiniteLoss

KINDS = ("swap", "prep", "passive", "conj")
NOUNS = (
    "doctor", "baker", "lawyer", "nurse", "pilot", "judge", "actor", "farmer", "senator", "artist", "banker", "author",
    "tourist", "student", "manager", "dancer",
)  # fmt: skip
VERBS = ("helped", "saw", "called", "thanked", "admired", "avoided", "advised", "met")
FUNCTION_WORDS = ("near", "and", "was", "by")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HARD_SHARE = 0.06

Hypothesis = Literal["train", "hard", "entailed"]


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words; a pair becomes [CLS] premise [SEP] hypothesis [SEP] with segment ids."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *NOUNS, *VERBS, *FUNCTION_WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def toy_pair(draw: random.Random, kind: str, hypothesis: Hypothesis = "train") -> Example:
    """One pair. hypothesis: "train" draws true, hard and easy false ones; else hard or true."""
    a, b, c = draw.sample(NOUNS, 3)
    verb = draw.choice(VERBS)
    premise = {
        "swap": f"{a} {verb} {b}",
        "prep": f"{a} near {c} {verb} {b}",
        "passive": f"{b} was {verb} by {a}",
        "conj": f"{a} and {c} {verb} {b}",
    }[kind]
    agent = draw.choice((a, c)) if kind == "conj" else a
    if hypothesis == "entailed" or (hypothesis == "train" and draw.random() < 0.5):
        return Example(premise, f"{agent} {verb} {b}", 0)
    if hypothesis == "hard" or draw.random() < HARD_SHARE:
        wrong = [(b, agent)] + ([(c, b)] if kind == "prep" else [])
        subject, target = draw.choice(wrong)
        return Example(premise, f"{subject} {verb} {target}", 1)
    words = [agent, verb, b]
    others = [noun for noun in NOUNS if noun not in (a, b, c)]
    for place in draw.sample(range(3), draw.randint(1, 3)):
        if place == 1:
            words[1] = draw.choice([other for other in VERBS if other != verb])
        else:
            words[place] = others.pop(draw.randrange(len(others)))
    if draw.random() < 0.5:
        words[0], words[2] = words[2], words[0]
    return Example(premise, " ".join(words), 1)


def toy_training(n: int, seed: int) -> list[Example]:
    """n training pairs of all kinds."""
    draw = random.Random(f"toy inference {seed}")
    return [toy_pair(draw, draw.choice(KINDS)) for _ in range(n)]


def toy_evaluation_rows(*, in_domain: int = 1000, a_kind: int = 250, seed: int = 1_000_003) -> list[dict[str, Any]]:
    """Evaluation rows: `validation` in domain, and for each kind hard and entailed pairs, out of domain."""
    rows = [_row(pair, "validation", "in") for pair in toy_training(in_domain, seed)]
    draw = random.Random(f"toy inference {seed} cases")
    for kind in KINDS:
        for _ in range(a_kind):
            rows.append(_row(toy_pair(draw, kind, "hard"), f"{kind}_hard", "out", f"{kind}_entailed"))
        for _ in range(a_kind):
            rows.append(_row(toy_pair(draw, kind, "entailed"), f"{kind}_entailed", "out"))
    return rows


def _row(pair: Example, case: str, domain: str, counterpart: str = "") -> dict[str, Any]:
    return {
        "text": pair.text, "text_pair": pair.text_pair, "label": pair.label, "case": case, "domain": domain,
        "counterpart": counterpart,
    }  # fmt: skip


def train_toy(
    examples: list[Example],
    *,
    seed: int,
    steps: int = 2000,
    layers: int = 3,
    heads: int = 8,
    save: Callable[[int, BertForSequenceClassification], None] | None = None,
    every: int = 250,
) -> BertForSequenceClassification:
    """Train the small BERT (width 64, no dropout). save: called with the model at each multiple of `every`.

    The weights start wider than usual (0.12): at 0.02 this task is not learned in as many steps. Raises NonFiniteLoss.
    """
    tokenizer = toy_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=128, max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        initializer_range=0.12, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(config)
    data = encode(examples, tokenizer, max_length=16)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / 100, 1.0, max(0.0, (steps - step) / (0.3 * steps)))
    )
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        chosen = torch.randint(len(data), (64,), generator=generator).tolist()
        loss = model(**data.batch(chosen), labels=data.labels[chosen]).loss
        if not bool(torch.isfinite(loss)):
            raise NonFiniteLoss(f"the loss is {float(loss)}", place=f"step {step}", remedy="Choose another seed.")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        if save is not None and ((step + 1) % every == 0 or step + 1 == steps):
            save(step + 1, model)
    model.eval()
    return model
