"""The template report against what each family is known to do, and the verb's refusals."""

from pathlib import Path
from typing import Any

import pytest
from cases.tiny_models import tiny_model
from cases.tokenizers import TEMPLATE_FAMILIES, chat_tokenizer

from glassworks.errors import ModelNotFound, TemplateError
from glassworks.foundations.check_template import check_template, check_template_of

KNOWN: dict[str, dict[str, Any]] = {
    "chatml": {
        "ok": True, "bos": None, "bos_count": 0, "double_bos_risk": False, "eos_appended": True,
        "header": ("<|im_start|>", "assistant", "Ċ"), "ending": ("<|im_end|>", "Ċ", "<|im_end|>"),
        "lone_assistant": True, "system_message": "written",
    },
    "llama3": {
        "ok": True, "bos_count": 1, "template_writes_bos": True, "double_bos_risk": True, "eos_appended": True,
        "header": ("<|start_header_id|>", "assistant", "<|end_header_id|>", "ĊĊ"),
        "ending": ("<|eot_id|>", "<|end_of_text|>"), "lone_assistant": True, "system_message": "written",
    },
    "gemma": {
        "ok": True, "bos_count": 1, "double_bos_risk": True, "system_message": "refused", "lone_assistant": True,
        "header": ("<start_of_turn>", "model", "Ċ"), "ending": ("<end_of_turn>", "Ċ", "<eos>"),
    },
    "zephyr": {
        "ok": False, "bos_count": 1, "template_writes_bos": False, "train_inference_agree": False,
        "double_bos_risk": False, "system_message": "written",
    },
    "mistral": {
        "ok": True, "bos_count": 1, "double_bos_risk": True, "eos_appended": False, "ending": ("</s>",),
        "generation_prompt": (), "lone_assistant": False, "several_turns": True, "system_message": "written",
    },
}  # fmt: skip


@pytest.mark.parametrize("family", TEMPLATE_FAMILIES)
def test_each_family_is_reported_as_it_is(family: str) -> None:
    report = check_template_of(chat_tokenizer(family), name=family)
    assert {name: getattr(report, name) for name in KNOWN[family]} == KNOWN[family]
    assert report.train_inference_agree == (family != "zephyr")
    assert report.ok == (not report.problems)


def test_start_token_that_only_training_sees_is_found_and_mended() -> None:
    tokenizer = chat_tokenizer("zephyr")
    (problem,) = check_template_of(tokenizer).problems
    assert problem == "prompt token 0 is <s> in training and < in inference: begin the template with {{ bos_token }}"
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    report = check_template_of(tokenizer)
    assert report.ok
    assert not report.double_bos_risk  # this tokenizer adds none of its own


def test_two_start_tokens_are_counted() -> None:
    tokenizer = chat_tokenizer("llama3")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    report = check_template_of(tokenizer)
    assert report.bos_count == 2
    assert any("writes the start token <|begin_of_text|> 2 times" in problem for problem in report.problems)


def test_prompt_whose_last_token_merges_with_the_answer_is_found() -> None:
    """Under the GPT-2 rule two line breaks are one token at the end and two before a word."""
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}\n\n{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant\n\n{% endif %}"
    )
    report = check_template_of(tokenizer)
    assert report.boundary_merges
    assert not report.train_inference_agree
    assert any(note.startswith("the prompt's last token merges") for note in report.notes)


def test_generation_prompt_that_answers_lack_is_a_problem() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|im_start|>assistant\n{% endif", "<|im_start|>assistant\n<think>{% endif"
    )
    report = check_template_of(tokenizer)
    assert not report.ok
    assert "--header_in_response true" in report.problems[0]


def test_generation_that_runs_past_the_turn_is_a_problem() -> None:
    tokenizer = chat_tokenizer("llama3")
    end, turn_end = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert check_template_of(tokenizer).turn_end_stops is None
    assert check_template_of(tokenizer, stop_ids=[end, turn_end]).turn_end_stops is True
    report = check_template_of(tokenizer, stop_ids=[end])
    assert report.turn_end_stops is False
    assert "generation does not stop at <|eot_id|>" in report.problems[0]


def test_no_template_and_lost_answers_are_refused() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = "{{ messages[0].content }}"
    with pytest.raises(TemplateError, match="lacks the assistant's answer"):
        check_template_of(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="no chat template"):
        check_template_of(tokenizer)


def test_verb_reads_a_folder_and_takes_another_template(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model, tokenizer = tiny_model("llama", vocab_size=400), chat_tokenizer("llama3")
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|eot_id|>"])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    report = check_template(str(folder))
    assert report.ok
    assert report.turn_end_stops is True
    summary = report.summary()
    assert summary.startswith(f"{folder}: chat template is fine")
    assert "training and inference prompts  agree id by id" in summary
    (tmp_path / "t.jinja").write_text(chat_tokenizer("zephyr").chat_template)
    other = check_template(str(folder), str(tmp_path / "t.jinja"))
    assert not other.ok
    assert "PROBLEM" in other.summary()


def test_verb_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        check_template(str(tmp_path / "none"))


@pytest.mark.real_model
def test_packaged_chat_model_is_fine() -> None:
    report = check_template("packaged:smollm2")
    assert report.ok
    assert report.turn_end_stops is True
    assert report.bos_count == 1
    assert report.header == report.generation_prompt
