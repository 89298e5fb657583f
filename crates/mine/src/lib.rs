//! A maths corpus out of web crawls, the way DeepSeekMath's was made.
#![forbid(unsafe_code)]

pub mod extract;
pub mod language;
pub mod prefilter;
