"""Does training see the tokens that generation will see? A report on a tokenizer and its chat template.

Renders a few probe conversations and says what the template does: start and end tokens, the header that opens
the assistant's turn, whether the training prompt and the inference prompt agree id by id, and which
conversations the template refuses. Reads the tokenizer only, no weights. The rules are those of `chat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Literal

from transformers import GenerationConfig, PreTrainedTokenizerBase

from glassworks.errors import TemplateError
from glassworks.foundations.chat import (
    Message,
    encode,
    encode_turn,
    render,
    set_template,
    turn_texts,
)
from glassworks.foundations.models import load_tokenizer, resolve_model

ANSWER = "Paris"
QUESTION: list[Message] = [{"role": "user", "content": "What is the capital of France?"}]
TURN: list[Message] = [*QUESTION, {"role": "assistant", "content": ANSWER}]
TWO_TURNS: list[Message] = [*TURN, *TURN]
SYSTEM: Message = {"role": "system", "content": "Speak plainly."}


@dataclass(frozen=True)
class TemplateReport:
    """What a chat template does to a conversation.

    bos_count: start tokens at the front of a training prompt. double_bos_risk: tokenising the rendered text
    with special tokens would give two. header: tokens between the prompt without and with the assistant's
    turn opened, up to the answer. ending: tokens after the answer, the appended end token included.
    boundary_merges: the prompt's last token changes when the answer follows. turn_end_stops: a token after
    the answer is one that generation stops at; None where the stop tokens are unknown. problems: what will go
    wrong, in words; notes: what is worth knowing.
    """

    model: str
    ok: bool
    bos: str | None
    eos: str | None
    bos_count: int
    template_writes_bos: bool
    double_bos_risk: bool
    header: tuple[str, ...]
    generation_prompt: tuple[str, ...]
    ending: tuple[str, ...]
    eos_appended: bool
    turn_end_stops: bool | None
    boundary_merges: bool
    train_inference_agree: bool
    lone_assistant: bool
    several_turns: bool
    system_message: Literal["written", "dropped", "refused"]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """One line a finding, problems first."""
        facts = {
            "start token": f"{self.bos} x {self.bos_count}"
            + (" (written by the template)" if self.template_writes_bos else ""),
            "end token": f"{self.eos}" + (" (appended)" if self.eos_appended else " (ends the template's turn)"),
            "assistant header": f"{_shown(self.header)} ({len(self.header)} tokens)",
            "generation prompt": f"{_shown(self.generation_prompt)} ({len(self.generation_prompt)} tokens)",
            "after the answer": _shown(self.ending),
            "generation stops there": {True: "yes", False: "NO", None: "unknown"}[self.turn_end_stops],
            "training and inference prompts": "agree id by id" if self.train_inference_agree else "DIFFER",
            "lone assistant turn": "rendered" if self.lone_assistant else "refused",
            "several turns": "rendered" if self.several_turns else "refused",
            "system message": self.system_message,
        }
        width = max(len(name) for name in facts)
        lines = [f"{self.model}: {'chat template is fine' if self.ok else f'{len(self.problems)} problem(s)'}"]
        lines += [f"  PROBLEM  {text}" for text in self.problems]
        lines += [f"  {name:<{width}}  {value}" for name, value in facts.items()]
        return "\n".join(lines + [f"  note: {text}" for text in self.notes])


def check_template(model: str, chat_template: str | None = None, trust_remote_code: bool = False) -> TemplateReport:
    """Report what a model's chat template does, and whether training and inference prompts agree.

    Raises ModelNotFound, NotAModel, and TemplateError where there is no template or it renders nothing.

    Args:
        model: Hugging Face id, folder, .gguf file or packaged:NAME; only its tokenizer is read.
        chat_template: a file with a Jinja template to check instead of the model's own.
        trust_remote_code: allow Python code from the checkpoint to run.
    """
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    if chat_template is not None:
        set_template(tokenizer, chat_template)
    return check_template_of(tokenizer, name=model, stop_ids=_stop_ids(model, trust_remote_code))


def check_template_of(
    tokenizer: PreTrainedTokenizerBase, *, name: str = "tokenizer", stop_ids: Sequence[int] = ()
) -> TemplateReport:
    """The report for a tokenizer. stop_ids: ids at which generation stops, if known.

    Raises TemplateError when there is no template, or when no answer can be cut out of what it renders.
    """
    text = render(tokenizer, TURN, place=name)
    header, answer, ending_text = turn_texts(tokenizer, TURN, header_in_response=True, place=name).response.partition(
        ANSWER
    )
    if not answer:
        raise TemplateError("the rendered conversation lacks the assistant's answer", place=name)
    ids = encode(tokenizer, text)
    appended = tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]
    ending = encode(tokenizer, ending_text) + ([tokenizer.eos_token_id] if appended else [])
    opened = render(tokenizer, QUESTION, add_generation_prompt=True, place=name)
    closed = render(tokenizer, QUESTION, place=name)
    own_starts = _starts(tokenizer, ids)
    stops = bool(set(stop_ids) & set(ending[:1])) if stop_ids and ending else None
    disagreement = _disagreement(tokenizer, name)
    findings = TemplateReport(
        model=name,
        ok=True,
        bos=tokenizer.bos_token,
        eos=tokenizer.eos_token,
        bos_count=max(own_starts, int(tokenizer.bos_token_id is not None)),
        template_writes_bos=own_starts > 0,
        double_bos_risk=_starts(tokenizer, list(tokenizer(text)["input_ids"])) > 1,
        header=_names(tokenizer, encode(tokenizer, header)),
        generation_prompt=_names(tokenizer, encode(tokenizer, opened.removeprefix(closed))),
        ending=_names(tokenizer, ending),
        eos_appended=appended,
        turn_end_stops=stops,
        boundary_merges=_boundary_merges(tokenizer, text, opened),
        train_inference_agree=not disagreement,
        lone_assistant=_renders(tokenizer, TURN[-1:]),
        several_turns=_renders(tokenizer, TWO_TURNS),
        system_message=_system_message(tokenizer),
        problems=(),
        notes=(),
    )
    problems = _problems(findings, disagreement)
    return replace(findings, ok=not problems, problems=problems, notes=_notes(findings))


def _problems(report: TemplateReport, disagreement: str) -> tuple[str, ...]:
    found = [disagreement] if disagreement else []
    if report.bos_count > 1:
        found.append(f"the template writes the start token {report.bos} {report.bos_count} times: keep one")
    if report.turn_end_stops is False:
        found.append(f"generation does not stop at {report.ending[0]}, which ends a turn: add it to eos_token_id")
    if not report.several_turns:
        found.append("a conversation of two questions and answers is refused")
    return tuple(found)


def _notes(report: TemplateReport) -> tuple[str, ...]:
    found = []
    if report.double_bos_risk:
        found.append(
            "tokenise rendered text with add_special_tokens=False: the tokenizer would add a second start token"
        )
    if report.eos_appended:
        found.append(f"the template does not end with {report.eos}: training appends it")
    if report.boundary_merges:
        found.append("the prompt's last token merges with the answer: the merged token counts to the response")
    if not report.lone_assistant:
        found.append("an assistant turn alone is refused: the answer is cut out of the whole conversation instead")
    if report.system_message != "written":
        found.append(f"system messages are {report.system_message}")
    return tuple(found)


def _disagreement(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """Where the prompt of training first differs from what any server makes of the template; "" for nowhere."""
    try:
        training = encode_turn(tokenizer, turn_texts(tokenizer, TURN, place=name), place=name).prompt_ids
    except TemplateError as refusal:
        return f"{refusal.problem}. {refusal.remedy}"
    inference = encode(tokenizer, render(tokenizer, QUESTION, add_generation_prompt=True, place=name))
    for index, (ours, theirs) in enumerate(zip_longest(training, inference)):
        if ours != theirs:
            names = [tokenizer.convert_ids_to_tokens(i) if i is not None else "nothing" for i in (ours, theirs)]
            remedy = ""
            if ours == tokenizer.bos_token_id and index == 0:
                remedy = ": begin the template with {{ bos_token }}"
            return f"prompt token {index} is {names[0]} in training and {names[1]} in inference{remedy}"
    return ""


def _boundary_merges(tokenizer: PreTrainedTokenizerBase, text: str, opened: str) -> bool:
    prompt = encode(tokenizer, opened)
    return encode(tokenizer, text)[: len(prompt)] != prompt


def _starts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> int:
    """How many start tokens the ids [tokens] begin with."""
    if tokenizer.bos_token_id is None:
        return 0
    return sum(1 for _ in takewhile(lambda token: token == tokenizer.bos_token_id, ids))


def _names(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(token) for token in tokenizer.convert_ids_to_tokens(list(ids)))


def _renders(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> bool:
    try:
        render(tokenizer, messages)
    except TemplateError:
        return False
    return True


def _system_message(tokenizer: PreTrainedTokenizerBase) -> Literal["written", "dropped", "refused"]:
    try:
        text = render(tokenizer, [SYSTEM, *QUESTION])
    except TemplateError:
        return "refused"
    return "written" if SYSTEM["content"] in text else "dropped"


def _stop_ids(model: str, trust_remote_code: bool) -> tuple[int, ...]:
    """The ids at which the model's own generation settings stop; none where it has no such settings."""
    path = resolve_model(model, allow_pickle=True, trust_remote_code=trust_remote_code)
    if isinstance(path, Path) and path.is_file():
        return ()
    try:
        stop = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:
        return ()
    return () if stop is None else (stop,) if isinstance(stop, int) else tuple(stop)


def _shown(tokens: Sequence[str]) -> str:
    return " ".join(tokens) or "none"
