"""Scores of cases: accuracy, binary labels of a three-class model, AUC that no threshold moves, degenerate ones."""

import pytest
import torch
from cases.tiny_models import tiny_model

from glassworks.circuits.head_masks import gated
from glassworks.circuits.sentence_pairs import Case, Example, encode
from glassworks.circuits.subnetwork_evaluation import case_logits, check_cases, margin, predictions, score_cases
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.toy_inference import toy_tokenizer, toy_training
from glassworks.errors import OptionError
from glassworks.foundations.anatomy import anatomy


def case(name: str, labels: list[int], **about: object) -> Case:
    return Case(name, tuple(Example("x", None, label) for label in labels), **about)  # type: ignore[arg-type]


IN = case("validation", [0, 1])
HARD = case("hard", [1, 1, 1], domain="out", counterpart="true")
TRUE = case("true", [0, 0, 0], domain="out")
LOGITS = {
    "validation": torch.tensor([[2.0, 0.0], [1.0, 0.0]]),
    "hard": torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]),
    "true": torch.tensor([[4.0, 0.0], [2.0, 0.0], [5.0, 0.0]]),
}


def test_accuracies_and_areas_by_hand() -> None:
    scores = score_cases(LOGITS, [IN, HARD, TRUE])
    assert scores.cases["validation"].accuracy.value == 0.5
    hard = scores.cases["hard"]
    assert (hard.accuracy.value, hard.accuracy.n) == (pytest.approx(1 / 3), 3)
    assert hard.predicted == pytest.approx((2 / 3, 1 / 3))
    assert hard.auc is not None
    assert hard.auc.value == pytest.approx(8 / 9)  # margins -1, 1, -3 against -4, -2, -5
    assert hard.balanced == pytest.approx((1 / 3 + 1) / 2)
    assert not hard.degenerate
    assert scores.cases["true"].auc is None
    assert (scores.mean("in"), scores.mean("out"), scores.mean_auc()) == (0.5, hard.accuracy.value, hard.auc.value)


def test_a_shifted_threshold_moves_accuracy_and_not_the_area() -> None:
    shifted = {name: value + torch.tensor([0.0, 100.0]) for name, value in LOGITS.items()}
    before, after = (score_cases(logits, [IN, HARD, TRUE]).cases["hard"] for logits in (LOGITS, shifted))
    assert after.accuracy.value == 1.0
    assert after.auc == before.auc
    assert after.degenerate  # says "not entailed" to everything
    assert after.balanced == 0.5


def test_three_classes_are_read_as_two() -> None:
    logits = torch.tensor([[0.0, -1.0, 1.0], [2.0, 0.0, 0.0]])
    assert predictions(logits, binary=True).tolist() == [1, 0]
    assert predictions(logits, binary=False).tolist() == [2, 0]
    assert margin(logits)[1].item() == pytest.approx(torch.tensor(2.0).log().item() - 2.0)


def test_logits_come_back_in_the_order_of_the_examples() -> None:
    parts = anatomy(tiny_model("bert_classifier", dtype=torch.float32), check=False)
    data = encode(toy_training(9, 0), toy_tokenizer(), max_length=16)
    mask = UnitMask.full(3, 4) - UnitMask.from_names(["a0.h1", "a2.mlp"], 3, 4)
    with gated(parts, ablation="zero") as gates:
        found = case_logits(gates, mask, {"x": data}, batch_size=4)["x"]
        gates.set(mask)
        with torch.no_grad():
            for index in range(9):
                torch.testing.assert_close(
                    parts.model(**data.batch([index])).logits[0], found[index], atol=1e-5, rtol=0
                )


def test_faults() -> None:
    with pytest.raises(OptionError, match="two cases have one name"):
        check_cases([IN, IN], 2)
    with pytest.raises(OptionError, match="counterpart 'true' is no case"):
        check_cases([HARD], 2)
    with pytest.raises(OptionError, match="case 'validation'"):
        check_cases([case("validation", [3])], 3)
    check_cases([IN, HARD, TRUE], 2)
