//! `/metrics`: what is counted, in Prometheus' text format.
//!
//! Names are vLLM's with `koan:` in the place of `vllm:`, and mean the same; each has the label `model_name`.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use koan_generate::{Counters, FinishReason, Standing};

use crate::engine::Job;

/// Upper bounds of the buckets of times, seconds.
const SECONDS: [f64; 14] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0];

/// What is counted of one model.
#[derive(Clone, Default)]
struct OfModel {
    name: String,
    running: usize,
    waiting: usize,
    cache: f64,
    preemptions: usize,
    drafted: usize,
    kept: usize,
    prompt_tokens: usize,
    cached_tokens: usize,
    scored_tokens: usize,
    generated_tokens: usize,
    stopped: usize,
    cut: usize,
    given_up: usize,
    first_token: Histogram,
    queue: Histogram,
    request: Histogram,
    per_token: Histogram,
}

#[derive(Clone, Default)]
struct Histogram {
    buckets: [usize; SECONDS.len()],
    sum: f64,
    count: usize,
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        for (bucket, most) in self.buckets.iter_mut().zip(SECONDS) {
            *bucket += usize::from(seconds <= most);
        }
        self.sum += seconds;
        self.count += 1;
    }
}

/// What is counted.
pub(crate) struct Metrics(Mutex<Vec<OfModel>>);

impl Metrics {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        Self(Mutex::new(names.map(|name| OfModel { name, ..OfModel::default() }).collect()))
    }

    fn with(&self, model: usize, count: impl FnOnce(&mut OfModel)) {
        if let Some(of_model) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(model) {
            count(of_model);
        }
    }

    /// A pass was computed.
    pub(crate) fn passed(&self, model: usize, counters: Counters, standing: Standing, waiting: usize) {
        self.with(model, |m| {
            m.running = standing.running;
            m.waiting = waiting;
            m.cache = standing.pages as f64 / standing.all_pages.max(1) as f64;
            m.preemptions += counters.preemptions;
            m.drafted += counters.drafted;
            m.kept += counters.kept;
            m.generated_tokens += counters.tokens;
        });
    }

    /// Prompts were scored.
    pub(crate) fn scored(&self, model: usize, tokens: usize) {
        self.with(model, |m| m.scored_tokens += tokens);
    }

    /// The first choice of a request begins.
    pub(crate) fn begun(&self, job: &Job) {
        let prompt_tokens: usize = job.prompts.iter().map(|prompt| prompt.len()).sum();
        self.with(job.model, |m| {
            m.prompt_tokens += prompt_tokens;
            m.queue.add(job.arrived.elapsed().as_secs_f64());
        });
    }

    /// A choice has its first token.
    pub(crate) fn first_token(&self, job: &Job) {
        self.with(job.model, |m| m.first_token.add(job.arrived.elapsed().as_secs_f64()));
    }

    /// A choice, begun at `start`, is over.
    pub(crate) fn finished(
        &self,
        job: &Job,
        first: Option<Instant>,
        tokens: usize,
        reason: FinishReason,
        cached_tokens: usize,
    ) {
        self.with(job.model, |m| {
            match reason {
                FinishReason::Stop => m.stopped += 1,
                FinishReason::Length => m.cut += 1,
            }
            m.cached_tokens += cached_tokens;
            m.request.add(job.arrived.elapsed().as_secs_f64());
            if let (Some(first), 2..) = (first, tokens) {
                m.per_token.add(first.elapsed().as_secs_f64() / (tokens - 1) as f64);
            }
        });
    }

    /// A request was given up: its client left, or it took too long.
    pub(crate) fn given_up(&self, model: usize) {
        self.with(model, |m| m.given_up += 1);
    }

    /// As Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut text = String::new();
        let mut table = |name: &str, kind: &str, help: &str, value: &dyn Fn(&OfModel) -> f64| {
            let _ = writeln!(text, "# HELP koan:{name} {help}\n# TYPE koan:{name} {kind}");
            for model in &models {
                let _ =
                    writeln!(text, "koan:{name}{{model_name=\"{}\"}} {}", escaped(&model.name), value(model));
            }
        };
        table("num_requests_running", "gauge", "Choices that are being sampled.", &|m| m.running as f64);
        table("num_requests_waiting", "gauge", "Choices that wait.", &|m| m.waiting as f64);
        table(
            "kv_cache_usage_perc",
            "gauge",
            "Share of the pages of keys and values in use, 0 to 1.",
            &|m| m.cache,
        );
        table("num_preemptions_total", "counter", "Times a choice gave its pages back.", &|m| {
            m.preemptions as f64
        });
        table("prompt_tokens_total", "counter", "Tokens of prompts.", &|m| m.prompt_tokens as f64);
        table("scored_tokens_total", "counter", "Tokens of prompts that were scored.", &|m| {
            m.scored_tokens as f64
        });
        table("generation_tokens_total", "counter", "Tokens sampled.", &|m| m.generated_tokens as f64);
        table("prefix_cache_hits_total", "counter", "Tokens of prompts that were there.", &|m| {
            m.cached_tokens as f64
        });
        table("spec_decode_num_draft_tokens_total", "counter", "Tokens drafted.", &|m| m.drafted as f64);
        table("spec_decode_num_accepted_tokens_total", "counter", "Drafted tokens that were right.", &|m| {
            m.kept as f64
        });
        let name = "request_success_total";
        let _ =
            writeln!(text, "# HELP koan:{name} Choices that are over, and why.\n# TYPE koan:{name} counter");
        for model in &models {
            for (reason, n) in [("stop", model.stopped), ("length", model.cut), ("abort", model.given_up)] {
                let labels = format!("model_name=\"{}\",finished_reason=\"{reason}\"", escaped(&model.name));
                let _ = writeln!(text, "koan:{name}{{{labels}}} {n}");
            }
        }
        let mut histogram = |name: &str, help: &str, of: &dyn Fn(&OfModel) -> &Histogram| {
            let _ = writeln!(text, "# HELP koan:{name} {help}\n# TYPE koan:{name} histogram");
            for model in &models {
                let (histogram, label) = (of(model), format!("model_name=\"{}\"", escaped(&model.name)));
                for (most, n) in SECONDS.iter().zip(histogram.buckets) {
                    let _ = writeln!(text, "koan:{name}_bucket{{{label},le=\"{most}\"}} {n}");
                }
                let (n, sum) = (histogram.count, histogram.sum);
                let _ = writeln!(text, "koan:{name}_bucket{{{label},le=\"+Inf\"}} {n}");
                let _ = writeln!(text, "koan:{name}_sum{{{label}}} {sum}\nkoan:{name}_count{{{label}}} {n}");
            }
        };
        histogram("time_to_first_token_seconds", "From a request to a choice's first token.", &|m| {
            &m.first_token
        });
        histogram("request_queue_time_seconds", "From a request to its first choice.", &|m| &m.queue);
        histogram("e2e_request_latency_seconds", "From a request to a choice's end.", &|m| &m.request);
        histogram("time_per_output_token_seconds", "Between tokens of a choice, on average.", &|m| {
            &m.per_token
        });
        text
    }
}

/// A label's value.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
