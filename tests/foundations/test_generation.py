"""The door to language models: from a folder, refused, and with a real model."""

from __future__ import annotations

import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.errors import ModelNotFound
from glassworks.foundations.generation import LocalModel, Sampling, open_language_model

QUESTIONS = ["What is the capital of France?", "Name a primary colour.", "Who wrote Hamlet?", "What do bees make?"]


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
