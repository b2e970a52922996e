"""Configurations as four tools' users write them: what they become, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from cases.foreign_configs import CONFIGS

from glassworks.cli.migrate import converted, recognise
from glassworks.errors import OptionError, UnknownName
from glassworks.preference.losses import PairLogProbs, method_of, settings_of


def carried(name: str, devices: int = 1, **changes: Any) -> tuple[dict[str, Any], str]:
    values = {key: value for key, value in (yaml.safe_load(CONFIGS[name]) | changes).items() if value != "REMOVED"}
    _, options, notes = converted(values, recognise(values, name), name, devices)
    settings_of(options["method"], options["settings"])  # the real method takes them
    return options, " ".join(notes)


def test_the_official_simpo_setting() -> None:
    options, notes = carried("official-simpo", devices=4)
    assert options["settings"] == {
        "beta": 2.5, "gamma_beta_ratio": 0.55, "label_smoothing": 0.0, "sft_weight": 0.0, "loss_type": "sigmoid",
    }  # fmt: skip
    assert (options["model"], options["data"]) == (
        "meta-llama/Meta-Llama-3-8B-Instruct", "princeton-nlp/llama3-ultrafeedback",
    )  # fmt: skip
    assert options["pairs"] == {
        "header_in_response": True, "max_length": 2048, "max_prompt_length": 1800, "truncation": "end",
        "test_split": "test",
    }  # fmt: skip
    optimisation = options["optimisation"]
    assert optimisation["learning_rate"] == 1e-6
    assert (optimisation["batch_size"], optimisation["micro_batch_size"]) == (128, 2)
    assert (optimisation["warmup_ratio"], optimisation["lr_scheduler"], options["seed"]) == (0.1, "cosine", 42)
    assert options["out"] == "runs/llama-3-8b-instruct-simpo"
    assert "eval_strategy since" in notes
    assert "Not carried over" not in notes


def test_trl_says_what_its_default_sft_weight_does() -> None:
    options, notes = carried("trl-simpo")
    assert options["settings"] == {"beta": 2.0, "gamma": 0.5, "sft_weight": 1.0, "label_smoothing": 0.0}
    assert "TRL's default is 1.0" in notes
    pure, said = carried("trl-simpo", cpo_alpha=0.0)
    assert pure["settings"]["sft_weight"] == 0.0
    assert "cpo_alpha" not in said
    weighed, said = carried("trl-simpo", cpo_alpha=0.3)
    assert weighed["settings"]["sft_weight"] == 0.3
    assert "not pure SimPO" in said


def test_trl_losses() -> None:
    assert carried("trl-simpo", loss_type="sigmoid")[0]["method"] == "cpo"
    bare = {"simpo_gamma": "REMOVED"}
    assert carried("trl-simpo", loss_type="sigmoid", **bare)[0]["method"] == "dpo"
    ipo, notes = carried("trl-simpo", loss_type="ipo", **bare)
    assert ipo["settings"] == {"tau": 2.0, "ipo_normalize": True}
    assert "by length" in notes
    with pytest.raises(OptionError, match="cannot carry loss_type 'exo_pair'"):
        carried("trl-simpo", loss_type="exo_pair")


def test_trl_hinge_is_the_same_loss_but_for_a_factor() -> None:
    options, notes = carried("trl-simpo", loss_type="hinge", beta=0.2, cpo_alpha=0.5)
    assert "divided by 0.2" in notes
    pairs = PairLogProbs(
        torch.tensor([-5.0, -9.0, -6.0]), torch.tensor([-7.0, -2.0, -30.0]), torch.tensor([2, 3, 4]), torch.ones(3)
    )
    nll = -pairs.chosen.sum() / 9
    expected = torch.relu(1 - 0.2 * (pairs.chosen - pairs.rejected)).mean() + 0.5 * nll
    mine = method_of(options["method"]).function(pairs, **settings_of(options["method"], options["settings"]))
    assert 0.2 * mine.losses.mean().item() == pytest.approx(expected.item())


def test_llama_factory() -> None:
    options, notes = carried("llama-factory")
    assert options["settings"] == {"beta": 2.0, "gamma": 1.0, "sft_weight": 0.1}
    assert options["adapter"] == {"rank": 16}
    assert options["pairs"] == {"max_length": 2048, "max_prompt_length": 1024}
    assert options["optimisation"]["batch_size"] == 8
    assert "dataset_info.json" in notes
    dpo, notes = carried("llama-factory", pref_loss="sigmoid")
    assert (dpo["method"], dpo["settings"]) == ("dpo", {"beta": 2.0})
    assert "pref_ftx 0.1 is not carried" in notes
    assert "simpo_gamma (it belongs to simpo" in notes
    assert "adapter" not in carried("llama-factory", finetuning_type="full")[0]
    with pytest.raises(UnknownName, match="unknown pref_loss 'kto_pair'"):
        carried("llama-factory", pref_loss="kto_pair")
    with pytest.raises(OptionError, match="the stage is 'sft'"):
        carried("llama-factory", stage="sft")


def test_axolotl() -> None:
    options, notes = carried("axolotl", devices=2)
    assert options["method"] == "simpo"
    assert options["settings"] == {"beta": 2.0, "gamma": 0.5, "sft_weight": 1.0}
    assert (options["data"], options["adapter"]) == ("my/pairs", {"rank": 32, "alpha": 16.0})
    assert options["optimisation"]["batch_size"] == 16
    assert options["optimisation"]["learning_rate"] == 0.0002
    assert "type 'chat_template.default' is not carried" in notes
    assert "lora_dropout is not carried" in notes
    assert carried("axolotl", rl="orpo")[0]["settings"] == {"odds_weight": 2.0}


def test_what_cannot_be_carried_is_refused_or_said() -> None:
    with pytest.raises(OptionError, match="both gamma_beta_ratio and an absolute gamma"):
        carried("official-simpo", simpo_gamma=1.0)
    with pytest.raises(OptionError, match="'dataset_mixer' should name one dataset"):
        carried("official-simpo", dataset_mixer={"a": 1.0, "b": 1.0})
    with pytest.raises(OptionError, match="no dataset is named"):
        carried("trl-simpo", dataset_name="REMOVED")
    with pytest.raises(OptionError, match="'beta' should be a number"):
        carried("official-simpo", beta="strong")
    assert "takes 0.5 of" in carried("official-simpo", dataset_mixer={"a": 0.5})[1]
    assert "kept in float32" in carried("official-simpo", torch_dtype="bfloat16")[1]
    assert "schedule 'polynomial' is not known" in carried("official-simpo", lr_scheduler_type="polynomial")[1]
    assert "matter: my_own_key" in carried("official-simpo", my_own_key=1)[1]
