//! The thread that owns the models: it takes requests as they come, and computes passes in which all that run have their rows.
//!
//! Requests wait in lines, one for each client of each model. Whenever a sequence ends, the next choice of the request that is first in the line
//! whose turn it is takes its place, and the request goes to the end of its line if it wants more: neither a client that sends many requests nor a
//! request for many choices keeps others waiting. What a choice comes to depends on its prompt, its settings and its seed alone ([`koan_generate::Request`]).

mod job;
mod lines;
mod sample;

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use koan_backend::{Backend, Draw, OutOfMemory};
use koan_generate::{Counters, FinishReason, Finished, Generator, Listener, Request, RequestId, Sampled};
use koan_infer::{Engine, PromptScores, Whole};

pub(crate) use job::{Event, Job, Piece, Token};
use lines::Lines;
pub(crate) use lines::{Client, Places, Ticket};
use sample::Sample;

use crate::{
    error::{ApiError, ServeError},
    metrics::Metrics,
    served::Served,
};

/// How long is waited for a request before it is looked again whether those in line are still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Answers requests until nobody can send any.
///
/// # Errors
/// If the device runs out of memory and has none to begin anew.
pub(crate) fn run<B: Backend>(
    b: &B,
    served: &[Arc<Served>],
    models: Vec<Whole<'_, B>>,
    jobs: &Receiver<Job>,
    places: &Places,
    metrics: &Metrics,
) -> Result<(), ServeError> {
    let mut lanes: Vec<Lane<'_, B>> =
        served.iter().zip(models).map(|(served, whole)| Lane::new(b, served, whole, metrics)).collect();
    loop {
        if lanes.iter().all(Lane::is_idle) {
            match jobs.recv_timeout(LOOK_EVERY) {
                Ok(job) => lanes[job.model].take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        loop {
            // Who waits with the most makes room.
            while let Some(client) = places.surplus()
                && lanes.iter_mut().any(|lane| lane.turn_away(client, places.limit()))
            {}
            match jobs.try_recv() {
                Ok(job) => lanes[job.model].take(job),
                // What runs is ended by its readers, who are gone.
                Err(TryRecvError::Disconnected) if lanes.iter().all(Lane::is_idle) => return Ok(()),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        for lane in &mut lanes {
            if let Err(source) = lane.pass() {
                lane.begin_anew().map_err(|_| ServeError::OutOfMemory { source })?;
            }
        }
    }
}

/// A request in line, and how many of its choices run or are over.
struct Waiting {
    job: Rc<Job>,
    begun: usize,
}

/// A model, and the requests for it.
struct Lane<'a, B: Backend> {
    b: &'a B,
    served: &'a Served,
    model: koan_model::Model<B>,
    generator: Generator<B>,
    scores: PromptScores<B>,
    waiting: Lines<Waiting>,
    /// Prompts that are to be scored: of a request, the place of one.
    unscored: Lines<(Rc<Job>, usize)>,
    running: HashMap<RequestId, Sample<'a>>,
    metrics: &'a Metrics,
    counted: Counters,
}

impl<'a, B: Backend> Lane<'a, B> {
    fn new(b: &'a B, served: &'a Served, whole: Whole<'_, B>, metrics: &'a Metrics) -> Self {
        let Whole { engine: Engine { model, generator, .. }, scores } = whole;
        Self {
            b,
            served,
            model,
            generator,
            scores,
            waiting: Lines::new(),
            unscored: Lines::new(),
            running: HashMap::new(),
            metrics,
            counted: Counters::default(),
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.unscored.is_empty() && self.running.is_empty()
    }

    fn take(&mut self, job: Job) {
        let job = Rc::new(job);
        if job.scores {
            (0..job.prompts.len())
                .for_each(|prompt| self.unscored.push(job.client, (Rc::clone(&job), prompt)));
        }
        if job.choices() > 0 {
            self.waiting.push(job.client, Waiting { job, begun: 0 });
        }
    }

    /// Turns away the last request of `client` that has not begun, since the queue of `limit` requests is full; whether there is one.
    fn turn_away(&mut self, client: Client, limit: usize) -> bool {
        let Some(Waiting { job, .. }) = self.waiting.take_last(client, |waiting| waiting.begun == 0) else {
            return false;
        };
        drop(job.ticket.take());
        job.given_up.set(true); // its prompts are not scored any more
        job.tell(Event::Failed(ApiError::queue_full(limit)));
        true
    }

    /// Computes a pass of prompts that are to be scored, and one of tokens.
    fn pass(&mut self) -> Result<(), OutOfMemory> {
        if self.is_idle() {
            return Ok(());
        }
        self.drop_unwanted();
        self.score()?;
        self.admit();
        let mut hearing = Hearing { running: &mut self.running, metrics: self.metrics };
        let step = self.generator.step_with(self.b, &self.model, &mut hearing)?;
        // Before it is told: who has an answer finds it counted.
        self.count();
        for finished in step.finished {
            self.finish(finished);
        }
        for (id, _) in step.tokens {
            if let Some(sample) = self.running.get_mut(&id)
                && let Some(piece) = sample.take()
            {
                sample.job.tell(Event::Piece { choice: sample.choice, piece });
            }
        }
        Ok(())
    }

    /// Gives up what nobody waits for any more, and what took too long.
    fn drop_unwanted(&mut self) {
        let now = Instant::now();
        let is_wanted = |job: &Job| !job.given_up.get() && !job.events.is_closed() && now < job.deadline;
        let unwanted: Vec<RequestId> =
            self.running.iter().filter(|(_, sample)| !is_wanted(&sample.job)).map(|(&id, _)| id).collect();
        for id in unwanted {
            self.generator.cancel(id);
            if let Some(sample) = self.running.remove(&id) {
                give_up(&sample.job, now, self.metrics);
            }
        }
        let metrics = self.metrics;
        self.waiting.retain(|waiting| is_wanted(&waiting.job) || give_up(&waiting.job, now, metrics));
        self.unscored.retain(|(job, _)| is_wanted(job) || give_up(job, now, metrics));
    }

    /// Scores as many of the prompts that are first in line as one pass holds.
    fn score(&mut self) -> Result<(), OutOfMemory> {
        let Some((first, _)) = self.unscored.iter().next() else { return Ok(()) };
        let temperature = first.sampling.temperature;
        let (mut taken, mut rows, mut top): (Vec<(Rc<Job>, usize)>, _, _) = (Vec::new(), 0, 0);
        while let Some((client, (job, prompt))) = self.unscored.pop() {
            let tokens = job.prompts[prompt].len();
            let fits = rows == 0 || rows + tokens <= self.scores.rows();
            if job.sampling.temperature != temperature || !fits {
                self.unscored.put_back(client, (job, prompt));
                break;
            }
            rows += tokens;
            top = top.max(job.top);
            drop(job.ticket.take());
            taken.push((job, prompt));
        }
        let prompts: Vec<&[u32]> = taken.iter().map(|(job, prompt)| &*job.prompts[*prompt]).collect();
        let scores = self.scores.score(self.b, &self.model, &prompts, temperature, top)?;
        self.metrics.scored(self.served.index, rows);
        for ((job, prompt), mut score) in taken.into_iter().zip(scores) {
            score.likeliest.iter_mut().for_each(|listed| listed.truncate(job.top));
            job.tell(Event::Score { prompt, score });
        }
        Ok(())
    }

    /// Begins choices of the requests in line while there are places.
    fn admit(&mut self) {
        let sequences = self.generator.plan().limits.sequences;
        while self.running.len() < sequences
            && let Some((client, Waiting { job, begun })) = self.waiting.pop()
        {
            let request = Request {
                prompt: Arc::clone(&job.prompts[begun / job.n]),
                sampling: job.sampling.clone(),
                // As `koan generate` numbers the lines of a file and the completions of each.
                problem: job.first[0].wrapping_add((begun / job.n) as u64),
                sample: job.first[1].wrapping_add((begun % job.n) as u64),
                shows_logits: job.top > 0 || job.format.is_some(),
            };
            if begun == 0 {
                drop(job.ticket.take());
                self.metrics.begun(&job);
            }
            match (self.generator.submit(request), self.served.codec.tokenizer()) {
                (Ok(id), Ok(tokenizer)) => {
                    self.running.insert(id, Sample::new(Rc::clone(&job), begun, tokenizer));
                    if begun + 1 < job.choices() {
                        self.waiting.push(client, Waiting { job, begun: begun + 1 });
                    }
                }
                (Err(error), _) => job.tell(Event::Failed(ApiError::wrong("messages", error.to_string()))),
                (Ok(id), Err(error)) => {
                    self.generator.cancel(id);
                    job.tell(Event::Failed(ApiError::wrong("model", error.to_string())));
                }
            }
        }
    }

    /// Hands out the end of a choice.
    fn finish(&mut self, finished: Finished) {
        let Finished { id, completion, cached_tokens, request, .. } = finished;
        let Some(sample) = self.running.remove(&id) else { return };
        let choice = sample.choice;
        // Ended by the listener alone: by a stop string.
        let by_token = completion.token_ids.last().is_some_and(|id| request.sampling.stop_ids.contains(id));
        let is_stopped = completion.finish_reason == FinishReason::Stop && !by_token;
        let first = sample.first;
        let (job, piece, failed) = sample.finish(is_stopped);
        if failed.is_some() {
            let message = "The tokens of the answer could not be read as text.";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return job.tell(Event::Failed(ApiError::server(status, message)));
        }
        if !piece.text.is_empty() || !piece.tokens.is_empty() {
            job.tell(Event::Piece { choice, piece });
        }
        let (tokens, reason) = (completion.token_ids.len(), completion.finish_reason);
        self.metrics.finished(&job, first, tokens, reason, cached_tokens);
        job.tell(Event::Done { choice, reason, tokens, cached_tokens });
    }

    /// After the device ran out of memory: nothing of what ran can go on.
    fn begin_anew(&mut self) -> Result<(), OutOfMemory> {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let error = ApiError::server(status, "The server ran out of memory while answering.");
        for (_, sample) in self.running.drain() {
            sample.job.tell(Event::Failed(error.clone()));
        }
        for (job, _) in self.unscored.drain() {
            job.tell(Event::Failed(error.clone()));
        }
        let config = self.served.codec.config();
        self.generator = Generator::planned(self.b, config, self.generator.plan())?;
        self.generator.show_logits(self.b, config)?;
        self.generator.keep_keys(true);
        self.counted = Counters::default();
        Ok(())
    }

    /// Counts what the pass computed.
    fn count(&mut self) {
        let counters = self.generator.counters();
        let choices: usize = self.waiting.iter().map(|waiting| waiting.job.choices() - waiting.begun).sum();
        let waiting = choices + self.unscored.iter().count() + self.generator.standing().waiting;
        self.metrics.passed(
            self.served.index,
            counters.since(self.counted),
            self.generator.standing(),
            waiting,
        );
        self.counted = counters;
    }
}

/// Counts a request that is given up, and says so if it took too long; always false.
fn give_up(job: &Job, now: Instant, metrics: &Metrics) -> bool {
    if job.given_up.replace(true) {
        return false;
    }
    if now >= job.deadline {
        let message = "The request took longer than this server allows (--timeout).";
        job.tell(Event::Failed(ApiError::server(StatusCode::GATEWAY_TIMEOUT, message)));
    }
    metrics.given_up(job.model);
    false
}

/// Hears of the tokens of a pass.
struct Hearing<'h, 'a> {
    running: &'h mut HashMap<RequestId, Sample<'a>>,
    metrics: &'h Metrics,
}

impl Listener for Hearing<'_, '_> {
    fn logits(&mut self, id: RequestId, logits: &[f32], draw: &Draw, drawn: Sampled) -> Sampled {
        self.running.get_mut(&id).map_or(drawn, |sample| sample.choose(logits, draw, drawn))
    }

    fn token(&mut self, id: RequestId, token: Sampled) -> bool {
        let Some(sample) = self.running.get_mut(&id) else { return true };
        if sample.first.is_none() {
            sample.first = Some(Instant::now());
            self.metrics.first_token(&sample.job);
        }
        sample.push(token)
    }
}
