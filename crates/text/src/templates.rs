//! The chat templates of a model directory, and which of them is used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use serde::Deserialize;

use crate::{ChatTemplate, TextError, tokenizer::read_text};

/// Templates of one model that are read.
const MAX_TEMPLATES: usize = 100;

/// The chat templates of a model, by name. A single one is called `default`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Templates {
    default: Option<ChatTemplate>,
    tool_use: Option<ChatTemplate>,
    names: BTreeSet<String>,
}

impl Templates {
    /// Reads those of the directory `dir`, as transformers does: `chat_template.jinja` and the files of
    /// `additional_chat_templates`, or else those of `tokenizer_config.json`.
    pub(crate) fn read(
        dir: &Path,
        configured: Option<&Configured>,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<Self, TextError> {
        let mut sources = BTreeMap::new();
        if let Some(source) = read_text(&dir.join("chat_template.jinja"))? {
            sources.insert("default".to_owned(), source);
        }
        let more = dir.join("additional_chat_templates");
        let unreadable = |source| TextError::Read { path: more.clone(), source };
        match fs::read_dir(&more) {
            Ok(entries) => {
                for entry in entries.take(MAX_TEMPLATES) {
                    let path = entry.map_err(unreadable)?.path();
                    let name = path.file_stem().and_then(|name| name.to_str());
                    let is_template = path.extension().is_some_and(|extension| extension == "jinja");
                    if let (true, Some(name), Some(source)) = (is_template, name, read_text(&path)?) {
                        sources.insert(name.to_owned(), source);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
        match configured {
            _ if !sources.is_empty() => {}
            Some(Configured::One(source)) => _ = sources.insert("default".to_owned(), source.clone()),
            Some(Configured::Named(all)) => {
                sources.extend(all.iter().map(|named| (named.name.clone(), named.template.clone())));
            }
            None => {}
        }
        let compiled = |name| {
            sources.get(name).map(|source: &String| ChatTemplate::new(source, special_tokens)).transpose()
        };
        Ok(Self {
            default: compiled("default")?,
            tool_use: compiled("tool_use")?,
            names: sources.into_keys().collect(),
        })
    }

    /// The one for a conversation: with tools `tool_use` if there is one, otherwise `default`. None: the model has no template.
    pub(crate) fn choose(&self, dir: &Path, with_tools: bool) -> Result<Option<&ChatTemplate>, TextError> {
        let chosen = self.tool_use.as_ref().filter(|_| with_tools).or(self.default.as_ref());
        if chosen.is_none() && !self.names.is_empty() {
            let names = self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(TextError::NoDefaultTemplate { dir: dir.to_owned(), names });
        }
        Ok(chosen)
    }
}

/// What `tokenizer_config.json` says: one template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Configured {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
pub(crate) struct Named {
    name: String,
    template: String,
}
