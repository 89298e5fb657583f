//! The tensors of a model under both their names, and how their values lie in a file.

use super::architecture::architecture;
use crate::{Config, LatentConfig, TensorInfo};

/// A tensor of the model, and the file's tensors that hold it.
pub(super) struct Weight {
    /// Hugging Face's name, and the shape, outermost dimension first.
    pub(super) info: TensorInfo,
    /// The file's tensors: one, or the two parts of one.
    pub(super) parts: Vec<Part>,
    form: Form,
}

/// A tensor of a file.
pub(super) struct Part {
    pub(super) name: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
}

/// How a file holds a tensor's values.
#[derive(Clone, Copy)]
enum Form {
    /// As they are.
    Same,
    /// Rows of heads of so many, neighbours instead of halves.
    Shuffled(usize),
    /// The expansion of latents to keys and values: `[heads, rank, nope]`, transposed, and `[heads, value, rank]`.
    Split { heads: usize, nope: usize, value: usize, rank: usize },
}

/// Every tensor of a model, in the order of a checkpoint. Where it has latents, their expansion is one tensor of the file if
/// `whole`, as it was until 2025, else two.
pub(super) fn weights(config: &Config, whole: bool) -> Vec<Weight> {
    // llama.cpp's `llama` rotates neighbours, Hugging Face halves: the rows of q and k are stored shuffled.
    let shuffles = architecture(config.family) == "llama";
    let rotary = |name: &str| shuffles && (name.contains(".attn_q.") || name.contains(".attn_k."));
    let weight = |info: TensorInfo| {
        let name = gguf_name(&info.name);
        let split = config.latent.filter(|_| !whole && name.contains(".attn_kv_b."));
        if let Some(latent) = split {
            let (form, parts) = split_latent(config, latent, &name);
            return Weight { info, parts, form };
        }
        let form = if rotary(&name) { Form::Shuffled(config.head_dim) } else { Form::Same };
        let parts = vec![Part { name, shape: info.shape.clone() }];
        Weight { info, parts, form }
    };
    config.tensors().into_iter().map(weight).collect()
}

fn split_latent(config: &Config, latent: LatentConfig, name: &str) -> (Form, Vec<Part>) {
    let (heads, rank) = (config.num_attention_heads, latent.kv_lora_rank);
    let (nope, value) = (latent.qk_nope_head_dim, latent.v_head_dim);
    let part = |part: &str, shape| Part { name: name.replace(".attn_kv_b.", part), shape };
    let parts =
        vec![part(".attn_k_b.", vec![heads, rank, nope]), part(".attn_v_b.", vec![heads, value, rank])];
    (Form::Split { heads, nope, value, rank }, parts)
}

/// llama.cpp's name of a tensor that Hugging Face calls `name`.
fn gguf_name(name: &str) -> String {
    const PARTS: [(&str, &str); 24] = [
        ("model.embed_tokens.", "token_embd."),
        ("model.norm.", "output_norm."),
        ("lm_head.", "output."),
        ("model.layers.", "blk."),
        ("input_layernorm.", "attn_norm."),
        ("self_attn.o_proj.", "attn_output."),
        ("self_attn.q_proj.", "attn_q."),
        ("self_attn.k_proj.", "attn_k."),
        ("self_attn.v_proj.", "attn_v."),
        ("self_attn.q_norm.", "attn_q_norm."),
        ("self_attn.k_norm.", "attn_k_norm."),
        ("self_attn.q_a_layernorm.", "attn_q_a_norm."),
        ("self_attn.kv_a_layernorm.", "attn_kv_a_norm."),
        ("self_attn.kv_a_proj_with_mqa.", "attn_kv_a_mqa."),
        ("self_attn.", "attn_"),
        ("post_attention_layernorm.", "ffn_norm."),
        ("mlp.gate.weight", "ffn_gate_inp.weight"),
        ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
        ("mlp.experts.", "exps."),
        ("mlp.shared_experts.", "shexp."),
        ("mlp.", "ffn_"),
        ("_proj.", "."),
        // Whose MLP it is comes last.
        ("exps.gate.", "ffn_gate_exps."),
        ("shexp.gate.", "ffn_gate_shexp."),
    ];
    let name = PARTS.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
    ["up", "down"].iter().fold(name, |name, part| {
        let of = |whose: &str, name: String| {
            name.replace(&format!("{whose}.{part}."), &format!("ffn_{part}_{whose}."))
        };
        of("exps", of("shexp", name))
    })
}

impl Weight {
    /// The values of part `part` of the file, from those of the model.
    pub(super) fn to_file(&self, part: usize, values: &[f32]) -> Vec<f32> {
        match self.form {
            Form::Same => values.to_vec(),
            Form::Shuffled(dim) => self.reordered(dim, values, |row, stored| (stored, row)),
            Form::Split { heads, nope, value, rank } => {
                let head = (nope + value) * rank;
                let mut out = Vec::with_capacity(self.parts[part].shape.iter().product());
                for head in values.chunks_exact(head).take(heads) {
                    let (k, v) = head.split_at(nope * rank);
                    if part == 0 {
                        (0..rank).for_each(|r| out.extend((0..nope).map(|i| k[i * rank + r])));
                    } else {
                        out.extend_from_slice(v);
                    }
                }
                out
            }
        }
    }

    /// The values of the model, from those of the file's parts.
    pub(super) fn of_file(&self, mut parts: Vec<Vec<f32>>) -> Vec<f32> {
        match self.form {
            Form::Same => parts.swap_remove(0),
            Form::Shuffled(dim) => self.reordered(dim, &parts[0], |row, stored| (row, stored)),
            Form::Split { nope, value, rank, .. } => {
                let mut out = Vec::with_capacity(self.info.len());
                for (k, v) in parts[0].chunks_exact(rank * nope).zip(parts[1].chunks_exact(value * rank)) {
                    (0..nope).for_each(|i| out.extend((0..rank).map(|r| k[r * nope + i])));
                    out.extend_from_slice(v);
                }
                out
            }
        }
    }

    /// Rows moved: halves (i, i + d / 2) of a head lie as neighbours (2 i, 2 i + 1) in the file. `places` says to and from
    /// where, of a row's index in Hugging Face's order and in the file's.
    fn reordered(
        &self,
        dim: usize,
        values: &[f32],
        places: impl Fn(usize, usize) -> (usize, usize),
    ) -> Vec<f32> {
        let row_len = self.info.len() / self.info.shape[0];
        let mut out = vec![0.0; values.len()];
        for row in 0..self.info.shape[0] {
            let (head, r, half) = (row / dim, row % dim, dim / 2);
            let (to, from) = places(row, head * dim + r % half * 2 + r / half);
            out[to * row_len..][..row_len].copy_from_slice(&values[from * row_len..][..row_len]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llama_cpp() {
        for (name, wanted) in [
            ("model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight"),
            ("model.layers.3.mlp.gate.weight", "blk.3.ffn_gate_inp.weight"),
            ("model.layers.3.mlp.gate.e_score_correction_bias", "blk.3.exp_probs_b.bias"),
            ("model.layers.3.mlp.experts.gate_proj.weight", "blk.3.ffn_gate_exps.weight"),
            ("model.layers.3.mlp.experts.up_proj.weight", "blk.3.ffn_up_exps.weight"),
            ("model.layers.3.mlp.experts.down_proj.weight", "blk.3.ffn_down_exps.weight"),
            ("model.layers.3.mlp.shared_experts.gate_proj.weight", "blk.3.ffn_gate_shexp.weight"),
            ("model.layers.3.mlp.shared_experts.up_proj.weight", "blk.3.ffn_up_shexp.weight"),
            ("model.layers.3.mlp.shared_experts.down_proj.weight", "blk.3.ffn_down_shexp.weight"),
            ("model.layers.3.self_attn.q_a_proj.weight", "blk.3.attn_q_a.weight"),
            ("model.layers.3.self_attn.q_a_layernorm.weight", "blk.3.attn_q_a_norm.weight"),
            ("model.layers.3.self_attn.q_b_proj.weight", "blk.3.attn_q_b.weight"),
            ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "blk.3.attn_kv_a_mqa.weight"),
            ("model.layers.3.self_attn.kv_a_layernorm.weight", "blk.3.attn_kv_a_norm.weight"),
            ("model.layers.3.self_attn.kv_b_proj.weight", "blk.3.attn_kv_b.weight"),
            ("model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"),
            ("model.layers.3.self_attn.q_proj.bias", "blk.3.attn_q.bias"),
            ("model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight"),
        ] {
            assert_eq!(gguf_name(name), wanted);
        }
    }
}
