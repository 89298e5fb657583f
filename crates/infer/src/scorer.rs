//! A reward model that scores texts, many in a pass, what their prompts share computed once.

use koan_backend::{Backend, Layout, OutOfMemory, Scored};
use koan_data::Message;
use koan_model::{
    Activations, Config, HeadKind, Model, Purpose, ScalarRows,
    checkpoint::{CheckpointError, check_positions, load_as, load_scorer_for_inference},
};

use crate::{Codec, InferError, PromptStyle, plan};
use std::path::Path;

/// Tokens of one pass, unless a single text is longer.
const PASS_TOKENS: usize = 2048;

/// A reply after its prompt, as a reward model reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredText {
    /// The prompt's tokens; at least one.
    pub prompt: Vec<u32>,
    /// The reply's, with those that end it.
    pub reply: Vec<u32>,
}

impl ScoredText {
    fn tokens(&self) -> usize {
        self.prompt.len() + self.reply.len()
    }
}

/// A reward model on a device.
pub struct Scorer<'b, B: Backend> {
    b: &'b B,
    codec: Codec,
    model: Model<B>,
    max_tokens: usize,
}

impl<'b, B: Backend> Scorer<'b, B> {
    /// Loads the reward model of directory `dir`, for texts of up to `max_tokens`, or as long as the model reaches.
    ///
    /// # Errors
    /// A model that is none, has no tokenizer or is refused, or no room for it and a pass: before its weights are read.
    pub fn load(b: &'b B, dir: &Path, max_tokens: usize) -> Result<Self, InferError> {
        let codec = Self::open(dir)?;
        let max_tokens = max_tokens.min(codec.config().longest_sequence());
        let pass = Self::pass_bytes(b, codec.config(), max_tokens);
        plan::check(b, codec.config(), pass, "a pass of the reward model")?;
        let model = load_scorer_for_inference(b, codec.place(), max_tokens)?;
        Ok(Self { b, codec, model, max_tokens })
    }

    /// The same of any model: one that predicts tokens gets a fresh head, whose scores say nothing. For measuring speed.
    ///
    /// # Errors
    /// As [`load`](Self::load), except that the model may be another.
    pub fn with_some_head(b: &'b B, dir: &Path, max_tokens: usize) -> Result<Self, InferError> {
        let codec = Codec::open(dir, PromptStyle::default())?;
        if codec.config().head == HeadKind::Scalar {
            return Self::load(b, dir, max_tokens);
        }
        let config = codec.config().with_scalar_head(0, false);
        let mut model = load_as(b, codec.place(), config, max_tokens, 0)?;
        model.pack(b)?;
        Ok(Self { b, codec, model, max_tokens })
    }

    /// How the reward model of directory `dir` reads text.
    ///
    /// # Errors
    /// A model that is none, or has no tokenizer.
    pub(crate) fn open(dir: &Path) -> Result<Codec, InferError> {
        let codec = Codec::open(dir, PromptStyle::default())?;
        if codec.config().head != HeadKind::Scalar {
            return Err(CheckpointError::NoRewardModel { path: dir.into() }.into());
        }
        codec.tokenizer()?;
        check_positions(dir, codec.config(), 1)?;
        Ok(codec)
    }

    /// Bytes that it works in while it scores texts of up to `max_tokens`.
    pub(crate) fn pass_bytes(b: &B, config: &Config, max_tokens: usize) -> usize {
        let rows = PASS_TOKENS.max(max_tokens);
        Purpose::Inference.bytes(b, config, rows).saturating_add(ScalarRows::bytes(b, config, rows))
    }

    /// The model's sizes.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// The tokens of the assistant's `reply` after `prompt`: through the model's own chat template, as in its training.
    ///
    /// # Errors
    /// Why it can't be scored: the template refuses it, or it is longer than the model reads.
    pub fn encode(&self, prompt: &[Message], reply: &Message) -> Result<ScoredText, String> {
        let text = match self.codec.encode_reply(prompt, reply) {
            Ok(Some((prompt, reply))) => ScoredText { prompt, reply },
            Ok(None) => {
                return Err(
                    "the reward model's template opens the thinking, and the text has none".to_owned()
                );
            }
            Err(error) => return Err(format!("the reward model can't read it: {}", in_words(&error))),
        };
        match text.tokens() {
            _ if text.prompt.is_empty() => Err("its prompt has no tokens for the reward model".to_owned()),
            n if n > self.max_tokens => {
                Err(format!("it has {n} tokens for the reward model, which reads {}", self.max_tokens))
            }
            _ => Ok(text),
        }
    }

    /// The score of each text, in their order; of neighbours with the same prompt, the prompt is computed once. A text's score
    /// depends on that text alone.
    ///
    /// # Errors
    /// If the device refuses the memory.
    ///
    /// # Panics
    /// If a text has no prompt, a token that the model does not know, or more tokens than it was loaded for.
    pub fn scores<'t>(
        &self,
        texts: impl IntoIterator<Item = &'t ScoredText>,
    ) -> Result<Vec<f64>, OutOfMemory> {
        let texts: Vec<&ScoredText> = texts.into_iter().collect();
        let longest = texts.iter().map(|text| text.tokens()).max().unwrap_or(1);
        let rows = PASS_TOKENS.max(longest);
        let mut activations = Activations::new(self.b, self.config(), rows, Purpose::Inference)?;
        let mut head = ScalarRows::new(self.b, self.config(), rows)?;
        let mut scores = Vec::with_capacity(texts.len());
        let mut rest = &texts[..];
        while let [first, ..] = rest {
            let mut layout = Layout::default();
            let mut next = Some(*first);
            while let Some(first) = next {
                // As many replies to this prompt as the pass has room for.
                let group = rest.iter().take_while(|text| text.prompt == first.prompt);
                let room = rows - layout.len();
                let fits = group
                    .scan(first.prompt.len() - 1, |used, text| {
                        *used += 1 + text.reply.len();
                        (*used <= room).then_some(())
                    })
                    .count();
                if fits == 0 {
                    break;
                }
                let (now, later) = rest.split_at(fits);
                layout.push_group_as(Scored::Ends, &first.prompt, now.iter().map(|text| &text.reply[..]));
                rest = later;
                next = rest.first().copied();
            }
            let layout = self.model.upload(self.b, layout)?;
            self.model.forward(self.b, &layout, &mut activations, None);
            scores.extend(self.model.scores(self.b, &activations, &layout, &mut head));
        }
        Ok(scores)
    }
}

/// An error with its causes.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
