"""Atomic files and folders, hashes, and full disks."""

import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassworks.foundations.files import (
    atomic_write,
    files_below,
    is_out_of_space,
    path_sha,
    remove_partial,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_folders_are_replaced_whole(tmp_path: Path) -> None:
    for names in (["a", "b"], ["c"]):
        with atomic_write(tmp_path / "folder") as temporary:
            temporary.mkdir()
            for name in names:
                (temporary / name).write_text(name)
    assert [name for name, _ in files_below(tmp_path)] == ["folder/c"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    writer = atomic_write(tmp_path / "deep" / "a.txt")
    writer.__enter__().write_text("half")
    assert len(list((tmp_path / "deep").iterdir())) == 1
    remove_partial(tmp_path)
    assert not list((tmp_path / "deep").iterdir())


def test_hash_of_the_empty_file_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert path_sha(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=8), min_size=1))
def test_folder_hash_sees_names_and_contents(tmp_path: Path, content: dict[str, bytes]) -> None:
    with atomic_write(tmp_path / "folder") as folder:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    before = path_sha(tmp_path / "folder")
    name, data = next(iter(content.items()))
    (tmp_path / "folder" / name).write_bytes(data + b"x")
    changed = path_sha(tmp_path / "folder")
    (tmp_path / "folder" / name).write_bytes(data)
    (tmp_path / "folder" / name).rename(tmp_path / "folder" / "z")
    assert len({before, changed, path_sha(tmp_path / "folder")}) == 3


def test_full_disk_is_recognised_from_python_and_from_native_code() -> None:
    assert is_out_of_space(OSError(errno.ENOSPC, "No space left on device"))
    assert is_out_of_space(RuntimeError("lance error: IO: No space left on device (os error 28)"))
    assert not is_out_of_space(OSError(errno.ENOENT, "no such file"))


def test_json_keeps_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ä"})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": "ä"\n}\n'
