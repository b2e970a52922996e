"""Responses cut out of rendered conversations: by hand, by invariants and as the official rules say."""

from pathlib import Path

import pytest
from cases.tokenizers import TEMPLATE_FAMILIES, TEXT, chat_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import DataNotFound, OptionError, TemplateError
from glassworks.foundations.chat import (
    Message,
    TurnTexts,
    encode,
    encode_turn,
    render,
    set_template,
    truncate,
    turn_texts,
)

QUESTION: list[Message] = [{"role": "user", "content": "What is hot?"}]
TURN: list[Message] = [*QUESTION, {"role": "assistant", "content": "Glass."}]
WORDS = st.text(st.sampled_from("abc GlPari.?!"), min_size=1, max_size=12).map(str.strip).filter(bool)

# family -> prompt and response, header in the prompt; the header that moves when header_in_response is True
BY_HAND = {
    "chatml": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is hot?<|im_end|>\n",
        "<|im_start|>assistant\n",
        "Glass.<|im_end|>\n",
    ),
    "llama3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is hot?<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "Glass.<|eot_id|>",
    ),
    "gemma": (
        "<bos><start_of_turn>user\nWhat is hot?<end_of_turn>\n",
        "<start_of_turn>model\n",
        "Glass.<end_of_turn>\n",
    ),
    "zephyr": ("<|user|>\nWhat is hot?</s>\n", "<|assistant|>\n", "Glass.</s>\n"),
    "mistral": ("<s>[INST] What is hot? [/INST]", "", " Glass.</s>"),
}


@pytest.mark.parametrize("family", TEMPLATE_FAMILIES)
def test_texts_by_hand(family: str) -> None:
    prompt, header, answer = BY_HAND[family]
    tokenizer = chat_tokenizer(family)
    assert turn_texts(tokenizer, TURN) == (prompt + header, answer)
    assert turn_texts(tokenizer, TURN, header_in_response=True) == (prompt, header + answer)


@pytest.mark.parametrize("family", TEMPLATE_FAMILIES)
@pytest.mark.parametrize("header", [False, True])
@settings(deadline=None, max_examples=15)
@given(contents=st.lists(WORDS, min_size=1, max_size=3), answers=st.lists(WORDS, min_size=3, max_size=3))
def test_tokens_are_the_conversation_with_one_start_and_an_end(
    family: str, header: bool, contents: list[str], answers: list[str]
) -> None:
    """Prompt + response decode to the whole conversation; start once, end last; answers of one prompt share it."""
    tokenizer = chat_tokenizer(family)
    messages = []
    for content, answer in zip(contents, answers, strict=False):
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    texts = turn_texts(tokenizer, messages, header_in_response=header)
    tokens = encode_turn(tokenizer, texts)
    ids = tokens.prompt_ids + tokens.response_ids
    whole = render(tokenizer, messages)
    assert texts.prompt + texts.response == whole
    assert (
        tokenizer.decode(ids)
        .removeprefix(tokenizer.bos_token or "")
        .startswith(whole.removeprefix(tokenizer.bos_token or ""))
    )
    # Nothing merges across the boundary in these templates, so it is where the texts part.
    assert tokenizer.decode(tokens.response_ids) in (texts.response, texts.response + tokenizer.eos_token)
    assert ids[-1] == tokenizer.eos_token_id
    if tokenizer.bos_token_id is not None:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_header_of_llama_three_is_four_tokens() -> None:
    """The official code counts them in the response's length."""
    tokenizer = chat_tokenizer("llama3")
    inside = encode_turn(tokenizer, turn_texts(tokenizer, TURN, header_in_response=True)).response_ids
    outside = encode_turn(tokenizer, turn_texts(tokenizer, TURN)).response_ids
    assert len(inside) - len(outside) == 4
    assert tokenizer.convert_ids_to_tokens(inside[:4]) == [
        "<|start_header_id|>",
        "assistant",
        "<|end_header_id|>",
        "ĊĊ",
    ]


def test_llama_three_ends_with_turn_end_and_end_token_gemma_with_three() -> None:
    llama, gemma = chat_tokenizer("llama3"), chat_tokenizer("gemma")
    tokens = encode_turn(llama, turn_texts(llama, TURN)).response_ids
    assert llama.convert_ids_to_tokens(tokens[-2:]) == ["<|eot_id|>", "<|end_of_text|>"]
    tokens = encode_turn(gemma, turn_texts(gemma, TURN)).response_ids
    assert gemma.convert_ids_to_tokens(tokens[-3:]) == ["<end_of_turn>", "Ċ", "<eos>"]


def test_merged_boundary_token_goes_to_the_response() -> None:
    """ "Gl" + "ass" is one token "Glass": the prompt loses its last token and nothing is lost or doubled."""
    tokenizer = chat_tokenizer("chatml")
    prompt = encode(tokenizer, "The capital of Fran")
    assert encode(tokenizer, "The capital of France")[: len(prompt)] != prompt
    tokens = encode_turn(tokenizer, TurnTexts("The capital of Fran", "ce"))
    assert tokenizer.decode(tokens.prompt_ids) == "The capital of"
    assert tokenizer.decode(tokens.response_ids) == " France<|im_end|>"


@given(cut=st.integers(0, len(TEXT)))
@settings(deadline=None, max_examples=40)
def test_any_cut_of_a_text_keeps_all_its_tokens(cut: int) -> None:
    tokenizer = chat_tokenizer("zephyr")
    tokens = encode_turn(tokenizer, TurnTexts(TEXT[:cut], TEXT[cut:]))
    joint = [tokenizer.bos_token_id, *encode(tokenizer, TEXT), tokenizer.eos_token_id]
    assert tokens.prompt_ids + tokens.response_ids == joint
    assert tokenizer.decode(tokens.prompt_ids[1:]) == TEXT[: len(tokenizer.decode(tokens.prompt_ids[1:]))]
    assert len(tokenizer.decode(tokens.prompt_ids[1:])) <= cut


def test_end_token_is_not_doubled() -> None:
    tokenizer = chat_tokenizer("mistral")
    ids = encode_turn(tokenizer, turn_texts(tokenizer, TURN)).response_ids
    assert ids.count(tokenizer.eos_token_id) == 1


def test_empty_system_message_is_inserted_on_request() -> None:
    tokenizer = chat_tokenizer("chatml")
    text = render(tokenizer, QUESTION, auto_insert_empty_system_msg=True)
    assert text.startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user")
    own = [{"role": "system", "content": "Be brief."}, *QUESTION]
    assert render(tokenizer, own, auto_insert_empty_system_msg=True) == render(tokenizer, own)
    llama = chat_tokenizer("llama3")  # its template does not mention system messages
    assert render(llama, QUESTION, auto_insert_empty_system_msg=True) == render(llama, QUESTION)


def test_two_start_tokens_are_refused() -> None:
    tokenizer = chat_tokenizer("llama3")
    start = tokenizer.bos_token
    with pytest.raises(TemplateError, match=r"pairs\.jsonl:4: begins with two start tokens \(<\|begin_of_text"):
        encode_turn(tokenizer, TurnTexts(f"{start}{start}Hi", "Glass"), place="pairs.jsonl:4")


def test_template_is_required_and_its_refusals_name_the_row() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match=r"x:1: the tokenizer has no chat template\. Give one with --chat_template"):
        render(tokenizer, QUESTION, place="x:1")
    tokenizer.chat_template = {"a": "{{ 1 }}", "b": "{{ 2 }}"}
    with pytest.raises(TemplateError, match="several chat templates and none is the default"):
        render(tokenizer, QUESTION)
    with pytest.raises(
        TemplateError, match=r"x:2: cannot render the turns assistant \(Conversation roles must alternate"
    ):
        render(chat_tokenizer("mistral"), TURN[-1:], place="x:2")
    with pytest.raises(TemplateError, match="cannot render the turns system, user .*System role not supported"):
        render(chat_tokenizer("gemma"), [{"role": "system", "content": "x"}, *QUESTION])
    tokenizer.chat_template = "{{ messages[0].content.wrong.deeper }}"
    with pytest.raises(TemplateError, match="cannot render the turns user"):
        render(tokenizer, QUESTION)


def test_prefix_property_is_asserted() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(TemplateError, match=r"x:3: .* not the beginning of the whole: after 0 characters '1What"):
        turn_texts(tokenizer, TURN, place="x:3")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:<think>{% endif %}"
    )
    with pytest.raises(TemplateError, match=r"try --header_in_response true"):
        turn_texts(tokenizer, TURN)
    assert turn_texts(tokenizer, TURN, header_in_response=True).response == "assistant:Glass."


@pytest.mark.parametrize("messages", [[], QUESTION])
def test_last_turn_must_be_the_assistants(messages: list[Message]) -> None:
    with pytest.raises(TemplateError, match="the last turn should be the assistant's"):
        turn_texts(chat_tokenizer("chatml"), messages)


def test_template_files(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer("chatml")
    file = tmp_path / "t.jinja"
    file.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    set_template(tokenizer, file)
    assert render(tokenizer, QUESTION) == "What is hot?"
    file.write_text("line one\n{% for m in messages %}")
    with pytest.raises(TemplateError, match=r"t\.jinja:2: not valid Jinja"):
        set_template(tokenizer, file)
    with pytest.raises(DataNotFound, match="cannot be read as a chat template"):
        set_template(tokenizer, tmp_path / "none.jinja")


def test_truncation_by_hand() -> None:
    """Budget 10, prompt floor 4: the longest response (7) leaves 3, so the prompt keeps 4 and that side loses 1."""
    cut = truncate([1, 11, 12, 13, 14, 15], [[7] * 7, [8] * 2], max_length=10, max_prompt_length=4, bos_token_id=1)
    assert cut == ([1, 13, 14, 15], [[7] * 6, [8] * 2], 2, [1, 0])
    cut = truncate([1, 11, 12, 13, 14, 15], [[7] * 7], max_length=10, max_prompt_length=4)
    assert cut.prompt_ids == [12, 13, 14, 15]
    cut = truncate([1, 11, 12, 13, 14, 15], [[7] * 7], max_length=10, max_prompt_length=4, keep="start")
    assert cut.prompt_ids == [1, 11, 12, 13]
    assert truncate([1] * 5, [[2] * 5], max_length=10, max_prompt_length=4) == ([1] * 5, [[2] * 5], 0, [0])


@given(
    prompt=st.integers(0, 30), responses=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    limit=st.integers(2, 30), floor=st.integers(1, 29), keep=st.sampled_from(["end", "start"]), bos=st.booleans(),
)  # fmt: skip
def test_truncation_invariants(prompt: int, responses: list[int], limit: int, floor: int, keep: str, bos: bool) -> None:
    floor = min(floor, limit - 1)
    ids = list(range(100, 100 + prompt))
    sides = [list(range(1000, 1000 + n)) for n in responses]
    cut = truncate(ids, sides, max_length=limit, max_prompt_length=floor, keep=keep, bos_token_id=100 if bos else None)
    assert len(cut.prompt_ids) == prompt - cut.prompt_cut
    for side, kept, lost in zip(sides, cut.responses, cut.responses_cut, strict=True):
        assert kept == side[: len(side) - lost]
        assert kept
        assert len(cut.prompt_ids) + len(kept) <= limit
        assert not lost or len(cut.prompt_ids) + len(kept) == limit
    assert cut.prompt_cut == 0 or len(cut.prompt_ids) >= floor
    if prompt + max(responses) <= limit:
        assert cut.prompt_cut == sum(cut.responses_cut) == 0
    if bos and cut.prompt_ids:
        assert cut.prompt_ids[0] == 100
        assert len(set(cut.prompt_ids)) == len(cut.prompt_ids)


@pytest.mark.parametrize(("limit", "floor"), [(10, 10), (10, 0), (1, 1)])
def test_budgets_that_leave_no_response_are_refused(limit: int, floor: int) -> None:
    with pytest.raises(OptionError, match="1 <= max_prompt_length < max_length"):
        truncate([1], [[2]], max_length=limit, max_prompt_length=floor)
