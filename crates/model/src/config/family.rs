//! The families of models that are computed, and what each is called.

/// A family of decoders. They share one forward; what differs stands in the [`Config`](crate::Config).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Llama 1 to 3, SmolLM, and what is built like them.
    Llama,
    /// As Llama, with a window on attention in some releases.
    Mistral,
    /// Biases on queries, keys and values. Qwen2, Qwen2.5, the R1 distillations of them.
    Qwen2,
    /// A norm on each query and key head.
    Qwen3,
    /// Latent attention, and experts chosen by softmax scores (arXiv:2405.04434).
    DeepseekV2,
    /// Latent attention, and experts chosen by sigmoid scores with a bias that balances them (arXiv:2412.19437). V3, R1.
    DeepseekV3,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3, Self::DeepseekV2, Self::DeepseekV3];

    /// The `model_type` of `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::DeepseekV2 => "deepseek_v2",
            Self::DeepseekV3 => "deepseek_v3",
        }
    }

    /// The class in transformers, the `architectures` of `config.json`.
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::DeepseekV2 => "DeepseekV2ForCausalLM",
            Self::DeepseekV3 => "DeepseekV3ForCausalLM",
        }
    }

    /// Whether attention is latent and layers have experts.
    pub fn is_deepseek(self) -> bool {
        matches!(self, Self::DeepseekV2 | Self::DeepseekV3)
    }

    /// The family of a `model_type`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }
}
