//! The paths of the API.
//!
//! | path | answer |
//! |---|---|
//! | `POST /v1/chat/completions`, `POST /v1/completions` | what models say |
//! | `GET /v1/models`, `GET /v1/models/NAME` | which are served |
//! | `GET /health` | 200 while requests are taken |
//! | `GET /metrics` | counters for Prometheus |
//! | `GET /` | the chat page |

use std::{
    cell::Cell,
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    body::{Body, HttpBody},
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use koan_infer::InferError;
use koan_text::TextStream;
use serde_json::{Value, json};
use tokio::{
    sync::{
        Semaphore, SemaphorePermit,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    task::spawn_blocking,
    time::timeout,
};

use super::{
    guard::{Guard, bearer, guard},
    json_response, stream,
};
use crate::{
    ask::{self, ChatAsk, Common, CompletionAsk, Format, Prompt},
    engine::{Client, Event, Job, Places, Ticket},
    error::ApiError,
    metrics::Metrics,
    page,
    served::{Calls, Served, THINK},
    tell::{ChatTale, CompletionTale, Echo, Head, Splitter, Tale, drawn_seed},
};

/// Longest body of a request, bytes.
pub const MAX_BODY_BYTES: usize = 8 << 20;
/// How long a client may take to send one.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// KiB of bodies that are read and understood at once, of all clients together.
const BODY_ROOM_KIB: usize = 128 << 10;
/// The header that has seed, problem and sample: choices are those of `koan generate` and `koan reject` in these places, told as they were
/// sampled.
const SAMPLE: &str = "x-koan-sample";
/// Tokens at the end of a prompt among which thinking may be opened.
const OPENING_TOKENS: usize = 16;

/// What requests are bounded by.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How long a request may take.
    pub(crate) timeout: Duration,
}

/// What is logged of a request.
pub type Log = Box<dyn Fn(&str) + Send + Sync>;

/// What requests are answered with.
pub(crate) struct App {
    pub(crate) served: Vec<Arc<Served>>,
    pub(crate) jobs: Sender<Job>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// Places for requests that wait.
    pub(crate) places: Arc<Places>,
    /// KiB of bodies for which there is room.
    pub(crate) room: Semaphore,
    pub(crate) stopping: AtomicBool,
    /// Where requests and answers are logged, if that was asked for.
    pub(crate) log: Option<Log>,
}

/// The engine does not answer any more.
pub(super) fn gone() -> ApiError {
    ApiError::server(StatusCode::INTERNAL_SERVER_ERROR, "The server failed while answering.")
}

/// A request that was answered.
pub(super) struct Finished {
    app: Arc<App>,
    asked: String,
}

impl Finished {
    /// Whether it is to be logged.
    pub(super) fn logs(&self) -> bool {
        self.app.log.is_some()
    }

    /// Logs it with its answer, if that was asked for.
    pub(super) fn log(&self, answer: impl FnOnce() -> Value) {
        if let Some(log) = &self.app.log {
            log(&format!("{} -> {}", self.asked, answer()));
        }
    }
}

/// The address at the other end of a connection.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What a request says besides its body.
#[derive(Clone, Copy)]
struct Origin {
    /// Whose it is.
    client: Client,
    /// Seed, problem and sample by which its numbers are drawn, if it says so.
    sample: Option<[u64; 3]>,
}

impl Origin {
    fn new(Peer(address): Peer, headers: &HeaderMap) -> Result<Self, ApiError> {
        let client = Client::new(address, bearer(headers));
        let read = |value: &HeaderValue| {
            let numbers = value.to_str().ok()?.split(' ').map(|number| number.parse().ok());
            numbers.collect::<Option<Vec<u64>>>()?.try_into().ok()
        };
        let wrong = || {
            let message = format!(
                "Invalid header '{SAMPLE}': three whole numbers, the seed, the problem and the sample."
            );
            ApiError::wrong(SAMPLE, message)
        };
        let sample = headers.get(SAMPLE).map(|value| read(value).ok_or_else(wrong)).transpose()?;
        Ok(Self { client, sample })
    }

    /// The seed: the sample's, the one that the body gives, or a new one.
    fn seed(&self, given: Option<u64>) -> u64 {
        self.sample.map(|[seed, ..]| seed).or(given).unwrap_or_else(drawn_seed)
    }

    /// The problem and the sample of the first choice.
    fn first(&self) -> [u64; 2] {
        self.sample.map_or([0; 2], |[_, problem, sample]| [problem, sample])
    }
}

/// A request that was understood.
struct Understood<T> {
    job: Job,
    events: UnboundedReceiver<Event>,
    tale: T,
    seed: u64,
    stream: bool,
}

impl App {
    pub(crate) fn new(
        served: Vec<Arc<Served>>,
        jobs: Sender<Job>,
        metrics: Arc<Metrics>,
        places: Arc<Places>,
        limits: Limits,
        log: Option<Log>,
    ) -> Self {
        let stopping = AtomicBool::new(false);
        Self { served, jobs, metrics, limits, places, room: Semaphore::new(BODY_ROOM_KIB), stopping, log }
    }

    /// Its paths, guarded.
    pub(crate) fn routes(self: &Arc<Self>, who: Guard) -> Router {
        let page = page::page();
        Router::new()
            .route("/", get(async || page))
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(completions))
            .route("/v1/models", get(models))
            .route("/v1/models/{*name}", get(model))
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .fallback(nothing_here)
            .method_not_allowed_fallback(wrong_method)
            .layer(middleware::from_fn_with_state(Arc::new(who), guard))
            .with_state(Arc::clone(self))
    }

    /// Takes no more requests.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn check_running(&self) -> Result<(), ApiError> {
        if self.stopping.load(Ordering::Relaxed) {
            let message = "The server is shutting down.";
            return Err(ApiError::server(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        Ok(())
    }

    /// The model that is asked for; the first if none is.
    fn model(&self, name: Option<&str>) -> Result<Arc<Served>, ApiError> {
        let found = self.served.iter().find(|served| name.is_none_or(|name| name == served.name));
        found.map(Arc::clone).ok_or_else(|| {
            let names: Vec<&str> = self.served.iter().map(|served| &*served.name).collect();
            let name: String = name.unwrap_or_default().chars().take(200).collect();
            let message = format!("The model `{name}` does not exist. Served here: {}.", names.join(", "));
            let status = StatusCode::NOT_FOUND;
            ApiError { status, ..ApiError::wrong("model", message).with_code("model_not_found") }
        })
    }

    /// A place in the queue.
    fn ticket(&self, client: Client) -> Result<Ticket, ApiError> {
        self.places.take(client).ok_or_else(|| ApiError::queue_full(self.places.limit()))
    }

    fn understand_chat(
        &self,
        body: &[u8],
        from: Origin,
        ticket: Ticket,
    ) -> Result<Understood<ChatTale>, ApiError> {
        let ask = ChatAsk::read(ask::object(body)?)?;
        let served = self.model(ask.common.model.as_deref())?;
        let codec = &served.codec;
        if ask.has_tools && served.calls == Calls::Unknown {
            let message = format!(
                "'tools' are not supported for `{}`: its chat template does not define calls as JSON in <tool_call> tags, the only ones \
                 that this server reads.",
                served.name
            );
            return Err(ApiError::unsupported("tools", message));
        }
        if ask.format != Format::Text && ask.has_tools {
            let message = "'response_format' other than 'text' is not supported together with 'tools'.";
            return Err(ApiError::unsupported("response_format", message));
        }
        let format = match &ask.format {
            Format::Text => None,
            format => served.formats()?.constraint(format)?,
        };
        let ids =
            codec.encode(&ask.messages, &ask.row).map_err(|error| ApiError::of_text("messages", &error))?;
        codec.check("prompt", &ids).map_err(|what| ApiError::wrong("messages", format!("{what}.")))?;
        let tokenizer = codec.tokenizer().map_err(|error| ApiError::wrong("model", error.to_string()))?;
        let last = &ids[ids.len().saturating_sub(OPENING_TOKENS)..];
        let last = tokenizer.decode(last, false).unwrap_or_default();
        let opening = last.rfind(THINK).map(|at| &last[at..]).filter(|opening| opening.trim_end() == THINK);
        let opened = opening.is_some();
        let asked = ask.messages.iter().any(|m| m.role == "system" && m.content.contains(THINK));
        let as_sampled = from.sample.is_some();
        let thinks = !as_sampled && (served.thinks || asked || opened);
        let splitter = Splitter::new(thinks, opened, ask.has_tools);
        let opening = opening.filter(|_| as_sampled).unwrap_or_default().to_owned();
        let max_tokens = room(&served, "messages", ids.len(), ask.common.max_tokens)?;
        if let Some(top) = ask.top {
            Common::check_log_probs(ask.common.n, max_tokens, top)?;
        }
        let seed = from.seed(ask.common.seed);
        let head = Head::new("chatcmpl", Arc::clone(&served), seed, as_sampled);
        let streams = [ask.common.stream, ask.common.stream_usage];
        let tale =
            ChatTale::new(head, opening, ask.common.n, ids.len(), &splitter, ask.top.is_some(), streams);
        let (events, receiver) = unbounded_channel();
        let job = Job {
            client: from.client,
            model: served.index,
            prompts: vec![ids.into()],
            n: ask.common.n,
            first: from.first(),
            sampling: ask.common.sampling(seed, max_tokens, codec.stop_ids()),
            stops: ask.common.stops,
            top: ask.top.unwrap_or(0),
            format,
            thinking: opened,
            scores: false,
            events,
            ticket: Cell::new(Some(ticket)),
            given_up: Cell::default(),
            arrived: Instant::now(),
            deadline: Instant::now() + self.limits.timeout,
        };
        Ok(Understood { job, events: receiver, tale, seed, stream: ask.common.stream })
    }

    fn understand_completions(
        &self,
        body: &[u8],
        from: Origin,
        ticket: Ticket,
    ) -> Result<Understood<CompletionTale>, ApiError> {
        let CompletionAsk { common, prompts, echo, top } = CompletionAsk::read(ask::object(body)?)?;
        let served = self.model(common.model.as_deref())?;
        let codec = &served.codec;
        let tokenizer = codec.tokenizer().map_err(|error| ApiError::wrong("model", error.to_string()))?;
        let wrong = |error: InferError| ApiError::of_text("prompt", &error);
        let (mut all, mut told, mut max_tokens, mut tokens) = (Vec::new(), Vec::new(), 0, 0);
        for prompt in prompts {
            let ids = match &prompt {
                Prompt::Text(text) => codec.encode_text(text).map_err(wrong)?,
                Prompt::Tokens(ids) => ids.clone(),
            };
            codec.check("prompt", &ids).map_err(|what| ApiError::wrong("prompt", format!("{what}.")))?;
            // All prompts' completions have one limit.
            max_tokens = room(&served, "prompt", ids.len(), common.max_tokens)?;
            let text = match prompt {
                Prompt::Text(text) => text,
                Prompt::Tokens(ids) => tokenizer.decode(&ids, true).map_err(|error| wrong(error.into()))?,
            };
            let ids: Arc<[u32]> = ids.into();
            tokens += ids.len();
            let chars = text.chars().count();
            let echoed = echo.then(|| {
                let offsets = if top.is_some() { offsets(tokenizer, &ids) } else { Vec::new() };
                Echo { text, ids: if top.is_some() { Arc::clone(&ids) } else { Arc::default() }, offsets }
            });
            told.push((chars, echoed));
            all.push(ids);
        }
        if let Some(top) = top {
            let choices = all.len() * common.n;
            Common::check_log_probs(choices, max_tokens + if echo { tokens } else { 0 }, top)?;
        }
        let seed = from.seed(common.seed);
        let head = Head::new("cmpl", Arc::clone(&served), seed, from.sample.is_some());
        let streams = [common.stream, common.stream_usage];
        let tale = CompletionTale::new(head, common.n, told, tokens, top.is_some(), max_tokens > 0, streams);
        let (events, receiver) = unbounded_channel();
        let job = Job {
            client: from.client,
            model: served.index,
            prompts: all,
            n: common.n,
            first: from.first(),
            sampling: common.sampling(seed, max_tokens, codec.stop_ids_of_text()),
            stops: common.stops,
            top: top.unwrap_or(0),
            format: None,
            thinking: false,
            scores: echo && top.is_some(),
            events,
            ticket: Cell::new(Some(ticket)),
            given_up: Cell::default(),
            arrived: Instant::now(),
            deadline: Instant::now() + self.limits.timeout,
        };
        Ok(Understood { job, events: receiver, tale, seed, stream: common.stream })
    }
}

/// New tokens for a prompt: as many as are wanted, or as there is room for.
fn room(served: &Served, param: &str, prompt: usize, wanted: Option<usize>) -> Result<usize, ApiError> {
    let least = wanted.unwrap_or(1);
    let needed = prompt.saturating_add(least);
    if needed > served.context {
        return Err(ApiError::context(param, served.context, needed));
    }
    Ok(wanted.unwrap_or(served.context - prompt))
}

/// The characters before each token of a prompt.
fn offsets(tokenizer: &koan_text::Tokenizer, ids: &[u32]) -> Vec<usize> {
    let mut stream = TextStream::new(tokenizer, true);
    let mut chars = 0;
    let before = |&id: &u32| {
        let before = chars;
        chars += stream.push(id).map_or(0, |text| text.chars().count());
        before
    };
    ids.iter().map(before).collect()
}

/// The body of a request, and the room that it takes: as much as came, however much was announced.
async fn read(app: &App, mut body: Body) -> Result<(Vec<u8>, Vec<SemaphorePermit<'_>>), ApiError> {
    let (mut read, mut room, mut kib) = (Vec::new(), Vec::new(), 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let broken = |_| ApiError::invalid(StatusCode::BAD_REQUEST, "The body of the request broke off.");
        let Ok(part) = frame.map_err(broken)?.into_data() else { continue };
        if read.len() + part.len() > MAX_BODY_BYTES {
            let message = format!("The body of the request is larger than {MAX_BODY_BYTES} bytes.");
            return Err(ApiError::invalid(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        read.extend_from_slice(&part);
        let more = read.len().div_ceil(1024) - kib;
        kib += more;
        room.push(app.room.try_acquire_many(more as u32).map_err(|_| {
            let message = "The server has no room for the requests that are being sent; try again.";
            ApiError::server(StatusCode::SERVICE_UNAVAILABLE, message)
        })?);
    }
    Ok((read, room))
}

/// Answers what `understand` makes of a request.
async fn answer<T: Tale>(
    app: Arc<App>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
    understand: impl FnOnce(&App, &[u8], Origin, Ticket) -> Result<Understood<T>, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    app.check_running()?;
    let from = Origin::new(peer, &headers)?;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > MAX_BODY_BYTES as u64) {
        let message = format!("The body of the request is larger than {MAX_BODY_BYTES} bytes.");
        return Err(ApiError::invalid(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let late =
        |_| ApiError::invalid(StatusCode::REQUEST_TIMEOUT, "The body of the request did not come in time.");
    let (body, room) = timeout(BODY_TIMEOUT, read(&app, body)).await.map_err(late)??;
    let ticket = app.ticket(from.client)?;
    let asked = if app.log.is_some() { String::from_utf8_lossy(&body).into_owned() } else { String::new() };
    let finished = Finished { app: Arc::clone(&app), asked };
    let of_thread = Arc::clone(&app);
    let understood = spawn_blocking(move || understand(&of_thread, &body, from, ticket)).await;
    drop(room);
    let Understood { job, mut events, mut tale, seed, stream } = understood.map_err(|_| gone())??;
    if !tale.is_whole() {
        app.jobs.send(job).map_err(|_| gone())?;
    }
    let mut response = if stream && !tale.is_whole() {
        let first = events.recv().await.ok_or_else(gone)?;
        stream::response(tale, first, events, finished)?
    } else {
        while !tale.is_whole() {
            tale.take(events.recv().await.ok_or_else(gone)?)?;
        }
        let whole = tale.whole();
        finished.log(|| whole.clone());
        json_response(StatusCode::OK, &whole)
    };
    response.headers_mut().insert(HeaderName::from_static("x-koan-seed"), HeaderValue::from(seed));
    Ok(response)
}

async fn chat(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answer(app, peer, headers, body, App::understand_chat).await
}

async fn completions(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    answer(app, peer, headers, body, App::understand_completions).await
}

fn model_json(served: &Served) -> Value {
    json!({
        "id": served.name, "object": "model", "created": served.created, "owned_by": "koan",
        "max_model_len": served.context,
    })
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let data: Value = app.served.iter().map(|served| model_json(served)).collect();
    json_response(StatusCode::OK, &json!({"object": "list", "data": data}))
}

async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let served = app.model(Some(&name))?;
    Ok(json_response(StatusCode::OK, &model_json(&served)))
}

async fn health(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.check_running()?;
    Ok(json_response(StatusCode::OK, &json!({"status": "ok"})))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.text()).into_response()
}

async fn nothing_here(request: axum::extract::Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    let message = format!("There is nothing at {path}. Chat is at /v1/chat/completions, the page at /.");
    ApiError::invalid(StatusCode::NOT_FOUND, message)
}

async fn wrong_method() -> ApiError {
    ApiError::invalid(StatusCode::METHOD_NOT_ALLOWED, "This method is not answered here.")
}
