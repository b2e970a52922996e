"""A small data folder and the two compiled models of its script, made once a session."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from glassworks.eliza.compile_verb import eliza_compile
from glassworks.eliza.conversations import ConversationShape, ScriptShape
from glassworks.eliza.generate import eliza_generate
from glassworks.eliza.layers import Options

SCRIPT = ScriptShape(
    num_templates=2,
    max_transformations_per_template=3,
    null_template_cycle_version=1,
    max_num_wildcards=2,
    max_ngram_len=1,
    template_prefix_len=2,
)
TALK = ConversationShape(max_turns=10, max_conversation_len=128, memory_ratio=2, max_copy_len=4)


@cache
def data_folder() -> str:
    """The folder of a run of `eliza generate`."""
    return str(eliza_generate(str(Path(mkdtemp()) / "data"), 120, SCRIPT, TALK, seed=1).path)


@cache
def compiled_folder(mechanism: str) -> str:
    """The model folder of the data's script, counting or tracing."""
    counting = Options(max_len=192, max_count=16)
    options = counting if mechanism == "count" else replace(counting, cycling="trace", memory="trace")
    run = eliza_compile(f"{data_folder()}/script.csv", str(Path(mkdtemp()) / mechanism), options, conversations=1)
    return str(run.path / "model")
