//! Text in and out of a model: Hugging Face tokenizers, chat templates, and text as tokens come.
//!
//! Knows model directories (`tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`) and nothing of
//! models. The files may come from anywhere, so their size is bounded, and so are the steps that a
//! template may take.
#![forbid(unsafe_code)]

mod chat_template;
mod conversation;
mod error;
mod growth;
mod row_template;
mod stream;
mod templates;
mod tokenizer;
mod writing;

pub use chat_template::{ChatTemplate, Message, TemplateValue};
pub use conversation::{Conversation, Reply, Turn, name_thinking};
pub use error::TextError;
pub use row_template::RowTemplate;
pub use stream::{Found, StopStrings, TextStream, first_stop};
pub use tokenizer::{MAX_TEXT_BYTES, Tokenizer};
