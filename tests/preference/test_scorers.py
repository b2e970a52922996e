"""Four scorers: a tiny reward model against one row at a time, judges that follow a rule, and any function."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer
from transformers import PreTrainedTokenizerBase

from glassworks.errors import NotAModel, OptionError, UserError
from glassworks.foundations.chat import Message
from glassworks.foundations.generation import Sampling
from glassworks.preference.scorers import (
    ClassifierScorer,
    FunctionScorer,
    GradeScorer,
    PairwiseScorer,
    as_text,
    load_function,
    refuse_unscored,
)

ASK = [{"role": "user", "content": "why?"}]
RESPONSES = [["a", "bbb", "cc"], ["dddd", ""]]


def reward_model(labels: int = 1) -> torch.nn.Module:
    return tiny_model("llama", task="sequence_classification", vocab_size=BYTE_VOCABULARY, num_labels=labels)


@pytest.mark.parametrize("tokenizer", [byte_tokenizer(), byte_tokenizer(chat=False)])
@pytest.mark.parametrize("max_tokens", [1, 10_000])
def test_a_batch_scores_as_single_rows(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
    model = reward_model()
    tokenizer.pad_token = tokenizer.eos_token  # as many tokenizers of decoders have it
    scorer = ClassifierScorer(model, tokenizer, "rm", max_tokens=max_tokens)  # type: ignore[arg-type]
    found = scorer.score([ASK, ASK], RESPONSES)
    for few, answers in zip(found, RESPONSES, strict=True):
        for value, answer in zip(few, answers, strict=True):
            alone = model(input_ids=torch.tensor([scorer.tokens(ASK, answer)])).logits[0, 0]
            assert value == pytest.approx(float(alone.detach()), abs=1e-6)


def test_a_rendered_conversation_has_one_start_token() -> None:
    tokens = ClassifierScorer(reward_model(), byte_tokenizer(), "rm").tokens(ASK, "because")  # type: ignore[arg-type]
    assert tokens.count(1) == 1


def test_several_outputs_are_refused() -> None:
    with pytest.raises(NotAModel, match="has 2 outputs"):
        ClassifierScorer(reward_model(2), byte_tokenizer(), "rm")  # type: ignore[arg-type]


class LongerWins:
    """Prefers the longer output 3 to 1, with a taste for the second place; grades by length."""

    name = "longer"

    def top_tokens(self, prompts: Sequence[list[Message]]) -> list[dict[str, float]]:
        found = []
        for prompt in prompts:
            first, second = prompt[0]["content"].split("|")[1:3]
            chance = 0.75 if len(second) > len(first) else 0.35
            found.append({"M": math.log(chance), "m": math.log(1 - chance)})
        return found

    def write(self, prompts: Sequence[list[Message]], options: Sampling) -> list[str]:
        said = [prompt[0]["content"].rpartition("Assistant: ")[2] for prompt in prompts]
        return [f"[[{len(text)}]]" if text else "?" for text in said]


def test_pairs_are_compared_in_both_orders() -> None:
    scorer = PairwiseScorer(LongerWins(), "{instruction}|{output_1}|{output_2}")
    scores = scorer.score([ASK], [["a", "bbb", "cc"]])[0]
    # longest: mean of .75 and .65 against each; shortest the rest; in the middle one of each
    assert scores == pytest.approx([0.3, 0.7, 0.5])
    assert sum(value or 0 for value in scores) == pytest.approx(1.5)


def test_grades_and_answers_without_one() -> None:
    scorer = GradeScorer(LongerWins(), Sampling(), "{conversation}")
    assert scorer.score([ASK, ASK], RESPONSES) == [[1, 3, 2], [4, None]]
    with pytest.raises(UserError, match="gave no answer a score"):
        refuse_unscored([[None, None]], "longer")


def test_functions_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_rewards.py").write_text(
        "def brevity(prompts, responses):\n"
        "    return [-len(r) + 100 * (p != 'why?') for p, r in zip(prompts, responses)]\n"
        "def bad(prompts, responses):\n    return [float('nan')] * len(responses)\n"
        "def short(prompts, responses):\n    return [1.0]\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    scorer = FunctionScorer("toy_rewards:brevity")
    assert sys.path == before
    assert scorer.score([ASK, ASK], RESPONSES) == [[-1, -3, -2], [-4, 0]]
    turns = [*ASK, {"role": "assistant", "content": "x"}, *ASK]
    assert scorer.score([turns], [["a", "b"]]) == [[99, 99]]
    with pytest.raises(OptionError, match="nan for answer 0"):
        FunctionScorer("toy_rewards:bad").score([ASK], [["a", "b"]])
    with pytest.raises(OptionError, match="returned 1 scores for 2 answers"):
        FunctionScorer("toy_rewards:short").score([ASK], [["a", "b"]])
    for name, words in (("toy_rewards", "package.module:function"), ("toy_rewards:no", "cannot be imported"),
                        ("toy_rewards:number", "is not a function")):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            load_function(name)


def test_as_text() -> None:
    assert as_text(ASK) == "why?"
    assert as_text([*ASK, {"role": "assistant", "content": "so"}]) == "User: why?\n\nAssistant: so"
