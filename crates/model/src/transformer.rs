//! The shape of a model: which tensors it has, under which names. Weights, gradients and optimizer moments all have it.

use crate::{Config, config::Biases};

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

/// One layer: `x += o_proj(attention(norm(x)))`, then `x += down_proj(swiglu(norm(x)))`.
#[derive(Clone, Debug)]
pub struct Layer<T> {
    /// `[hidden_size]`
    pub input_layernorm: T,
    /// To `heads · head_dim` features, from `hidden_size`.
    pub q_proj: Linear<T>,
    /// To `key_value_heads · head_dim` features, from `hidden_size`.
    pub k_proj: Linear<T>,
    /// To `key_value_heads · head_dim` features, from `hidden_size`.
    pub v_proj: Linear<T>,
    /// `[head_dim]`: the norm of each query head before its rotation, in families that have one.
    pub q_norm: Option<T>,
    /// `[head_dim]`: the norm of each key head before its rotation, in families that have one.
    pub k_norm: Option<T>,
    /// To `hidden_size` features, from `heads · head_dim`.
    pub o_proj: Linear<T>,
    /// `[hidden_size]`
    pub post_attention_layernorm: T,
    /// To `intermediate_size` features, from `hidden_size`.
    pub gate_proj: Linear<T>,
    /// To `intermediate_size` features, from `hidden_size`.
    pub up_proj: Linear<T>,
    /// To `hidden_size` features, from `intermediate_size`.
    pub down_proj: Linear<T>,
}

/// A linear layer: `x Wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear<T> {
    /// `[out_features, in_features]`
    pub weight: T,
    /// `[out_features]`, in families that have one.
    pub bias: Option<T>,
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

/// Makes tensors under a common prefix of their names.
struct Maker<'a, F> {
    prefix: String,
    make: &'a mut F,
}

impl<T, E, F: FnMut(TensorInfo) -> Result<T, E>> Maker<'_, F> {
    fn under(&mut self, prefix: String) -> Maker<'_, F> {
        Maker { prefix, make: self.make }
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<T, E> {
        (self.make)(TensorInfo { name: format!("{}{name}", self.prefix), shape: shape.into() })
    }

    fn linear(&mut self, name: &str, out: usize, inp: usize, bias: bool) -> Result<Linear<T>, E> {
        let weight = self.tensor(&format!("{name}.weight"), &[out, inp])?;
        let bias = bias.then(|| self.tensor(&format!("{name}.bias"), &[out])).transpose()?;
        Ok(Linear { weight, bias })
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
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let mut at = Maker { prefix: String::new(), make: &mut make };
        Ok(Self {
            embed_tokens: at.tensor("model.embed_tokens.weight", &[vocab, hidden])?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::try_build(config, at.under(format!("model.layers.{i}."))))
                .collect::<Result<_, E>>()?,
            norm: at.tensor("model.norm.weight", &[hidden])?,
            lm_head: (!config.tie_word_embeddings)
                .then(|| at.tensor("lm_head.weight", &[vocab, hidden]))
                .transpose()?,
        })
    }

    /// As [`Transformer::try_build`], with a `make` that can't fail.
    pub fn build(config: &Config, mut make: impl FnMut(TensorInfo) -> T) -> Self {
        let built = Self::try_build(config, |info| Ok::<T, std::convert::Infallible>(make(info)));
        let Ok(built) = built;
        built
    }

    /// All tensors, in the order in which a checkpoint lists them.
    pub fn tensors(&self) -> impl Iterator<Item = &T> {
        let layers = self.layers.iter().flat_map(Layer::tensors);
        std::iter::once(&self.embed_tokens).chain(layers).chain([&self.norm]).chain(&self.lm_head)
    }

    /// All tensors, in the order in which a checkpoint lists them.
    pub fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let layers = self.layers.iter_mut().flat_map(Layer::tensors_mut);
        std::iter::once(&mut self.embed_tokens).chain(layers).chain([&mut self.norm]).chain(&mut self.lm_head)
    }
}

impl<T> Layer<T> {
    fn try_build<E, F>(config: &Config, mut at: Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        let (hidden, ffn, head) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (query, key) = (config.num_attention_heads * head, config.num_key_value_heads * head);
        let Biases { qkv, output, mlp } = config.biases;
        let head_norm =
            |name, at: &mut Maker<'_, F>| config.head_norms.then(|| at.tensor(name, &[head])).transpose();
        Ok(Self {
            input_layernorm: at.tensor("input_layernorm.weight", &[hidden])?,
            q_proj: at.linear("self_attn.q_proj", query, hidden, qkv)?,
            k_proj: at.linear("self_attn.k_proj", key, hidden, qkv)?,
            v_proj: at.linear("self_attn.v_proj", key, hidden, qkv)?,
            q_norm: head_norm("self_attn.q_norm.weight", &mut at)?,
            k_norm: head_norm("self_attn.k_norm.weight", &mut at)?,
            o_proj: at.linear("self_attn.o_proj", hidden, query, output)?,
            post_attention_layernorm: at.tensor("post_attention_layernorm.weight", &[hidden])?,
            gate_proj: at.linear("mlp.gate_proj", ffn, hidden, mlp)?,
            up_proj: at.linear("mlp.up_proj", ffn, hidden, mlp)?,
            down_proj: at.linear("mlp.down_proj", hidden, ffn, mlp)?,
        })
    }

    fn tensors(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.input_layernorm)
            .chain([&self.q_proj, &self.k_proj, &self.v_proj].into_iter().flat_map(Linear::tensors))
            .chain(&self.q_norm)
            .chain(&self.k_norm)
            .chain(self.o_proj.tensors())
            .chain([&self.post_attention_layernorm])
            .chain([&self.gate_proj, &self.up_proj, &self.down_proj].into_iter().flat_map(Linear::tensors))
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let (q, k, v) = (&mut self.q_proj, &mut self.k_proj, &mut self.v_proj);
        let (gate, up, down) = (&mut self.gate_proj, &mut self.up_proj, &mut self.down_proj);
        std::iter::once(&mut self.input_layernorm)
            .chain([q, k, v].into_iter().flat_map(Linear::tensors_mut))
            .chain(&mut self.q_norm)
            .chain(&mut self.k_norm)
            .chain(self.o_proj.tensors_mut())
            .chain([&mut self.post_attention_layernorm])
            .chain([gate, up, down].into_iter().flat_map(Linear::tensors_mut))
    }
}

impl<T> Linear<T> {
    fn tensors(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.weight).chain(&self.bias)
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.weight).chain(&mut self.bias)
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
