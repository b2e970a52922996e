"""The sampling policy by hand, the options' refusals, and the door with a real model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import ModelNotFound, OptionError
from glassworks.foundations.generation import LocalModel, Sampling, open_language_model
from glassworks.foundations.sampling import Continuation, choose_tokens

HALF_THIRD_SIXTH = torch.tensor([[1 / 6, 1 / 2, 1 / 3]]).log()
QUESTIONS = ["What is the capital of France?", "Name a primary colour.", "Who wrote Hamlet?", "What do bees make?"]


def drawn(uniform: float, **options: float) -> int:
    return int(choose_tokens(HALF_THIRD_SIXTH, Sampling(**{"temperature": 1.0} | options), [uniform])[0])


def test_draws_by_hand() -> None:
    # Laid out from the most likely down: token 1 to 1/2, token 2 to 5/6, token 0 to 1.
    assert [drawn(u) for u in (0.0, 0.49, 0.51, 0.83, 0.84, 0.9999)] == [1, 1, 2, 2, 0, 0]
    assert drawn(0.9999, temperature=0.0) == 1
    # At temperature 1/2 the squares count: 9, 4, 1 of 14.
    assert [drawn(u, temperature=0.5) for u in (0.64, 0.65, 0.92, 0.93)] == [1, 2, 2, 0]
    # Top-p 0.6 keeps 1/2 and 1/3; top-p 1/2 keeps the first alone.
    assert [drawn(u, top_p=0.6) for u in (0.59, 0.61, 0.9999)] == [1, 2, 2]
    assert drawn(0.9999, top_p=0.5) == 1


def test_a_tie_goes_to_the_lowest_token() -> None:
    assert choose_tokens(torch.zeros(2, 5), Sampling(), [0.0, 0.0]).tolist() == [0, 0]


def test_frequencies_follow_the_probabilities() -> None:
    uniforms = np.random.default_rng(0).random(20_000).tolist()
    tokens = choose_tokens(HALF_THIRD_SIXTH.expand(20_000, -1), Sampling(temperature=1.0), uniforms)
    counts = Counter(tokens.tolist())
    assert [counts[i] / 20_000 for i in range(3)] == pytest.approx([1 / 6, 1 / 2, 1 / 3], abs=0.01)


@given(
    st.lists(st.floats(-30, 0), min_size=1, max_size=6),
    st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 4),
)
def test_only_tokens_of_the_nucleus_are_drawn(
    logits: list[float], top_p: float, uniform: float, temperature: float
) -> None:
    table = torch.tensor([logits]).log_softmax(-1)
    token = int(choose_tokens(table, Sampling(temperature=temperature, top_p=top_p), [uniform])[0])
    shares = (table / temperature).softmax(-1)[0]
    assert shares[shares > shares[token]].sum() < top_p + 1e-5


def test_stop_texts_across_tokens_and_inside_characters() -> None:
    tokenizer = byte_tokenizer()

    def decode(ids: object) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    options = Sampling(stop=("\n\n", "é!"))
    for text, wanted, certain in (("ab\n\n", "ab", "ab"), ("aé!", "a", "a"), ("a\n", "a\n", "a")):
        continuation = Continuation(decode, frozenset({2}), options, room=50, index=0, prompt_tokens=1)
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            assert continuation.finish_reason is None
            continuation.add(token, -1.0)
        assert continuation.text() == wanted
        assert continuation.certain_text() == certain
        assert continuation.finish_reason == (None if text == "a\n" else "stop")


@pytest.mark.parametrize(
    "field",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"stop": ("",)}, {"stop": "x"}, {"seed": -1}],
)
def test_options_out_of_range_are_named(field: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=next(iter(field))):
        Sampling(**field)


def test_weights_are_opened_from_a_folder(tmp_path: object) -> None:
    tiny_model("llama", dtype=torch.float32, vocab_size=BYTE_VOCABULARY).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model = open_language_model(str(tmp_path), device="cpu", batch_invariant=True)
    assert isinstance(model, LocalModel)
    assert (model.name, model.batch_invariant, model.chat) == (str(tmp_path), True, True)
    assert model.generate(["hello"], Sampling(max_new_tokens=3))[0].prompt_tokens == 6


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(ModelNotFound):
        open_language_model("no/such-model")


@pytest.mark.real_model
def test_a_real_model_answers_alike_alone_batched_and_with_a_remembered_beginning() -> None:
    fast = open_language_model("packaged:smollm2", device="cpu", dtype="float32")
    assert isinstance(fast, LocalModel)
    exact = LocalModel(fast.model, fast.tokenizer, batch_invariant=True)
    options = Sampling(max_new_tokens=12)
    system = {"role": "system", "content": "Answer the question in one short sentence. " * 12}
    prompts = [[system, {"role": "user", "content": question}] for question in QUESTIONS]
    single = [exact.generate([prompt], options)[0] for prompt in prompts]
    assert exact.generate(prompts[::-1], options) == single[::-1]
    batched = fast.generate(prompts, options)
    # One near-tie may fall the other way in another batch shape; the aggregate may not.
    agreement = [ours.token_ids == theirs.token_ids for ours, theirs in zip(batched, single, strict=True)]
    assert sum(agreement) >= len(prompts) - 1
    assert fast.generate(prompts, options) == batched
    assert "Paris" in single[0].text
    ids = torch.tensor([exact.encode(prompts[0])])
    reference = exact.model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    assert list(single[0].token_ids) == [token for token in reference if token not in exact.stop_ids]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_invariance_on_a_gpu(dtype: torch.dtype) -> None:
    weights = tiny_model("llama", dtype=dtype, vocab_size=BYTE_VOCABULARY, max_position_embeddings=2048).cuda()
    model = LocalModel(weights, byte_tokenizer(), batch_invariant=True, prefix_tokens=4096)
    prompts = ["a" * 600, "b", "a" * 600 + "c", "hello " * 50]
    alone = [model.generate([prompt], Sampling(max_new_tokens=8))[0] for prompt in prompts]
    assert model.generate(prompts[::-1], Sampling(max_new_tokens=8)) == alone[::-1]
