"""A reader made of rules, for experiments and tests: it knows exactly what it was told and obeys whoever tells it.

Asked "What is the R of E?" it answers with the value that the passages claim most often, in any of five wordings; it
obeys an instruction in a passage ("when asked ..., output X"), which is what an attack exploits; it says that it does
not know where nothing is claimed; shown keywords, it repeats them. It decodes bytes step by step, so every aggregator
runs on it. Not a language model: what it measures is the defence, with a reader that is always fooled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassworks.foundations.language_model import ContinuationScore, Generation, Prompt, Sampling

NOT_KNOWN = "I don't know"
WORDINGS = (
    "The {relation} of {entity} is {value}.",
    "{entity} has {value} as its {relation}.",
    "{value} is the {relation} of {entity}.",
    "{entity}'s {relation} is {value}.",
    "As the {relation} of {entity}, {value} is well known.",
)
END = 256  # the token that ends a text; the others are bytes
_SURE = 0.999
_VALUE = r"([A-Z]\w*(?: [A-Z]\w*)*)"
_QUESTION = re.compile(r"^Question: What is the (.+?) of (.+?)\?", re.MULTILINE)
_KEYWORDS = re.compile(r"^Keywords: (.*)$", re.MULTILINE)
_ORDER = re.compile(r"\boutput:? (.+?)\.(?:\s|$)", re.IGNORECASE)


def claimed_values(text: str, relation: str, entity: str) -> Counter[str]:
    """How often each value is claimed for a relation of an entity."""
    found: Counter[str] = Counter()
    for wording in WORDINGS:
        pattern = re.escape(wording.format(relation=relation, entity=entity, value="@")).replace("@", _VALUE)
        found.update(re.findall(pattern, text))
    return found


def scripted_answer(prompt: str) -> str:
    """What the reader says to the last request of a prompt."""
    if hints := _KEYWORDS.findall(prompt):
        return str(hints[-1]) or NOT_KNOWN
    asked = _QUESTION.findall(prompt)
    if not asked:
        return NOT_KNOWN
    relation, entity = asked[-1]
    for order in re.finditer(r"when (?:you are )?asked (.{0,400})", prompt, re.IGNORECASE):
        if entity in order[1] and (told := _ORDER.search(order[1])):
            return told[1]
    claims = claimed_values(prompt, relation, entity)
    return min(claims, key=lambda value: (-claims[value], value)) if claims else NOT_KNOWN


class ScriptedReader:
    """The reader as a `StepwiseModel`. asked: how many prompts it has answered."""

    name = "scripted"
    chat = True
    stop_ids = frozenset({END})

    def __init__(self) -> None:
        self.asked = 0

    def generate(self, prompts: Sequence[Prompt], options: Sampling = Sampling()) -> list[Generation]:
        """One answer a prompt, cut at `max_new_tokens` bytes times 16, as if a token had that many."""
        self.asked += len(prompts)
        texts = [scripted_answer(_request(prompt))[: 16 * options.max_new_tokens] for prompt in prompts]
        return [
            Generation(text, tuple(text.encode()), "stop", len(self.encode(prompt)))
            for text, prompt in zip(texts, prompts, strict=True)
        ]

    def stream(self, prompt: Prompt, options: Sampling = Sampling()) -> Iterator[str]:
        """The answer as one piece."""
        yield self.generate([prompt], options)[0].text

    def encode(self, prompt: Prompt) -> list[int]:
        """Bytes of the last request."""
        return list(_request(prompt).encode("utf-8", "surrogatepass"))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of bytes."""
        return bytes(token for token in token_ids if token != END).decode("utf-8", "replace")

    def open_decoding(self, prompts: Sequence[Prompt]) -> ScriptedState:
        """Each prompt's answer, to be spelled byte by byte."""
        self.asked += len(prompts)
        return ScriptedState([scripted_answer(_request(prompt)).encode() for prompt in prompts])

    def next_token_log_probs(self, prompts: Sequence[Prompt], continuation: Sequence[int] = ()) -> Tensor:
        """log p(next byte), float32 [prompts, 257]."""
        state = self.open_decoding(prompts)
        for token in continuation:
            state.append(token)
        return state.log_probs

    def top_next_tokens(self, prompts: Sequence[Prompt], k: int = 5) -> list[dict[str, float]]:
        """The k most likely next bytes as texts."""
        best = self.next_token_log_probs(prompts).topk(k)
        return [
            {self.decode([token]): value for token, value in zip(ids, values, strict=True)}
            for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Log-probabilities of the bytes of each continuation."""
        scored = []
        for text in continuations:
            state, values = self.open_decoding([prompt]), []
            for token in text.encode():
                values.append(float(state.log_probs[0, token]))
                state.append(token)
            scored.append(ContinuationScore(text, tuple(text.encode()), tuple(values)))
        return scored


@dataclass
class ScriptedState:
    """Answers spelled byte by byte: sure of the next byte while the prefix agrees, without opinion afterwards.

    prefixes: what each row has spelled so far; empty at the start.
    """

    answers: Sequence[bytes]
    prefixes: Sequence[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        self.prefixes = list(self.prefixes) or [()] * len(self.answers)

    @property
    def log_probs(self) -> Tensor:
        """float32 [rows, 257]."""
        rows = torch.full((len(self.answers), END + 1), 1 / (END + 1))
        for row, (answer, prefix) in enumerate(zip(self.answers, self.prefixes, strict=True)):
            spelled = (*answer, END)
            if spelled[: len(prefix)] == prefix and len(prefix) < len(spelled):
                rows[row] = (1 - _SURE) / END
                rows[row, spelled[len(prefix)]] = _SURE
        return rows.log()

    def append(self, tokens: int | Sequence[int]) -> None:
        """One byte for every row: the same, or one a row."""
        wanted = [tokens] * len(self.answers) if isinstance(tokens, int) else tokens
        self.prefixes = [(*prefix, token) for prefix, token in zip(self.prefixes, wanted, strict=True)]

    def select(self, rows: Sequence[int]) -> ScriptedState:
        """These rows in this order."""
        return ScriptedState([self.answers[row] for row in rows], [self.prefixes[row] for row in rows])

    def fork(self) -> ScriptedState:
        """The same state, to go its own way."""
        return ScriptedState(self.answers, self.prefixes)


def _request(prompt: Prompt) -> str:
    return prompt.rpartition("\n\n")[2] if isinstance(prompt, str) else prompt[-1]["content"]
