//! What the run viewer answers.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the page |
//! | `/api/run` | what the run is, and how far it is ([`crate::run::Overview`]) |
//! | `/api/metrics?from=BYTE&mark=HASH` | lines of metrics.jsonl from there on ([`crate::run::MetricsPart`]) |
//! | `/api/rollouts?step=N&…` | completions of a step ([`crate::rollouts::RolloutPart`]) |

use std::path::Path;

use serde_json::json;

use crate::{Request, Response, ViewError, page::Page, rollouts::Query, run::Run};

/// The viewer of one run.
pub struct Viewer {
    run: Run,
    page: Page,
}

impl Viewer {
    /// The viewer of the run at `path`.
    ///
    /// # Errors
    /// If there is no run.
    pub fn open(path: &Path) -> Result<Self, ViewError> {
        Ok(Self { run: Run::open(path)?, page: Page::new() })
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Response {
        let result = match &request.path[..] {
            "/" => {
                let mut page = Response::text(200, &self.page.html[..]);
                page.headers = vec![
                    ("content-type", "text/html; charset=utf-8".into()),
                    ("content-security-policy", self.page.policy.clone()),
                ];
                return page;
            }
            "/api/run" => none_of(&request.query).map(|()| Response::json(200, &self.run.overview())),
            "/api/metrics" => self.metrics(&request.query),
            "/api/rollouts" => Query::parse(&request.query)
                .and_then(|query| self.run.rollouts(&query))
                .map(|part| Response::json(200, &part)),
            _ => return Response::json(404, &json!({"error": "there is nothing here"})),
        };
        result.unwrap_or_else(|error| {
            let status = match error {
                ViewError::Query { .. } => 400,
                ViewError::NoStep { .. } => 404,
                _ => 500,
            };
            Response::json(status, &json!({"error": error.to_string()}))
        })
    }

    fn metrics(&self, parameters: &[(String, String)]) -> Result<Response, ViewError> {
        let (mut from, mut mark) = (0, "");
        for (key, value) in parameters {
            match &key[..] {
                "from" => {
                    from = value.parse().map_err(|_| ViewError::Query {
                        key: key.clone(),
                        value: value.chars().take(60).collect(),
                        expected: "expected a whole number",
                    })?;
                }
                "mark" => mark = value,
                _ => none_of(std::slice::from_ref(&(key.clone(), value.clone())))?,
            }
        }
        Ok(Response::json(200, &self.run.metrics(from, mark)?))
    }
}

fn none_of(parameters: &[(String, String)]) -> Result<(), ViewError> {
    match parameters.first() {
        None => Ok(()),
        Some((key, value)) => Err(ViewError::Query {
            key: key.chars().take(60).collect(),
            value: value.chars().take(60).collect(),
            expected: "no such parameter here",
        }),
    }
}
