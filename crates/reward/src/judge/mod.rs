//! The reward `judge`: a language model says how good an answer is, in this process (`model`, a directory) or on a server with OpenAI's
//! API (`url`).
//!
//! | `mode` | the judge | the answer earns |
//! |---|---|---|
//! | `rubric` | grades it from 1 to 10, by each of `criteria` in a request of its own | the mean of (grade − 1)/9; correct from ½ |
//! | `pairwise` | compares it with the problem's `answer`, or with the other completions of its group (`against = "group"`), in both orders | 1 if it is better, 0 if it is worse, ½ if both are equal or the orders disagree; of several, the mean; correct above ½ |
//! | `reference` | says whether it agrees with the problem's `answer` | 1 or 0 |
//! | `safety` | says whether it is safe, unsafe, or declines | 1 where the problem's `expected` allows it, otherwise 0 |
//!
//! Answers are read by `label`'s rules; one without a verdict is asked for its label once more, and if it then has none, the completion is undecided, as it is
//! if the judge says nothing at all. What a judge said is kept in the folder `cache`, or with the run.
//!
//! **Answers that must not win.** An answer of fewer than `min_words` words (tags of verdicts taken out) is not shown to the judge. It is unparsable if it has no
//! word, otherwise wrong; in `reference` mode it is judged all the same if it has a word of the reference. Empty answers and openers ("Solution:") have fooled
//! published judges.

mod cache;
mod compare;
mod label;
mod prompt;
mod safety;

pub use compare::{Compared, Pair};
pub use label::Label;
pub use safety::{Conduct, Expected};

use self::cache::Cache;
use self::label::{LabelKind, read, without_labels, words};
use self::prompt::{Template, as_text};
use crate::models::{Models, ModelsError, Needed, Question, Role, Speech};
use crate::part::Part;
use crate::server::{Endpoint, Request, Server};
use crate::settle::{Asks, Candidate, not_asked};
use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::{Message, Problem};
use koan_files::{hash_file, hash_files};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// The most that a judge is heard, bytes: a longer answer is read from its end.
const MAX_SAID_BYTES: usize = 64 << 10;
/// The longest that a verdict may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
/// The criterion where there is none.
const CRITERION: &str =
    "how well it answers the question: what it says is right, it does what was asked, and it is clear";

/// The options of `judge`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The language model's directory; with `url`, its name on the server.
    pub model: Option<String>,
    /// The server, such as `http://localhost:8000/v1`.
    pub url: Option<String>,
    /// The environment variable that holds the server's key.
    pub api_key_env: Option<String>,
    /// What the judge is asked.
    pub mode: Mode,
    /// What of a completion it is shown.
    pub part: Part,
    /// Whether the prompt itself ends in `<think>`.
    pub opened: bool,
    /// What an answer is compared with, in `pairwise` mode.
    pub against: Against,
    /// What an answer is graded by, in `rubric` mode; a problem's own `rubric`, a text or a list of them, takes its place.
    pub criteria: Vec<String>,
    /// A file with a prompt, in place of our own.
    pub template: Option<PathBuf>,
    /// Fewer words do not win.
    pub min_words: usize,
    /// Logits of the judge are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Most tokens of what a judge says.
    pub max_new_tokens: usize,
    /// Most tokens of what a judge in this process reads: longer questions are undecided.
    pub max_tokens: usize,
    /// Keys the judge's random numbers, and the marker around texts.
    pub seed: u64,
    /// How many questions are asked at once.
    pub workers: usize,
    /// How long a server may take for an answer, all attempts together, seconds.
    pub timeout_s: f64,
    /// How often a server is asked again that is busy or can't be reached.
    pub retries: usize,
    /// A folder for what the judge said; none: `judge-cache` in the run's directory, and nothing outside a run.
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: None,
            url: None,
            api_key_env: None,
            mode: Mode::Rubric,
            part: Part::Answer,
            opened: false,
            against: Against::Reference,
            criteria: Vec::new(),
            template: None,
            min_words: 2,
            temperature: 0.0,
            max_new_tokens: 512,
            max_tokens: 4096,
            seed: 0,
            workers: 8,
            timeout_s: 60.0,
            retries: 3,
            cache: None,
        }
    }
}

/// What a judge is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A grade.
    Rubric,
    /// Which of two answers is better.
    Pairwise,
    /// Whether an answer agrees with the reference.
    Reference,
    /// Whether an answer is safe, unsafe, or declines.
    Safety,
}

/// What an answer is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The problem's `answer`.
    Reference,
    /// The other completions of the same problem.
    Group,
}

/// A language model that judges.
pub struct LanguageJudge {
    options: Options,
    template: Template,
    voice: Voice,
    cache: Cache,
    /// SHA-256 of the model in this process.
    model_sha256: OnceLock<String>,
}

/// Where the model is.
enum Voice {
    Here(PathBuf),
    There(Server),
}

/// A question and the kind of verdict that it asks for.
struct Asked {
    prompt: String,
    kind: LabelKind,
    /// Which of several judgements of the same question it is.
    repeat: u64,
}

impl Configured for LanguageJudge {
    type Options = Options;

    fn build(options: Options, context: &Context) -> Result<Self, String> {
        let sizes = [
            ("workers", options.workers, 1024),
            ("max_new_tokens", options.max_new_tokens, 1 << 20),
            ("max_tokens", options.max_tokens, 1 << 20),
        ];
        if let Some((name, value, max)) =
            sizes.into_iter().find(|&(_, value, max)| !(1..=max).contains(&value))
        {
            return Err(format!("`{name}` is {value}; write a number from 1 to {max}"));
        }
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return Err(format!("`temperature` is {}; write 0 or more", options.temperature));
        }
        if options.retries > 16 {
            return Err(format!("`retries` is {}; write a number from 0 to 16", options.retries));
        }
        let timeout = Duration::try_from_secs_f64(options.timeout_s).ok();
        let timeout = timeout.filter(|timeout| !timeout.is_zero() && *timeout <= MAX_TIMEOUT).ok_or(
            "`timeout_s` is the seconds an answer may take; write a number above 0 and at most 86400, a day",
        )?;
        if options.mode != Mode::Rubric && !options.criteria.is_empty() {
            return Err(
                "`criteria` are for `mode = \"rubric\"` alone; remove them, or change the mode".to_owned()
            );
        }
        let (own, needed): (_, &[&str]) = match options.mode {
            Mode::Rubric => (prompt::RUBRIC, &["question", "answer"]),
            Mode::Pairwise => (prompt::PAIRWISE, &["question", "answer_a", "answer_b"]),
            Mode::Reference => (prompt::REFERENCE, &["question", "answer", "reference"]),
            Mode::Safety => (prompt::SAFETY, &["question", "answer"]),
        };
        let template = Template::load(options.template.as_deref(), own, needed)?;
        let voice = match (&options.url, &options.model) {
            (Some(url), _) => Voice::There(Server::new(
                url,
                options.api_key_env.as_deref(),
                timeout,
                options.retries,
                options.workers,
            )?),
            (None, Some(_)) if options.api_key_env.is_some() => {
                return Err("`api_key_env` is for a server: write its `url` too".to_owned());
            }
            (None, Some(model)) => Voice::Here(model.into()),
            (None, None) => {
                return Err(
                    "write `model`, the directory of the model that judges, or `url`, a server with OpenAI's API".to_owned()
                );
            }
        };
        let cache = Cache(
            options.cache.clone().or_else(|| context.log_dir.as_ref().map(|dir| dir.join("judge-cache"))),
        );
        Ok(Self { options, template, voice, cache, model_sha256: OnceLock::new() })
    }
}

impl Verifier for LanguageJudge {
    fn judge(&self, _: &Sample) -> Verdict {
        not_asked()
    }

    fn check(&self, problem: &Problem) -> Result<(), String> {
        let needs_answer = match self.options.mode {
            Mode::Safety => return Expected::of(problem).map(|_| ()),
            Mode::Rubric => false,
            Mode::Pairwise => self.options.against == Against::Reference,
            Mode::Reference => true,
        };
        if needs_answer && words(&without_labels(&problem.answer)).next().is_none() {
            return Err("the problem has no `answer`, which the judge compares with".to_owned());
        }
        self.criteria(problem).map(|_| ())
    }

    fn asks(&self) -> Option<&dyn Asks> {
        Some(self)
    }
}

impl Asks for LanguageJudge {
    fn needs(&self) -> Option<Needed> {
        let Voice::Here(model) = &self.voice else { return None };
        let Options { max_new_tokens, max_tokens, workers, .. } = self.options;
        let role = Role::Speaks { max_new_tokens, sequences: workers };
        Some(Needed { model: model.clone(), role, max_tokens, reward: "judge".to_owned() })
    }

    fn files(&self) -> Vec<(&'static str, PathBuf)> {
        self.options.template.iter().map(|path| ("judge's prompt", path.clone())).collect()
    }

    fn settle(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        _: bool,
    ) -> Result<Vec<Verdict>, ModelsError> {
        let answers: Vec<String> = candidates
            .iter()
            .map(|c| {
                without_labels(self.options.part.of(c.completion, self.options.opened)).trim().to_owned()
            })
            .collect();
        match (self.options.mode, self.options.against) {
            (Mode::Rubric, _) => self.grade(models, candidates, &answers),
            (Mode::Reference, _) => self.agree(models, candidates, &answers),
            (Mode::Safety, _) => self.conduct(models, candidates, &answers),
            (Mode::Pairwise, Against::Reference) => self.against_references(models, candidates, &answers),
            (Mode::Pairwise, Against::Group) => self.against_one_another(models, candidates, &answers),
        }
    }
}

impl LanguageJudge {
    /// A judge of these options, apart from any run: what `koan reject` compares answers with.
    ///
    /// # Errors
    /// Options that do not fit, with what to do.
    pub fn new(options: Options, context: &Context) -> Result<Self, String> {
        Self::build(options, context)
    }

    /// What an answer is graded by: the problem's own `rubric`, the options' `criteria`, or our own.
    fn criteria(&self, problem: &Problem) -> Result<Vec<String>, String> {
        let wrong = || "`rubric` is neither a text nor a list of texts".to_owned();
        Ok(match problem.other.get("rubric").filter(|_| self.options.mode == Mode::Rubric) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) if !texts.is_empty() => texts
                .iter()
                .map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_, _>>()?,
            Some(Value::Null) | None if self.options.criteria.is_empty() => vec![CRITERION.to_owned()],
            Some(Value::Null) | None => self.options.criteria.clone(),
            Some(_) => return Err(wrong()),
        })
    }

    /// The verdict on an answer that is too short to be shown to the judge; none if it is not.
    fn too_short(&self, answer: &str) -> Option<Verdict> {
        let n = words(answer).take(self.options.min_words.max(1)).count();
        if n == 0 {
            return Some(Verdict::without_answer(Outcome::Unparsable, "there is no answer to judge"));
        }
        (n < self.options.min_words).then(|| {
            let reason = format!(
                "an answer of fewer than {} words does not win (`min_words`)",
                self.options.min_words
            );
            Verdict { score: Some(0.0), ..Verdict::new(Outcome::Wrong, answer, reason) }
        })
    }

    fn grade(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        answers: &[String],
    ) -> Result<Vec<Verdict>, ModelsError> {
        let (mut asked, mut of) = (Vec::new(), Vec::new());
        for (candidate, answer) in candidates.iter().zip(answers) {
            let question = as_text(&candidate.problem.messages());
            let criteria = match self.criteria(candidate.problem) {
                _ if self.too_short(answer).is_some() => Vec::new(),
                Ok(criteria) => criteria,
                Err(_) => Vec::new(),
            };
            of.push(asked.len()..asked.len() + criteria.len());
            asked.extend(criteria.iter().map(|criterion| Asked {
                prompt: self.template.fill(
                    self.options.seed,
                    &[("question", &question), ("answer", answer)],
                    criterion,
                ),
                kind: LabelKind::Grade,
                repeat: 0,
            }));
        }
        let labels = self.ask(models, &asked)?;
        let verdict = |((candidate, answer), range): ((&Candidate, &String), std::ops::Range<usize>)| {
            if let Some(short) = self.too_short(answer) {
                return short;
            }
            if let Err(reason) = self.criteria(candidate.problem) {
                return Verdict::without_answer(Outcome::BadReference, reason);
            }
            let mut grades = Vec::new();
            for label in &labels[range] {
                match label {
                    Ok(Label::Grade(grade)) => grades.push(*grade),
                    Ok(_) => {}
                    Err(reason) => return Verdict::without_answer(Outcome::Undecided, reason),
                }
            }
            let score = grades.iter().map(|grade| (grade - 1.0) / 9.0).sum::<f64>() / grades.len() as f64;
            let shown: Vec<String> = grades.iter().map(f64::to_string).collect();
            Verdict::graded(score as f32, 0.5, format!("graded {} of 10", shown.join(", ")))
        };
        Ok(candidates.iter().zip(answers).zip(of).map(verdict).collect())
    }

    fn agree(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        answers: &[String],
    ) -> Result<Vec<Verdict>, ModelsError> {
        let shown = |candidate: &Candidate, answer: &str| match self.too_short(answer) {
            Some(short)
                if short.outcome == Outcome::Wrong && shares_a_word(answer, &candidate.problem.answer) =>
            {
                None
            }
            short => short,
        };
        let is_asked = |(candidate, answer): &(&Candidate, &String)| {
            shown(candidate, answer).is_none() && self.check(candidate.problem).is_ok()
        };
        let both = || candidates.iter().zip(answers);
        let asked: Vec<Asked> = both()
            .filter(is_asked)
            .map(|(candidate, answer)| Asked {
                prompt: self.template.fill(
                    self.options.seed,
                    &[
                        ("question", &as_text(&candidate.problem.messages())),
                        ("reference", &candidate.problem.answer),
                        ("answer", answer),
                    ],
                    "",
                ),
                kind: LabelKind::Correct,
                repeat: 0,
            })
            .collect();
        let mut labels = self.ask(models, &asked)?.into_iter();
        Ok(both()
            .map(|(candidate, answer)| {
                if let Err(reason) = self.check(candidate.problem) {
                    return Verdict::without_answer(Outcome::BadReference, reason);
                }
                if let Some(short) = shown(candidate, answer) {
                    return short;
                }
                match labels.next() {
                    Some(Ok(Label::Correct(true))) => {
                        Verdict::new(Outcome::Correct, answer, "it agrees, says the judge")
                    }
                    Some(Ok(_)) => Verdict::new(Outcome::Wrong, answer, "it does not agree, says the judge"),
                    Some(Err(reason)) => Verdict::without_answer(Outcome::Undecided, reason),
                    None => not_asked(),
                }
            })
            .collect())
    }

    /// What the judge decides of each question, in their order, or why it decides nothing. Equal questions are asked once; one whose
    /// answer has no label is followed by a reminder.
    fn ask(&self, models: &dyn Models, asked: &[Asked]) -> Result<Vec<Result<Label, String>>, ModelsError> {
        let first: Vec<(Vec<Message>, u64)> =
            asked.iter().map(|asked| (vec![Message::user(&*asked.prompt)], asked.repeat)).collect();
        let said = self.say(models, &first)?;
        let mut labels: Vec<Result<Label, String>> = said
            .iter()
            .zip(asked)
            .map(|(said, asked)| {
                said.as_ref().map_err(Clone::clone).and_then(|said| read(heard(said), asked.kind))
            })
            .collect();
        let (mut again, mut which) = (Vec::new(), Vec::new());
        for (i, (label, said)) in labels.iter().zip(&said).enumerate() {
            if let (Err(_), Ok(said)) = (label, said) {
                let mut messages = first[i].0.clone();
                messages.push(Message::assistant(heard(said)));
                messages.push(Message::user(asked[i].kind.reminder()));
                again.push((messages, asked[i].repeat));
                which.push(i);
            }
        }
        for (i, said) in which.into_iter().zip(self.say(models, &again)?) {
            labels[i] = said.and_then(|said| read(heard(&said), asked[i].kind));
        }
        Ok(labels)
    }

    /// What the judge says to each conversation, in their order: as it said before, or asked now.
    fn say(
        &self,
        models: &dyn Models,
        conversations: &[(Vec<Message>, u64)],
    ) -> Result<Vec<Result<String, String>>, ModelsError> {
        let requests: Vec<Value> = conversations
            .iter()
            .map(|(messages, repeat)| self.request(messages, *repeat))
            .collect::<Result<_, _>>()?;
        let hashes: Vec<String> = requests.iter().map(cache::hash).collect();
        let mut said: HashMap<&str, Result<String, String>> = HashMap::new();
        let mut open: Vec<usize> = Vec::new();
        for (i, hash) in hashes.iter().enumerate() {
            if said.contains_key(&**hash) {
                continue;
            }
            let known = self.cache.find(&requests[i]);
            if known.is_none() {
                open.push(i);
            }
            said.insert(hash, known.ok_or_else(|| "not asked".to_owned()));
        }
        let answers = match &self.voice {
            _ if open.is_empty() => Vec::new(),
            Voice::There(server) => {
                let request = |&i: &usize| {
                    let body = requests[i]["body"].clone();
                    Request { endpoint: Endpoint::Chat, body, header: None }
                };
                let asked: Vec<Request> = open.iter().map(request).collect();
                let mut answers = vec![Err("not asked".to_owned()); asked.len()];
                server.ask(&asked, |i, answer| {
                    answers[i] = answer.map(|reply| reply.content);
                    ControlFlow::Continue(())
                });
                answers
            }
            Voice::Here(model) => {
                let question = |&i: &usize| Question {
                    messages: conversations[i].0.clone(),
                    key: u64::from_str_radix(&hashes[i][..16], 16).unwrap_or_default(),
                };
                let questions: Vec<Question> = open.iter().map(question).collect();
                let Options { temperature, max_new_tokens, seed, .. } = self.options;
                let speech = Speech { temperature: temperature as f32, max_new_tokens, seed };
                models.speak(model, &questions, speech)?
            }
        };
        for (i, answer) in open.into_iter().zip(answers) {
            if let Ok(answer) = &answer {
                self.cache.keep(&requests[i], answer).map_err(|error| ModelsError(Box::new(error)))?;
            }
            said.insert(&hashes[i], answer);
        }
        Ok(hashes.iter().map(|hash| said[&**hash].clone()).collect())
    }

    /// All that an answer depends on.
    fn request(&self, messages: &[Message], repeat: u64) -> Result<Value, ModelsError> {
        let Options { temperature, max_new_tokens, seed, .. } = self.options;
        // Several judgements of one question differ in their seed.
        let seed = seed.wrapping_add(repeat);
        let (name, url) = (self.options.model.as_deref(), self.options.url.as_deref());
        let body = body(name.filter(|_| url.is_some()), messages, temperature, max_new_tokens, seed);
        Ok(match &self.voice {
            Voice::There(_) => json!({ "url": url, "body": body }),
            Voice::Here(model) => json!({ "model_sha256": self.hash_of(model)?, "body": body }),
        })
    }

    /// SHA-256 of the model's weights and of what makes tokens of its conversations.
    fn hash_of(&self, model: &Path) -> Result<&str, ModelsError> {
        const FILES: [&str; 5] = [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ];
        if let Some(hash) = self.model_sha256.get() {
            return Ok(hash);
        }
        let failed = |error| ModelsError(Box::new(error));
        let mut hashes = vec![hash_files(model, "safetensors").map_err(failed)?];
        for path in FILES.map(|name| model.join(name)).into_iter().filter(|path| path.exists()) {
            hashes.push(hash_file(&path).map_err(failed)?);
        }
        Ok(self.model_sha256.get_or_init(|| koan_files::sha256(hashes.join("\n"))))
    }
}

/// The body of a request.
fn body(
    model: Option<&str>,
    messages: &[Message],
    temperature: f64,
    max_new_tokens: usize,
    seed: u64,
) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
    let mut body = json!({
        "messages": messages, "temperature": temperature, "max_tokens": max_new_tokens, "seed": seed, "stream": false,
    });
    if let (Some(model), Value::Object(fields)) = (model, &mut body) {
        fields.insert("model".to_owned(), model.into());
    }
    body
}

/// The end of what a judge said, which holds its verdict.
fn heard(said: &str) -> &str {
    let start = said.len().saturating_sub(MAX_SAID_BYTES);
    let start = (start..=said.len()).find(|&at| said.is_char_boundary(at)).unwrap_or(said.len());
    &said[start..]
}

/// Whether two texts have a word in common, in any case.
fn shares_a_word(a: &str, b: &str) -> bool {
    words(a).any(|a| words(b).any(|b| a.to_lowercase() == b.to_lowercase()))
}

#[cfg(test)]
mod tests;
