"""Verb `eliza compile`: a script in, a Hugging Face folder and its circuit out, with the proof that both are exact.

The model answers random conversations teacher-forced and free-running; every token is compared with the interpreter.
`circuit.json` holds all edges that carry anything, `necessary.json` those whose removal changes a reply. For circuit
finders: `pairs.jsonl`, clean and corrupted prompts, and `truth.json`, the edges that these need under interchange.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DynamicCache, PreTrainedTokenizerFast

from glassworks.eliza.compiling import Compiled, Dtype, check_options, compile_script, symbolic_copy
from glassworks.eliza.doctor import DoctorScript
from glassworks.eliza.doctor_interpreter import DoctorInterpreter, split_words
from glassworks.eliza.exactness import Difference, answer, differences, free_differences
from glassworks.eliza.ground_truth import interchange_circuit, necessary_circuit, non_edges_do_nothing, true_circuit
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.keyword_scripts import Slots, clause_of, machine_of_keywords
from glassworks.eliza.layers import Options
from glassworks.eliza.machine import PAD, UNKNOWN
from glassworks.eliza.opening import open_script, script_path
from glassworks.eliza.prompt_pairs import as_jsonl, prompt_pairs
from glassworks.eliza.random_scripts import random_sentences
from glassworks.eliza.script import ELIZA, END, START, USER, Script
from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.circuit_files import write_circuit
from glassworks.foundations.data import file_sha
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.models import model_sha
from glassworks.foundations.runs import Run

MODEL, CIRCUIT, NECESSARY, SAMPLES = "model", "circuit.json", "necessary.json", "samples.jsonl"
PAIRS, TRUTH = "pairs.jsonl", "truth.json"
TURNS = 12
PROMPT_PAIRS = 48


@dataclass(frozen=True)
class Checked:
    """What a compiled script was found to do. samples: questions and answers to show; transcripts: of tokens."""

    forced: Difference
    free: Difference
    samples: list[dict[str, Any]]
    transcripts: list[list[str]]


def eliza_compile(
    script: str = "packaged:small",
    out: str = "runs/eliza-compile",
    mechanisms: Options = Options(),
    dtype: Dtype = "float32",
    superposed: bool = False,
    conversations: int = 4,
    seed: int = 0,
) -> Run:
    """Compile a script to an exact Transformer, check it token by token, and write its known circuit.

    Args:
        script: File in either dialect, an official script.csv, or packaged:tiny, packaged:small, packaged:listener.
        out: The run folder; the model is its folder `model`, the circuit circuit.json and necessary.json.
        mechanisms: Which mechanism does what, and the bounds.
        dtype: Precision of the weights; float32 is exact to 2048 tokens.
        superposed: Rotate the residual stream at random, float64 only: no dimension has a meaning of its own.
        conversations: Random conversations that the check compares, of twelve turns each.
        seed: Draws the conversations.
    """
    arguments = dict(locals())
    with Run.start(out, eliza_compile, arguments) as run:
        check_options(mechanisms, dtype, superposed)
        check_at_least(1, conversations=conversations)
        opened = open_script(script)
        machine = machine_of_keywords(opened) if isinstance(opened, DoctorScript) else opened
        compiled = compile_script(machine, mechanisms, dtype=dtype, superposed=superposed)
        if isinstance(opened, DoctorScript):
            checked = check_keywords(compiled, opened, conversations, seed)
        else:
            checked = check_synthetic(compiled, opened, conversations, seed)
        save(compiled, run)
        if isinstance(opened, Script) and not superposed:
            run.record(_write_pairs(run, compiled, opened, seed))
        write_text(run.path / SAMPLES, "".join(json.dumps(sample) + "\n" for sample in checked.samples))
        _record(run, compiled, checked, file_sha(script_path(script)), superposed, seed)
    return run


def check_synthetic(compiled: Compiled, script: Script, conversations: int, seed: int) -> Checked:
    """Compare with the synthetic interpreter on random conversations, as long as the model's bounds allow.

    A model that copies by induction is compared with an interpreter that copies in the same way.
    """
    config, copy = compiled.model.config, symbolic_copy(compiled.options)
    forced, free = Difference(0, 0), Difference(0, 0)
    samples: list[dict[str, Any]] = []
    transcripts: list[list[str]] = []
    for number in range(conversations):
        turns = converse(script, random_sentences(script, min(TURNS, config.max_count), seed + number), copy)
        while len(transcript(turns)) > config.max_position_embeddings:
            turns.pop()
        if not turns:
            raise OptionError(
                f"the first turn of a random conversation has more than {config.max_position_embeddings} tokens",
                place="mechanisms.max_len",
                remedy="Give more room.",
            )
        transcripts.append(transcript(turns))
        forced = _sum(forced, differences(compiled, transcripts[-1]))
        free = _sum(free, free_differences(compiled, turns))
        if number == 0:
            samples = [{"question": " ".join(t.sentence), "answer": " ".join(t.reply)} for t in turns[:4]]
    return Checked(forced, free, samples, transcripts)


def check_keywords(compiled: Compiled, script: DoctorScript, conversations: int, seed: int) -> Checked:
    """Compare with the interpreter of 1966 on random words of the script and some that it does not know."""
    words = [word for word in script.rules if " " not in word] + ["DOG", "RUNS"]
    free = Difference(0, 0)
    samples: list[dict[str, Any]] = []
    transcripts: list[list[str]] = []
    for number in range(conversations):
        draw = random.Random(seed + number)
        eliza, cache, slots = DoctorInterpreter(script), DynamicCache(), Slots(compiled.machine)
        pending, whole = [START], [START]
        for _ in range(TURNS):
            text = " ".join(draw.choices(words, k=draw.randint(1, 6)))
            wanted = eliza.respond(text).text.split()
            sentence = [USER, *slots.encode(clause_of(script, split_words(text))), END]
            reply = answer(compiled, cache, [*pending, *sentence], compiled.program.max_len)
            pending, whole = reply[-1:], [*whole, *sentence, *reply]
            said = slots.decode(reply[reply.index(ELIZA) + 1 : -1]) if ELIZA in reply else []
            wrong = sum(a != b for a, b in zip(said, wanted, strict=False)) + abs(len(said) - len(wanted))
            free = _sum(free, Difference(len(wanted) + 1, wrong))
            if len(samples) < 4:
                samples.append(
                    {"question": text, "answer": " ".join(said), "turns written first": reply.count(END) - 1}
                )
        transcripts.append(whole)
    forced = Difference(0, 0)
    for tokens in transcripts:
        forced = _sum(forced, differences(compiled, tokens))
    return Checked(forced, free, samples, transcripts)


def _beginning(tokens: list[str]) -> list[str]:
    """The first half of a conversation: enough to need most edges, at a quarter of the cost."""
    ends = [at + 1 for at, token in enumerate(tokens) if token == END]
    return tokens[: ends[2 * (len(ends) // 4) - 1]]


def _sum(a: Difference, b: Difference) -> Difference:
    return Difference(a.tokens + b.tokens, a.wrong + b.wrong)


def tokenizer_of(tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    """The word tokenizer of a vocabulary."""
    core = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, padding_side="left"
    )


def save(compiled: Compiled, run: Run) -> None:
    """The model's folder with its tokenizer, and the program's heads by name."""
    folder = run.path / MODEL
    compiled.model.save_pretrained(folder)
    tokenizer_of(compiled.program.tokens).save_pretrained(folder)
    heads = {
        f"a{layer}.h{number}": head.name
        for layer, part in enumerate(compiled.program.layers)
        for number, head in enumerate(part.heads)
    }
    write_text(folder / "heads.json", json.dumps(heads, indent=2) + "\n")


def _write_pairs(run: Run, compiled: Compiled, script: Script, seed: int) -> Evidence:
    """Prompts for circuit finders, and the edges that they need. Returns how many these are."""
    config = compiled.model.config
    longest, turns = min(48, config.max_position_embeddings), min(3, config.max_count)
    copy = symbolic_copy(compiled.options)
    pairs = prompt_pairs(script, PROMPT_PAIRS, max_len=longest, max_turns=turns, copy=copy, seed=seed)
    write_text(run.path / PAIRS, as_jsonl(pairs))
    needed = interchange_circuit(compiled, pairs)
    write_circuit(run.path / TRUTH, needed)
    claim = "Edges that the prompt pairs need, the others carrying the corrupted prompt's activations"
    return Evidence("eliza", claim, "pairs_necessary_edges", float(needed.n_edges), n=len(pairs), seed=seed,
                    setting=f"of {needed.graph.n_edges} edges", artefact=TRUTH)  # fmt: skip


def _record(run: Run, compiled: Compiled, checked: Checked, sha: str, superposed: bool, seed: int) -> None:
    config = compiled.model.config
    setting = f"{config.num_hidden_layers} layers, {config.num_attention_heads} heads, width {config.hidden_size}"
    figures: list[tuple[str, str, float, int | None, str]] = [
        ("Reply tokens that differ from the script's, teacher-forced", "forced_differences", checked.forced.wrong,
         checked.forced.tokens, MODEL),
        ("Reply tokens that differ from the script's, free-running", "free_differences", checked.free.wrong,
         checked.free.tokens, MODEL),
        ("Weights that are not zero", "nonzero_weights",
         sum(int(p.count_nonzero()) for p in compiled.model.parameters()), compiled.model.num_parameters(), MODEL),
    ]  # fmt: skip
    if not superposed:
        circuit = true_circuit(compiled.program)
        needed = necessary_circuit(compiled, [_beginning(checked.transcripts[0])])
        write_circuit(run.path / CIRCUIT, circuit)
        write_circuit(run.path / NECESSARY, needed)
        idle = non_edges_do_nothing(compiled, checked.transcripts[0])
        figures += [
            ("Edges that carry anything", "true_edges", circuit.n_edges, circuit.graph.n_edges, CIRCUIT),
            ("Edges that a conversation needs", "necessary_edges", needed.n_edges, circuit.n_edges, NECESSARY),
            ("Logits unchanged bit for bit without all other edges", "idle_non_edges", float(idle), None, CIRCUIT),
        ]
    worse = {"forced_differences", "free_differences"}
    fingerprint = model_sha(str(run.path / MODEL))
    run.record(
        *(
            Evidence("eliza", claim, metric, float(value), better="lower" if metric in worse else "none", n=n,
                     setting=setting, seed=seed, model_sha=fingerprint, data_sha=sha, artefact=artefact)
            for claim, metric, value, n, artefact in figures
        )
    )  # fmt: skip
