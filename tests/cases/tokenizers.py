"""Small trained tokenizers, one a chat-template family, with the traits that make the families differ.

``chat_tokenizer(family)`` trains a byte-level BPE on a few sentences (some 20 ms) and gives it the family's
special tokens, post-processor and a template with the family's structure, written for these tests:

    chatml    no start token at all, default system message, turn end is the end token
    llama3    template writes the start token, header of four tokens, turn end is not the end token
    gemma     template writes the start token, refuses system messages, assistant is called "model"
    zephyr    the end token closes every turn; start token neither in the template nor in texts
    mistral   demands user first and alternation, so a lone assistant turn raises; system goes into the user turn
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel, Split
from transformers import PreTrainedTokenizerFast

TEXT = (
    "The glass is blown while it is hot, and cut when it is cold.\n"
    "What is the capital of France? The capital of France is Paris.\n"
    "You are a helpful assistant. Answer in one word. Thank you! Good. Bad. 1 2 3\n\n"
    "system\nuser\nassistant\nmodel\n\nsystem\nuser\nassistant\nmodel\n\n"
)
# Cuts a run of line breaks off as one piece whatever follows, as Llama 3 does; the GPT-2 rule, which the other
# families use, leaves the last line break to the next word, so "\n\n" is other tokens at a text's end than inside.
_LINE_BREAKS_TOGETHER = Split(
    Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"), "isolated"
)

_CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_MISTRAL = (
    "{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% set turns = messages[1:] if system else messages %}{{ bos_token }}"
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ system + '\n\n' if system and loop.first else '' }}{{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


class _Family(NamedTuple):
    template: str
    special: tuple[str, ...]
    bos: str | None
    eos: str
    adds_bos: bool  # when a text is tokenised with special tokens


_TABLE: dict[str, _Family] = {
    "chatml": _Family(_CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), None, "<|im_end|>", False),
    "llama3": _Family(
        _LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>", "<|end_of_text|>", True,
    ),
    "gemma": _Family(_GEMMA, ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", True),
    "zephyr": _Family(_ZEPHYR, ("<s>", "</s>"), "<s>", "</s>", False),
    "mistral": _Family(_MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "<s>", "</s>", True),
}  # fmt: skip
TEMPLATE_FAMILIES: tuple[str, ...] = tuple(_TABLE)


def chat_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The small tokenizer of one of TEMPLATE_FAMILIES; a new object each time, so a test may change it."""
    row = _TABLE[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    if family == "llama3":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [_LINE_BREAKS_TOGETHER, ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(row.special), initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([TEXT], trainer)
    if row.adds_bos and row.bos:
        start = (row.bos, tokenizer.token_to_id(row.bos))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{row.bos} $A", special_tokens=[start])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=row.bos, eos_token=row.eos, chat_template=row.template
    )
