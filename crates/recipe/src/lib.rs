//! Recipes: stages joined by names, so that one makes what the next one reads.
//!
//! - [`demo`]: the whole path in small, from a text to a model that reasons.
#![forbid(unsafe_code)]

pub mod demo;
