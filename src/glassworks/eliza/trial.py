"""What the verbs that measure a model are given: the model, the script, and the conversations of one split.

Input: folders. Output: Trial. Data are read before weights are loaded. Raises the errors of reading and loading.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from glassworks.eliza.dataset import Example, read_folder_script, read_split, turns_of
from glassworks.eliza.interpreter import Turn
from glassworks.eliza.script import Script
from glassworks.foundations.data import file_sha
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.models import load_model, load_tokenizer, model_sha


@dataclass(frozen=True, eq=False)
class Trial:
    """A model and what it is measured on. `file`: the split's file; the fingerprints go into evidence."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    script: Script
    examples: list[Example]
    file: str
    data_sha: str
    model_sha: str

    @cached_property
    def conversations(self) -> list[list[Turn]]:
        """The turns of each example, as the script's interpreter sees them."""
        return [turns_of(self.script, example) for example in self.examples]

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
    loaded, tokenizer = load_model(model, device=device), load_tokenizer(model)
    return Trial(loaded, tokenizer, script, examples, file, file_sha(file), model_sha(model))
