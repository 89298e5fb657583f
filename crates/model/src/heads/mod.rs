//! Heads: what reads the trunk's normed rows, each kind in a file of its own. A head's forward reads them; its backward
//! gives their gradient, which [`Trunk`](crate::Trunk) takes.

mod language;

pub use language::{Head, LanguageHead};
