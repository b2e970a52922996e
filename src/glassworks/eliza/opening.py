"""Which script is meant: a file in either dialect, or `packaged:NAME` for one that comes with the package."""

from __future__ import annotations

from pathlib import Path

from glassworks.eliza.doctor import DoctorScript, parse_doctor
from glassworks.eliza.script import Script, read_script
from glassworks.eliza.scripts import SCRIPTS
from glassworks.errors import DataNotFound, MalformedRecord, UnknownName

PACKAGED = "packaged:"


def packaged_scripts() -> dict[str, Path]:
    """Name -> file of the scripts that come with the package."""
    return {path.stem: path for path in sorted(SCRIPTS.iterdir()) if path.suffix in (".txt", ".eliza")}


def script_path(name: str) -> Path:
    """The file that a script's name stands for. Raises UnknownName or DataNotFound."""
    if name.startswith(PACKAGED):
        known = packaged_scripts()
        wanted = name.removeprefix(PACKAGED)
        if wanted not in known:
            raise UnknownName("packaged script", wanted, known)
        return known[wanted]
    if not Path(name).is_file():
        names = ", ".join(PACKAGED + known for known in packaged_scripts())
        raise DataNotFound("no such script", place=name, remedy=f"Scripts that come along: {names}.")
    return Path(name)


def open_script(name: str) -> Script | DoctorScript:
    """A script of either dialect, told apart by its first character. Raises DataNotFound, MalformedRecord."""
    path = script_path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRecord(f"not UTF-8 text (byte {error.start})", place=name) from error
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(";")), "")
    return parse_doctor(text, name) if first.startswith("(") else read_script(path)
