"""Folders that are no model, or a broken one: each refused from names and headers, with what is there."""

import json
from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model

from glassworks.errors import ModelNotFound, NotAModel, UnsafeCheckpoint
from glassworks.foundations.checkpoints import check_checkpoint, check_weight_names, missing_path

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("llama", dtype=torch.float32).save_pretrained(tmp_path / "tiny", max_shard_size="20KB")
    assert len(list((tmp_path / "tiny").glob("model-*.safetensors"))) > 1
    return tmp_path / "tiny"


def test_sharded_folder_passes(folder: Path) -> None:
    assert check_checkpoint(folder) == folder


def test_foreign_folder_lists_what_is_there(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(NotAModel, match=r"expected config\.json with model\.safetensors .*; found a\.txt, b\.txt"):
        check_checkpoint(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAModel, match="found an empty folder"):
        check_checkpoint(tmp_path / "empty")


def test_folder_above_the_model_points_to_it(folder: Path) -> None:
    with pytest.raises(NotAModel, match=f"Did you mean {folder}"):
        check_checkpoint(folder.parent)


def test_adapter_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(NotAModel, match="adapter, not a whole model"):
        check_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read as JSON"), ("[]", "names no model_type"), ('{"a": 1}', "names no model_type")],
)
def test_broken_configuration_is_named(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(NotAModel, match=rf"config\.json: {message}"):
        check_checkpoint(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused_from_the_header(folder: Path, keep: int) -> None:
    file = sorted(folder.glob("model-*.safetensors"))[1]
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(NotAModel, match=rf"{file.name}: is truncated or corrupt .*Copy or download it again"):
        check_checkpoint(folder)


def test_lfs_pointers_say_what_they_are(folder: Path) -> None:
    file = sorted(folder.glob("model-*.safetensors"))[0]
    file.write_bytes(LFS)
    with pytest.raises(NotAModel, match="Git LFS pointer"):
        check_checkpoint(folder)
    (folder / "x.gguf").write_bytes(LFS)
    with pytest.raises(NotAModel, match=r"not a GGUF file \(starts with b'vers'\)\. It is a Git LFS pointer"):
        check_checkpoint(folder / "x.gguf")


def test_missing_shard_and_unreadable_index_are_named(folder: Path) -> None:
    lost = sorted(folder.glob("model-*.safetensors"))[-1]
    lost.unlink()
    with pytest.raises(NotAModel, match=rf"1 of \d+ weight files are missing: {lost.name}"):
        check_checkpoint(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}}))
    with pytest.raises(NotAModel, match="has no readable weight_map"):
        check_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "model.pkl"])
def test_pickles_are_refused_by_name(folder: Path, name: str) -> None:
    with pytest.raises(UnsafeCheckpoint, match=f"only pickled weights \\({name}\\)"):
        check_weight_names(["config.json", name], "org/model")
    (folder / name).write_bytes(b"")
    with pytest.raises(UnsafeCheckpoint, match="is a pickle"):
        check_checkpoint(folder / name)
    assert check_checkpoint(folder) == folder  # beside safe weights they do no harm


def test_no_weights_at_all() -> None:
    with pytest.raises(NotAModel, match="found no weights in config.json"):
        check_weight_names(["config.json"], "org/model")
    assert check_weight_names(["pytorch_model.bin"], "org/model", allow_pickle=True) is False


def test_single_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NotAModel, match="this is a single file"):
        check_checkpoint(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["gpt2", "org/model"])
def test_hub_ids_are_not_taken_for_paths(name: str) -> None:
    assert missing_path(name) is None


@pytest.mark.parametrize("name", ["./x", "/x/y", "~/x", "a/b/c", "x.gguf", "x.safetensors", "x.bin"])
def test_paths_are_not_taken_for_hub_ids(name: str) -> None:
    assert isinstance(missing_path(name), ModelNotFound)
