"""Training configurations in the words of four tools, as their users have them on disk."""

CONFIGS = {
    "official-simpo": """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
torch_dtype: null
attn_implementation: flash_attention_2
dataset_mixer:
  princeton-nlp/llama3-ultrafeedback: 1.0
dataset_splits: [train, test]
preprocessing_num_workers: 12
bf16: true
beta: 2.5
gamma_beta_ratio: 0.55
do_eval: true
evaluation_strategy: steps
eval_steps: 400
gradient_accumulation_steps: 16
gradient_checkpointing: true
gradient_checkpointing_kwargs: {use_reentrant: False}
learning_rate: 1.0e-6
log_level: info
logging_steps: 5
lr_scheduler_type: cosine
max_length: 2048
max_prompt_length: 1800
num_train_epochs: 1
optim: adamw_torch
output_dir: outputs/llama-3-8b-instruct-simpo
per_device_train_batch_size: 2
per_device_eval_batch_size: 4
push_to_hub: false
save_strategy: steps
save_steps: 1000000
report_to: [wandb]
save_total_limit: 20
seed: 42
warmup_ratio: 0.1
run_name: llama-3-8b-instruct-simpo
""",
    "trl-simpo": """
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
dataset_name: trl-lib/ultrafeedback_binarized
loss_type: simpo
simpo_gamma: 0.5
beta: 2.0
learning_rate: 1e-6
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
max_length: 1024
use_peft: false
output_dir: qwen-simpo
""",
    "llama-factory": """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 16
lora_target: all
pref_beta: 2.0
pref_ftx: 0.1
pref_loss: simpo
simpo_gamma: 1.0
dataset: dpo_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
output_dir: saves/llama3-8b/lora/dpo
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
""",
    "axolotl": """
base_model: NousResearch/Llama-3.2-1B
rl: simpo
rl_beta: 2.0
datasets:
  - path: my/pairs
    split: train
    type: chat_template.default
sequence_len: 2048
adapter: lora
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 1
optimizer: adamw_torch
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
output_dir: ./outputs/simpo
""",
}
