//! The output head fused with log-softmax: log-probability and entropy of given tokens, their gradient, and
//! sampling.
//!
//! ```text
//! l = x Wᵀ / temperature            log_sum_exp = ln Σᵥ exp lᵥ
//! log_prob = l[target] − log_sum_exp     entropy = log_sum_exp − Σᵥ pᵥ lᵥ
//! ```
//!
//! The vocabulary is cut into chunks of `CHUNK` columns. A task computes the logits of `TASK_ROWS` rows by one chunk in
//! scratch, 128 KB, and leaves a `Partial` for each row, 16 bytes of the 2 KB that its logits took. A row's partials are
//! combined in the order of the chunks, in f64. Sampling chooses a chunk by the partials and computes its logits once
//! more, which a product does to the same bits; a draw that cuts tokens off (top-k, top-p, min-p) sees all logits of its
//! row instead. The backward goes through the vocabulary in chunks of `BACKWARD_CHUNK`.

pub(crate) mod log_prob;
mod partials;
pub(crate) mod sample;
