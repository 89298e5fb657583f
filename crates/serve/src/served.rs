//! The models that are served, as requests see them.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use koan_files::sha256;
use koan_infer::Codec;

use crate::{error::ApiError, format::Formats};

/// What thinking begins with.
pub(crate) const THINK: &str = "<think>";

/// A model under the name by which requests ask for it.
pub struct Named {
    /// The name.
    pub name: String,
    /// How it reads and writes text.
    pub codec: Codec,
    /// The system message that is put before conversations without one.
    pub system: Option<String>,
}

/// A model that is served.
pub(crate) struct Served {
    /// Its place among all.
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) codec: Codec,
    /// Tokens of a prompt with its completion, at most.
    pub(crate) context: usize,
    /// When it was loaded, seconds since 1970.
    pub(crate) created: u64,
    /// Names what answers depend on besides the request.
    pub(crate) fingerprint: String,
    /// Whether it thinks in `<think>` tags before it answers.
    pub(crate) thinks: bool,
    /// How it calls tools.
    pub(crate) calls: Calls,
    /// What holds its replies to formats, made when one is first asked for.
    formats: OnceLock<Result<Formats, String>>,
}

/// How a model calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// As JSON in `<tool_call>` tags: Hermes, Qwen2.5, Qwen3 and others.
    Json,
    /// In a way that is not read here, or not at all.
    Unknown,
}

impl Served {
    pub(crate) fn new(index: usize, named: Named, context: usize, device: &str) -> Self {
        let Named { name, codec, system } = named;
        let template = |with_tools| {
            let template = codec
                .tokenizer()
                .ok()
                .and_then(|tokenizer| tokenizer.chat_template(with_tools).ok().flatten());
            template.map(|template| template.source().to_owned()).unwrap_or_default()
        };
        let (plain, with_tools) = (template(false), template(true));
        let has_token = codec.tokenizer().is_ok_and(|tokenizer| tokenizer.token_id(THINK).is_some());
        let thinks =
            has_token || plain.contains(THINK) || system.is_some_and(|system| system.contains(THINK));
        // Qwen3-Coder's are XML within the same tags.
        let is_json = with_tools.contains("<tool_call>") && !with_tools.contains("<function=");
        let calls = if is_json { Calls::Json } else { Calls::Unknown };
        let identity =
            format!("{} {device} {:?} {:?}", env!("CARGO_PKG_VERSION"), codec.place(), codec.config());
        let fingerprint = format!("fp_{}", &sha256(identity)[..10]);
        Self {
            index,
            name,
            codec,
            context,
            created: now(),
            fingerprint,
            thinks,
            calls,
            formats: OnceLock::new(),
        }
    }
}

impl Served {
    /// What holds its replies to formats.
    ///
    /// # Errors
    /// If that can't be done with its vocabulary.
    pub(crate) fn formats(&self) -> Result<&Formats, ApiError> {
        let make = || {
            let end = self.codec.stop_ids().last().copied();
            Formats::new(&self.codec, end.ok_or("it has no token that ends a reply")?)
        };
        self.formats.get_or_init(make).as_ref().map_err(|why| {
            let message = format!("'response_format' is not supported for `{}`: {why}.", self.name);
            ApiError::unsupported("response_format", message)
        })
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
