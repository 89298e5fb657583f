//! What a tensor is for. All that treats tensors differently (packing, initialisation, weight decay, estimates of memory
//! and time, quantisation) follows the role; nothing is guessed from a name or a rank.

/// What a tensor is for in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `[vocab_size, hidden_size]`: a row is looked up for each token. A `tied` one is the output head too.
    Embedding {
        /// Whether it is the output head too.
        tied: bool,
    },
    /// `[out_features, in_features]`: the matrix of a linear layer.
    Product,
    /// `[features]`: the scales of a norm.
    Norm,
    /// `[features]`: added to what a product gives.
    Bias,
    /// `[vocab_size, hidden_size]`: the output head, where it is not the embedding.
    Head,
    /// `[experts, out_features, in_features]`: the same matrix of each expert of a layer.
    Expert,
    /// `[rank, in_features]`: A of an adapter on a linear layer, which it projects down with.
    AdapterDown,
    /// `[out_features, rank]`: B of an adapter, which projects up again.
    AdapterUp,
    /// `[experts, hidden_size]`: scores a layer's experts for a token.
    Router,
    /// `[experts]`: added to the scores for the choice alone. No gradient moves it, but how many tokens chose each expert.
    RouterBias,
}

impl Role {
    /// Whether it is a matrix, or several: what weight decay, random initialisation and quantisation apply to. Norms and
    /// biases are vectors.
    pub fn is_matrix(self) -> bool {
        !matches!(self, Self::Norm | Self::Bias | Self::RouterBias)
    }

    /// Whether it is a matrix that is multiplied by, not only looked up in.
    pub fn is_product(self) -> bool {
        self.is_matrix() && self != Self::Embedding { tied: false }
    }

    /// Whether it is a matrix of an adapter.
    pub fn is_adapter(self) -> bool {
        matches!(self, Self::AdapterDown | Self::AdapterUp)
    }

    /// Whether it is the matrix of the output head.
    pub fn is_head(self) -> bool {
        matches!(self, Self::Head | Self::Embedding { tied: true })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Role, testkit};

    #[test]
    fn every_tensor_has_its_role() {
        for kind in testkit::kinds() {
            for tied in [true, false] {
                for info in testkit::config_with(11, tied, kind.clone()).tensors() {
                    let name = &info.name[..];
                    let expected = match name {
                        "model.embed_tokens.weight" => Role::Embedding { tied },
                        "lm_head.weight" => Role::Head,
                        _ if name.contains("norm") => Role::Norm,
                        _ if name.ends_with("correction_bias") => Role::RouterBias,
                        _ if name.ends_with("mlp.gate.weight") => Role::Router,
                        _ if name.contains("mlp.experts.") => Role::Expert,
                        _ if name.ends_with("bias") => Role::Bias,
                        _ => Role::Product,
                    };
                    assert_eq!(info.role, expected, "{name}");
                    assert_eq!(info.role.is_matrix(), info.shape.len() > 1, "{name}");
                }
            }
        }
    }
}
