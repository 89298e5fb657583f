//! The kinds of steps: what each reads, and what it offers to others.

use std::fmt;

use toml::{Table, Value};

use crate::world;

/// A kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the verb of its name, or documented in `about`")]
pub enum Kind {
    Pretrain,
    Sft,
    Rl,
    Reject,
    Prefer,
    Distill,
    Init,
    Import,
    Problems,
    Generate,
    Convert,
    Filter,
    Mix,
    Split,
    Decontaminate,
    Label,
    World,
    Vote,
    Report,
    Eval,
}

/// What a step makes that others may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A model, a reward model or an adapter: a directory.
    Model,
    /// Rows: a file.
    Data,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "a model",
            Self::Data => "data",
        })
    }
}

/// Where a step's artefact lies in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Artefact {
    /// Its name after the step's, as in `@split.train`; none: the step has one alone.
    pub(crate) part: Option<&'static str>,
    pub(crate) offer: Offer,
    pub(crate) path: &'static str,
}

/// The part of a split that is learned from, and the one that is not.
pub(crate) const PARTS: [&str; 2] = ["train", "held-out"];

/// The versions of what steps make. Whoever changes the bytes that come out of the same settings and inputs raises one: then what was made before is
/// made again. `crates/cli/tests/bytes.rs` fails until that is done (decision 12).
mod versions {
    /// Of whatever a model computes: stages, samples, measurements.
    pub(super) const COMPUTED: u32 = 2;
    /// Of work on data, and of models that are made without computing with them.
    pub(super) const WORKED: u32 = 3;
}

impl Kind {
    /// The version of what it makes.
    pub fn version(self) -> u32 {
        let computes = self.is_stage() || matches!(self, Self::Generate | Self::Eval);
        if computes { versions::COMPUTED } else { versions::WORKED }
    }

    /// All kinds, in the order in which they are documented.
    pub const ALL: [Self; 20] = [
        Self::Pretrain,
        Self::Sft,
        Self::Rl,
        Self::Reject,
        Self::Prefer,
        Self::Distill,
        Self::Init,
        Self::Import,
        Self::Problems,
        Self::Generate,
        Self::Convert,
        Self::Filter,
        Self::Mix,
        Self::Split,
        Self::Decontaminate,
        Self::Label,
        Self::World,
        Self::Vote,
        Self::Report,
        Self::Eval,
    ];

    /// Its name in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Sft => "sft",
            Self::Rl => "rl",
            Self::Reject => "reject",
            Self::Prefer => "prefer",
            Self::Distill => "distill",
            Self::Init => "init",
            Self::Import => "import",
            Self::Problems => "problems",
            Self::Generate => "generate",
            Self::Convert => "convert",
            Self::Filter => "filter",
            Self::Mix => "mix",
            Self::Split => "split",
            Self::Decontaminate => "decontaminate",
            Self::Label => "label",
            Self::World => "world",
            Self::Vote => "vote",
            Self::Report => "report",
            Self::Eval => "eval",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is a stage: it has a run directory with checkpoints, from which it goes on.
    pub fn is_stage(self) -> bool {
        matches!(self, Self::Pretrain | Self::Sft | Self::Rl | Self::Reject | Self::Prefer | Self::Distill)
    }

    /// Whether random numbers of it are keyed by a seed.
    pub(crate) fn has_seed(self) -> bool {
        !matches!(
            self,
            Self::Import | Self::Convert | Self::Filter | Self::Decontaminate | Self::Label | Self::Report
        )
    }

    /// What it makes, with these settings.
    pub(crate) fn artefacts(self, settings: &Table) -> Vec<Artefact> {
        let one = |offer, path| vec![Artefact { part: None, offer, path }];
        match self {
            Self::Pretrain
            | Self::Sft
            | Self::Rl
            | Self::Prefer
            | Self::Distill
            | Self::Init
            | Self::Import => one(Offer::Model, "model"),
            Self::Reject => {
                let keep = settings.get("keep").and_then(|keep| keep.get("which"));
                let is_preference = keep.and_then(Value::as_str) == Some("preference");
                one(Offer::Data, if is_preference { "data/preferences.jsonl" } else { "data/sft.jsonl" })
            }
            Self::Split => {
                let part = |part, path| Artefact { part: Some(part), offer: Offer::Data, path };
                vec![part(PARTS[0], "train.jsonl"), part(PARTS[1], "held-out.jsonl")]
            }
            Self::Label => one(Offer::Data, "labels.jsonl"),
            Self::World => world::artefacts(settings),
            Self::Report => Vec::new(),
            Self::Eval if settings.contains_key("reward_model") => Vec::new(),
            Self::Eval => one(Offer::Data, "completions.jsonl"),
            Self::Problems
            | Self::Generate
            | Self::Convert
            | Self::Filter
            | Self::Mix
            | Self::Vote
            | Self::Decontaminate => one(Offer::Data, "data.jsonl"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
