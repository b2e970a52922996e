"""The preference losses, each a pure function of a batch's summed log-probabilities: SimPO and nine others.

Question: what is the loss of a pair (prompt, chosen, rejected), given log p of both responses under the policy and,
where the method has one, under the frozen reference? Input: `PairLogProbs`. Output: one loss a pair, [pairs], whose
mean over the pairs of the optimiser step is what is minimised. Meng et al. 2024 (SimPO), section 2 and its table of
objectives; each docstring says where an equation differs from that table or from TRL.
S = sum and A = mean of a response's log-probs, n = its length, h = S - S_ref, w = chosen, l = rejected.
Knows no model, no batch layout, no optimiser. `LOSSES` is filled by the decorator; `settings_of` checks options.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from glassworks.errors import EmptyResponse, OptionError, UnknownName

Reduction = Literal["token_mean", "sequence_mean", "sum"]
"""How a negative log-likelihood term counts tokens: equally over the whole step, equally within a response, or not."""

LARGEST_MEAN = -1e-7
"""ORPO's log(1 - exp(A)) is -inf at A = 0, where the response has probability 1; A is cut here, in fp32."""


class PairLogProbs(NamedTuple):
    """Response log-probs of preference pairs, nats, fp32 [pairs]. Sums over tokens, not means.

    chosen, rejected: under the policy; chosen_lengths, rejected_lengths: tokens, [pairs], above 0.
    reference_chosen, reference_rejected: under the reference, [pairs], None for methods without one.
    mismatch: KTO's mean log-ratio of mismatched pairs, nats, scalar [], without gradient, at least 0.
    mean_chosen_length: chosen tokens a pair over the whole optimiser step, scalar []; None = over these pairs.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None
    mismatch: Tensor | None = None
    mean_chosen_length: Tensor | None = None

    @property
    def chosen_means(self) -> Tensor:
        """A_w: mean log-prob a token of the chosen responses, [pairs]. Raises EmptyResponse."""
        return self.chosen / _positive(self.chosen_lengths, "chosen")

    @property
    def rejected_means(self) -> Tensor:
        """A_l: mean log-prob a token of the rejected responses, [pairs]. Raises EmptyResponse."""
        return self.rejected / _positive(self.rejected_lengths, "rejected")

    @property
    def chosen_ratios(self) -> Tensor:
        """h_w = S_w - S_w_ref, [pairs]. Raises OptionError without a reference."""
        return self.chosen - _present(self.reference_chosen)

    @property
    def rejected_ratios(self) -> Tensor:
        """h_l = S_l - S_l_ref, [pairs]. Raises OptionError without a reference."""
        return self.rejected - _present(self.reference_rejected)


class Preference(NamedTuple):
    """What a method makes of a batch: losses and the implicit rewards of both responses, each [pairs]."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


PairLoss = Callable[..., Preference]


class Method(NamedTuple):
    """A row of the registry. needs_reference: reads h; needs_mismatch: reads KTO's mean over mismatched pairs."""

    function: PairLoss
    needs_reference: bool
    needs_mismatch: bool


LOSSES: dict[str, Method] = {}


def loss(name: str, *, needs_reference: bool, needs_mismatch: bool = False) -> Callable[[PairLoss], PairLoss]:
    """Register a function (pairs, *, settings) -> Preference under `name`."""

    def register(function: PairLoss) -> PairLoss:
        LOSSES[name] = Method(function, needs_reference, needs_mismatch)
        return function

    return register


def method_of(name: str) -> Method:
    """The registered method. Raises UnknownName with the nearest names."""
    if name not in LOSSES:
        raise UnknownName("method", name, LOSSES, place="--method")
    return LOSSES[name]


def settings_of(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a method: the given ones, checked against its signature, over its defaults.

    Raises UnknownName for a setting that the method does not have and OptionError for a wrong type or range.
    """
    function = method_of(name).function
    known = {key: item for key, item in inspect.signature(function).parameters.items() if key != "pairs"}
    values = {key: item.default for key, item in known.items()}
    hints = inspect.get_annotations(function, eval_str=True)
    for key, value in settings.items():
        if key not in known:
            raise UnknownName(f"setting of {name}", key, known, place=f"--settings.{key}")
        values[key] = _typed(value, hints[key], f"--settings.{key}")
    ones = torch.ones(1)
    function(PairLogProbs(-ones, -2 * ones, ones, ones, -ones, -ones, 0 * ones[0]), **values)  # range checks
    return values


@loss("simpo", needs_reference=False)
def simpo(
    pairs: PairLogProbs,
    *,
    beta: float = 2.0,
    gamma: float | None = None,
    gamma_beta_ratio: float | None = None,
    label_smoothing: float = 0.0,
    loss_type: Literal["sigmoid", "hinge"] = "sigmoid",
    sft_weight: float = 0.0,
    nll_reduction: Reduction = "token_mean",
) -> Preference:
    """SimPO: -log sigmoid(m), m = beta (A_w - A_l) - gamma, [pairs] (Meng et al. 2024, the SimPO objective).

    beta > 0; gamma >= 0 is absolute, gamma_beta_ratio = gamma / beta is the official option: one of them, by default
    the ratio 0.25. label_smoothing in [0, 0.5): -(1 - e) log sigmoid(m) - e log sigmoid(-m). loss_type "hinge":
    max(0, 1 - m), which smoothing does not touch. sft_weight adds that times the chosen response's NLL. A token's
    gradient is -beta sigmoid(-m) / n_w on chosen and +beta sigmoid(-m) / n_l on rejected; gamma only weighs it.
    Raises OptionError, and EmptyResponse naming the row where a length is 0.
    """
    margin_wanted = simpo_gamma(beta, gamma, gamma_beta_ratio)
    _check("label_smoothing", label_smoothing, 0, 0.5, open_high=True)
    _check("sft_weight", sft_weight, 0)
    chosen, rejected = beta * pairs.chosen_means, beta * pairs.rejected_means
    margin = chosen - rejected - margin_wanted
    if loss_type == "hinge":
        losses = relu(1 - margin)
    else:
        losses = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    if sft_weight:
        losses = losses + sft_weight * chosen_nll(pairs, nll_reduction)
    return Preference(losses, chosen, rejected)


@loss("dpo", needs_reference=True)
def dpo(pairs: PairLogProbs, *, beta: float = 0.01, label_smoothing: float = 0.0) -> Preference:
    """DPO: -log sigmoid(beta (h_w - h_l)), [pairs] (Rafailov et al. 2023, eq. 7). beta > 0.

    label_smoothing in [0, 0.5) is conservative DPO's: the probability that a label is flipped.
    """
    _check("beta", beta, 0, open_low=True)
    _check("label_smoothing", label_smoothing, 0, 0.5, open_high=True)
    chosen, rejected = beta * pairs.chosen_ratios, beta * pairs.rejected_ratios
    margin = chosen - rejected
    losses = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
    return Preference(losses, chosen, rejected)


@loss("dpo-norm", needs_reference=True)
def dpo_norm(pairs: PairLogProbs, *, beta: float = 5.0) -> Preference:
    """Length-normalised DPO: -log sigmoid(beta (h_w / n_w - h_l / n_l)), [pairs] (Lambert et al. 2024, Tulu 3)."""
    _check("beta", beta, 0, open_low=True)
    chosen = beta * pairs.chosen_ratios / _positive(pairs.chosen_lengths, "chosen")
    rejected = beta * pairs.rejected_ratios / _positive(pairs.rejected_lengths, "rejected")
    return Preference(-logsigmoid(chosen - rejected), chosen, rejected)


@loss("ipo", needs_reference=True)
def ipo(pairs: PairLogProbs, *, tau: float = 0.1, ipo_normalize: bool = True) -> Preference:
    """IPO: (h - 1 / (2 tau))^2, h = h_w - h_l, [pairs] (Azar et al. 2023, eq. 17). tau > 0.

    ipo_normalize: each log-ratio over its length, which TRL does on the authors' word; False is the paper's sum.
    The implicit rewards are tau times the log-ratios.
    """
    _check("tau", tau, 0, open_low=True)
    chosen, rejected = pairs.chosen_ratios, pairs.rejected_ratios
    if ipo_normalize:
        chosen = chosen / _positive(pairs.chosen_lengths, "chosen")
        rejected = rejected / _positive(pairs.rejected_lengths, "rejected")
    return Preference((chosen - rejected - 1 / (2 * tau)) ** 2, tau * chosen, tau * rejected)


@loss("cpo", needs_reference=False)
def cpo(
    pairs: PairLogProbs,
    *,
    beta: float = 0.1,
    nll_weight: float = 1.0,
    nll_reduction: Reduction = "token_mean",
) -> Preference:
    """CPO: -log sigmoid(beta (S_w - S_l)) - lambda log p(y_w), [pairs] (Xu et al. 2024, eq. 3).

    beta > 0; nll_weight is lambda >= 0. The paper writes the likelihood as a sum, TRL as a mean over tokens.
    """
    _check("beta", beta, 0, open_low=True)
    _check("nll_weight", nll_weight, 0)
    chosen, rejected = beta * pairs.chosen, beta * pairs.rejected
    losses = -logsigmoid(chosen - rejected) + nll_weight * chosen_nll(pairs, nll_reduction)
    return Preference(losses, chosen, rejected)


@loss("kto", needs_reference=True, needs_mismatch=True)
def kto(
    pairs: PairLogProbs, *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Preference:
    """KTO on pairs: half of l_w (1 - sigmoid(beta (h_w - z))) + l_l (1 - sigmoid(beta (z - h_l))), [pairs].

    Ethayarajh et al. 2024, eq. 8, with z the mean log-ratio of mismatched pairs, at least 0, inside beta; half,
    because its mean is over examples and a pair is two. The SimPO paper prints the second term with a sign that
    would raise rejected responses. beta > 0, weights >= 0.
    """
    _check("beta", beta, 0, open_low=True)
    _check("desirable_weight", desirable_weight, 0)
    _check("undesirable_weight", undesirable_weight, 0)
    z = _present(pairs.mismatch)
    chosen, rejected = pairs.chosen_ratios, pairs.rejected_ratios
    desirable = desirable_weight * (1 - torch.sigmoid(beta * (chosen - z)))
    undesirable = undesirable_weight * (1 - torch.sigmoid(beta * (z - rejected)))
    return Preference((desirable + undesirable) / 2, beta * chosen, beta * rejected)


@loss("orpo", needs_reference=False)
def orpo(pairs: PairLogProbs, *, odds_weight: float = 0.1, nll_reduction: Reduction = "token_mean") -> Preference:
    """ORPO: -log p(y_w) - lambda log sigmoid(log-odds_w - log-odds_l), p = exp(A), [pairs] (Hong et al. 2024, eq. 6).

    odds_weight is lambda >= 0; rewards are lambda A, as in TRL.
    """
    _check("odds_weight", odds_weight, 0)
    chosen, rejected = pairs.chosen_means, pairs.rejected_means
    difference = _log_odds(chosen) - _log_odds(rejected)
    losses = chosen_nll(pairs, nll_reduction) - odds_weight * logsigmoid(difference)
    return Preference(losses, odds_weight * chosen, odds_weight * rejected)


@loss("rdpo", needs_reference=True)
def rdpo(pairs: PairLogProbs, *, beta: float = 0.01, alpha: float = 0.05) -> Preference:
    """R-DPO: -log sigmoid(beta h + alpha (n_w - n_l)), [pairs] (Park et al. 2024, eq. 9). beta > 0, alpha >= 0.

    A longer winner has the larger argument and so the smaller gradient.
    """
    _check("beta", beta, 0, open_low=True)
    _check("alpha", alpha, 0)
    chosen, rejected = beta * pairs.chosen_ratios, beta * pairs.rejected_ratios
    longer = alpha * (pairs.chosen_lengths - pairs.rejected_lengths)
    return Preference(-logsigmoid(chosen - rejected + longer), chosen, rejected)


@loss("rrhf", needs_reference=False)
def rrhf(pairs: PairLogProbs, *, nll_weight: float = 1.0, nll_reduction: Reduction = "token_mean") -> Preference:
    """RRHF: max(0, A_l - A_w) - lambda log p(y_w), [pairs] (Yuan et al. 2023, eqs. 2-4). nll_weight is lambda >= 0."""
    _check("nll_weight", nll_weight, 0)
    chosen, rejected = pairs.chosen_means, pairs.rejected_means
    losses = relu(rejected - chosen) + nll_weight * chosen_nll(pairs, nll_reduction)
    return Preference(losses, chosen, rejected)


@loss("slic", needs_reference=False)
def slic(
    pairs: PairLogProbs,
    *,
    delta: float = 1.0,
    nll_weight: float = 0.1,
    nll_reduction: Reduction = "token_mean",
) -> Preference:
    """SLiC-HF: max(0, delta - S_w + S_l) - lambda log p(y_w), [pairs] (Zhao et al. 2023, eq. 5). delta, lambda >= 0."""
    _check("delta", delta, 0)
    _check("nll_weight", nll_weight, 0)
    losses = relu(delta - pairs.chosen + pairs.rejected) + nll_weight * chosen_nll(pairs, nll_reduction)
    return Preference(losses, pairs.chosen, pairs.rejected)


def simpo_gamma(beta: float, gamma: float | None, gamma_beta_ratio: float | None) -> float:
    """SimPO's margin in nats times beta, from gamma or from gamma / beta; 0.25 beta where neither is given.

    Raises OptionError where both are, or one is out of range.
    """
    _check("beta", beta, 0, open_low=True)
    if gamma is not None and gamma_beta_ratio is not None:
        raise OptionError(
            f"gamma = {gamma:g} and gamma_beta_ratio = {gamma_beta_ratio:g} are two ways to say one thing",
            place="--settings.gamma",
            remedy=f"Give one: gamma = beta * gamma_beta_ratio = {beta * gamma_beta_ratio:g}.",
        )
    if gamma is not None:
        return _check("gamma", gamma, 0)
    return beta * _check("gamma_beta_ratio", 0.25 if gamma_beta_ratio is None else gamma_beta_ratio, 0)


def chosen_nll(pairs: PairLogProbs, reduction: Reduction) -> Tensor:
    """The chosen responses' negative log-likelihood so that its mean over pairs is the reduction's, nats, [pairs].

    "token_mean" divides by the step's mean length, so every token of the step weighs the same.
    """
    if reduction == "sum":
        return -pairs.chosen
    if reduction == "sequence_mean":
        return -pairs.chosen_means
    lengths = _positive(pairs.chosen_lengths, "chosen").to(pairs.chosen.dtype)
    return -pairs.chosen / (lengths.mean() if pairs.mean_chosen_length is None else pairs.mean_chosen_length)


def _log_odds(mean: Tensor) -> Tensor:
    cut = mean.clamp(max=LARGEST_MEAN)
    return cut - torch.log(-torch.expm1(cut))


def _positive(lengths: Tensor, side: str) -> Tensor:
    empty = (lengths <= 0).nonzero().flatten().tolist()
    if empty:
        raise EmptyResponse(
            f"the {side} response has no token, so its mean log-probability does not exist",
            place=f"pair {', '.join(map(str, empty))} of {len(lengths)}",
            remedy="Drop the pair, or raise the length that truncation cuts to.",
        )
    return lengths


def _present(values: Tensor | None) -> Tensor:
    if values is None:
        raise OptionError("this method compares with a reference model, and none was given", place="--method")
    return values


def _check(
    name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> float:
    fits = (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
    if not fits or not math.isfinite(value):
        bounds = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high or math.isinf(high) else ']'}"
        raise OptionError(f"{name} is {value:g}, expected a number in {bounds}", place=f"--settings.{name}")
    return value


def _typed(value: object, hint: Any, place: str) -> Any:
    """A setting's value as its annotation asks for it. Raises OptionError."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise UnknownName("value", str(value), map(str, get_args(hint)), place=place)
        return value
    if hint is bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if isinstance(value, bool):
            return value
        raise OptionError(f"expected true or false, received '{value}'", place=place)
    if value is None and type(None) in get_args(hint):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise OptionError(f"expected a number, received '{value}'", place=place) from None
