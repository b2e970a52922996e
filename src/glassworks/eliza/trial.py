"""What the verbs that measure a model are given: the model, the script, and the conversations of one split.

Input: folders. Output: Trial. Data are read and checked before weights are loaded: every reply is the script's. Raises
the errors of reading and loading, and OptionError for a conversation that is longer than the model reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.eliza.dataset import Example, read_folder_script, read_split, turns_of
from glassworks.eliza.interpreter import Turn
from glassworks.eliza.script import Script
from glassworks.errors import MalformedRecord, OptionError
from glassworks.foundations.data import file_sha
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.models import load_model, load_tokenizer, model_sha


@dataclass(frozen=True, eq=False)
class Trial:
    """A model and what it is measured on. `file`: the split's file; the fingerprints go into evidence.

    conversations: the turns of each example, as the script's interpreter sees them.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    script: Script
    examples: list[Example]
    conversations: list[list[Turn]]
    file: str
    data_sha: str
    model_sha: str

    @property
    def subject(self) -> str:
        """What a claim calls the model, so that a control is not taken for a finding."""
        return "compiled" if self.model.config.model_type == "compiled_eliza" else "trained"

    def stamp(self, evidence: Evidence) -> Evidence:
        """Evidence with the fingerprints of data and model."""
        return replace(evidence, data_sha=self.data_sha, model_sha=self.model_sha)


def open_trial(model: str, data: str, split: str, limit: int, device: str) -> Trial:
    """The first `limit` conversations of a split in a folder of data, and a trained or compiled model."""
    script, examples, file = read_folder_script(data), read_split(data, split, limit), f"{data}/{split}.csv"
    conversations = []
    for row, example in enumerate(examples, start=2):  # below the header
        try:
            conversations.append(turns_of(script, example))
        except MalformedRecord as error:
            raise MalformedRecord(error.problem, place=f"{file}:{row}, {error.place}") from None
    loaded, tokenizer = load_model(model, device=device), load_tokenizer(model)
    for row, example in enumerate(examples, start=2):
        check_length(loaded, len(example.tokens), f"{file}:{row}")
    return Trial(loaded, tokenizer, script, examples, conversations, file, file_sha(file), model_sha(model))


def context(model: PreTrainedModel) -> int:
    """The longest sequence that a model reads."""
    return int(getattr(model.config, "max_position_embeddings", 1 << 20))


def check_length(model: PreTrainedModel, tokens: int, place: str) -> None:
    """Refuse a conversation that is longer than the model reads. Raises OptionError."""
    if tokens > context(model):
        raise OptionError(f"a conversation of {tokens} tokens, the model reads {context(model)}", place=place)
