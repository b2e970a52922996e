"""The verb `eliza chat`: typed and given lines, all engines, explanations."""

import io

import pytest

from glassworks.eliza.chat import eliza_chat, sentence_of
from glassworks.eliza.layers import Options
from glassworks.errors import OptionError

SMALL = Options(max_len=256, max_count=8)


def test_typed_lines_until_a_goodbye(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello.\nBye!\nmore\n"))
    talk = eliza_chat(show=True)
    assert talk.turns == (("Hello.", "HELLO. WHAT BRINGS YOU HERE"),)
    assert talk.summary() == "1 turn"
    assert talk.as_sample() == {"question": "Hello.", "answer": "HELLO. WHAT BRINGS YOU HERE"}
    printed = capsys.readouterr().out
    assert printed.startswith("GOOD DAY. WHAT IS ON YOUR MIND\nHELLO.")
    assert "    keywords HELLO" in printed
    assert "LIMIT 2, remembered: nothing" in printed


def test_engines_agree_and_compiled_chat_shows_its_heads(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["c g h", "z", "d a e a f b"]
    symbolic = eliza_chat("packaged:small", say=lines, show=True)
    assert "memory queue: 1" in capsys.readouterr().out
    assert eliza_chat("packaged:small", "compiled", True, lines, SMALL) == symbolic
    printed = capsys.readouterr().out
    assert "memory lookup: looks at 5 (.)" in printed
    assert "copy: g from 3, h from 4" in printed


def test_keyword_script_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["I'm sad", "my mother is here", "alike"]
    assert eliza_chat("packaged:listener", "compiled", True, lines, SMALL) == eliza_chat("packaged:listener", say=lines)
    assert "writes first: =I YOU ARE SAD ." in capsys.readouterr().out


def test_other_than_letters_are_refused() -> None:
    assert sentence_of("ab c.") == ["U", "a", "b", "c", "."]
    with pytest.raises(OptionError, match="speaks in letters"):
        eliza_chat("packaged:small", say=["1 2"])


def test_an_input_that_cannot_be_answered_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = Options(max_len=256, max_count=2)
    monkeypatch.setattr("sys.stdin", io.StringIO("c g\nc h\nc k\nz\nz\n"))
    talk = eliza_chat("packaged:small", "compiled", mechanisms=bound)
    assert "beyond 2 inputs" in capsys.readouterr().out
    assert talk == eliza_chat("packaged:small", say=["c g", "c h", "z", "z"])
