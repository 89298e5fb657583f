//! Answers of `/v1/chat/completions`.

use koan_generate::FinishReason;
use serde_json::{Value, json};

use super::{
    Head, Tale, Usage, chance, log_probs,
    reply::{Call, Parts, Splitter},
};
use crate::{
    engine::{Event, Piece, Token},
    error::ApiError,
};

/// The answer to a chat request.
pub(crate) struct ChatTale {
    head: Head,
    /// What contents begin with.
    opening: String,
    choices: Vec<Choice>,
    /// Whether log-probabilities are wanted.
    log_probs: bool,
    /// Whether a stream is made of it, and whether that ends with the usage.
    streams: bool,
    stream_usage: bool,
    usage: Usage,
}

/// A choice as far as it is there.
struct Choice {
    /// None when it is over.
    splitter: Option<Splitter>,
    parts: Parts,
    /// Tokens whose log-probabilities were not told yet.
    tokens: Vec<Token>,
    calls: usize,
    reason: Option<FinishReason>,
}

impl ChatTale {
    pub(crate) fn new(
        head: Head,
        opening: String,
        n: usize,
        prompt_tokens: usize,
        splitter: &Splitter,
        log_probs: bool,
        [streams, stream_usage]: [bool; 2],
    ) -> Self {
        let choice = || Choice {
            splitter: Some(splitter.clone()),
            parts: Parts::default(),
            tokens: Vec::new(),
            calls: 0,
            reason: None,
        };
        let usage = Usage { prompt: prompt_tokens, ..Usage::default() };
        Self {
            head,
            opening,
            choices: (0..n).map(|_| choice()).collect(),
            log_probs,
            streams,
            stream_usage,
            usage,
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = self.head.fields("chat.completion.chunk");
        chunk.insert("choices".to_owned(), choices);
        if self.stream_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk.into()
    }

    fn delta(&self, index: usize, delta: Value, log_probs: Value, reason: Option<&str>) -> Value {
        self.chunk(json!([{"index": index, "delta": delta, "logprobs": log_probs, "finish_reason": reason}]))
    }

    /// Takes what is new in a choice; gives the chunk of a stream that says it.
    fn add(&mut self, index: usize, parts: Parts) -> Vec<Value> {
        if !self.streams {
            self.choices[index].parts.add(parts);
            return Vec::new();
        }
        if parts.is_empty() {
            return Vec::new();
        }
        let mut delta = json!({});
        for (field, text) in [("reasoning_content", &parts.reasoning), ("content", &parts.content)] {
            if !text.is_empty() {
                delta[field] = json!(text);
            }
        }
        let calls = &mut self.choices[index].calls;
        if !parts.calls.is_empty() {
            delta["tool_calls"] =
                parts.calls.iter().zip(*calls..).map(|(call, i)| call_json(call, Some(i))).collect();
        }
        *calls += parts.calls.len();
        let log_probs = self.take_log_probs(index);
        vec![self.delta(index, delta, log_probs, None)]
    }

    /// The log-probabilities of tokens that were not told yet.
    fn take_log_probs(&mut self, index: usize) -> Value {
        if !self.log_probs {
            return Value::Null;
        }
        let tokens = std::mem::take(&mut self.choices[index].tokens);
        match self.head.served.codec.tokenizer() {
            Ok(tokenizer) if !tokens.is_empty() => log_probs::of_chat(tokenizer, &tokens),
            _ => Value::Null,
        }
    }

    /// Takes a part of a choice.
    fn piece(&mut self, index: usize, piece: Piece) -> Parts {
        let Piece { text, tokens } = piece;
        let choice = &mut self.choices[index];
        let Some(splitter) = &mut choice.splitter else { return Parts::default() };
        let was_thinking = splitter.is_thinking();
        let parts = splitter.push(&text);
        let thinking = was_thinking || splitter.is_thinking();
        self.usage.completion += if self.head.as_sampled { 0 } else { tokens.len() };
        self.usage.reasoning += if thinking { tokens.len() } else { 0 };
        if self.log_probs {
            choice.tokens.extend(tokens);
        }
        parts
    }
}

impl Tale for ChatTale {
    fn begin(&mut self) -> Vec<Value> {
        let role = json!({"role": "assistant", "content": self.opening, "refusal": null});
        (0..self.choices.len()).map(|i| self.delta(i, role.clone(), Value::Null, None)).collect()
    }

    fn take(&mut self, event: Event) -> Result<Vec<Value>, ApiError> {
        match event {
            Event::Failed(error) => Err(error),
            Event::Score { .. } => Ok(Vec::new()),
            Event::Piece { choice, piece } => {
                let parts = self.piece(choice, piece);
                Ok(self.add(choice, parts))
            }
            Event::Done { choice: index, reason, tokens, cached_tokens } => {
                self.usage.completion += if self.head.as_sampled { tokens } else { 0 };
                let rest = self.choices[index].splitter.take().map(Splitter::finish).unwrap_or_default();
                if index == 0 {
                    self.usage.cached = cached_tokens;
                }
                let mut chunks = self.add(index, rest);
                self.choices[index].reason = Some(reason);
                if self.streams {
                    // With those of tokens without a text.
                    let log_probs = self.take_log_probs(index);
                    let reason = self.choices[index].reason_name();
                    chunks.push(self.delta(index, json!({}), log_probs, reason));
                }
                Ok(chunks)
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.choices.iter().all(|choice| choice.reason.is_some())
    }

    fn end(&mut self) -> Vec<Value> {
        if !self.stream_usage {
            return Vec::new();
        }
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = self.usage.to_json();
        vec![chunk]
    }

    fn whole(mut self) -> Value {
        let n = self.choices.len();
        let choice = |index: usize| {
            let log_probs = self.take_log_probs(index);
            let choice = &self.choices[index];
            let Parts { reasoning, content, calls } = &choice.parts;
            let content = format!("{}{content}", self.opening);
            let mut message =
                json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
            if !reasoning.is_empty() {
                message["reasoning_content"] = json!(reasoning);
            }
            if !calls.is_empty() {
                message["tool_calls"] = calls.iter().map(|call| call_json(call, None)).collect();
                if content.is_empty() {
                    message["content"] = Value::Null;
                }
            }
            json!({"index": index, "message": message, "logprobs": log_probs, "finish_reason": choice.reason_name()})
        };
        let choices: Value = (0..n).map(choice).collect();
        let mut answer = self.head.fields("chat.completion");
        answer.insert("choices".to_owned(), choices);
        answer.insert("usage".to_owned(), self.usage.to_json());
        answer.into()
    }
}

impl Choice {
    /// Why it ended, as the API says it.
    fn reason_name(&self) -> Option<&'static str> {
        let called = self.calls + self.parts.calls.len() > 0;
        match self.reason? {
            FinishReason::Stop if called => Some("tool_calls"),
            reason => Some(reason.name()),
        }
    }
}

/// A call of a tool; in a stream with its place among those of the choice.
fn call_json(call: &Call, index: Option<usize>) -> Value {
    let Call { name, arguments } = call;
    let id = format!("call_{:016x}", chance());
    let mut json = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    if let Some(index) = index {
        json["index"] = json!(index);
    }
    json
}
