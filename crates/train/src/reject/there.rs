//! Completions that a server writes: what it is asked, and what of its answers becomes a completion.
//!
//! Each completion is a request of its own, with a seed of its own: that is made of the run's seed, the problem's place and the
//! completion's number, so that a server for which equal seeds mean equal answers gives each completion another. The header
//! `x-koan-sample` has the three themselves: a server of Koan draws by them what `koan reject` would draw itself, and gives the text as it was
//! sampled. Others ignore it.

use std::{ops::ControlFlow, ops::Range, path::Path};

use koan_data::{Message, Problem};
use koan_reward::{
    Job,
    server::{Endpoint, Reply, Request, Server},
};
use koan_text::Tokenizer;
use serde_json::{Map, json};

use super::{
    RejectConfig, RejectError, ServerConfig,
    journal::{Answered, Journal, Place},
    sample::{Asked, Key},
};
use crate::{TrainError, stage::Input};

/// The header by which a server of Koan knows whose random numbers to draw: seed, problem and sample.
const HEADER: &str = "x-koan-sample";
/// Fields of problems that chat templates read.
const OF_TEMPLATE: [&str; 3] = ["tools", "documents", "chat_template_kwargs"];

/// A server that is to write completions, as far as it is known before it is asked.
pub(super) struct There {
    pub(super) config: ServerConfig,
    tokenizer: Option<Tokenizer>,
}

/// A server while it writes.
pub(super) struct Asking<'a> {
    there: &'a There,
    server: Server,
    journal: Journal,
}

impl There {
    /// Reads its tokenizer, if it has one of its own.
    ///
    /// # Errors
    /// If that can't be read.
    pub(super) fn new(config: &ServerConfig) -> Result<Self, TrainError> {
        let tokenizer = config.tokenizer.as_deref().map(Tokenizer::load).transpose()?;
        Ok(Self { config: config.clone(), tokenizer })
    }

    /// What lineage.json and checkpoints know it by.
    ///
    /// # Errors
    /// If its tokenizer can't be read.
    pub(super) fn inputs(&self) -> Result<Vec<Input>, TrainError> {
        let mut all = vec![Input::server(&self.config.base(), &self.config.model)];
        if let Some(dir) = &self.config.tokenizer {
            all.push(Input::file("tokenizer", &dir.join("tokenizer.json"))?);
        }
        Ok(all)
    }

    /// Begins to ask; answers are kept in the run's directory `run`.
    ///
    /// # Errors
    /// If there is no key, or what was answered before can't be read.
    pub(super) fn begin(&self, run: &Path) -> Result<Asking<'_>, TrainError> {
        Ok(Asking { there: self, server: self.config.open()?, journal: Journal::open(run)? })
    }

    /// What becomes a completion of an answer.
    fn answered(&self, reply: &Reply) -> Result<Answered, String> {
        let truncated =
            reply.finish_reason.as_deref().is_some_and(|reason| !["stop", "tool_calls"].contains(&reason));
        let text = text(reply, truncated);
        let counted = || {
            let tokenizer = self.tokenizer.as_ref()?;
            Some(tokenizer.encode(&text, false).map(|ids| ids.len()).map_err(|error| error.to_string()))
        };
        let tokens = match reply.tokens {
            Some(tokens) => tokens,
            None => counted().unwrap_or_else(|| {
                Err("the server does not say how many tokens its answer has (`usage`); give a directory with a tokenizer that counts \
                     them as server.tokenizer"
                    .to_owned())
            })?,
        };
        Ok(Answered { text, tokens, truncated })
    }
}

impl Asking<'_> {
    /// Asks for the completions of the problems at the places `wanted` that were not answered before the run was interrupted, and hands
    /// each to `send`; says how many are there, after each.
    ///
    /// # Errors
    /// If one is not answered: those that are, are kept.
    pub(super) fn write<'p>(
        &mut self,
        step: u64,
        config: &RejectConfig,
        asked: &Asked<'p>,
        wanted: Range<usize>,
        mut on: impl FnMut(usize),
        send: &mut dyn FnMut(Job<'p, Key>),
    ) -> Result<(), TrainError> {
        let job = |at: Place, answered: Answered| Job {
            problem: &asked.problems[at.problem],
            completion: answered.text,
            tokens: answered.tokens,
            truncated: answered.truncated,
            step: None,
            key: Key { problem: at.problem, sample: at.sample, sampled: None },
        };
        let (mut done, mut places, mut requests) = (0, Vec::new(), Vec::new());
        for problem in wanted {
            for sample in 0..asked.samples as u64 {
                let at = Place { step, problem, sample };
                let request = request(config, &self.there.config, &asked.problems[problem], at);
                if let Some(answered) = self.journal.find(at, &request.body) {
                    done += 1;
                    on(done);
                    send(job(at, answered));
                } else {
                    places.push(at);
                    requests.push(request);
                }
            }
        }
        let Self { there, server, journal } = self;
        let mut failed: Option<TrainError> = None;
        server.ask(&requests, |i, reply| {
            let at = places[i];
            let answered = match reply.and_then(|reply| there.answered(&reply)) {
                Ok(answered) => answered,
                Err(reason) => {
                    let (problem, sample) = (asked.problems[at.problem].id.clone(), at.sample);
                    failed.get_or_insert_with(|| RejectError::Unanswered { problem, sample, reason }.into());
                    return ControlFlow::Break(());
                }
            };
            if let Err(error) = journal.keep(at, &requests[i].body, &answered) {
                failed.get_or_insert_with(|| error.into());
                return ControlFlow::Break(());
            }
            done += 1;
            on(done);
            send(job(at, answered));
            ControlFlow::Continue(())
        });
        failed.map_or(Ok(()), Err)
    }

    /// Forgets the answers of a step that was made.
    ///
    /// # Errors
    /// If they can't be removed.
    pub(super) fn forget(&mut self) -> Result<(), TrainError> {
        Ok(self.journal.forget()?)
    }
}

/// The request for a completion.
fn request(config: &RejectConfig, server: &ServerConfig, problem: &Problem, at: Place) -> Request {
    let (rollout, seed) = (&config.rollout, config.stage.seed);
    // As it is written in the settings, not as the nearest number of twice the bits.
    let decimal = |value: f32| value.to_string().parse::<f64>().unwrap_or(f64::from(value));
    let Place { problem: place, sample, .. } = at;
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(server.model)),
        ("temperature".to_owned(), json!(decimal(rollout.temperature))),
        ("top_p".to_owned(), json!(decimal(rollout.top_p))),
        ("seed".to_owned(), json!(seed_of(seed, at))),
        ("stream".to_owned(), json!(false)),
    ]);
    // The name of newer models.
    if !server.fields.contains_key("max_completion_tokens") {
        body.insert("max_tokens".to_owned(), json!(rollout.max_new_tokens.most()));
    }
    if !server.stop.is_empty() {
        body.insert("stop".to_owned(), json!(server.stop));
    }
    let messages = problem.messages();
    let endpoint = if rollout.raw {
        let turns: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
        body.insert("prompt".to_owned(), json!(turns.join("\n")));
        Endpoint::Text
    } else {
        let has_system = messages.iter().any(|message| message.role == "system");
        let system = rollout.system.iter().filter(|_| !has_system);
        let system = system.map(|text| Message { role: "system".to_owned(), ..Message::user(text) });
        let all: Vec<Message> = system.chain(messages.iter().cloned()).collect();
        body.insert("messages".to_owned(), json!(all));
        for field in OF_TEMPLATE {
            if let Some(value) = problem.other.get(field) {
                body.insert(field.to_owned(), value.clone());
            }
        }
        Endpoint::Chat
    };
    body.extend(server.fields.iter().map(|(name, value)| (name.clone(), json!(value))));
    let header = Some((HEADER, format!("{seed} {place} {sample}")));
    Request { endpoint, body: body.into(), header }
}

/// A seed for the completion at this place, of 31 bits, which every server reads.
fn seed_of(seed: u64, at: Place) -> u32 {
    let digest = koan_files::digest(format!("{seed} {} {}", at.problem, at.sample));
    let [a, b, c, d, ..] = digest;
    u32::from_le_bytes([a, b, c, d]) >> 1
}

/// The text of an answer: where the thinking is apart, in its tags before the rest, which are left open if it was cut within.
fn text(reply: &Reply, truncated: bool) -> String {
    let Reply { content, reasoning, .. } = reply;
    let is_apart = !reasoning.is_empty() && !content.trim_start().starts_with("<think>");
    match (is_apart, content.is_empty() && truncated) {
        (false, _) => content.clone(),
        (true, true) => format!("<think>\n{}", reasoning.trim_start_matches('\n')),
        (true, false) => {
            format!(
                "<think>\n{}\n</think>\n\n{}",
                reasoning.trim_matches('\n'),
                content.trim_start_matches('\n')
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_that_is_apart_stands_in_its_tags() {
        let text = |reasoning: &str, content: &str, truncated| {
            super::text(
                &Reply { content: content.into(), reasoning: reasoning.into(), ..Reply::default() },
                truncated,
            )
        };
        assert_eq!(text("", "7", false), "7");
        assert_eq!(text("3 + 4\n", "\n\n7", false), "<think>\n3 + 4\n</think>\n\n7");
        assert_eq!(text("3 +", "", true), "<think>\n3 +", "cut while it thought");
        assert_eq!(text("3 + 4", "", false), "<think>\n3 + 4\n</think>\n\n", "it has no answer");
        assert_eq!(text("a", "<think>a</think>7", false), "<think>a</think>7", "said twice");
    }

    #[test]
    fn every_completion_has_a_seed_of_its_own() {
        let at = |problem, sample| Place { step: 1, problem, sample };
        let mut seeds: Vec<u32> = (0..40).flat_map(|p| (0..25).map(move |s| seed_of(7, at(p, s)))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 1000);
        assert_eq!(seed_of(7, at(1, 2)), seed_of(7, Place { step: 9, ..at(1, 2) }), "whatever the step");
        assert_ne!(seed_of(7, at(1, 2)), seed_of(8, at(1, 2)));
    }
}
