//! The shape of a model: which tensors it has, under which names. Weights, gradients and optimizer moments all have it.

use crate::Config;

/// Something of a model that exists once a tensor: a parameter, its gradient, a moment of it.
#[derive(Clone, Debug)]
pub struct Transformer<T> {
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: T,
    /// The layers, first to last.
    pub layers: Vec<Layer<T>>,
    /// `[hidden_size]`: the norm before the output head.
    pub norm: T,
    /// `[vocab_size, hidden_size]`: the output head, absent where it is the embedding.
    pub lm_head: Option<T>,
}

/// One layer: `x += o_proj(attention(norm(x)))`, then `x += down_proj(swiglu(norm(x)))`. Matrices are
/// `[out_features, in_features]`.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    /// `[hidden_size]`
    pub input_layernorm: T,
    /// `[heads · head_dim, hidden_size]`
    pub q_proj: T,
    /// `[key_value_heads · head_dim, hidden_size]`
    pub k_proj: T,
    /// `[key_value_heads · head_dim, hidden_size]`
    pub v_proj: T,
    /// `[hidden_size, heads · head_dim]`
    pub o_proj: T,
    /// `[hidden_size]`
    pub post_attention_layernorm: T,
    /// `[intermediate_size, hidden_size]`
    pub gate_proj: T,
    /// `[intermediate_size, hidden_size]`
    pub up_proj: T,
    /// `[hidden_size, intermediate_size]`
    pub down_proj: T,
}

/// A tensor's name in a checkpoint, and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// As Hugging Face names it.
    pub name: String,
    /// `[features]`, or `[out_features, in_features]`.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// How many numbers the tensor holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Transformer<T> {
    /// Makes every tensor of a model, in the order of [`Transformer::tensors`].
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_build<E>(
        config: &Config,
        mut make: impl FnMut(TensorInfo) -> Result<T, E>,
    ) -> Result<Self, E> {
        let mut tensor = |name: String, shape: &[usize]| make(TensorInfo { name, shape: shape.into() });
        let (vocab, hidden, ffn) = (config.vocab_size, config.hidden_size, config.intermediate_size);
        let query = config.num_attention_heads * config.head_dim;
        let key = config.num_key_value_heads * config.head_dim;
        let embed_tokens = tensor("model.embed_tokens.weight".into(), &[vocab, hidden])?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let mut tensor =
                    |part: &str, shape: &[usize]| tensor(format!("model.layers.{i}.{part}.weight"), shape);
                Ok(Layer {
                    input_layernorm: tensor("input_layernorm", &[hidden])?,
                    q_proj: tensor("self_attn.q_proj", &[query, hidden])?,
                    k_proj: tensor("self_attn.k_proj", &[key, hidden])?,
                    v_proj: tensor("self_attn.v_proj", &[key, hidden])?,
                    o_proj: tensor("self_attn.o_proj", &[hidden, query])?,
                    post_attention_layernorm: tensor("post_attention_layernorm", &[hidden])?,
                    gate_proj: tensor("mlp.gate_proj", &[ffn, hidden])?,
                    up_proj: tensor("mlp.up_proj", &[ffn, hidden])?,
                    down_proj: tensor("mlp.down_proj", &[hidden, ffn])?,
                })
            })
            .collect::<Result<_, E>>()?;
        let norm = tensor("model.norm.weight".into(), &[hidden])?;
        let own_head = !config.tie_word_embeddings;
        let lm_head = own_head.then(|| tensor("lm_head.weight".into(), &[vocab, hidden])).transpose()?;
        Ok(Self { embed_tokens, layers, norm, lm_head })
    }

    /// As [`Transformer::try_build`], with a `make` that can't fail.
    pub fn build(config: &Config, mut make: impl FnMut(TensorInfo) -> T) -> Self {
        let built = Self::try_build(config, |info| Ok::<T, std::convert::Infallible>(make(info)));
        let Ok(built) = built;
        built
    }

    /// All tensors, in the order in which a checkpoint lists them.
    pub fn tensors(&self) -> impl Iterator<Item = &T> {
        let layers = self.layers.iter().flat_map(|l| {
            [
                &l.input_layernorm,
                &l.q_proj,
                &l.k_proj,
                &l.v_proj,
                &l.o_proj,
                &l.post_attention_layernorm,
                &l.gate_proj,
                &l.up_proj,
                &l.down_proj,
            ]
        });
        std::iter::once(&self.embed_tokens).chain(layers).chain([&self.norm]).chain(&self.lm_head)
    }

    /// All tensors, in the order in which a checkpoint lists them.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let layers = self.layers.iter_mut().flat_map(|l| {
            [
                &mut l.input_layernorm,
                &mut l.q_proj,
                &mut l.k_proj,
                &mut l.v_proj,
                &mut l.o_proj,
                &mut l.post_attention_layernorm,
                &mut l.gate_proj,
                &mut l.up_proj,
                &mut l.down_proj,
            ]
        });
        std::iter::once(&mut self.embed_tokens).chain(layers).chain([&mut self.norm]).chain(&mut self.lm_head)
    }
}

impl Config {
    /// Name and shape of every tensor, in the order of [`Transformer::tensors`].
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let mut infos = Vec::new();
        Transformer::build(self, |info| infos.push(info));
        infos
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(TensorInfo::len).sum()
    }
}
