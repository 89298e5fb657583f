//! Log-probabilities as the API has them.

use koan_infer::PromptScore;
use koan_text::Tokenizer;
use serde_json::{Map, Value, json};

use crate::engine::Token;

/// What stands for a log-probability of −∞: JSON has no such number.
const NEVER: f64 = -9999.0;

fn number(log_prob: f64) -> f64 {
    if log_prob.is_finite() { log_prob } else { NEVER }
}

/// `{token, logprob, bytes}`.
fn entry(tokenizer: &Tokenizer, id: u32, log_prob: f32) -> Map<String, Value> {
    let bytes = tokenizer.token_bytes(id);
    let token = String::from_utf8_lossy(&bytes).into_owned();
    Map::from_iter([
        ("token".to_owned(), token.into()),
        ("logprob".to_owned(), number(log_prob.into()).into()),
        ("bytes".to_owned(), bytes.into()),
    ])
}

/// The likeliest tokens, where the one that was taken has the log-probability that is told of it: clients compare them.
fn as_told(likeliest: &[(u32, f32)], id: u32, log_prob: f32) -> impl Iterator<Item = (u32, f32)> {
    likeliest.iter().map(move |&(other, p)| (other, if other == id { log_prob } else { p }))
}

/// Of a chat's tokens: `{content: [{token, logprob, bytes, top_logprobs}], refusal}`.
pub(crate) fn of_chat(tokenizer: &Tokenizer, tokens: &[Token]) -> Value {
    let one = |token: &Token| {
        let mut own = entry(tokenizer, token.id, token.log_prob);
        let listed = as_told(&token.likeliest, token.id, token.log_prob);
        let likeliest = listed.map(|(id, p)| entry(tokenizer, id, p).into());
        own.insert("top_logprobs".to_owned(), Value::Array(likeliest.collect()));
        Value::from(own)
    };
    json!({"content": tokens.iter().map(one).collect::<Vec<_>>(), "refusal": null})
}

/// Of a completion's tokens, and before them those of its prompt, if it is echoed: four lists of one length.
pub(crate) struct OfCompletion<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<Value>,
    log_probs: Vec<Value>,
    likeliest: Vec<Value>,
    offsets: Vec<usize>,
}

impl<'a> OfCompletion<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        let (tokens, log_probs, likeliest, offsets) = Default::default();
        Self { tokenizer, tokens, log_probs, likeliest, offsets }
    }

    /// Adds the prompt's tokens. The first has no log-probability. `offsets`: the characters before each.
    pub(crate) fn add_prompt(&mut self, ids: &[u32], offsets: &[usize], score: &PromptScore) {
        for (i, (&id, &offset)) in ids.iter().zip(offsets).enumerate() {
            self.tokens.push(self.text(id).into());
            self.offsets.push(offset);
            let Some(i) = i.checked_sub(1) else {
                self.log_probs.push(Value::Null);
                self.likeliest.push(Value::Null);
                continue;
            };
            let log_prob = score.log_probs.get(i).copied().unwrap_or(f64::NEG_INFINITY) as f32;
            self.log_probs.push(number(log_prob.into()).into());
            let listed = score.likeliest.get(i).map_or(&[][..], Vec::as_slice);
            self.likeliest.push(self.listed(listed, id, log_prob));
        }
    }

    /// Adds tokens of the completion, before which `before` characters stand.
    pub(crate) fn add(&mut self, tokens: &[Token], before: usize) {
        for token in tokens {
            self.tokens.push(self.text(token.id).into());
            self.log_probs.push(number(token.log_prob.into()).into());
            self.likeliest.push(self.listed(&token.likeliest, token.id, token.log_prob));
            self.offsets.push(before + token.start[1]);
        }
    }

    fn text(&self, id: u32) -> String {
        String::from_utf8_lossy(&self.tokenizer.token_bytes(id)).into_owned()
    }

    /// The likeliest tokens by their texts, and the one that stands there.
    fn listed(&self, likeliest: &[(u32, f32)], id: u32, log_prob: f32) -> Value {
        if likeliest.is_empty() {
            return Value::Null;
        }
        let mut listed = Map::new();
        // Of tokens of one text the likeliest counts: it is first.
        for (id, log_prob) in as_told(likeliest, id, log_prob).chain([(id, log_prob)]) {
            listed.entry(self.text(id)).or_insert_with(|| number(log_prob.into()).into());
        }
        listed.into()
    }

    pub(crate) fn into_json(self) -> Value {
        let Self { tokens, log_probs, likeliest, offsets, .. } = self;
        json!({"tokens": tokens, "token_logprobs": log_probs, "top_logprobs": likeliest, "text_offset": offsets})
    }
}
