"""Step by step is what the whole text gives, in any split, fork or selection."""

from __future__ import annotations

import pytest
import torch
from cases.byte_models import PROMPTS, SHARED, independent, local, reference
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.foundations import decoding
from glassworks.foundations.generation import LocalModel, Sampling


@pytest.mark.parametrize("family", ["mamba", "rwkv", "lfm2"])
def test_a_model_whose_state_cannot_be_cut_is_read_again_each_step(family: str) -> None:
    extra = {"lfm2": {"layer_types": ["conv", "full_attention", "conv"]}, "mamba": {"state_size": 8}}.get(family, {})
    model = LocalModel(tiny_model(family, vocab_size=BYTE_VOCABULARY, **extra), byte_tokenizer())
    model.model.generation_config.eos_token_id = 2
    for prompt, generation in zip(PROMPTS, model.generate(PROMPTS, Sampling(max_new_tokens=5)), strict=True):
        assert list(generation.token_ids) == reference(model, prompt, Sampling(max_new_tokens=5))
    assert model.score("ab", ["cd"])[0].log_prob == pytest.approx(independent(model, "ab", "cd"), abs=1e-5)


def test_scores_agree_with_stepping_through_a_decoding() -> None:
    model = local()
    state, total = model.open_decoding(["abc", SHARED]), torch.zeros(2)
    draft = model.encode("I don't know")[1:]
    for token in draft:
        total += state.log_probs[:, token]
        state.append(token)
    wanted = [model.score(prompt, ["I don't know"])[0].log_prob for prompt in ("abc", SHARED)]
    assert total.tolist() == pytest.approx(wanted, abs=1e-4)


def test_forks_and_selections_go_their_own_way() -> None:
    for batch_invariant in (False, True):
        model = local(batch_invariant=batch_invariant)
        state = model.open_decoding(PROMPTS)
        fork = state.fork()
        fork.append(50)
        state.append(list(range(60, 66)))
        chosen = state.select([4, 0, 4])
        chosen.append([90, 91, 92])
        assert fork.lengths == state.lengths == [len(model.encode(prompt)) + 1 for prompt in PROMPTS]
        for row, index, token in ((0, 4, 90), (1, 0, 91), (2, 4, 92)):
            wanted = model.next_token_log_probs([PROMPTS[index]], [60 + index, token])[0]
            torch.testing.assert_close(chosen.log_probs[row], wanted)
        torch.testing.assert_close(fork.log_probs[1], model.next_token_log_probs([PROMPTS[1]], [50])[0])


def test_long_texts_are_scored_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a longer text than the few logits that may be held", "short"]
    model = local()
    whole, scores = model.token_log_probs(texts), model.score("prompt", texts)
    monkeypatch.setattr(decoding, "_LOGITS_AT_ONCE", 2 * 7 * BYTE_VOCABULARY)
    for ours, theirs in zip(model.token_log_probs(texts), whole, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    for mine, before in zip(model.score("prompt", texts), scores, strict=True):
        assert mine.token_log_probs == pytest.approx(before.token_log_probs, abs=1e-5)


def test_padding_by_hand() -> None:
    cpu = torch.device("cpu")
    assert decoding.left_padded([[5], [6, 7, 8]], cpu).tolist() == [[0, 0, 5], [6, 7, 8]]
    mask = decoding.left_mask([1, 3], cpu)
    assert mask is not None
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert decoding.left_mask([3, 3], cpu) is None


def test_tokens_and_rows_must_correspond() -> None:
    state = local().open_decoding(["ab", "c"])
    with pytest.raises(ValueError, match="3 tokens for 2 rows"):
        state.append([70, 71, 72])
    with pytest.raises(ValueError, match="one row, this one has 2"):
        state.score([[70]])
    assert state.lengths == [3, 2]


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_scoring_leaves_the_state_as_it_was(batch_invariant: bool) -> None:
    state = local(batch_invariant=batch_invariant).open_decoding([SHARED])
    before = state.log_probs.clone()
    scores = state.score([[70, 71], [72], [70, 73, 74]])
    assert state.log_probs.equal(before)
    assert [len(row) for row in scores] == [2, 1, 3]
    assert [row[0] for row in scores] == pytest.approx(before[0, [70, 72, 70]].tolist())
    state.append(70)
    assert [scores[0][1], scores[2][1]] == pytest.approx(state.log_probs[0, [71, 73]].tolist(), abs=1e-6)
