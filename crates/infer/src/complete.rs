//! Completions for a file of prompts, with token ids and log-probabilities.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use koan_backend::Backend;
use koan_data::{
    DataError, DataFiles, Message,
    error::LineError,
    rows::{self, Place, Rows},
};
use koan_files::sha256;
use koan_generate::{Completion, Counters, Finished, Generator, Prompt, RequestId, Sampling};
use koan_model::Model;
use koan_text::{Found, RowTemplate, StopStrings, TextError, TextStream, first_stop};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Codec, Engine, InferError};

/// A line of a file of prompts: a problem, or anything else that has a prompt. All of it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromptLine {
    /// The question, if it is one message from the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The conversation up to the reply wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// The prompt that a template made of the line, if one did: it was asked instead of the line's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered_prompt: Option<String>,
    /// The tokens of the prompt, where they are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_ids: Option<Vec<u32>>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl PromptLine {
    /// The line of a row, whose prompt is its own, or what `template` makes of it. What an earlier output says of its completions
    /// is forgotten: the next one says it again.
    fn of(row: Map<String, Value>, template: Option<&RowTemplate>) -> Result<Self, LineError> {
        let rendered = template.map(|template| template.render(&row)).transpose();
        let rendered_prompt = rendered.map_err(|error| LineError::Row { what: in_words(&error) })?;
        let mut line: Self = rows::value(row)?;
        line.other.remove("completions");
        if rendered_prompt.is_some() {
            return Ok(Self { rendered_prompt, prompt_ids: None, ..line });
        }
        line.rendered_prompt = None;
        line.check()?;
        Ok(line)
    }

    /// Refuses a line that has not exactly one prompt.
    fn check(&self) -> Result<(), LineError> {
        let has = [self.prompt.is_some(), self.messages.is_some(), self.prompt_ids.is_some()];
        match has.iter().filter(|has| **has).count() {
            0 => Err(LineError::NoPrompt),
            1 => Ok(()),
            _ => Err(LineError::TwoPrompts),
        }
    }
}

/// An error with its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

/// The lines of a file of prompts, with the tokens of each.
pub struct Prompts {
    lines: Vec<PromptLine>,
    ids: Vec<Vec<u32>>,
}

impl Prompts {
    /// Reads files. Each row has exactly one of `prompt`, `messages`, `prompt_ids`; or, with a `template`, the fields of which
    /// that makes the prompt.
    ///
    /// # Errors
    /// A file that can't be read or is empty, a line without a prompt or without a field that the template reads, a prompt
    /// without tokens or with tokens outside of the vocabulary, or text for a model without a tokenizer.
    pub fn read(
        files: &DataFiles,
        template: Option<&RowTemplate>,
        codec: &Codec,
    ) -> Result<Self, InferError> {
        let mut lines = Vec::new();
        rows::read(files, |place, row: Map<String, Value>| {
            lines.push((place.clone(), PromptLine::of(row, template)?));
            Ok(())
        })?;
        Self::of_lines(lines, codec)
    }

    /// Reads rows as [`Prompts::read`] does.
    ///
    /// # Errors
    /// As [`Prompts::read`].
    pub fn read_rows(rows: Rows, template: Option<&RowTemplate>, codec: &Codec) -> Result<Self, InferError> {
        let mut lines = Vec::new();
        rows::read_rows(rows, |place, row: Result<Map<String, Value>, LineError>| {
            lines.push((place.clone(), PromptLine::of(row?, template)?));
            Ok(())
        })?;
        Self::of_lines(lines, codec)
    }

    /// Questions as texts, which errors call lines of `name`; a `template` reads each as `prompt`.
    ///
    /// # Errors
    /// No texts, one without tokens, or a model without a tokenizer.
    pub fn of_texts(
        texts: impl IntoIterator<Item = String>,
        name: &str,
        template: Option<&RowTemplate>,
        codec: &Codec,
    ) -> Result<Self, InferError> {
        let path: Arc<Path> = Path::new(name).into();
        let lines = texts.into_iter().zip(1..).map(|(text, number)| {
            let row = Map::from_iter([("prompt".to_owned(), text.into())]);
            let place = Place { path: Arc::clone(&path), number, is_line: true };
            let wrong = |reason| DataError::Line { place: place.clone(), reason };
            let line = PromptLine::of(row, template).map_err(wrong)?;
            Ok((place, line))
        });
        let lines = lines.collect::<Result<Vec<_>, DataError>>()?;
        if lines.is_empty() {
            return Err(DataError::Empty { path: path.to_path_buf() }.into());
        }
        Self::of_lines(lines, codec)
    }

    /// `lines` with their places.
    fn of_lines(lines: Vec<(Place, PromptLine)>, codec: &Codec) -> Result<Self, InferError> {
        let tokens = |(place, line): &(Place, PromptLine)| {
            let long = |error: InferError| match error {
                InferError::TextLength { .. } => InferError::line(place, error.to_string()),
                error => error,
            };
            let asked = line.rendered_prompt.as_ref().or(line.prompt.as_ref());
            let ids = match (&line.prompt_ids, &line.messages) {
                (Some(ids), _) => ids.clone(),
                (None, Some(messages)) if line.rendered_prompt.is_none() => {
                    codec.encode(messages, &line.other).map_err(long)?
                }
                (None, _) => {
                    let messages: Vec<_> = asked.into_iter().map(Message::user).collect();
                    codec.encode(&messages, &line.other).map_err(long)?
                }
            };
            codec.check("prompt", &ids).map_err(|what| InferError::line(place, what))?;
            Ok(ids)
        };
        let ids = lines.iter().map(tokens).collect::<Result<_, InferError>>()?;
        Ok(Self { lines: lines.into_iter().map(|(_, line)| line).collect(), ids })
    }

    /// Number of prompts; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a file without prompts is refused")]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The tokens of each.
    pub fn ids(&self) -> &[Vec<u32>] {
        &self.ids
    }

    /// SHA-256 of the lines with their tokens: with others, other completions come out.
    pub fn sha256(&self) -> String {
        let lines =
            self.lines.iter().zip(&self.ids).map(|line| serde_json::to_string(&line).unwrap_or_default());
        sha256(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Tokens of the longest prompt.
    pub fn longest(&self) -> usize {
        self.ids.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// A prompt with its completions: a line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Completed {
    /// The line it came from, with its `prompt_ids`.
    #[serde(flatten)]
    pub line: PromptLine,
    /// The completions, sample after sample.
    pub completions: Vec<CompletionLine>,
}

/// A completion as files show it.
#[derive(Clone, Debug, Serialize)]
pub struct CompletionLine {
    /// Its text, without special tokens, up to a stop string if it ended with one.
    pub text: String,
    /// Its tokens: all that were sampled, those of a stop string too.
    pub token_ids: Vec<u32>,
    /// Log-probability of each under the distribution it was sampled from.
    pub logprobs: Vec<f32>,
    /// Log-probability of each under the whole distribution: equal where top-k, top-p and min-p cut nothing off.
    pub full_logprobs: Vec<f32>,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
}

/// Prompts, and how their completions are sampled.
pub struct Work<'a> {
    /// The prompts. The place of each keys its random numbers.
    pub prompts: Prompts,
    /// Completions of each.
    pub samples: usize,
    /// How tokens are sampled.
    pub sampling: &'a Sampling,
    /// Texts that end a completion; they need a tokenizer.
    pub stops: &'a [String],
    /// Places of prompts that are not sampled: their completions are there already.
    pub done: &'a BTreeSet<usize>,
}

impl<B: Backend> Engine<'_, B> {
    /// Samples the completions. A line is handed to `each` when all its completions are there, with its place; after a `Break`
    /// what is not sampled is given up.
    ///
    /// # Errors
    /// If a prompt does not fit, or a completion can't be decoded.
    pub fn complete(
        &mut self,
        work: Work<'_>,
        each: impl FnMut(usize, Completed) -> ControlFlow<()>,
    ) -> Result<Counters, InferError> {
        let Self { b, codec, model, generator } = self;
        let Work { prompts: Prompts { lines, ids }, samples, sampling, stops, done } = work;
        let prompt = |(i, ids): (usize, Vec<u32>)| Prompt { ids, problem: i as u64, samples };
        let wanted = ids.into_iter().enumerate().filter(|(place, _)| !done.contains(place));
        let prompts: Vec<Prompt> = wanted.map(prompt).collect();
        let before = generator.counters();
        generator.submit_all(&prompts, sampling)?;
        let open = lines.into_iter().map(|line| Some((line, vec![None; samples]))).collect();
        let mut writer = Writer { codec, stops, streams: HashMap::new(), open, each };
        let sampled = writer.run(*b, model, generator);
        generator.cancel_all();
        sampled.map(|()| generator.counters().since(before))
    }
}

/// Turns completions into lines, and ends them at stop strings.
struct Writer<'a, F> {
    codec: &'a Codec,
    stops: &'a [String],
    /// The text so far of completions that are being sampled, where there are stop strings.
    streams: HashMap<RequestId, (TextStream<'a>, StopStrings)>,
    /// The lines that are not written, with their completions so far.
    open: Vec<Option<(PromptLine, Vec<Option<Completion>>)>>,
    each: F,
}

impl<F: FnMut(usize, Completed) -> ControlFlow<()>> Writer<'_, F> {
    fn run<B: Backend>(
        &mut self,
        b: &B,
        model: &Model<B>,
        generator: &mut Generator<B>,
    ) -> Result<(), InferError> {
        while generator.is_busy() {
            let mut unreadable = None;
            let step = generator.step_until(b, model, |id, token| {
                self.stops_at(id, token).unwrap_or_else(|error| {
                    unreadable = Some(error);
                    true
                })
            })?;
            if let Some(error) = unreadable {
                return Err(error.into());
            }
            for finished in step.finished {
                if self.finish(finished)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether a stop string ends with `token`.
    fn stops_at(&mut self, id: RequestId, token: u32) -> Result<bool, TextError> {
        if self.stops.is_empty() {
            return Ok(false);
        }
        let tokenizer = self.codec.tokenizer()?;
        let new = || (TextStream::new(tokenizer, true), StopStrings::new(self.stops));
        let (stream, stops) = self.streams.entry(id).or_insert_with(new);
        let text = stream.push(token)?;
        Ok(matches!(stops.push(&text), Found::Stop(_)))
    }

    /// Hands a line over, if the completion was its last.
    fn finish(&mut self, finished: Finished) -> Result<ControlFlow<()>, TextError> {
        let Finished { id, request, completion, .. } = finished;
        self.streams.remove(&id);
        let place = request.problem as usize;
        let (line, mut sampled) =
            self.open[place].take().expect("a line whose completions are not all there");
        sampled[request.sample as usize] = Some(completion);
        if sampled.iter().any(Option::is_none) {
            self.open[place] = Some((line, sampled));
            return Ok(ControlFlow::Continue(()));
        }
        let completions = sampled.into_iter().flatten().map(|c| self.line(c)).collect::<Result<_, _>>()?;
        let line = PromptLine { prompt_ids: Some(request.prompt.to_vec()), ..line };
        Ok((self.each)(place, Completed { line, completions }))
    }

    fn line(&self, c: Completion) -> Result<CompletionLine, TextError> {
        let mut text =
            if self.codec.has_tokenizer() { self.codec.decode(&c.token_ids)? } else { String::new() };
        if let Some(at) = first_stop(&text, self.stops) {
            text.truncate(at);
        }
        Ok(CompletionLine {
            text,
            token_ids: c.token_ids,
            logprobs: c.log_probs,
            full_logprobs: c.full_log_probs,
            finish_reason: c.finish_reason.name(),
        })
    }
}
