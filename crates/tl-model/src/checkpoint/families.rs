//! The model families of Hugging Face folders, one row each: the GGUF architecture, the tensors' names in the folder,
//! and the keys of `config.json` beyond those that all families share.
//!
//! Facts only. `names.rs` applies the names, `config.rs` the keys. To add a family, add a row.

/// A family of models with one set of names.
#[derive(Debug)]
pub(super) struct Family {
    /// The values of `model_type` in `config.json`.
    pub(super) model_types: &'static [&'static str],
    /// The value of GGUF's `general.architecture`.
    pub(super) architecture: &'static str,
    /// Whether the rotated pairs of q and k lie half a head apart where GGUF files have them adjacent.
    pub(super) has_rope_halves: bool,
    /// Whether attention uses a latent.
    pub(super) has_latent: bool,
    /// Whether norm weights are stored without the 1 that GGUF files add to them.
    pub(super) norms_lack_one: bool,
    /// Names of a layer's tensors.
    pub(super) layer: &'static [&'static [Name]],
    /// Keys of `config.json` beyond those that all families share.
    pub(super) keys: &'static [Key],
    /// Defaults of numbers and flags (0 or 1) that `config.json` omits.
    pub(super) defaults: &'static [(&'static str, f64)],
    /// The name in `layer_types` of layers without keys and values; "" if there are none.
    pub(super) recurrent: &'static str,
    /// Values that the architecture always uses: a file with another value is refused.
    pub(super) fixed: &'static [(&'static str, Fixed)],
}

/// Naming of a layer's tensors: `model.layers.3.HUB.weight` is `blk.3.GGUF.weight`.
#[derive(Debug)]
pub(super) enum Name {
    /// The same tensor, with `.weight` or `.bias` after both names.
    Same(&'static str, &'static str),
    /// As `Same`, for a filter `[channels, 1, taps]`, which GGUF has as `[channels, taps]`.
    Filter(&'static str, &'static str),
    /// Experts stored one by one, with their number in place of `*`; GGUF has one tensor `[experts, ..]`.
    Experts(&'static str, &'static str),
    /// A complete name of experts `[experts, n · out, in]`, for which GGUF has n tensors `[experts, out, in]`.
    Stacked(&'static str, &'static [&'static str]),
    /// A complete name, without `.weight`.
    Whole(&'static str, &'static str),
    /// A complete name of experts `[experts, in, out]` (or `[experts, out]`) with interleaved outputs: of n tensors,
    /// each has every n-th. Transposed, they become `[experts, out, in]`.
    Interleaved { hub: &'static str, gguf: &'static [&'static str], is_transposed: bool },
    /// A complete name of the matrix that makes keys and values of all heads from a latent; GGUF has one tensor for
    /// each.
    KeysAndValues { hub: &'static str, gguf: [&'static str; 2] },
}

/// A key of `config.json`, and the key of GGUF's metadata without the architecture's name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    /// A count.
    Size(&'static str, &'static str),
    /// A floating-point number.
    Float(&'static str, &'static str),
    /// A count that applies if another key has this value.
    SizeWhere { key: &'static str, is: &'static str, from: &'static str, to: &'static str },
    /// A flag.
    Flag(&'static str, &'static str),
}

/// A value that is not in the metadata because it is the only one supported.
#[derive(Debug)]
pub(super) enum Fixed {
    Text(&'static str),
    Texts([&'static str; 2]),
    Number(f64),
    Flag(bool),
}

use Name::{Experts, Filter, Interleaved, KeysAndValues, Same, Stacked, Whole};

const ATTENTION: &[Name] = &[
    Same("self_attn.q_proj", "attn_q"),
    Same("self_attn.k_proj", "attn_k"),
    Same("self_attn.v_proj", "attn_v"),
    Same("self_attn.o_proj", "attn_output"),
];
const FUSED_ATTENTION: &[Name] = &[Same("self_attn.qkv_proj", "attn_qkv"), Same("self_attn.o_proj", "attn_output")];
const QK_NORM: &[Name] = &[Same("self_attn.q_norm", "attn_q_norm"), Same("self_attn.k_norm", "attn_k_norm")];
const FEED_FORWARD: &[Name] =
    &[Same("mlp.gate_proj", "ffn_gate"), Same("mlp.up_proj", "ffn_up"), Same("mlp.down_proj", "ffn_down")];
/// Gate and up in one tensor, one after the other.
const FUSED_FEED_FORWARD: &[Name] = &[Same("mlp.gate_up_proj", "ffn_up"), Same("mlp.down_proj", "ffn_down")];
const NORMS_BEFORE: &[Name] = &[Same("input_layernorm", "attn_norm"), Same("post_attention_layernorm", "ffn_norm")];
/// The norm before the feed-forward network is named after its position.
const NORMS_ROUND_ATTENTION: &[Name] =
    &[Same("input_layernorm", "attn_norm"), Same("post_attention_layernorm", "post_attention_norm")];
const NORMS_AFTER: &[Name] =
    &[Same("post_attention_layernorm", "post_attention_norm"), Same("post_feedforward_layernorm", "post_ffw_norm")];
const NORMS_BEFORE_AND_AFTER: &[Name] = &[
    Same("input_layernorm", "attn_norm"),
    Same("post_attention_layernorm", "post_attention_norm"),
    Same("pre_feedforward_layernorm", "ffn_norm"),
    Same("post_feedforward_layernorm", "post_ffw_norm"),
];
const QWEN_EXPERTS: &[Name] = &[
    Same("mlp.gate", "ffn_gate_inp"),
    Experts("mlp.experts.*.gate_proj", "ffn_gate_exps"),
    Experts("mlp.experts.*.up_proj", "ffn_up_exps"),
    Experts("mlp.experts.*.down_proj", "ffn_down_exps"),
];

/// Experts with a router whose scores a bias may change for the choice only, and one expert shared by all tokens.
const ROUTED_EXPERTS: &[Name] = &[
    Same("mlp.gate", "ffn_gate_inp"),
    Whole("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    Experts("mlp.experts.*.gate_proj", "ffn_gate_exps"),
    Experts("mlp.experts.*.up_proj", "ffn_up_exps"),
    Experts("mlp.experts.*.down_proj", "ffn_down_exps"),
    Same("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
    Same("mlp.shared_experts.up_proj", "ffn_up_shexp"),
    Same("mlp.shared_experts.down_proj", "ffn_down_shexp"),
];
const LATENT_ATTENTION: &[Name] = &[
    Same("self_attn.q_proj", "attn_q"),
    Same("self_attn.q_a_proj", "attn_q_a"),
    Same("self_attn.q_a_layernorm", "attn_q_a_norm"),
    Same("self_attn.q_b_proj", "attn_q_b"),
    Same("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    Same("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    KeysAndValues { hub: "self_attn.kv_b_proj.weight", gguf: ["attn_k_b.weight", "attn_v_b.weight"] },
    Same("self_attn.o_proj", "attn_output"),
];
const SHARED_EXPERT: &[Name] = &[
    Same("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    Same("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    Same("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    Same("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
];
const DELTA_NET_INPUTS: &[Name] = &[
    Same("linear_attn.in_proj_qkv", "attn_qkv"),
    Same("linear_attn.in_proj_z", "attn_gate"),
    Same("linear_attn.in_proj_b", "ssm_beta"),
    Same("linear_attn.in_proj_a", "ssm_alpha"),
];
/// Without the projections of its input, which differ between families.
const DELTA_NET: &[Name] = &[
    Filter("linear_attn.conv1d", "ssm_conv1d"),
    // GGUF files store the negative of its exponential.
    Whole("linear_attn.A_log", "ssm_a_log"),
    Whole("linear_attn.dt_bias", "ssm_dt.bias"),
    Same("linear_attn.norm", "ssm_norm"),
    Same("linear_attn.out_proj", "ssm_out"),
];

const EXPERTS_USED: Key = Key::Size("num_experts_per_tok", "expert_used_count");
const LOCAL_EXPERTS: Key = Key::Size("num_local_experts", "expert_count");
/// The number of experts; older and newer files differ in its name.
const EXPERTS: Key = Key::Size("num_experts", "expert_count");
const EXPERT_WIDTH: Key = Key::Size("moe_intermediate_size", "expert_feed_forward_length");
const EXPERT_NORM: Key = Key::Flag("norm_topk_prob", "expert_weights_norm");
const ROUTED_EXPERT_COUNT: Key = Key::Size("n_routed_experts", "expert_count");
const SHARED_EXPERT_COUNT: Key = Key::Size("n_shared_experts", "expert_shared_count");
const DENSE_LAYERS: Key = Key::Size("first_k_dense_replace", "leading_dense_block_count");
const EXPERT_SCALE: Key = Key::Float("routed_scaling_factor", "expert_weights_scale");
const ROUTED_KEYS: &[Key] = &[
    ROUTED_EXPERT_COUNT,
    EXPERTS_USED,
    EXPERT_WIDTH,
    EXPERT_NORM,
    SHARED_EXPERT_COUNT,
    DENSE_LAYERS,
    EXPERT_SCALE,
    Key::Size("n_group", "expert_group_count"),
    Key::Size("topk_group", "expert_group_used_count"),
];

const DELTA_NET_KEYS: &[Key] = &[
    Key::Size("linear_conv_kernel_dim", "ssm.conv_kernel"),
    Key::Size("linear_key_head_dim", "ssm.state_size"),
    Key::Size("linear_num_key_heads", "ssm.group_count"),
    Key::Size("linear_num_value_heads", "ssm.time_step_rank"),
];
const DELTA_NET_MOE_KEYS: &[Key] = &[
    EXPERTS,
    LOCAL_EXPERTS,
    EXPERTS_USED,
    EXPERT_WIDTH,
    Key::Size("shared_expert_intermediate_size", "expert_shared_feed_forward_length"),
    DELTA_NET_KEYS[0],
    DELTA_NET_KEYS[1],
    DELTA_NET_KEYS[2],
    DELTA_NET_KEYS[3],
];
const DELTA_NET_MOE_DEFAULTS: &[(&str, f64)] = &[
    // These models have no other feed-forward network.
    ("intermediate_size", 5632.0),
    ("head_dim", 256.0),
    ("partial_rotary_factor", 0.25),
    ("linear_conv_kernel_dim", 4.0),
    ("linear_key_head_dim", 128.0),
    ("linear_num_key_heads", 16.0),
    ("linear_num_value_heads", 32.0),
    ("full_attention_interval", 4.0),
];
const DELTA_NET_DEFAULTS: &[(&str, f64)] = &[
    ("head_dim", 256.0),
    ("partial_rotary_factor", 0.25),
    ("linear_conv_kernel_dim", 4.0),
    ("linear_key_head_dim", 128.0),
    ("linear_num_key_heads", 16.0),
    ("linear_num_value_heads", 32.0),
    ("full_attention_interval", 4.0),
];

/// The name of gated delta net layers in configurations.
pub(super) const DELTA_NET_LAYERS: &str = "linear_attention";

/// Head width of layers with full attention, if others have another.
pub(super) const GLOBAL_HEAD_DIM: &str = "global_head_dim";

const SILU: (&str, Fixed) = ("hidden_act", Fixed::Text("silu"));
const ONE_DIRECTION: (&str, Fixed) = ("use_bidirectional_attention", Fixed::Flag(false));

/// Defaults of a row.
const PLAIN: Family = Family {
    model_types: &[],
    architecture: "",
    has_rope_halves: false,
    has_latent: false,
    norms_lack_one: false,
    layer: &[],
    keys: &[],
    defaults: &[],
    recurrent: "",
    fixed: &[SILU],
};

/// Every family.
pub(super) static FAMILIES: &[Family] = &[
    Family {
        model_types: &["llama"],
        architecture: "llama",
        has_rope_halves: true,
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        ..PLAIN
    },
    Family {
        model_types: &["mistral"],
        architecture: "llama",
        has_rope_halves: true,
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        defaults: &[("num_key_value_heads", 8.0), ("sliding_window", 4096.0)],
        ..PLAIN
    },
    Family {
        model_types: &["mixtral"],
        architecture: "llama",
        has_rope_halves: true,
        layer: &[
            NORMS_BEFORE,
            ATTENTION,
            &[
                Same("block_sparse_moe.gate", "ffn_gate_inp"),
                Experts("block_sparse_moe.experts.*.w1", "ffn_gate_exps"),
                Experts("block_sparse_moe.experts.*.w3", "ffn_up_exps"),
                Experts("block_sparse_moe.experts.*.w2", "ffn_down_exps"),
            ],
        ],
        keys: &[LOCAL_EXPERTS, EXPERTS_USED],
        defaults: &[
            ("num_key_value_heads", 8.0),
            ("num_local_experts", 8.0),
            ("num_experts_per_tok", 2.0),
            ("rope_theta", 1e6),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["smollm3"],
        architecture: "smollm3",
        has_rope_halves: true,
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        defaults: &[("use_sliding_window", 0.0), ("tie_word_embeddings", 1.0), ("rope_theta", 2e6)],
        ..PLAIN
    },
    Family {
        model_types: &["qwen2"],
        architecture: "qwen2",
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        defaults: &[("use_sliding_window", 0.0)],
        ..PLAIN
    },
    Family {
        model_types: &["qwen2_moe"],
        architecture: "qwen2moe",
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD, QWEN_EXPERTS, SHARED_EXPERT],
        keys: &[
            EXPERTS,
            LOCAL_EXPERTS,
            EXPERTS_USED,
            EXPERT_WIDTH,
            EXPERT_NORM,
            Key::Size("shared_expert_intermediate_size", "expert_shared_feed_forward_length"),
        ],
        defaults: &[("use_sliding_window", 0.0)],
        ..PLAIN
    },
    Family {
        model_types: &["qwen3"],
        architecture: "qwen3",
        layer: &[NORMS_BEFORE, ATTENTION, QK_NORM, FEED_FORWARD],
        defaults: &[("use_sliding_window", 0.0), ("head_dim", 128.0)],
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_moe"],
        architecture: "qwen3moe",
        layer: &[NORMS_BEFORE, ATTENTION, QK_NORM, FEED_FORWARD, QWEN_EXPERTS],
        keys: &[EXPERTS, LOCAL_EXPERTS, EXPERTS_USED, EXPERT_WIDTH, EXPERT_NORM],
        defaults: &[("use_sliding_window", 0.0), ("norm_topk_prob", 0.0)],
        ..PLAIN
    },
    Family {
        model_types: &["gemma"],
        architecture: "gemma",
        norms_lack_one: true,
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        defaults: &[("tie_word_embeddings", 1.0), ("head_dim", 256.0)],
        fixed: &[ONE_DIRECTION],
        ..PLAIN
    },
    Family {
        model_types: &["gemma2"],
        architecture: "gemma2",
        norms_lack_one: true,
        layer: &[NORMS_BEFORE_AND_AFTER, ATTENTION, FEED_FORWARD],
        keys: &[
            Key::Float("attn_logit_softcapping", "attn_logit_softcapping"),
            Key::Float("final_logit_softcapping", "final_logit_softcapping"),
        ],
        defaults: &[
            ("tie_word_embeddings", 1.0),
            ("head_dim", 256.0),
            ("sliding_window", 4096.0),
            ("sliding_window_pattern", 2.0),
        ],
        fixed: &[ONE_DIRECTION],
        ..PLAIN
    },
    Family {
        model_types: &["gemma3_text", "gemma3"],
        architecture: "gemma3",
        norms_lack_one: true,
        layer: &[NORMS_BEFORE_AND_AFTER, ATTENTION, QK_NORM, FEED_FORWARD],
        keys: &[
            Key::Float("attn_logit_softcapping", "attn_logit_softcapping"),
            Key::Float("final_logit_softcapping", "final_logit_softcapping"),
        ],
        // The text part of a model that sees images omits default values.
        defaults: &[
            ("tie_word_embeddings", 1.0),
            ("vocab_size", 262_208.0),
            ("hidden_size", 2304.0),
            ("intermediate_size", 9216.0),
            ("num_hidden_layers", 26.0),
            ("num_attention_heads", 8.0),
            ("num_key_value_heads", 4.0),
            ("head_dim", 256.0),
            ("max_position_embeddings", 131_072.0),
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 1e6),
            ("rope_local_base_freq", 1e4),
            ("query_pre_attn_scalar", 256.0),
            ("sliding_window", 4096.0),
            ("sliding_window_pattern", 6.0),
        ],
        fixed: &[ONE_DIRECTION],
        ..PLAIN
    },
    Family {
        model_types: &["gemma4_text", "gemma4"],
        architecture: "gemma4",
        layer: &[
            NORMS_BEFORE_AND_AFTER,
            ATTENTION,
            QK_NORM,
            FEED_FORWARD,
            &[
                Same("per_layer_input_gate", "inp_gate"),
                Same("per_layer_projection", "proj"),
                Same("post_per_layer_input_norm", "post_norm"),
                Whole("layer_scalar", "layer_output_scale.weight"),
            ],
            &[
                Same("router.proj", "ffn_gate_inp"),
                Whole("router.scale", "ffn_gate_inp.scale"),
                Whole("router.per_expert_scale", "ffn_down_exps.scale"),
                Stacked("experts.gate_up_proj", &["ffn_gate_exps.weight", "ffn_up_exps.weight"]),
                Stacked("experts.down_proj", &["ffn_down_exps.weight"]),
                Same("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
                Same("post_feedforward_layernorm_1", "post_ffw_norm_1"),
                Same("post_feedforward_layernorm_2", "post_ffw_norm_2"),
            ],
        ],
        keys: &[
            EXPERTS,
            Key::Size("top_k_experts", "expert_used_count"),
            EXPERT_WIDTH,
            Key::Size("num_kv_shared_layers", "attention.shared_kv_layers"),
            Key::Size("hidden_size_per_layer_input", "embedding_length_per_layer_input"),
            Key::Float("final_logit_softcapping", "final_logit_softcapping"),
        ],
        defaults: &[
            ("tie_word_embeddings", 1.0),
            ("head_dim", 256.0),
            (GLOBAL_HEAD_DIM, 512.0),
            ("hidden_size_per_layer_input", 256.0),
            ("num_key_value_heads", 4.0),
            ("sliding_window", 512.0),
            ("sliding_window_pattern", 6.0),
        ],
        fixed: &[("hidden_activation", Fixed::Text("gelu_pytorch_tanh")), ("attention_bias", Fixed::Flag(false))],
        ..PLAIN
    },
    Family {
        model_types: &["phi3"],
        architecture: "phi3",
        layer: &[NORMS_BEFORE, FUSED_ATTENTION, FUSED_FEED_FORWARD],
        ..PLAIN
    },
    Family {
        model_types: &["granite"],
        architecture: "granite",
        has_rope_halves: true,
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        keys: &[
            Key::Float("embedding_multiplier", "embedding_scale"),
            Key::Float("attention_multiplier", "attention.scale"),
            Key::Float("residual_multiplier", "residual_scale"),
            Key::Float("logits_scaling", "logit_scale"),
        ],
        defaults: &[
            ("embedding_multiplier", 1.0),
            ("attention_multiplier", 1.0),
            ("residual_multiplier", 1.0),
            ("logits_scaling", 1.0),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["olmo2"],
        architecture: "olmo2",
        layer: &[NORMS_AFTER, ATTENTION, QK_NORM, FEED_FORWARD],
        ..PLAIN
    },
    Family {
        model_types: &["olmo3"],
        architecture: "olmo2",
        layer: &[NORMS_AFTER, ATTENTION, QK_NORM, FEED_FORWARD],
        defaults: &[("rope_theta", 500_000.0), ("sliding_window", 4096.0), ("sliding_window_pattern", 4.0)],
        ..PLAIN
    },
    Family {
        model_types: &["exaone4"],
        architecture: "exaone4",
        layer: &[NORMS_AFTER, ATTENTION, QK_NORM, FEED_FORWARD],
        defaults: &[("sliding_window", 4096.0), ("sliding_window_pattern", 4.0)],
        ..PLAIN
    },
    Family {
        model_types: &["seed_oss"],
        architecture: "seed_oss",
        layer: &[NORMS_ROUND_ATTENTION, ATTENTION, FEED_FORWARD],
        defaults: &[("num_key_value_heads", 8.0), ("head_dim", 128.0)],
        ..PLAIN
    },
    Family {
        model_types: &["ernie4_5"],
        architecture: "ernie4_5",
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        defaults: &[
            ("num_key_value_heads", 2.0),
            ("head_dim", 128.0),
            ("rope_theta", 500_000.0),
            ("tie_word_embeddings", 1.0),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["glm4"],
        architecture: "glm4",
        layer: &[
            &[
                Same("input_layernorm", "attn_norm"),
                Same("post_self_attn_layernorm", "post_attention_norm"),
                Same("post_attention_layernorm", "ffn_norm"),
                Same("post_mlp_layernorm", "post_ffw_norm"),
            ],
            ATTENTION,
            FUSED_FEED_FORWARD,
        ],
        defaults: &[("num_key_value_heads", 2.0), ("head_dim", 128.0), ("partial_rotary_factor", 0.5)],
        ..PLAIN
    },
    Family {
        model_types: &["ministral3"],
        architecture: "mistral3",
        has_rope_halves: true,
        layer: &[NORMS_BEFORE, ATTENTION, FEED_FORWARD],
        defaults: &[("num_key_value_heads", 8.0), ("head_dim", 128.0)],
        ..PLAIN
    },
    Family {
        model_types: &["glm4_moe"],
        architecture: "glm4moe",
        layer: &[NORMS_ROUND_ATTENTION, ATTENTION, QK_NORM, FEED_FORWARD, ROUTED_EXPERTS],
        keys: ROUTED_KEYS,
        defaults: &[
            ("num_key_value_heads", 8.0),
            ("num_experts_per_tok", 8.0),
            ("norm_topk_prob", 1.0),
            ("partial_rotary_factor", 0.5),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["deepseek_v2"],
        architecture: "deepseek2",
        has_latent: true,
        layer: &[NORMS_BEFORE, LATENT_ATTENTION, FEED_FORWARD, ROUTED_EXPERTS],
        keys: &[
            ROUTED_EXPERT_COUNT,
            EXPERTS_USED,
            EXPERT_WIDTH,
            SHARED_EXPERT_COUNT,
            DENSE_LAYERS,
            EXPERT_SCALE,
            Key::SizeWhere {
                key: "topk_method",
                is: "group_limited_greedy",
                from: "n_group",
                to: "expert_group_count",
            },
            Key::SizeWhere {
                key: "topk_method",
                is: "group_limited_greedy",
                from: "topk_group",
                to: "expert_group_used_count",
            },
        ],
        defaults: &[
            ("kv_lora_rank", 512.0),
            ("q_lora_rank", 1536.0),
            ("qk_nope_head_dim", 128.0),
            ("qk_rope_head_dim", 64.0),
            ("v_head_dim", 128.0),
            ("head_dim", 64.0),
        ],
        fixed: &[
            SILU,
            ("scoring_func", Fixed::Text("softmax")),
            ("topk_method", Fixed::Texts(["greedy", "group_limited_greedy"])),
            ("norm_topk_prob", Fixed::Flag(false)),
            ("moe_layer_freq", Fixed::Number(1.0)),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["deepseek_v3", "kimi_k2", "glm4_moe_lite"],
        architecture: "deepseek2",
        has_latent: true,
        layer: &[NORMS_BEFORE, LATENT_ATTENTION, FEED_FORWARD, ROUTED_EXPERTS],
        keys: ROUTED_KEYS,
        defaults: &[
            ("kv_lora_rank", 512.0),
            ("q_lora_rank", 1536.0),
            ("qk_nope_head_dim", 128.0),
            ("qk_rope_head_dim", 64.0),
            ("v_head_dim", 128.0),
            ("head_dim", 64.0),
            ("norm_topk_prob", 1.0),
        ],
        fixed: &[
            SILU,
            ("scoring_func", Fixed::Text("sigmoid")),
            ("topk_method", Fixed::Text("noaux_tc")),
            ("moe_layer_freq", Fixed::Number(1.0)),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["cohere2"],
        architecture: "cohere2",
        layer: &[&[Same("input_layernorm", "attn_norm")], ATTENTION, FEED_FORWARD],
        keys: &[Key::Float("logit_scale", "logit_scale")],
        defaults: &[
            ("tie_word_embeddings", 1.0),
            ("logit_scale", 0.0625),
            ("layer_norm_eps", 1e-5),
            ("sliding_window", 4096.0),
            ("sliding_window_pattern", 4.0),
        ],
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_next"],
        architecture: "qwen3next",
        norms_lack_one: true,
        layer: &[
            NORMS_ROUND_ATTENTION,
            ATTENTION,
            QK_NORM,
            DELTA_NET,
            // Query, key, values and gates of one key head after the other, as in old GGUF files.
            &[Same("linear_attn.in_proj_qkvz", "ssm_in"), Same("linear_attn.in_proj_ba", "ssm_ba")],
            QWEN_EXPERTS,
            SHARED_EXPERT,
        ],
        keys: DELTA_NET_MOE_KEYS,
        defaults: DELTA_NET_DEFAULTS,
        recurrent: DELTA_NET_LAYERS,
        // The experts' probabilities are divided by their sum, in every layer.
        fixed: &[SILU, ("norm_topk_prob", Fixed::Flag(true)), ("decoder_sparse_step", Fixed::Number(1.0))],
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_5_text", "qwen3_5"],
        architecture: "qwen35",
        norms_lack_one: true,
        layer: &[NORMS_ROUND_ATTENTION, ATTENTION, QK_NORM, DELTA_NET, DELTA_NET_INPUTS, FEED_FORWARD],
        keys: DELTA_NET_KEYS,
        defaults: DELTA_NET_DEFAULTS,
        recurrent: DELTA_NET_LAYERS,
        ..PLAIN
    },
    Family {
        model_types: &["qwen3_5_moe_text", "qwen3_5_moe"],
        architecture: "qwen35moe",
        norms_lack_one: true,
        layer: &[
            NORMS_ROUND_ATTENTION,
            ATTENTION,
            QK_NORM,
            DELTA_NET,
            DELTA_NET_INPUTS,
            &[
                Same("mlp.gate", "ffn_gate_inp"),
                Stacked("mlp.experts.gate_up_proj", &["ffn_gate_exps.weight", "ffn_up_exps.weight"]),
                Stacked("mlp.experts.down_proj", &["ffn_down_exps.weight"]),
            ],
            SHARED_EXPERT,
        ],
        keys: DELTA_NET_MOE_KEYS,
        defaults: DELTA_NET_MOE_DEFAULTS,
        recurrent: DELTA_NET_LAYERS,
        ..PLAIN
    },
    Family {
        model_types: &["lfm2"],
        architecture: "lfm2",
        layer: &[&[
            Same("operator_norm", "attn_norm"),
            Same("ffn_norm", "ffn_norm"),
            Same("conv.in_proj", "shortconv.in_proj"),
            Filter("conv.conv", "shortconv.conv"),
            Same("conv.out_proj", "shortconv.out_proj"),
            Same("self_attn.q_proj", "attn_q"),
            Same("self_attn.k_proj", "attn_k"),
            Same("self_attn.v_proj", "attn_v"),
            Same("self_attn.out_proj", "attn_output"),
            Same("self_attn.q_layernorm", "attn_q_norm"),
            Same("self_attn.k_layernorm", "attn_k_norm"),
            Same("feed_forward.w1", "ffn_gate"),
            Same("feed_forward.w3", "ffn_up"),
            Same("feed_forward.w2", "ffn_down"),
        ]],
        keys: &[Key::Size("conv_L_cache", "shortconv.l_cache")],
        defaults: &[
            ("num_key_value_heads", 8.0),
            ("tie_word_embeddings", 1.0),
            ("rope_theta", 1e6),
            ("norm_eps", 1e-5),
            ("conv_L_cache", 3.0),
            ("block_auto_adjust_ff_dim", 1.0),
            ("block_ffn_dim_multiplier", 1.0),
            ("block_multiple_of", 256.0),
        ],
        recurrent: "conv",
        fixed: &[("conv_bias", Fixed::Flag(false))],
        ..PLAIN
    },
    Family {
        model_types: &["gpt_oss"],
        architecture: "gpt-oss",
        layer: &[
            &[
                Same("input_layernorm", "attn_norm"),
                Same("post_attention_layernorm", "post_attention_norm"),
                Whole("self_attn.sinks", "attn_sinks.weight"),
                Same("mlp.router", "ffn_gate_inp"),
                // Stored as [experts, in, out], gate and up interleaved.
                Interleaved {
                    hub: "mlp.experts.gate_up_proj",
                    gguf: &["ffn_gate_exps.weight", "ffn_up_exps.weight"],
                    is_transposed: true,
                },
                Interleaved {
                    hub: "mlp.experts.gate_up_proj_bias",
                    gguf: &["ffn_gate_exps.bias", "ffn_up_exps.bias"],
                    is_transposed: false,
                },
                Interleaved { hub: "mlp.experts.down_proj", gguf: &["ffn_down_exps.weight"], is_transposed: true },
                Whole("mlp.experts.down_proj_bias", "ffn_down_exps.bias"),
            ],
            ATTENTION,
        ],
        keys: &[LOCAL_EXPERTS, EXPERTS_USED, Key::Size("intermediate_size", "expert_feed_forward_length")],
        defaults: &[
            ("num_key_value_heads", 8.0),
            ("head_dim", 64.0),
            ("rope_theta", 150_000.0),
            ("sliding_window", 128.0),
            ("sliding_window_pattern", 2.0),
        ],
        fixed: &[SILU, ("swiglu_alpha", Fixed::Number(1.702)), ("swiglu_limit", Fixed::Number(7.0))],
        ..PLAIN
    },
];

/// Tensors outside the layers: in the hub's files and in GGUF.
pub(super) static OUTSIDE_LAYERS: &[(&str, &str)] = &[
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("model.embedding_norm.weight", "token_embd_norm.weight"),
    ("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
    ("model.per_layer_model_projection.weight", "per_layer_model_proj.weight"),
    ("model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    ("lm_head.weight", "output.weight"),
    ("lm_head.bias", "output.bias"),
];

/// Prefixes of the text model's names in the files of models that see images, and their replacements.
pub(super) static TEXT_PREFIXES: &[(&str, &str)] = &[
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
];

/// Parts of models that see images, hear, or predict further tokens; left out, since the text model is complete without
/// them.
pub(super) static OTHER_PARTS: &[&str] = &[
    "vision_tower.",
    "vision_model.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.vision_model.",
    "model.multi_modal_projector.",
    "model.visual.",
    "model.audio_tower.",
    "model.embed_vision.",
    "model.embed_audio.",
    // Layers that predict further tokens.
    "mtp.",
];

/// Name suffixes of tensors that are computed from the configuration, not learned; old files have them.
pub(super) static COMPUTED_TENSORS: &[&str] = &[".rotary_emb.inv_freq"];

/// The family of this `model_type`.
pub(super) fn family(model_type: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.model_types.contains(&model_type))
}

/// Every known `model_type`, for a message.
pub(super) fn known_model_types() -> String {
    FAMILIES.iter().flat_map(|family| family.model_types).copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn rows_do_not_contradict_themselves() {
        let mut model_types = HashSet::new();
        for row in FAMILIES {
            let what = row.architecture;
            assert!(
                !row.model_types.is_empty() && row.model_types.iter().all(|name| model_types.insert(name)),
                "{what}"
            );
            let (mut hub_names, mut gguf_names) = (HashSet::new(), HashSet::new());
            for name in row.layer.iter().copied().flatten() {
                let (hub, gguf): (&str, Vec<&str>) = match *name {
                    Same(hub, gguf) | Filter(hub, gguf) | Experts(hub, gguf) | Whole(hub, gguf) => (hub, vec![gguf]),
                    Stacked(hub, gguf) | Interleaved { hub, gguf, .. } => (hub, gguf.to_vec()),
                    KeysAndValues { hub, gguf } => (hub, gguf.to_vec()),
                };
                assert!(hub_names.insert(hub), "{what}: {hub} twice");
                assert!(gguf.into_iter().all(|gguf| gguf_names.insert(gguf)), "{what}: what {hub} is, twice");
                assert_eq!(hub.matches(".*.").count(), usize::from(matches!(name, Experts(..))), "{what}: {hub}");
            }
            let defaults: HashSet<_> = row.defaults.iter().map(|(key, _)| key).collect();
            assert_eq!(defaults.len(), row.defaults.len(), "{what}");
        }
        assert_eq!(family("gpt_oss").map(|row| row.architecture), Some("gpt-oss"));
        assert!(family("gpt2").is_none() && known_model_types().ends_with(", gpt_oss"));
    }
}
