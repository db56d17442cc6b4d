"""Makes tests/data/tiny: a small random model of every architecture, as a folder and as a GGUF file, with reference logits.

    pip install torch transformers gguf
    python scripts/tiny-models.py tests/data/tiny [NAME ...]

The folder is what `transformers` saves. The GGUF file holds the same weights under the names, in the order of rows and with
the keys that GGUF files of the architecture have. The logits are those of `transformers` in float32.
"""
import json
import math
import os
import re
import sys

import gguf
import numpy as np
import torch
import safetensors.numpy
import safetensors.torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 96
PROMPT = 24
# More than a window and a prefill's part together: caches of layers with a window have let rows go by then.
LONG_PROMPT = 560
LONG_ROWS = 3
COMMON = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    attn_implementation="eager",
)
# For architectures whose heads' size is the width divided by the heads' number: 16, or 32.
NARROW = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1)
WIDE = dict(hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
HEAD = dict(head_dim=32)
# For those of many layers.
SLIM = HEAD | dict(hidden_size=16, num_attention_heads=2, num_key_value_heads=1)
SMALL = dict(hidden_size=16, num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=24,
             tie_word_embeddings=True)
GELU = dict(hidden_activation="gelu_pytorch_tanh")
WINDOW = dict(sliding_window=8, max_position_embeddings=1024)


def rope(base=10000.0, kind="default", **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=base, **more))


def longrope(trained):
    factors = dict(short_factor=[1 + 0.1 * i for i in range(6)], long_factor=[1 + 1.5 * i for i in range(6)])
    partial = dict(partial_rotary_factor=0.75, original_max_position_embeddings=trained)
    return dict(**partial, **rope(kind="longrope", **partial, **factors))


def gpt_oss(truncate):
    yarn = dict(kind="yarn", factor=4.0, beta_fast=32.0, beta_slow=1.0, truncate=truncate, original_max_position_embeddings=64)
    return dict(**SLIM, **WINDOW, num_local_experts=4, num_experts_per_tok=2, intermediate_size=32, **rope(150000.0, **yarn))


def yarn(original, scale, **more):
    """YaRN whose sines are multiplied by the quotient of two magnitudes, which is 1."""
    scales = dict(mscale=scale, mscale_all_dim=scale)
    return rope(kind="yarn", factor=4.0, original_max_position_embeddings=original, **scales, **more)


def routed(n_experts, n_chosen, **more):
    """A layer without experts, then one with them, of which one or more are shared by all tokens."""
    return dict(n_routed_experts=n_experts, num_experts_per_tok=n_chosen, moe_intermediate_size=12, n_shared_experts=1,
                first_k_dense_replace=1, intermediate_size=24, num_nextn_predict_layers=0, **more)


# Attention through a latent, with sizes that all differ.
# `transformers` has this epsilon for the norms of latents whatever the configuration says of the others.
LATENT = dict(hidden_size=16, rms_norm_eps=1e-6, kv_lora_rank=32, qk_rope_head_dim=8, qk_nope_head_dim=20, v_head_dim=12,
              num_attention_heads=2, num_key_value_heads=2)
ONE_GROUP = dict(n_group=1, topk_group=1)
GROUPS = dict(n_group=4, topk_group=2)
# Two layers, the first of which is a gated delta net: two heads of keys, each read by two heads of values.
DELTA_NET = HEAD | dict(
    num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, layer_types=["linear_attention", "full_attention"],
    linear_key_head_dim=16, linear_value_head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4)
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
# Name: the type of model in config.json, the architecture in GGUF, and the configuration.
MODELS = {
    "llama": ("llama", "llama", HEAD | rope()),
    "llama3": ("llama", "llama", HEAD | dict(tie_word_embeddings=True) | rope(
        500000.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
    "llama-linear": ("llama", "llama", HEAD | rope(kind="linear", factor=4.0)),
    "mistral": ("mistral", "llama", HEAD | dict(sliding_window=None) | rope(1e6)),
    "mixtral": ("mixtral", "llama", HEAD | dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=24,
                                                sliding_window=None) | rope(1e6)),
    "qwen2": ("qwen2", "qwen2", WIDE | dict(tie_word_embeddings=True) | rope(1e6)),
    "qwen2-yarn": ("qwen2", "qwen2", NARROW | rope(1e6, "yarn", factor=4.0, original_max_position_embeddings=64)),
    "qwen3": ("qwen3", "qwen3", SLIM | dict(num_hidden_layers=4, intermediate_size=32, tie_word_embeddings=True) | rope(1e6)),
    "qwen3moe": ("qwen3_moe", "qwen3moe", HEAD | MOE | dict(norm_topk_prob=True) | rope(1e6)),
    "qwen2moe": ("qwen2_moe", "qwen2moe", NARROW | MOE | dict(norm_topk_prob=False, shared_expert_intermediate_size=40)
                 | rope(1e6)),
    "gemma": ("gemma", "gemma", HEAD | GELU | rope()),
    "gemma2": ("gemma2", "gemma2", HEAD | GELU | WINDOW | dict(
        num_hidden_layers=3, query_pre_attn_scalar=32, attn_logit_softcapping=50.0, final_logit_softcapping=30.0) | rope()),
    # One layer more than the period of its windows.
    "gemma3": ("gemma3_text", "gemma3", SLIM | GELU | WINDOW | dict(
        num_hidden_layers=7, intermediate_size=32, query_pre_attn_scalar=32,
        rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                             full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6)))),
    # The last two layers read the keys and values of the two before.
    "gemma4": ("gemma4_text", "gemma4", GELU | WINDOW | dict(
        head_dim=16, global_head_dim=32, num_attention_heads=2, num_key_value_heads=1, num_global_key_value_heads=2,
        num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2, num_kv_shared_layers=2,
        intermediate_size=24, attention_k_eq_v=True, use_double_wide_mlp=True, hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY, final_logit_softcapping=30.0)),
    "gemma4moe": ("gemma4_text", "gemma4", GELU | WINDOW | dict(
        head_dim=16, global_head_dim=32, num_attention_heads=2, num_key_value_heads=1, num_global_key_value_heads=2,
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], num_kv_shared_layers=0,
        intermediate_size=24, attention_k_eq_v=True, hidden_size_per_layer_input=0,
        enable_moe_block=True, num_experts=6, top_k_experts=2, moe_intermediate_size=16, final_logit_softcapping=None)),
    "phi3": ("phi3", "phi3", NARROW | dict(sliding_window=None) | rope()),
    # Contexts of up to 256 tokens are short.
    "phi4mini-short": ("phi3", "phi3", NARROW | dict(
        sliding_window=None, max_position_embeddings=1024, tie_word_embeddings=True) | longrope(256)),
    # More than 16 are long: the prompt is.
    "phi4mini-long": ("phi3", "phi3", NARROW | dict(sliding_window=None, tie_word_embeddings=True) | longrope(16)),
    "olmo2": ("olmo2", "olmo2", dict(hidden_size=64) | rope(500000.0)),
    "granite": ("granite", "granite", NARROW | dict(
        num_hidden_layers=4, embedding_multiplier=6.0, attention_multiplier=0.09, residual_multiplier=0.22,
        logits_scaling=4.0, tie_word_embeddings=True) | rope()),
    "smollm3": ("smollm3", "smollm3", NARROW | dict(
        num_hidden_layers=4, no_rope_layer_interval=4, tie_word_embeddings=True) | rope(5e6)),
    "cohere2": ("cohere2", "cohere2", SLIM | WINDOW | dict(
        num_hidden_layers=4, logit_scale=0.25,
        layer_norm_eps=1e-5, sliding_window_pattern=4) | rope(50000.0)),
    "glm4": ("glm4", "glm4", HEAD | dict(partial_rotary_factor=0.5, attention_bias=True) | rope(partial_rotary_factor=0.5)),
    "gpt-oss": ("gpt_oss", "gpt-oss", gpt_oss(truncate=False) | dict(num_hidden_layers=3)),
    "olmo3": ("olmo3", "olmo2", SMALL | WINDOW | dict(num_hidden_layers=4, rope_parameters=dict(
        sliding_attention=dict(rope_type="default", rope_theta=500000.0),
        full_attention=dict(rope_type="yarn", rope_theta=500000.0, factor=4.0, original_max_position_embeddings=16)))),
    "exaone4": ("exaone4", "exaone4", SMALL | WINDOW | dict(num_hidden_layers=4, sliding_window_pattern=4) | rope(
        1e6, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)),
    # Without windows all layers have positions.
    "exaone4-small": ("exaone4", "exaone4", SMALL | dict(
        sliding_window=None, sliding_window_pattern=None, layer_types=["full_attention"] * 2) | rope(1e6)),
    "seed_oss": ("seed_oss", "seed_oss", SMALL | dict(head_dim=32, attention_bias=True) | rope(1e7)),
    "ernie4_5": ("ernie4_5", "ernie4_5", SMALL | rope(500000.0)),
    # The text is longer than what the model was trained with before it was stretched, so that queries grow.
    "mistral3": ("ministral3", "mistral3", SMALL | HEAD | yarn(
            10, 1.0, beta_fast=0.5, beta_slow=0.02, llama_4_scaling_beta=0.1)),
    "glm4moe": ("glm4_moe", "glm4moe", SMALL | ONE_GROUP | routed(6, 2, routed_scaling_factor=1.5) | dict(
        use_qk_norm=True, attention_bias=True, num_nextn_predict_layers=1, tie_word_embeddings=False)
        | rope(partial_rotary_factor=0.5)),
    "glm4moe-air": ("glm4_moe", "glm4moe", SMALL | GROUPS | routed(
        8, 2, norm_topk_prob=False, routed_scaling_factor=0.8) | dict(use_qk_norm=False) | rope(partial_rotary_factor=0.5)),
    "deepseek2-lite": ("deepseek_v2", "deepseek2", LATENT | ONE_GROUP | routed(6, 2, topk_method="greedy") | dict(
        q_lora_rank=None, n_shared_experts=2, tie_word_embeddings=True) | yarn(16, 0.707)),
    # The GGUF file is as older ones are, which keep the keys and values of heads.
    "deepseek2-old": ("deepseek_v2", "deepseek2", LATENT | GROUPS | routed(
        8, 3, topk_method="group_limited_greedy", routed_scaling_factor=4.0)
        | dict(q_lora_rank=24, tie_word_embeddings=True) | rope()),
    "deepseek2": ("deepseek_v3", "deepseek2", LATENT | GROUPS | routed(8, 3, routed_scaling_factor=2.5) | dict(
        q_lora_rank=24, num_nextn_predict_layers=1) | yarn(16, 1.0)),
    "lfm2": ("lfm2", "lfm2", HEAD | dict(
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, layer_types=["conv", "full_attention", "conv"],
        norm_eps=1e-5, block_multiple_of=16) | rope(1e6)),
    "qwen3next": ("qwen3_next", "qwen3next", DELTA_NET | dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, shared_expert_intermediate_size=16, norm_topk_prob=True)
        | rope(1e6, partial_rotary_factor=0.25)),
    "qwen35moe": ("qwen3_5_moe_text", "qwen35moe", DELTA_NET | dict(
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, shared_expert_intermediate_size=16)
        | rope(1e6, partial_rotary_factor=0.25, mrope_section=[2, 1, 1], mrope_interleaved=True)),
    "qwen35": ("qwen3_5_text", "qwen35", DELTA_NET | dict(tie_word_embeddings=True) | rope(
        1e6, partial_rotary_factor=0.25, mrope_section=[2, 1, 1], mrope_interleaved=True)),
    # GGUF files of gpt-oss cannot say that the bounds of the ramp are rounded.
    "gpt-oss-rounded": ("gpt_oss", None, gpt_oss(truncate=True)),
}

# With others a router's scores for two experts are so near each other that rounding activations, or a cache to 8 bits, changes the choice.
SEEDS = {"mixtral": 1, "gemma4moe": 1}

# Names of weights behind `model.layers.N.`, and what GGUF calls them behind `blk.N.`.
ROLES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm", "post_mlp_layernorm": "post_ffw_norm",
    "post_self_attn_layernorm": "post_attention_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.sinks": "attn_sinks",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "mlp.gate": "ffn_gate_inp", "mlp.router": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp", "mlp.experts.down_proj": "ffn_down_exps",
    "mlp.gate.e_score_correction": "exp_probs_b", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "operator_norm": "attn_norm", "ffn_norm": "ffn_norm", "conv.in_proj": "shortconv.in_proj", "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj", "self_attn.out_proj": "attn_output", "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm", "feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up",
    "feed_forward.w2": "ffn_down", "linear_attn.in_proj_ba": "ssm_ba", "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_b": "ssm_beta", "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.conv1d": "ssm_conv1d", "linear_attn.dt": "ssm_dt", "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out", "per_layer_input_gate": "inp_gate", "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm", "layer_scalar": "layer_output_scale", "router.proj": "ffn_gate_inp",
    "experts.gate_up_proj": "ffn_gate_up_exps", "experts.down_proj": "ffn_down_exps",
    "pre_feedforward_layernorm_2": "pre_ffw_norm_2", "post_feedforward_layernorm_1": "post_ffw_norm_1",
    "post_feedforward_layernorm_2": "post_ffw_norm_2",
}
# Of a layer that predicts the token after the next, behind the others.
NEXT = {"eh_proj": "nextn.eh_proj", "enorm": "nextn.enorm", "hnorm": "nextn.hnorm",
        "shared_head.norm": "nextn.shared_head_norm"}
# There the norm of that name stands behind attention, or is called so.
NORM_BEHIND = ("gemma2", "gemma3", "gemma4", "olmo2", "gpt-oss", "glm4moe", "exaone4", "seed_oss", "qwen3next", "qwen35", "qwen35moe")
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "model.embedding_norm.weight": "token_embd_norm.weight",
         "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
         "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
         "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight", "lm_head.weight": "output.weight"}
# There GGUF keeps the pairs that rope turns side by side, not half a head apart.
PAIRS = ("llama", "granite", "smollm3", "mistral3")
# Models whose GGUF file is as those were before the keys and values of heads were computed from a latent in the cache.
OLD = ("deepseek2-old",)


def lacks_one(kind, key):
    """Whether a norm's weight is stored without the 1 that is added to it."""
    is_qwen = kind.startswith(("qwen3_next", "qwen3_5")) and "linear_attn" not in key
    is_gemma = kind.startswith("gemma") and not kind.startswith("gemma4")
    return "norm" in key and (is_gemma or is_qwen)


def random_model(name, kind, changes):
    torch.manual_seed(sum(name.encode()) + SEEDS.get(name, 0))
    config = CONFIG_MAPPING[kind](**COMMON | changes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    is_gemma = kind.startswith("gemma")
    with torch.no_grad():
        for key, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            if "router" in key and key.endswith("scale"):
                noise = noise * 0.2 + 1
            elif "norm" in key:
                noise = noise * 0.2 + (0 if lacks_one(kind, key) else 1)
            elif key.endswith("bias") or "sinks" in key:
                noise = noise * 0.3
            elif "embed_tokens" in key:
                noise = noise * (0.3 if is_gemma or kind == "granite" else 1)
            else:
                noise = noise * 1.2 / math.sqrt(weight.shape[-1])
            weight.copy_(noise)
        for key, weight in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                weight.copy_(torch.randn_like(weight) * 0.3)
        for key, buffer in model.named_buffers():
            if "layer_scalar" in key:
                buffer.copy_(1 + 0.2 * torch.randn_like(buffer))
    return config, model


def next_layers(config):
    """Weights of layers that predict further tokens, which are not computed with. Only some have their names."""
    random = np.random.default_rng(1)
    width, n_layers = config.hidden_size, config.num_hidden_layers
    n_next = getattr(config, "num_nextn_predict_layers", 0)
    for layer in range(n_layers, n_layers + n_next):
        for name in (*NEXT, "input_layernorm", "self_attn.o_proj"):
            shape = {"eh_proj": (width, 2 * width), "self_attn.o_proj": (width, 4)}.get(name, (width,))
            yield f"model.layers.{layer}.{name}.weight", random.standard_normal(shape).astype(np.float32)


def prompt(length):
    return [(7 * i * i + 3 * i + 5) % VOCABULARY for i in range(length)]


def reference(model, has_window):
    def logits(length):
        with torch.no_grad():
            return model(torch.tensor([prompt(length)])).logits[0].float().numpy()
    def rows(values):
        return [[float(f"{x:.7g}") for x in row] for row in values.tolist()]
    found = {"ids": prompt(PROMPT), "logits": rows(logits(PROMPT))}
    if has_window:
        found["long_ids"] = prompt(LONG_PROMPT)
        found["long_last_logits"] = rows(logits(LONG_PROMPT)[-LONG_ROWS:])
    return found


def tiled_heads(key, value, config):
    """The heads of values in turns: a first one for each head of keys, then a second one."""
    n_keys, n_values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    before = 2 * n_keys * config["linear_key_head_dim"] if key.endswith(("in_proj_qkv", "conv1d")) else 0
    if key.endswith("norm"):
        return value
    if key.endswith("out_proj"):
        return tiled_heads("", value.T, config).T
    heads = value[before:].reshape(n_keys, n_values // n_keys, -1).swapaxes(0, 1)
    return np.concatenate([value[:before], heads.reshape(value[before:].shape)])


def gguf_tensors(name, kind, arch, config, weights):
    """The names and values that GGUF has for them."""
    def pairs(rows, n_heads):
        return rows.reshape(n_heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
    for key, value in weights.items():
        value = np.asarray(value)
        if key == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        if lacks_one(kind, key):
            value = value + 1
        if key in WHOLE:
            yield WHOLE[key], value
            continue
        layer, key = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", key).groups()
        # Biases of experts and sinks have names without a part for it.
        end = "bias" if key.endswith("bias") else "weight"
        key = re.sub(r"(\.weight|[._]bias)$", "", key)
        if arch in PAIRS and key == "self_attn.q_proj":
            value = pairs(value, config["num_attention_heads"])
        if arch in PAIRS and key == "self_attn.k_proj":
            value = pairs(value, config["num_key_value_heads"])
        if key in ("conv.conv", "linear_attn.conv1d"):
            value = value.squeeze(1)
        if arch in ("qwen35", "qwen35moe") and key.startswith("linear_attn"):
            value = tiled_heads(key, value, config)
        if key in ("router.scale", "router.per_expert_scale"):
            yield f"blk.{layer}.{'ffn_gate_inp' if key == 'router.scale' else 'ffn_down_exps'}.scale", value
            continue
        if key == "linear_attn.A_log":
            yield f"blk.{layer}.ssm_a", -np.exp(value)
            continue
        if key == "linear_attn.in_proj_qkvz":
            # For each head of keys its query, its key, and the values and gates of the heads that read it.
            size, n_heads = config["linear_key_head_dim"], config["linear_num_key_heads"]
            heads, width = value.reshape(n_heads, -1, value.shape[1]), value.shape[1]
            parts = np.split(heads, [size, 2 * size, heads.shape[1] // 2 + size], 1)
            q, k, v, z = (part.reshape(-1, width) for part in parts)
            yield f"blk.{layer}.attn_qkv.weight", np.concatenate([q, k, v])
            yield f"blk.{layer}.attn_gate.weight", z
            continue
        if "mlp.experts" in key and arch == "gpt-oss" and end == "weight":
            value = value.swapaxes(1, 2)
        if key == "mlp.experts.gate_up_proj":
            halves = (value[:, 0::2], value[:, 1::2]) if arch == "gpt-oss" else np.split(value, 2, axis=1)
            for role, half in zip(("gate", "up"), halves):
                yield f"blk.{layer}.ffn_{role}_exps.{end}", half
            continue
        if key == "self_attn.kv_b_proj" and name not in OLD:
            n_plain = config["qk_nope_head_dim"]
            heads = value.reshape(config["num_attention_heads"], n_plain + config["v_head_dim"], -1)
            yield f"blk.{layer}.attn_k_b.weight", heads[:, :n_plain].swapaxes(1, 2)
            yield f"blk.{layer}.attn_v_b.weight", heads[:, n_plain:]
            continue
        role = ROLES.get(key) or NEXT[key]
        if key == "post_attention_layernorm" and arch in NORM_BEHIND:
            role = "post_attention_norm"
        yield f"blk.{layer}.{role}.{end}", value


def rope_keys(writer, arch, config, head_dim):
    """Writes the keys; gives the tensors that go with them."""
    head_dim = config.get("qk_rope_head_dim") or head_dim
    parameters = config["rope_parameters"]
    full = parameters.get("full_attention", parameters)
    if "sliding_attention" in parameters:
        writer.add_float32(f"{arch}.rope.freq_base_swa", parameters["sliding_attention"]["rope_theta"])
    base, kind = full["rope_theta"], full["rope_type"]
    n_rotated = int(head_dim * (full.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1))
    writer.add_rope_freq_base(base)
    if kind != "proportional":
        writer.add_rope_dimension_count(n_rotated)
    trained = full.get("original_max_position_embeddings")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(full["factor"])
        writer.add_rope_scaling_orig_ctx_len(trained)
        if "beta_fast" in full and arch != "gpt-oss":
            writer.add_rope_scaling_yarn_beta_fast(full["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(full["beta_slow"])
        if arch == "mistral3":
            writer.add_rope_scaling_yarn_log_mul(full["mscale_all_dim"])
            writer.add_float32(f"{arch}.attention.temperature_scale", full["llama_4_scaling_beta"])
        if arch == "deepseek2":
            writer.add_rope_scaling_yarn_log_mul(0.1 * full["mscale_all_dim"])
    if kind == "llama3":
        waves = 2 * math.pi * base ** (np.arange(0, n_rotated, 2) / n_rotated)
        low, high = full["low_freq_factor"], full["high_freq_factor"]
        # From 0, which divides by the whole factor, to 1, which leaves a frequency as it is.
        share = np.clip((trained / waves - low) / (high - low), 0, 1)
        return {"rope_freqs.weight": 1 / ((1 - share) / full["factor"] + share)}
    if kind == "proportional":
        # All of a head is rotated, most of it by nothing.
        writer.add_rope_dimension_count(head_dim)
        return {"rope_freqs.weight": np.array([1.0] * (n_rotated // 2) + [1e30] * ((head_dim - n_rotated) // 2))}
    if kind == "longrope":
        stretch = config["max_position_embeddings"] / trained
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_orig_ctx_len(trained)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(trained)))
        return {f"rope_factors_{which}.weight": np.array(full[f"{which}_factor"]) for which in ("short", "long")}
    return {}


def head_keys(writer, name, arch, config, head_dim):
    """The sizes of what a cache holds."""
    if not (rank := config.get("kv_lora_rank")):
        n_heads = config["num_key_value_heads"]
        if arch == "lfm2":
            n_heads = [0 if kind == "conv" else n_heads for kind in config["layer_types"]]
        if arch == "gemma4":
            n_heads = [2 if kind == "full_attention" else n_heads for kind in config["layer_types"]]
        sizes = (n_heads, head_dim, head_dim)
    else:
        in_heads = (config["qk_nope_head_dim"] + config["qk_rope_head_dim"], config["v_head_dim"])
        writer.add_kv_lora_rank(rank)
        if config["q_lora_rank"]:
            writer.add_q_lora_rank(config["q_lora_rank"])
        if name in OLD:
            sizes = (config["num_attention_heads"], *in_heads)
        else:
            sizes = (1, rank + config["qk_rope_head_dim"], rank)
            writer.add_key_length_mla(in_heads[0])
            writer.add_value_length_mla(in_heads[1])
    writer.add_head_count_kv(sizes[0])
    writer.add_key_length(sizes[1])
    writer.add_value_length(sizes[2])


def routing_keys(writer, kind, config):
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_group_count(config["n_group"])
    writer.add_expert_group_used_count(config["topk_group"])
    gating = gguf.ExpertGatingFuncType
    writer.add_expert_gating_func(gating.SOFTMAX if kind == "deepseek_v2" else gating.SIGMOID)
    if config["norm_topk_prob"]:
        writer.add_expert_weights_norm(True)


def gguf_keys(writer, name, kind, arch, config, head_dim):
    n_next = 1 if arch == "qwen35" else config.get("num_nextn_predict_layers") or 0
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"] + n_next)
    if n_next:
        writer.add_nextn_predict_layers(n_next)
    writer.add_head_count(config["num_attention_heads"])
    if "n_routed_experts" in config:
        routing_keys(writer, kind, config)
    head_keys(writer, name, arch, config, head_dim)
    if arch == "lfm2":
        # Two thirds, rounded up to a multiple; and no heads of keys where a layer is a convolution.
        multiple = config["block_multiple_of"]
        writer.add_feed_forward_length(-(-(config["intermediate_size"] * 2 // 3) // multiple) * multiple)
        writer.add_shortconv_l_cache(config["conv_L_cache"])
    elif arch == "gemma4":
        n_own = config["num_hidden_layers"] - config["num_kv_shared_layers"]
        width = config["intermediate_size"]
        writer.add_feed_forward_length([width * (1 if i < n_own else 2) for i in range(config["num_hidden_layers"])])
    else:
        writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_vocab_size(VOCABULARY)
    if arch == "cohere2":
        writer.add_layer_norm_eps(config["layer_norm_eps"])
        writer.add_logit_scale(config["logit_scale"])
    else:
        writer.add_layer_norm_rms_eps(config["norm_eps" if arch == "lfm2" else "rms_norm_eps"])
    if arch == "gemma4":
        are_windowed = [kind == "sliding_attention" for kind in config["layer_types"]]
        writer.add_shared_kv_layers(config["num_kv_shared_layers"])
        writer.add_embedding_length_per_layer_input(config["hidden_size_per_layer_input"])
        writer.add_sliding_window_pattern(are_windowed)
        writer.add_key_length_swa(config["head_dim"])
        writer.add_value_length_swa(config["head_dim"])
        writer.add_rope_dimension_count_swa(config["head_dim"])
        if config["final_logit_softcapping"]:
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch in ("qwen3next", "qwen35", "qwen35moe"):
        writer.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
        writer.add_ssm_state_size(config["linear_key_head_dim"])
        writer.add_ssm_group_count(config["linear_num_key_heads"])
        writer.add_ssm_time_step_rank(config["linear_num_value_heads"])
        writer.add_ssm_inner_size(config["linear_value_head_dim"] * config["linear_num_value_heads"])
        are_recurrent = [kind == "linear_attention" for kind in config["layer_types"]]
        writer.add_array(f"{arch}.attention.recurrent_layers", are_recurrent + [False] * n_next)
        writer.add_uint32(f"{arch}.full_attention_interval", 4)
    if arch in ("qwen35", "qwen35moe"):
        writer.add_rope_dimension_sections([2, 1, 1, 0])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
        if arch in ("olmo2", "exaone4"):
            writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    if arch == "granite":
        writer.add_logit_scale(config["logits_scaling"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if n_experts := config.get("num_local_experts") or config.get("num_experts"):
        writer.add_expert_count(n_experts)
        writer.add_expert_used_count(config["top_k_experts" if arch == "gemma4" else "num_experts_per_tok"])
        if arch != "llama":
            writer.add_expert_feed_forward_length(config.get("moe_intermediate_size") or config["intermediate_size"])
        if arch in ("qwen2moe", "qwen3next", "qwen35moe"):
            writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


def guessing_layer(layer, tensors):
    """A layer that guesses further tokens: one of attention, and what joins a token to what the others gave."""
    attention = {key.replace(f"blk.{layer - 1}.", f"blk.{layer}."): value for key, value in tensors.items()
                 if key.startswith(f"blk.{layer - 1}.")}
    own = {"eh_proj": np.ones((32, 64)), "enorm": np.ones(32), "hnorm": np.ones(32), "shared_head_norm": np.ones(32)}
    return attention | {f"blk.{layer}.nextn.{role}.weight": value for role, value in own.items()}


def write_gguf(path, name, kind, arch, config, weights, part=None, count=1):
    """Writes the file, or its part of that number with `weights`, which are then named as in GGUF."""
    writer = gguf.GGUFWriter(path, arch)
    config = config.to_dict()
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    tensors = weights if part is not None else dict(gguf_tensors(name, kind, arch, config, weights))
    # That of layers without a window.
    head_dim = 32 if arch == "gemma4" else head_dim
    if not part:
        gguf_keys(writer, name, kind, arch, config, head_dim)
        tensors = tensors | rope_keys(writer, arch, config, head_dim)
        if arch == "qwen35":
            tensors = tensors | guessing_layer(config["num_hidden_layers"], tensors)
        writer.add_tokenizer_model("none")
    if part is not None:
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", 3)
        writer.add_int32("split.tensors.count", count)
        if part:
            del writer.kv_data[0]["general.architecture"]
    for key, value in tensors.items():
        writer.add_tensor(key, np.ascontiguousarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_parts(out, kind, arch, config, model):
    """The same model as safetensors in three files, and as GGUF in three parts."""
    model.save_pretrained(f"{out}/qwen3-sharded", max_shard_size="32KB")
    tensors = list(gguf_tensors("qwen3", kind, arch, config.to_dict(), model.state_dict()))
    os.makedirs(f"{out}/qwen3-split", exist_ok=True)
    for part, chunk in enumerate((tensors[:20], tensors[20:40], tensors[40:])):
        path = f"{out}/qwen3-split/model-{part + 1:05}-of-00003.gguf"
        write_gguf(path, "qwen3", kind, arch, config, dict(chunk), part, len(tensors))


def main(out, wanted):
    for name, (kind, arch, changes) in MODELS.items():
        if wanted and name not in wanted:
            continue
        config, model = random_model(name, kind, changes)
        folder = f"{out}/{name}"
        model.save_pretrained(folder)
        more = dict(next_layers(config))
        if more:
            path = f"{folder}/model.safetensors"
            safetensors.numpy.save_file(safetensors.numpy.load_file(path) | more, path, metadata={"format": "pt"})
        if name == "qwen35":
            # Files have a layer behind the others that guesses further tokens. Nothing reads it.
            path = f"{folder}/model.safetensors"
            guesses = {"mtp.norm.weight": torch.ones(32), "mtp.fc.weight": torch.ones(32, 64)}
            safetensors.torch.save_file(safetensors.torch.load_file(path) | guesses, path)
        if name == "qwen35moe":
            # As its files have them: all experts in one tensor, gate above up.
            tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
            safetensors.torch.save_file(tensors, f"{folder}/model.safetensors")
        with open(f"{folder}/reference.json", "w") as file:
            json.dump(reference(model, bool(changes.get("sliding_window"))), file, separators=(",", ":"))
        if arch:
            write_gguf(f"{folder}/model.gguf", name, kind, arch, config, model.state_dict() | more)
        if name == "qwen3":
            write_parts(out, kind, arch, config, model)
        print(name, sum(entry.stat().st_size for entry in os.scandir(folder)), "bytes")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
