"""What a model can do with its state is found out from the model; it is called in eval mode and left as it was."""

from __future__ import annotations

from cases.byte_models import GREEDY, PROMPTS, local


def test_a_model_in_training_is_read_in_eval_mode_and_left_in_training() -> None:
    model = local()
    wanted = model.generate(PROMPTS, GREEDY)
    model.model.train()
    model.model.lm_head.eval()
    assert model.generate(PROMPTS, GREEDY) == wanted
    assert model.model.training
    assert not model.model.lm_head.training
