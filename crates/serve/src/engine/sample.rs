//! A choice while it is sampled: its text, up to a stop string, and the tokens that are certain to be part of it.

use std::{collections::VecDeque, rc::Rc, time::Instant};

use koan_backend::Draw;
use koan_generate::Sampled;
use koan_infer::likeliest;
use koan_text::{Found, StopStrings, TextError, TextStream, Tokenizer};

use super::job::{Job, Piece, Token};
use crate::format::Constraint;

/// What thinking ends with.
const CLOSE: &str = "</think>";

/// A choice that is being sampled.
pub(crate) struct Sample<'a> {
    pub(crate) job: Rc<Job>,
    pub(crate) choice: usize,
    stream: TextStream<'a>,
    stops: StopStrings,
    /// Bytes and characters of the text that was made, and bytes of it that are certain.
    made: [usize; 2],
    certain: usize,
    /// Tokens whose text may yet turn out to be part of a stop string.
    held: VecDeque<Token>,
    /// The likeliest in the place of the next token.
    pub(crate) likeliest: Vec<(u32, f32)>,
    /// What was not handed out yet.
    out: Piece,
    /// What it is held to, and the end of its thinking, while it is not held to anything yet.
    format: Option<Constraint>,
    thinking: Option<String>,
    /// When its first token was taken.
    pub(crate) first: Option<Instant>,
    /// Whether its format allows nothing more.
    gave_up: bool,
    /// Why it can't go on.
    pub(crate) failed: Option<TextError>,
}

impl<'a> Sample<'a> {
    pub(crate) fn new(job: Rc<Job>, choice: usize, tokenizer: &'a Tokenizer) -> Self {
        let stops = StopStrings::new(&job.stops);
        let format = job.format.as_ref().map(Constraint::copy);
        let thinking = (format.is_some() && job.thinking).then(String::new);
        Self {
            job,
            choice,
            stream: TextStream::new(tokenizer, true),
            stops,
            made: [0; 2],
            certain: 0,
            held: VecDeque::new(),
            likeliest: Vec::new(),
            out: Piece::default(),
            format,
            thinking,
            first: None,
            gave_up: false,
            failed: None,
        }
    }

    /// The token to take in the place of `drawn`: of those that its format allows, if it is held to one.
    pub(crate) fn choose(&mut self, logits: &[f32], draw: &Draw, drawn: Sampled) -> Sampled {
        if self.job.top > 0 {
            self.likeliest = likeliest(logits, draw.temperature, self.job.top);
        }
        let Some(format) = self.format.as_mut().filter(|_| self.thinking.is_none()) else { return drawn };
        let chosen = format.draw(logits, draw);
        self.gave_up |= chosen.is_none();
        chosen.unwrap_or(drawn)
    }

    /// Takes a token; whether the choice is over with it.
    pub(crate) fn push(&mut self, sampled: Sampled) -> bool {
        if self.gave_up {
            return true;
        }
        let Sampled { token: id, full_log_prob: log_prob, .. } = sampled;
        let likeliest = std::mem::take(&mut self.likeliest);
        if self.job.sampling.stop_ids.contains(&id) {
            return false; // the generator knows, and the token is no part of the answer
        }
        self.held.push_back(Token { id, log_prob, likeliest, start: self.made });
        match self.stream.push(id) {
            Ok(text) => self.add(&text),
            Err(error) => {
                self.failed = Some(error);
                true
            }
        }
    }

    /// Takes text; whether it has a stop string.
    fn add(&mut self, text: &str) -> bool {
        if let Some(end) = &mut self.thinking {
            *end += text;
            let is_over = end.contains(CLOSE);
            let last = end.len().saturating_sub(CLOSE.len());
            let kept = (0..=last).rev().find(|&at| end.is_char_boundary(at)).unwrap_or(0);
            end.drain(..kept);
            if is_over {
                self.thinking = None;
            }
        }
        self.made[0] += text.len();
        self.made[1] += text.chars().count();
        let (text, is_over) = match self.stops.push(text) {
            Found::Text(text) => (text, false),
            Found::Stop(text) => (text, true),
        };
        self.certain += text.len();
        self.out.text += &text;
        let certain = self.held.iter().take_while(|token| token.start[0] < self.certain).count();
        self.out.tokens.extend(self.held.drain(..certain));
        if is_over {
            self.held.clear();
        }
        is_over
    }

    /// What is new.
    pub(crate) fn take(&mut self) -> Option<Piece> {
        let piece = std::mem::take(&mut self.out);
        (!piece.text.is_empty() || !piece.tokens.is_empty()).then_some(piece)
    }

    /// What was held back, when no more comes; nothing where a stop string ended the choice.
    pub(crate) fn finish(self, is_stopped: bool) -> (Rc<Job>, Piece, Option<TextError>) {
        let Self { job, stream, mut stops, mut held, mut out, failed, certain, .. } = self;
        if is_stopped || failed.is_some() {
            return (job, out, failed);
        }
        let rest = match stream.finish() {
            Ok(rest) => rest,
            Err(error) => return (job, out, Some(error)),
        };
        match stops.push(&rest) {
            Found::Text(text) => {
                out.text += &text;
                out.text += &stops.finish();
            }
            Found::Stop(text) => {
                held.retain(|token| token.start[0] < certain + text.len());
                out.text += &text;
            }
        }
        out.tokens.extend(held);
        (job, out, None)
    }
}
