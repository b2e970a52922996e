"""Loading: the weights that were saved come back bit for bit; what cannot be loaded says why, before loading."""

import json
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tokenizers import chat_tokenizer
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from glassworks.errors import ModelNotFound, NotAModel, OptionError, UnsafeCheckpoint, UnsupportedArchitecture
from glassworks.foundations.models import load_model, load_tokenizer, model_sha, pick_device, resolve_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Llama and its tokenizer, saved."""
    tiny_model("llama", dtype=torch.float32, vocab_size=400).save_pretrained(tmp_path / "tiny")
    chat_tokenizer("llama3").save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def to_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def write_gguf(model: PreTrainedModel, path: Path) -> None:
    """A tiny Llama in GGUF, float32, query and key rows interleaved as that format's rotation wants them."""
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in weights.items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:
            rows, columns = weight.shape
            weight = weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)
        writer.add_tensor(names.get_name(name, (".weight",)) or name, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_saved_weights_come_back_bit_for_bit(folder: Path) -> None:
    original = tiny_model("llama", dtype=torch.float32, vocab_size=400).state_dict()
    model = load_model(str(folder))
    assert not model.training
    assert model.dtype == torch.float32
    assert all(torch.equal(weight, original[name]) for name, weight in model.state_dict().items())
    assert load_tokenizer(str(folder)).chat_template == chat_tokenizer("llama3").chat_template


@pytest.mark.parametrize("name", ["bert", "bert_classifier", "gpt2"])
def test_each_task_loads_its_model(tmp_path: Path, name: str) -> None:
    original = tiny_model(name, dtype=torch.float32)
    original.save_pretrained(tmp_path)
    task = {"bert": "masked_lm", "bert_classifier": "sequence_classification", "gpt2": "causal_lm"}[name]
    loaded = load_model(str(tmp_path), task=task)
    ids = torch.arange(3, 12)[None]
    # Equal weights; memory that begins elsewhere may be summed in another order.
    assert torch.allclose(loaded(ids).logits, original(ids).logits, atol=1e-5)


def test_dtype_is_as_stored_or_as_asked(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_model(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    tiny_model("llama", dtype=torch.bfloat16).save_pretrained(folder)
    assert load_model(str(folder)).dtype == torch.bfloat16
    tiny_model("llama", dtype=torch.float16).save_pretrained(folder)
    assert load_model(str(folder), device="cpu").dtype == torch.float32
    assert "stored in float16" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16", "device": "cpu"}, "dtype: float16 runs some six times slower"),
        ({"dtype": "fp8"}, "dtype: unknown dtype 'fp8'"),
        ({"device": "tpu"}, "device: unknown device 'tpu'"),
        ({"device": "cuda:99"}, "device: 'cuda:99' was asked for, but torch sees"),
        ({"task": "translation"}, "task: unknown task 'translation'"),
    ],
)
def test_impossible_options_are_refused_before_the_model_is_looked_at(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        load_model("no/such/model", **options)


def test_device_auto_is_one_that_exists() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_gguf_file_and_folder_load_dequantised(tmp_path: Path) -> None:
    original = tiny_model("llama", dtype=torch.float32)
    write_gguf(original, tmp_path / "tiny.gguf")
    ids = torch.arange(3, 20)[None]
    for name in (tmp_path, tmp_path / "tiny.gguf"):
        loaded = load_model(str(name), device="cpu")
        assert loaded.dtype == torch.float32
        assert torch.allclose(loaded(ids).logits, original(ids).logits, atol=1e-5)
    shutil.copy(tmp_path / "tiny.gguf", tmp_path / "other.gguf")
    with pytest.raises(NotAModel, match=r"holds 2 GGUF files: other\.gguf, tiny\.gguf\. Name one"):
        resolve_model(tmp_path)


def test_safetensors_file_stands_for_its_folder(folder: Path) -> None:
    assert resolve_model(folder / "model.safetensors") == folder


def test_pickled_weights_need_consent_and_run_no_code_even_then(folder: Path) -> None:
    original = load_model(str(folder))
    to_pickle(folder)
    with pytest.raises(UnsafeCheckpoint, match=r"only pickled weights \(pytorch_model\.bin\).*allow_pickle=True"):
        load_model(str(folder))
    loaded = load_model(str(folder), allow_pickle=True)
    assert torch.equal(loaded.lm_head.weight, original.lm_head.weight)
    torch.save({"lm_head.weight": Path("/")}, folder / "pytorch_model.bin")  # any class at all, not only tensors
    with pytest.raises(UnsafeCheckpoint, match="other objects than tensors"):
        load_model(str(folder), allow_pickle=True)


def test_pickle_beside_safetensors_is_never_opened(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"would run code")
    load_model(str(folder), allow_pickle=True)


def test_fingerprint_follows_every_weight_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    first = model_sha(str(folder))
    assert len(first) == 16
    shutil.copytree(folder, tmp_path / "moved")
    (tmp_path / "moved" / "README.md").write_text("a card")
    assert model_sha(str(tmp_path / "moved")) == first
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(9.0))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert model_sha(str(folder)) != first
    (tmp_path / "moved" / "chat_template.jinja").write_text("{{ messages }}")
    assert model_sha(str(tmp_path / "moved")) != first


def test_unknown_architecture_gives_the_nearest(folder: Path) -> None:
    edit_config(folder, model_type="lama")
    with pytest.raises(UnsupportedArchitecture, match=r"does not know model_type 'lama'\. Did you mean .*llama"):
        resolve_model(folder)
    edit_config(folder, model_type="zzzz", auto_map={"AutoConfig": "code.Config"})
    with pytest.raises(UnsupportedArchitecture, match="needs Python code from the checkpoint.*trust_remote_code"):
        resolve_model(folder)
    assert resolve_model(folder, trust_remote_code=True) == folder


def test_model_for_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedArchitecture, match="cannot be loaded for masked_lm"):
        load_model(str(folder), task="masked_lm")


def test_weights_that_would_be_random_are_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotAModel, match=r"1 weights that causal_lm needs are not in the checkpoint: lm_head\.weight"):
        load_model(str(folder))
    load_model(str(folder), task="sequence_classification")
    assert "new random classification head (score.weight)" in caplog.text
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotAModel, match="sequence_classification needs are not in the checkpoint"):
        load_model(str(folder), task="sequence_classification")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit_config(folder, intermediate_size=64)
    with pytest.raises(NotAModel, match="the weights do not fit the configuration"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/model", "no such file or folder, and no/such does not exist either"),
        ("./nothing", r"no such file or folder\. In \. there is"),
        ("nothing.gguf", "no such file or folder"),
        ("some_org/some_model", "there is no folder 'some_org/some_model' here, and the hub model is not in the local"),
        ("two words", "neither a path that exists nor a hub id"),
        ("", "neither a path that exists nor a hub id"),
    ],
)
def test_what_is_not_there_is_told_apart(name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        resolve_model(name)


def test_hub_id_in_the_cache_is_its_snapshot(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    assert resolve_model("org/tiny") == snapshot
    assert model_sha("org/tiny") == model_sha(str(folder))


def test_folder_without_tokenizer_is_told(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(NotAModel, match="no usable tokenizer"):
        load_tokenizer(str(folder))
    tiny_model("gpt2").save_pretrained(folder)  # for which transformers makes a tokenizer without words
    with pytest.raises(NotAModel, match="has no tokenizer"):
        load_tokenizer(str(folder))


def test_packaged_texts_are_no_model() -> None:
    with pytest.raises(NotAModel, match=r"packaged:fanoutqa: holds questions .* not a model"):
        resolve_model("packaged:fanoutqa")


@pytest.mark.real_model
def test_packaged_model_knows_paris() -> None:
    model, tokenizer = load_model("packaged:smollm2", device="cpu"), load_tokenizer("packaged:smollm2")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
