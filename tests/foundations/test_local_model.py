"""Local generation against transformers' own generate, plain forward passes, and itself in other company."""

from __future__ import annotations

import math

import pytest
import torch
from cases.byte_models import GREEDY, PROMPTS, SHARED, independent, local, reference
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import OptionError, PromptTooLong, TemplateError
from glassworks.foundations.generation import LocalModel, Sampling, StepwiseModel


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "mistral", "gemma2", "gemma3", "mixtral", "phi3"])
@pytest.mark.parametrize("batch_invariant", [False, True])
def test_greedy_batches_equal_transformers_one_by_one(family: str, batch_invariant: bool) -> None:
    # Gemma 2's eager attention overflows on the rows of padding in float64, in transformers' own generate too.
    dtype = torch.float32 if family == "gemma2" else torch.float64
    model = local(family, dtype=dtype, batch_invariant=batch_invariant, max_batch_tokens=400)
    for prompt, generation in zip(PROMPTS, model.generate(PROMPTS, GREEDY), strict=True):
        tokens = reference(model, prompt, GREEDY)
        assert list(generation.token_ids) == tokens
        assert generation.finish_reason == ("length" if len(tokens) == 12 else "stop")
        assert generation.prompt_tokens == len(model.encode(prompt))


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(len(PROMPTS))), st.integers(1, len(PROMPTS)), st.sampled_from([0, 128, 2048]))
def test_batch_invariance_is_bit_for_bit_in_any_company(order: list[int], count: int, prefix_tokens: int) -> None:
    model = local("llama", dtype=torch.float32, batch_invariant=True, prefix_tokens=prefix_tokens)
    options = Sampling(max_new_tokens=6, temperature=0.7)
    alone = [model.generate([prompt], GREEDY)[0] for prompt in PROMPTS]
    chosen = order[:count]
    for index, generation in zip(chosen, model.generate([PROMPTS[i] for i in chosen], GREEDY), strict=True):
        assert generation == alone[index]
    state = model.open_decoding([PROMPTS[i] for i in chosen])
    state.append(70)
    for row, index in enumerate(chosen):
        single = model.next_token_log_probs([PROMPTS[index]], [70])
        assert torch.equal(state.log_probs[row], single[0])
    assert model.generate([PROMPTS[3]], options) == model.generate([PROMPTS[3], PROMPTS[0]], options)[:1]


def test_log_probs_are_those_of_the_tokens_drawn() -> None:
    model = local()
    for options in (GREEDY, Sampling(max_new_tokens=12, temperature=1.3, top_p=0.8, seed=3)):
        for prompt, generation in zip(PROMPTS, model.generate(PROMPTS, options), strict=True):
            ids = model.encode(prompt)
            whole = torch.tensor([[*ids, *generation.token_ids]])
            table = model.model(whole).logits[0, len(ids) - 1 : -1].log_softmax(-1)
            wanted = table.gather(1, whole[0, len(ids) :, None])[:, 0].tolist()
            assert generation.token_log_probs == pytest.approx(wanted, abs=1e-5)
            assert generation.log_prob == pytest.approx(sum(wanted), abs=1e-4)


def test_samples_depend_on_seed_and_index_alone() -> None:
    model = local(max_batch_tokens=64)
    options = Sampling(max_new_tokens=10, temperature=1.0, seed=5)
    wide = LocalModel(model.model, model.tokenizer)
    assert [g.token_ids for g in model.generate(PROMPTS, options)] == [
        g.token_ids for g in wide.generate(PROMPTS, options)
    ]
    twice = wide.generate(["same"] * 8, options)
    assert len({generation.token_ids for generation in twice}) > 1
    again = wide.generate(["same"] * 8, Sampling(max_new_tokens=10, temperature=1.0, seed=6))
    assert [g.token_ids for g in twice] != [g.token_ids for g in again]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_stream_gives_the_text_of_generate_in_pieces(temperature: float) -> None:
    model = local()
    for prompt in PROMPTS:
        free = model.generate([prompt], Sampling(max_new_tokens=30, temperature=temperature))[0]
        stop = (free.text[8:10],) if len(free.text) > 10 else ()
        options = Sampling(max_new_tokens=30, temperature=temperature, stop=stop)
        pieces = list(model.stream(prompt, options))
        whole = model.generate([prompt], options)[0]
        assert "".join(pieces) == whole.text
        assert not stop or (stop[0] not in whole.text and whole.finish_reason == "stop")
        assert all(pieces)


def test_a_stream_may_be_closed_early_and_refuses_before_it_starts() -> None:
    model = local()
    pieces = model.stream("Tell me", Sampling(max_new_tokens=50))
    next(pieces)
    pieces.close()
    assert not model.model.training
    with pytest.raises(PromptTooLong):
        model.stream("x" * 600)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("batch_invariant", [False, True])
def test_scores_equal_the_independent_computation(family: str, batch_invariant: bool) -> None:
    model = local(family, dtype=torch.float32, batch_invariant=batch_invariant)
    texts = [" yes", "!", " a longer continuation", "ü"]
    for prompt in ("Q: is it? A:", SHARED + SHARED):
        for text, score in zip(texts, model.score(prompt, texts), strict=True):
            assert score.text == text
            assert score.log_prob == pytest.approx(independent(model, prompt, text), abs=1e-4)
            assert score.mean_log_prob == pytest.approx(score.log_prob / len(text.encode()))


def test_text_log_probs_in_windows() -> None:
    model = local()
    text = "The quick brown fox jumps over the lazy dog, and then it sleeps."
    ids = model.encode(text)
    whole = model.token_log_probs([text, "ab"])
    table = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert whole[0] == pytest.approx([table[i, token].item() for i, token in enumerate(ids[1:])], abs=1e-5)
    assert len(whole[1]) == 2
    window, stride = 20, 7
    parts = model.token_log_probs([text], window=window, stride=stride)[0]
    assert len(parts) == len(ids) - 1
    for place in (5, 19, 20, 26, 27, len(ids) - 1):
        stop = window if place < window else min(len(ids), window + stride * (1 + (place - window) // stride))
        start = max(0, stop - window)
        rows = model.model(torch.tensor([ids[start:stop]])).logits[0].log_softmax(-1)
        assert parts[place - 1] == pytest.approx(rows[place - start - 1, ids[place]].item(), abs=1e-5)
    with pytest.raises(OptionError, match="stride"):
        model.token_log_probs([text], window=20, stride=20)


def test_top_next_tokens_are_the_head_of_the_distribution() -> None:
    model = local()
    table = model.next_token_log_probs(["abc"])[0]
    top = model.top_next_tokens(["abc"], k=3)[0]
    assert list(top.values()) == pytest.approx(table.topk(3).values.tolist())
    assert sum(math.exp(value) for value in model.top_next_tokens(["abc"], k=999)[0].values()) == pytest.approx(1)
    assert all(len(text) >= 1 for text in top)


def test_special_tokens_come_once() -> None:
    model = local()
    assert model.encode("hi")[:1] == [1]
    assert model.encode("<s>hi") == model.encode("hi")
    conversation = [{"role": "user", "content": "hi"}]
    ids = model.encode(conversation)
    assert ids.count(1) == 1
    rendered = model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert model.encode(rendered) == ids
    open_answer = model.encode([*conversation, {"role": "assistant", "content": "Well, "}])
    assert model.decode(open_answer).endswith("<assistant>Well, ")
    plain = LocalModel(model.model, byte_tokenizer(start=False))
    assert plain.encode("") == [1]


def test_a_conversation_scores_like_its_rendering() -> None:
    model = local()
    conversation = [{"role": "user", "content": "hi"}]
    rendered = model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert model.score(conversation, ["yes"]) == model.score(rendered, ["yes"])


def test_refusals_name_row_count_and_limit_before_any_work() -> None:
    model = local()
    with pytest.raises(PromptTooLong, match=r"prompt 1: 601 tokens and 1 to follow.*holds 512") as caught:
        model.generate(["short", "x" * 600])
    assert (caught.value.row, caught.value.tokens, caught.value.limit) == (1, 601, 512)
    assert not model._prefixes.computed_tokens
    with pytest.raises(TemplateError, match="no chat template"):
        LocalModel(model.model, byte_tokenizer(chat=False)).generate([[{"role": "user", "content": "hi"}]])
    with pytest.raises(TemplateError, match="unknown role"):
        model.generate([[{"role": "wizard", "content": "hi"}]])
    with pytest.raises(OptionError, match="continuation 1"):
        model.score("abc", ["d", ""])
    state = model.open_decoding(["x" * 510])
    state.append(70)
    with pytest.raises(PromptTooLong):
        state.append(70)


def test_a_generation_ends_at_the_context() -> None:
    model = local()
    generation = model.generate(["x" * 508], Sampling(max_new_tokens=50))[0]
    assert len(generation.token_ids) <= 3
    assert generation.finish_reason in ("length", "stop")


def test_a_changed_model_is_not_answered_from_memory() -> None:
    model = local()
    before = model.generate([SHARED * 2], GREEDY)[0]
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.mul_(-1.3)
    after = model.generate([SHARED * 2], GREEDY)[0]
    assert after == LocalModel(model.model, model.tokenizer).generate([SHARED * 2], GREEDY)[0]
    assert after != before


def test_no_prompts_no_work() -> None:
    model = local()
    assert model.generate([]) == []
    assert model.score("abc", []) == []
    assert model.next_token_log_probs([]).shape == (0, BYTE_VOCABULARY)
    assert model.top_next_tokens([]) == []
    assert isinstance(model, StepwiseModel)
