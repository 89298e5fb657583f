//! The page and its requests.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /api/standing?name=NAME` | what is to be done, how far the person is, what to show now and next |
//! | `GET /api/item?name=NAME&item=ID&repeat=BOOL` | prompt and answers, in the order in which this person sees them, and nothing of where they come from |
//! | `POST /api/vote` | takes a vote ([`Posted`]); answers when it is on the disk, with the person's standing |
//! | `POST /api/undo` | takes the person's last vote back; answers with their standing |
//!
//! What is posted is JSON and comes from this server's own page: a browser names the origin of a page that posts, and a request
//! without one is refused, so that no other page can vote.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    Labelling,
    desk::{Asked, Cast, Refused, Standing},
    items::{Settings, said},
    votes::{Choice, Word},
};
use crate::{
    page::Page,
    server::{Parameters, json_with},
};

/// Most bytes of a request's body.
pub(super) const MAX_BODY_BYTES: usize = 32 << 10;
/// Longest name of a person, characters.
const MAX_NAME_CHARS: usize = 40;
/// Longest comment, characters.
const MAX_COMMENT_CHARS: usize = 4000;
/// Longest time that a vote is said to have taken, seconds: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// How much better an answer is, at most.
const MAX_STRENGTH: u8 = 3;

const HTML: &str = include_str!("page/label.html");
const STYLES: [&str; 2] = [include_str!("../page/palette.css"), include_str!("page/label.css")];
const SCRIPTS: [&str; 5] = [
    include_str!("../page/elements.js"),
    include_str!("../page/thinking.js"),
    include_str!("page/maths.js"),
    include_str!("page/markdown.js"),
    include_str!("page/label.js"),
];

pub(super) fn routes(labelling: Arc<Labelling>) -> Router {
    let page = Page::new(HTML, &STYLES, &SCRIPTS);
    Router::new()
        .route("/", get(async || page))
        .route("/api/standing", get(standing))
        .route("/api/item", get(item))
        .route("/api/vote", post(vote))
        .route("/api/undo", post(undo))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(labelling)
}

type Shown = State<Arc<Labelling>>;

/// A vote as the page posts it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    name: String,
    item: String,
    repeat: bool,
    vote: Choice,
    #[serde(default)]
    strength: Option<u8>,
    #[serde(default)]
    comment: String,
    seconds: f64,
}

/// A request to take a person's last vote back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Undo {
    name: String,
    /// How many votes they had then.
    votes: usize,
}

/// Where a person stands, and what they are asked.
#[derive(Serialize)]
struct Told {
    name: String,
    settings: Settings,
    #[serde(flatten)]
    standing: Standing,
}

/// Why a request is refused.
struct No(StatusCode, String);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        json_with(self.0, &json!({"error": self.1}))
    }
}

impl From<Refused> for No {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Voted | Refused::NotAsked | Refused::NothingToUndo => StatusCode::CONFLICT,
            Refused::Log(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self(status, refused.to_string())
    }
}

async fn standing(State(labelling): Shown, Parameters(parameters): Parameters) -> Response {
    answer(move || {
        let [name] = named(["name"], &parameters)?;
        Ok(labelling.told(name_of(name)?))
    })
    .await
}

async fn item(State(labelling): Shown, Parameters(parameters): Parameters) -> Response {
    answer(move || {
        let [name, item, repeat] = named(["name", "item", "repeat"], &parameters)?;
        let name = name_of(name)?;
        let desk = labelling.desk();
        let (place, item) = desk.item(item).ok_or_else(no_item)?;
        let asked = Asked { item: place, repeat: repeat == "true" };
        let mut answers: Vec<String> = item.answers.iter().map(|answer| said(&answer.message)).collect();
        if desk.is_swapped(&name, asked) && item.answers.len() == 2 {
            answers.swap(0, 1);
        }
        let prompt: Vec<_> =
            item.prompt.iter().map(|m| json!({"role": m.role, "content": said(m)})).collect();
        Ok(json!({"item": item.id, "repeat": asked.repeat, "prompt": prompt, "answers": answers}))
    })
    .await
}

async fn vote(State(labelling): Shown, headers: HeaderMap, body: Bytes) -> Response {
    answer(move || {
        let posted: Posted = posted(&headers, &body)?;
        let name = name_of(&posted.name)?;
        let comment = comment_of(&posted.comment)?;
        let mut desk = labelling.desk();
        let (item, _) = desk.item(&posted.item).ok_or_else(no_item)?;
        let asked = Asked { item, repeat: posted.repeat };
        // The page says which of the two it shows is better; which that is, is known here alone.
        let vote = match posted.vote {
            Choice::Word(Word::A) if desk.is_swapped(&name, asked) => Choice::Word(Word::B),
            Choice::Word(Word::B) if desk.is_swapped(&name, asked) => Choice::Word(Word::A),
            vote => vote,
        };
        let sided = matches!(vote, Choice::Word(Word::A | Word::B));
        if !may(vote, desk.settings().rate) {
            return Err(bad("this vote is none of those that are asked for here"));
        }
        if posted.strength.is_some_and(|strength| !sided || !(1..=MAX_STRENGTH).contains(&strength)) {
            return Err(bad("`strength` is 1, 2 or 3, and goes with a vote for one of two answers"));
        }
        if !(0.0..).contains(&posted.seconds) {
            return Err(bad("`seconds` is 0 or more"));
        }
        let seconds = (posted.seconds.min(MAX_SECONDS) * 10.0).round() / 10.0;
        let cast = Cast { annotator: name.clone(), asked, vote, strength: posted.strength, comment, seconds };
        desk.vote(cast)?;
        drop(desk);
        labelling.changed.store(true, Ordering::Relaxed);
        Ok(labelling.told(name))
    })
    .await
}

async fn undo(State(labelling): Shown, headers: HeaderMap, body: Bytes) -> Response {
    answer(move || {
        let posted: Undo = posted(&headers, &body)?;
        let name = name_of(&posted.name)?;
        labelling.desk().undo(&name, posted.votes)?;
        labelling.changed.store(true, Ordering::Relaxed);
        Ok(labelling.told(name))
    })
    .await
}

impl Labelling {
    fn told(&self, name: String) -> Told {
        let mut desk = self.desk();
        Told { settings: desk.settings(), standing: desk.standing(&name), name }
    }
}

/// Whether a vote is among those that are asked for.
fn may(vote: Choice, rate: Option<u8>) -> bool {
    match (rate, vote) {
        (_, Choice::Word(Word::Skip)) => true,
        (None, Choice::Word(word)) => matches!(word, Word::A | Word::B | Word::Tie | Word::BothBad),
        (Some(2), Choice::Word(word)) => matches!(word, Word::Good | Word::Bad),
        (Some(scale), Choice::Rating(rating)) => scale > 2 && (1..=scale).contains(&rating),
        _ => false,
    }
}

/// What is posted, if it is from a page of this server. That the origin is this server's was seen to when it was given.
fn posted<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, No> {
    if !headers.contains_key(header::ORIGIN) {
        return Err(No(StatusCode::FORBIDDEN, "a request that changes something names its origin".into()));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(No(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected application/json".into()));
    }
    serde_json::from_slice(body).map_err(|error| bad(&format!("not what is expected: {error}")))
}

/// A person's name, without blanks around it.
fn name_of(name: &str) -> Result<String, No> {
    let name = name.trim();
    let fits =
        !name.is_empty() && name.chars().count() <= MAX_NAME_CHARS && !name.chars().any(char::is_control);
    if fits { Ok(name.to_owned()) } else { Err(bad("a name has 1 to 40 characters, on one line")) }
}

fn comment_of(comment: &str) -> Result<Option<String>, No> {
    let comment = comment.trim();
    if comment.chars().count() > MAX_COMMENT_CHARS {
        return Err(bad(&format!("a comment has at most {MAX_COMMENT_CHARS} characters")));
    }
    Ok((!comment.is_empty()).then(|| comment.to_owned()))
}

/// The values of these parameters, each given once, and no other.
fn named<'a, const N: usize>(
    keys: [&str; N],
    parameters: &'a [(String, String)],
) -> Result<[&'a str; N], No> {
    let find = |key: &str| {
        let mut values = parameters.iter().filter(|(given, _)| given == key);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(&value[..]),
            _ => None,
        }
    };
    let found = keys.map(find);
    if parameters.len() != N || found.iter().any(Option::is_none) {
        return Err(bad(&format!("expected {}, each once", keys.join(", "))));
    }
    Ok(found.map(Option::unwrap_or_default))
}

fn bad(why: &str) -> No {
    No(StatusCode::BAD_REQUEST, why.to_owned())
}

fn no_item() -> No {
    No(StatusCode::NOT_FOUND, "there is no such item; reload the page".to_owned())
}

/// The answer that `work` makes, on a thread that may wait for the disk.
async fn answer<T: Serialize>(work: impl FnOnce() -> Result<T, No> + Send + 'static) -> Response {
    let made = tokio::task::spawn_blocking(move || match work() {
        Ok(value) => json_with(StatusCode::OK, &value),
        Err(no) => no.into_response(),
    });
    made.await.unwrap_or_else(|_| {
        No(StatusCode::INTERNAL_SERVER_ERROR, "this request failed; that is a defect of Koan".into())
            .into_response()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing_else() {
        crate::page::tests::check(&Page::new(HTML, &STYLES, &SCRIPTS), &SCRIPTS);
    }
}
