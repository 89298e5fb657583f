//! A conversation: replies come token by token, and a turn costs its own tokens.

use koan_backend::Backend;
use koan_data::Message;
use koan_generate::{FinishReason, Request, Sampling};
use koan_text::TextStream;

use crate::{Engine, InferError, Piece, Thinking};

/// Tokens at the end of a prompt among which thinking may be opened.
const OPENING_TOKENS: usize = 16;

/// A conversation with a model; it has the engine for itself.
pub struct Conversation<'b, B: Backend> {
    engine: Engine<'b, B>,
    sampling: Sampling,
    context: usize,
    messages: Vec<Message>,
    turns: u64,
}

impl<'b, B: Backend> Conversation<'b, B> {
    /// Begins a conversation of up to `context` tokens, in which replies are sampled as `sampling` says. The number of the turn
    /// keys a reply's random numbers.
    pub fn new(mut engine: Engine<'b, B>, sampling: Sampling, context: usize) -> Self {
        engine.generator.keep_keys(true);
        Self { engine, sampling, context, messages: Vec::new(), turns: 0 }
    }

    /// What was said so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.messages.clear();
    }

    /// Says `text` to the model, whose reply is then to be sampled. Neither is a part of the conversation before
    /// [`Reply::finish`].
    ///
    /// # Errors
    /// If the tokenizer or its template refuses, or the conversation leaves no room for a reply.
    pub fn say(&mut self, text: &str) -> Result<Reply<'_, 'b, B>, InferError> {
        let Self { engine, sampling, context, messages, turns } = self;
        let said = messages.len();
        messages.push(Message::user(text));
        let ids = engine.codec.encode(messages, &serde_json::Map::new());
        let question = messages.split_off(said);
        let ids = ids?;
        let (tokens, context) = (ids.len(), *context);
        let room = (context + 1).saturating_sub(tokens);
        if room == 0 {
            return Err(InferError::ConversationLength { tokens, context });
        }
        let opening =
            engine.codec.tokenizer()?.decode(&ids[tokens.saturating_sub(OPENING_TOKENS)..], false)?;
        let sampling = Sampling { max_new_tokens: sampling.max_new_tokens.min(room), ..sampling.clone() };
        engine.generator.cancel_all(); // a reply that was not finished
        let request =
            Request { prompt: ids.into(), sampling, problem: *turns, sample: 0, shows_logits: false };
        engine.generator.submit(request)?;
        *turns += 1;
        let stream = TextStream::new(engine.codec.tokenizer()?, true);
        Ok(Reply {
            b: engine.b,
            model: &engine.model,
            generator: &mut engine.generator,
            stream,
            thinking: Thinking::after(&opening),
            text: String::new(),
            tokens: 0,
            is_cut: false,
            question,
            messages,
        })
    }
}

/// A reply that is being sampled.
pub struct Reply<'a, 'b, B: Backend> {
    b: &'b B,
    model: &'a koan_model::Model<B>,
    generator: &'a mut koan_generate::Generator<B>,
    stream: TextStream<'a>,
    thinking: Thinking,
    text: String,
    tokens: usize,
    is_cut: bool,
    question: Vec<Message>,
    messages: &'a mut Vec<Message>,
}

impl<B: Backend> Reply<'_, '_, B> {
    /// Samples the next token, or with drafts some; gives the text that is certain now, often none. `None`: the reply is whole.
    ///
    /// # Errors
    /// If a token can't be decoded.
    pub fn step(&mut self) -> Result<Option<Vec<Piece>>, InferError> {
        if !self.generator.is_busy() {
            return Ok(None);
        }
        let mut pieces = Vec::new();
        let step = self.generator.step(self.b, self.model)?;
        self.is_cut |= step.finished.iter().any(|f| f.completion.finish_reason == FinishReason::Length);
        self.tokens += step.tokens.len();
        for (_, token) in step.tokens {
            let text = self.stream.push(token)?;
            self.text += &text;
            pieces.extend(self.thinking.push(&text));
        }
        Ok(Some(pieces))
    }

    /// Tokens sampled so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether the reply is whole because it reached its largest number of tokens, not because the model ended it.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Ends the reply with what was sampled; it becomes a part of the conversation. Gives the text that was still held back.
    ///
    /// # Errors
    /// If its last tokens can't be decoded.
    pub fn finish(mut self) -> Result<Vec<Piece>, InferError> {
        self.generator.cancel_all();
        let rest = self.stream.finish()?;
        self.text += &rest;
        let mut pieces = self.thinking.push(&rest);
        pieces.extend(self.thinking.finish());
        self.messages.append(&mut self.question);
        self.messages.push(Message { role: "assistant".to_owned(), ..Message::user(self.text) });
        Ok(pieces)
    }
}
