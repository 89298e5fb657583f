//! Answers of `/v1/completions`.

use std::sync::Arc;

use koan_generate::FinishReason;
use koan_infer::PromptScore;
use serde_json::{Value, json};

use super::{Head, Tale, Usage, log_probs::OfCompletion};
use crate::{
    engine::{Event, Piece, Token},
    error::ApiError,
};

/// A prompt with which its completions begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    pub(crate) text: String,
    /// Its tokens, and the characters before each; none where log-probabilities are not wanted.
    pub(crate) ids: Arc<[u32]>,
    pub(crate) offsets: Vec<usize>,
}

/// The answer to a request for completions.
pub(crate) struct CompletionTale {
    head: Head,
    /// Choices of each prompt.
    n: usize,
    prompts: Vec<PromptPart>,
    choices: Vec<Choice>,
    log_probs: bool,
    streams: bool,
    stream_usage: bool,
    usage: Usage,
}

/// What is told of a prompt.
struct PromptPart {
    /// Its characters: where its completions begin.
    chars: usize,
    echo: Option<Echo>,
    /// Whether its score is awaited, and the score.
    is_scored: bool,
    score: Option<PromptScore>,
}

#[derive(Default)]
struct Choice {
    text: String,
    tokens: Vec<Token>,
    reason: Option<FinishReason>,
    /// Whether the prompt was told.
    echoed: bool,
}

impl CompletionTale {
    /// `prompts`: the characters of each, and what is told of it if it is echoed. `generates`: whether anything is sampled.
    pub(crate) fn new(
        head: Head,
        n: usize,
        prompts: Vec<(usize, Option<Echo>)>,
        prompt_tokens: usize,
        log_probs: bool,
        generates: bool,
        [streams, stream_usage]: [bool; 2],
    ) -> Self {
        let reason = (!generates).then_some(FinishReason::Length);
        let choices = (0..prompts.len() * n).map(|_| Choice { reason, ..Choice::default() }).collect();
        let part = |(chars, echo): (usize, Option<Echo>)| {
            let is_scored = echo.is_some() && log_probs;
            PromptPart { chars, echo, is_scored, score: None }
        };
        let prompts = prompts.into_iter().map(part).collect();
        let usage = Usage { prompt: prompt_tokens, ..Usage::default() };
        Self { head, n, prompts, choices, log_probs, streams, stream_usage, usage }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = self.head.fields("text_completion");
        chunk.insert("choices".to_owned(), choices);
        if self.stream_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        chunk.into()
    }

    /// A choice as far as it was not told yet.
    fn part(&mut self, index: usize) -> Value {
        let Self { head, n, prompts, choices, log_probs, .. } = self;
        let prompt = &prompts[index / *n];
        let choice = &mut choices[index];
        let mut text = std::mem::take(&mut choice.text);
        let tokens = std::mem::take(&mut choice.tokens);
        let echo = prompt.echo.as_ref().filter(|_| !choice.echoed);
        choice.echoed = true;
        if let Some(echo) = echo {
            text.insert_str(0, &echo.text);
        }
        let told = head.served.codec.tokenizer().ok().filter(|_| *log_probs).map(|tokenizer| {
            let mut told = OfCompletion::new(tokenizer);
            if let (Some(echo), Some(score)) = (echo, &prompt.score) {
                told.add_prompt(&echo.ids, &echo.offsets, score);
            }
            told.add(&tokens, prompt.chars);
            told.into_json()
        });
        let reason = choice.reason.map(FinishReason::name);
        json!({"index": index, "text": text, "logprobs": told, "finish_reason": reason})
    }

    /// The chunk of a stream that says what is new, unless the prompt comes first and its score is not there yet.
    fn chunks(&mut self, index: usize) -> Vec<Value> {
        let prompt = &self.prompts[index / self.n];
        if !self.streams || prompt.is_scored && prompt.score.is_none() {
            return Vec::new();
        }
        let part = self.part(index);
        vec![self.chunk(json!([part]))]
    }
}

impl Tale for CompletionTale {
    fn begin(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn take(&mut self, event: Event) -> Result<Vec<Value>, ApiError> {
        match event {
            Event::Failed(error) => Err(error),
            Event::Score { prompt, score } => {
                self.prompts[prompt].score = Some(score);
                let n = self.n;
                Ok((prompt * n..(prompt + 1) * n).flat_map(|index| self.chunks(index)).collect())
            }
            Event::Piece { choice: index, piece: Piece { text, tokens } } => {
                self.usage.completion += if self.head.as_sampled { 0 } else { tokens.len() };
                let choice = &mut self.choices[index];
                choice.text += &text;
                if self.log_probs {
                    choice.tokens.extend(tokens);
                }
                if text.is_empty() { Ok(Vec::new()) } else { Ok(self.chunks(index)) }
            }
            Event::Done { choice: index, reason, tokens, cached_tokens } => {
                self.usage.completion += if self.head.as_sampled { tokens } else { 0 };
                self.choices[index].reason = Some(reason);
                if index.is_multiple_of(self.n) {
                    self.usage.cached += cached_tokens;
                }
                Ok(self.chunks(index))
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.choices.iter().all(|choice| choice.reason.is_some())
            && self.prompts.iter().all(|prompt| !prompt.is_scored || prompt.score.is_some())
    }

    fn end(&mut self) -> Vec<Value> {
        // Prompts alone, of which nothing was to be scored.
        let untold: Vec<usize> = (0..self.choices.len()).filter(|&i| !self.choices[i].echoed).collect();
        let mut chunks: Vec<Value> = untold.into_iter().flat_map(|index| self.chunks(index)).collect();
        if self.stream_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = self.usage.to_json();
            chunks.push(chunk);
        }
        chunks
    }

    fn whole(mut self) -> Value {
        let choices: Value = (0..self.choices.len()).map(|index| self.part(index)).collect();
        let mut answer = self.head.fields("text_completion");
        answer.insert("choices".to_owned(), choices);
        answer.insert("usage".to_owned(), self.usage.to_json());
        answer.into()
    }
}
