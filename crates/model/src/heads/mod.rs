//! Heads: what reads the trunk's normed rows, each kind in a file of its own. A head's forward reads them; its backward
//! gives their gradient, which [`Trunk`](crate::Trunk) takes.

mod divergence;
mod language;
mod logits;
pub(crate) mod multi_token;
mod scalar;

use crate::{Config, TensorInfo, tensors::Maker};

pub use divergence::DivergenceRows;
pub(crate) use divergence::{Side, Target, divergences};
pub use language::{Head, LanguageHead};
pub use logits::LogitRows;
pub(crate) use logits::logits;
pub use multi_token::{Drafting, MultiToken, MultiTokenRows};
pub use scalar::{ScalarHead, ScalarRows};

/// Which head a model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadKind {
    /// It predicts tokens: `…ForCausalLM`.
    #[default]
    Language,
    /// It scores a text: `…ForSequenceClassification` with one label, a reward model.
    Scalar,
}

impl HeadKind {
    /// How the classes of reward models end in transformers.
    pub(crate) const SCALAR_CLASS: &str = "ForSequenceClassification";
}

/// The tensors of a model's head.
#[derive(Clone, Debug)]
pub enum Heads<T> {
    /// What predicts tokens.
    Language(LanguageHead<T>),
    /// What scores a text.
    Scalar(ScalarHead<T>),
}

impl<T> Heads<T> {
    pub(crate) fn try_build<E, F>(config: &Config, at: &mut Maker<'_, F>) -> Result<Self, E>
    where
        F: FnMut(TensorInfo) -> Result<T, E>,
    {
        Ok(match config.head {
            HeadKind::Language => Self::Language(LanguageHead::try_build(config, at)?),
            HeadKind::Scalar => Self::Scalar(ScalarHead::try_build(config, at)?),
        })
    }

    /// A head is one tensor, or none of its own.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &T> {
        let tensor = match self {
            Self::Language(head) => head.lm_head.as_ref(),
            Self::Scalar(head) => Some(&head.score),
        };
        tensor.into_iter()
    }

    pub(crate) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let tensor = match self {
            Self::Language(head) => head.lm_head.as_mut(),
            Self::Scalar(head) => Some(&mut head.score),
        };
        tensor.into_iter()
    }

    /// # Panics
    /// If the head is another.
    pub(crate) fn language(&self) -> &LanguageHead<T> {
        let Self::Language(head) = self else { panic!("a reward model predicts no tokens") };
        head
    }

    /// # Panics
    /// If the head is another.
    pub(crate) fn scalar(&self) -> &ScalarHead<T> {
        let Self::Scalar(head) = self else { panic!("a language model gives no scores") };
        head
    }
}
