//! `[server]`: a server with OpenAI's API that writes the completions.

use std::{path::PathBuf, time::Duration};

use koan_reward::server::{Server, base_url};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::RejectError;
use crate::config::{ConfigError, check};

/// Fields of a request that other settings give.
const OWN_FIELDS: [&str; 10] =
    ["messages", "prompt", "model", "seed", "temperature", "top_p", "max_tokens", "stop", "stream", "n"];
/// The longest that an answer may take, seconds.
const MAX_TIMEOUT_S: f64 = 86_400.0;

/// A server with OpenAI's API that writes the completions, in the place of a model in this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its address, such as `http://localhost:8000/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// The environment variable that holds its key; none: it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Requests at once.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// How long an answer may take, all attempts together, seconds.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// How often it is asked again where it is busy or can't be reached.
    #[serde(default = "default_retries")]
    pub retries: usize,
    /// Texts that end a completion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// A directory with a tokenizer, which counts the tokens of completions where the server does not say how many they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Other fields of each request, such as `top_k = 0`.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub fields: Table,
}

fn default_workers() -> usize {
    8
}

fn default_timeout_s() -> f64 {
    600.0
}

fn default_retries() -> usize {
    5
}

impl ServerConfig {
    /// Its settings that do not shape a run's course, as `table.key`.
    pub(crate) const FREE: [&'static str; 4] =
        ["server.api_key_env", "server.workers", "server.timeout_s", "server.retries"];

    /// Refuses values that make no sense.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let is_alone = !self.url.contains(['@', '?']);
        let shown = if is_alone { &*self.url } else { "an address with a name, a key or a query" };
        let expected = "an address such as http://localhost:8000/v1, alone; the key is read from the variable that `api_key_env` names";
        check(base_url(&self.url).is_ok(), "server.url", &shown, expected)?;
        check(!self.model.is_empty(), "server.model", &"\"\"", "the model's name on the server")?;
        check((1..=1024).contains(&self.workers), "server.workers", &self.workers, "1 to 1024")?;
        let in_time = self.timeout_s > 0.0 && self.timeout_s <= MAX_TIMEOUT_S;
        check(in_time, "server.timeout_s", &self.timeout_s, "seconds, above 0 and at most 86400, a day")?;
        check(self.retries <= 16, "server.retries", &self.retries, "0 to 16")?;
        let are_texts = self.stop.len() <= 16 && self.stop.iter().all(|stop| !stop.is_empty());
        check(are_texts, "server.stop", &format!("{:?}", self.stop), "up to 16 texts, none of them empty")?;
        let own = self.fields.keys().find(|key| OWN_FIELDS.contains(&&***key));
        let expected =
            "fields that no other setting gives; see server.model, server.stop, seed, and [rollout]";
        check(own.is_none(), "server.fields", &own.map_or("", |own| own), expected)
    }

    /// The address, without the path of an endpoint.
    pub(crate) fn base(&self) -> String {
        base_url(&self.url).unwrap_or_else(|_| self.url.clone())
    }

    /// A client of it. Sends nothing yet.
    ///
    /// # Errors
    /// If the key's variable is not set, or holds no key.
    pub(super) fn open(&self) -> Result<Server, RejectError> {
        let timeout = Duration::from_secs_f64(self.timeout_s);
        Server::new(&self.url, self.api_key_env.as_deref(), timeout, self.retries, self.workers)
            .map_err(RejectError::Server)
    }
}
