//! Who hears of tokens as they are sampled.

use koan_backend::Draw;

use crate::RequestId;

/// A token that was sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Its log-probability under the distribution it was sampled from.
    pub log_prob: f32,
    /// Its log-probability under the whole distribution.
    pub full_log_prob: f32,
}

/// Hears of each token as it is taken, and may end its request.
pub trait Listener {
    /// The logits of the next token of request `id`, one that [shows](crate::Request::shows_logits) them: before it is taken. `drawn` is
    /// what was sampled as `draw` says; the token to take, `drawn` or another, is given back.
    fn logits(&mut self, id: RequestId, logits: &[f32], draw: &Draw, drawn: Sampled) -> Sampled {
        let _ = (id, logits, draw);
        drawn
    }

    /// A token of request `id` is taken. Whether the request is over with it, as if by a stop token.
    fn token(&mut self, id: RequestId, token: Sampled) -> bool;
}

/// One who only says when requests are over.
pub(crate) struct Ends<F>(pub(crate) F);

impl<F: FnMut(RequestId, u32) -> bool> Listener for Ends<F> {
    fn token(&mut self, id: RequestId, Sampled { token, .. }: Sampled) -> bool {
        (self.0)(id, token)
    }
}
