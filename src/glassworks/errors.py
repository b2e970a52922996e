"""Every error that a user can cause, in one tree.

An error's text has a place (file:line, option, stage, shape), what was expected and what was received, and a
remedy. The command line prints it as one line and exits with code 2; anything outside this tree is a bug and
keeps its traceback.

    UserError (a ValueError)
    ├── OptionError              an option or argument is unknown, mistyped or out of range
    │   └── UnknownName          a name is not in a registry; the nearest ones are given
    ├── MissingDependency        an optional extra is not installed
    ├── ModelError
    │   ├── ModelNotFound        no such folder, file, packaged name or hub id
    │   ├── NotAModel            the folder or file holds no model that can be loaded
    │   ├── UnsafeCheckpoint     only pickled weights, which run code when they are opened
    │   ├── UnsupportedArchitecture   the parts of the model could not be found or did not recompose
    │   ├── TemplateError        the chat template is missing or cannot render the conversation
    │   ├── PromptTooLong        a prompt has more tokens than the model's context
    │   └── ServerError          a model server refused, failed or answered out of protocol
    ├── DataError
    │   ├── DataNotFound         no such file, folder or dataset
    │   ├── MalformedRecord      a record cannot be parsed or lacks a field; file:line
    │   ├── NoDocuments          a documents folder holds nothing that can be read
    │   ├── UnreadableDocument   a document's bytes are not what its name says
    │   ├── InvalidPair          a preference row whose sides are equal, empty or answer different prompts
    │   └── GraphMismatch        a circuit or edge file belongs to another computation graph
    ├── DatastoreError
    │   ├── DatastoreNotFound    no datastore at this address
    │   ├── EncoderMismatchError the store was embedded by another encoder
    │   ├── DuplicateIdError     an id is already stored and upsert was not asked for
    │   ├── InvalidVector        NaN, infinite, zero-length or wrong-dimension vector
    │   ├── VersionPurgedError   the version asked for was removed by a purge
    │   └── Unsupported          the back end lacks this feature
    ├── RunError
    │   ├── RunLocked            another process works in this run folder
    │   ├── RunMismatch          the run folder was made by another verb or with other options
    │   ├── OutOfSpace           the disk is full
    │   ├── RecipeError          a recipe cannot be read, names an unknown verb or refers in a circle
    │   └── StageFailed          a stage stopped; carries that stage's own message
    └── TrainingError
        ├── NonFiniteLoss        the loss is NaN or infinite; training stopped at the last good state
        ├── FrozenWeightChanged  a weight that was to stay frozen is no longer bit-identical
        └── EmptyResponse        a response has no token left to score
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend.

    problem: what was expected and what was received. place: where (``pairs.jsonl:418``, ``--beta``).
    remedy: what to do, one sentence.
    """

    def __init__(self, problem: str, *, place: str = "", remedy: str = "") -> None:
        self.problem, self.place, self.remedy = problem, place, remedy
        text = f"{place}: {problem}" if place else problem
        if remedy:
            text = f"{text.rstrip('.')}. {remedy}"
        super().__init__(text)


class OptionError(UserError):
    """An option or argument is unknown, mistyped or out of range."""


def check_at_least(least: float, **options: float | None) -> None:
    """Raise OptionError for the first option, named by its place, that is below `least` or NaN; None is no limit."""
    for place, value in options.items():
        if value is not None and not value >= least:
            raise OptionError(f"expected at least {least:g}, received {value}", place=place)


class UnknownName(OptionError):
    """A name is not among the known ones.

    kind: what the name stands for ("loss"); known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, place: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        remedy = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
        super().__init__(f"unknown {kind} '{name}'", place=place, remedy=remedy)


class MissingDependency(UserError):
    """An optional extra is not installed. package: the import that failed; extra: the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package '{package}'",
            remedy=f"Install it with: pip install 'glassworks[{extra}]'.",
        )


class ModelError(UserError):
    """A model cannot be used."""


class ModelNotFound(ModelError):
    """No such folder, file, packaged name or hub id."""


class NotAModel(ModelError):
    """The folder or file holds no model that can be loaded."""


class UnsafeCheckpoint(ModelError):
    """The checkpoint has only pickled weights, which run code when they are opened."""


class UnsupportedArchitecture(ModelError):
    """The parts of the model could not be found, or did not recompose to the model's own output."""


class TemplateError(ModelError):
    """The chat template is missing or cannot render the conversation."""


class PromptTooLong(ModelError):
    """A prompt has more tokens than the model's context.

    row: which prompt, from 0. tokens: the prompt's; room: those that must fit behind it; limit: the context's.
    """

    def __init__(self, row: int, tokens: int, limit: int, *, room: int = 0) -> None:
        self.row, self.tokens, self.limit = row, tokens, limit
        behind = f" and {room} to follow" if room else ""
        super().__init__(
            f"{tokens} tokens{behind}, but the model's context holds {limit}",
            place=f"prompt {row}",
            remedy="Shorten the prompt, ask for fewer passages or use a model with a longer context.",
        )


class ServerError(ModelError):
    """A model server refused, failed or answered out of protocol."""


class DataError(UserError):
    """Data cannot be used."""


class DataNotFound(DataError):
    """No such file, folder or dataset."""


class MalformedRecord(DataError):
    """A record cannot be parsed or lacks a field."""


class NoDocuments(DataError):
    """A documents folder holds nothing that can be read."""


class UnreadableDocument(DataError):
    """A document's bytes are not what its name says."""


class InvalidPair(DataError):
    """A row that cannot be a preference. reason: what is wrong, in words that do not name the row."""

    def __init__(self, reason: str, place: str, remedy: str = "") -> None:
        self.reason = reason
        super().__init__(reason, place=place, remedy=remedy or "Mend the row, or pass --pairs.on_invalid drop.")


class GraphMismatch(DataError):
    """A circuit or edge file belongs to another computation graph."""


class DatastoreError(UserError):
    """A datastore cannot do what was asked."""


class DatastoreNotFound(DatastoreError):
    """No datastore at this address."""


class EncoderMismatchError(DatastoreError):
    """The store was embedded by another encoder than the one it is searched with."""


class DuplicateIdError(DatastoreError):
    """An id is already stored and upsert was not asked for."""


class InvalidVector(DatastoreError):
    """A vector is NaN, infinite, of length zero or of the wrong dimension."""


class VersionPurgedError(DatastoreError):
    """The version asked for was removed by a purge."""


class Unsupported(DatastoreError):
    """The back end lacks a feature. feature: what was asked; backend: which engine."""

    def __init__(self, feature: str, backend: str) -> None:
        super().__init__(f"{backend} does not support {feature}", remedy="Choose another back end or option.")


class RunError(UserError):
    """A run folder or recipe cannot be used."""


class RunLocked(RunError):
    """Another process works in this run folder."""


class RunMismatch(RunError):
    """The run folder was made by another verb or with other options."""


class OutOfSpace(RunError):
    """The disk is full."""


class RecipeError(RunError):
    """A recipe cannot be read, names an unknown verb or refers in a circle."""


class StageFailed(RunError):
    """A stage of a recipe stopped; the text is that stage's own message."""


class TrainingError(UserError):
    """Training cannot start or go on."""


class NonFiniteLoss(TrainingError):
    """The loss is NaN or infinite."""


class FrozenWeightChanged(TrainingError):
    """A weight that was to stay frozen is no longer bit-identical."""


class EmptyResponse(TrainingError):
    """A response has no token left to score."""
