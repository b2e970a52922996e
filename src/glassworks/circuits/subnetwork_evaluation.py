"""How well a subnetwork does in and out of domain, with guards against a predictor that only looks like it generalises.

The Heuristic Core (2024, section 3 and its tables): accuracy a case. Ours adds what accuracy hides: the distribution
of predicted labels, balanced accuracy over a hard case and its counterpart, and the AUC of hard against counterpart,
which no shift of the decision threshold changes. Pure functions of logits and labels, and one loop over batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glassworks.circuits.head_masks import UnitGates
from glassworks.circuits.sentence_pairs import Case, Encoded, check_labels, counterparts
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.errors import OptionError
from glassworks.foundations.statistics import Estimate, auc, proportion

DEGENERATE = 0.98
"""From this share of one predicted label on, over a hard case and its counterpart, a predictor is called degenerate."""


class CaseScore(NamedTuple):
    """One case: right of n; predicted: share of each class; margins: score of label 1 against label 0, [n].

    balanced: mean of the accuracies of this case and of its counterpart; auc: chance that an example of this case
    scores above one of its counterpart in the direction of its label; None where there is no counterpart.
    degenerate: over both, one label is predicted for nearly all.
    """

    name: str
    domain: str
    accuracy: Estimate
    predicted: tuple[float, ...]
    margins: tuple[float, ...]
    balanced: float | None = None
    auc: Estimate | None = None
    degenerate: bool = False


class Scores(NamedTuple):
    """All cases of one subnetwork; the two means are over cases, None where there is none."""

    cases: dict[str, CaseScore]

    def mean(self, domain: str) -> float | None:
        """Mean accuracy over the cases of a domain; out of domain those with a counterpart, if any has one."""
        chosen = [case for case in self.cases.values() if case.domain == domain]
        chosen = [case for case in chosen if case.auc is not None] or chosen
        return sum(case.accuracy.value for case in chosen) / len(chosen) if chosen else None

    def mean_auc(self) -> float | None:
        """Mean AUC over the cases that have one."""
        areas = [case.auc.value for case in self.cases.values() if case.auc is not None]
        return sum(areas) / len(areas) if areas else None


def margin(logits: Tensor) -> Tensor:
    """Score of "not class 0" against class 0, [n], from logits [n, classes]: the log-odds of the two."""
    return logits[:, 1:].logsumexp(dim=1) - logits[:, 0]


def predictions(logits: Tensor, *, binary: bool) -> Tensor:
    """Predicted labels [n] from logits [n, classes]; binary: every class but 0 counts as 1 (HANS)."""
    chosen = logits.argmax(dim=1)
    return chosen.clamp(max=1) if binary else chosen


def score_cases(logits: Mapping[str, Tensor], cases: Sequence[Case]) -> Scores:
    """Scores of every case from its logits [n, classes]."""
    found = {case.name: _score(case, logits[case.name]) for case in cases}
    for case in cases:
        others = [found[other.name] for other in counterparts(case, cases)]
        if others:
            found[case.name] = _compared(case, found[case.name], others)
    return Scores(found)


def _score(case: Case, logits: Tensor) -> CaseScore:
    labels = torch.tensor([example.label for example in case.examples])
    chosen = predictions(logits, binary=case.binary)
    share = torch.bincount(chosen, minlength=2 if case.binary else logits.shape[1]).double() / len(chosen)
    right = proportion(int((chosen == labels).sum()), len(labels))
    return CaseScore(case.name, case.domain, right, tuple(share.tolist()), tuple(margin(logits.double()).tolist()))


def _compared(case: Case, score: CaseScore, others: Sequence[CaseScore]) -> CaseScore:
    rest = [value for other in others for value in other.margins]
    # The label that this case has more of is the direction its scores should point to.
    hard = sum(example.label != 0 for example in case.examples) * 2 >= len(case.examples)
    sign = 1.0 if hard else -1.0
    scores = [sign * value for value in (*score.margins, *rest)]
    labels = [True] * len(score.margins) + [False] * len(rest)
    total = sum(other.accuracy.n for other in others)
    accuracy = sum(other.accuracy.value * other.accuracy.n for other in others) / total
    both = [score, *others]
    zero = sum(one.predicted[0] * one.accuracy.n for one in both) / sum(one.accuracy.n for one in both)
    degenerate = max(zero, 1 - zero) >= DEGENERATE
    return score._replace(
        balanced=(score.accuracy.value + accuracy) / 2, auc=auc(scores, labels), degenerate=degenerate
    )


@torch.no_grad()
def case_logits(
    gates: UnitGates, mask: UnitMask | Tensor | None, encoded: Mapping[str, Encoded], *, batch_size: int = 256
) -> dict[str, Tensor]:
    """Logits fp32 [n, classes] of each case under a mask, in the cases' own order.

    gates: of a `gated` block that is open. The model should be in eval mode.
    """
    model, found = gates.parts.model, {}
    for name, data in encoded.items():
        rows: list[Tensor] = []
        order: list[int] = []
        for chosen in data.buckets(batch_size):
            batch = data.batch(chosen, model.device)
            gates.set(mask, batch.get("attention_mask"))
            rows.append(model(**batch).logits.float().cpu())
            order += chosen
        stacked = torch.cat(rows)
        found[name] = torch.empty_like(stacked)
        found[name][order] = stacked
    gates.set(None)
    return found


def check_cases(cases: Sequence[Case], classes: int) -> None:
    """Refuse labels that the model does not have, names that repeat, and counterparts that are not there."""
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise OptionError("two cases have one name", place="evaluation")
    for case in cases:
        labels = torch.tensor([example.label for example in case.examples])
        check_labels(labels, classes, f"case '{case.name}'", binary=case.binary)
        if case.counterpart and not counterparts(case, cases):
            raise OptionError(f"the counterpart '{case.counterpart}' is no case", place=f"case '{case.name}'")
