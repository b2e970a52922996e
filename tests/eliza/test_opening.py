"""Scripts by name: both dialects, packaged ones, and what is missing."""

import pytest

from glassworks.eliza.doctor import DoctorScript
from glassworks.eliza.opening import open_script
from glassworks.eliza.script import Script
from glassworks.errors import DataNotFound, UnknownName


def test_dialects_are_told_apart() -> None:
    assert isinstance(open_script("packaged:counsellor"), DoctorScript)
    assert isinstance(open_script("packaged:small"), Script)


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match="Did you mean small"):
        open_script("packaged:smal")
    with pytest.raises(DataNotFound, match="no such script"):
        open_script("nowhere.txt")
