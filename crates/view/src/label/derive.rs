//! Rows for learning, by majority of the votes.
//!
//! Of a pair, `a`, `b` or neither (ties and "both bad" together) has the majority if it has more votes than each of the others; the row is
//! then `prompt`, `chosen`, `rejected`. Where none has, or neither, the pair is a tie, or both are bad if most of these votes say so. Ties are
//! dropped, or kept with a margin of 0. Of a single answer, `label` is true or false by majority of good and bad, or by the
//! mean rating above or below the middle of the scale; in between it is dropped. What is dropped is counted.
//!
//! `margin` is the mean over the votes of how much better the chosen answer is: the vote's `strength` (1 where none is given) for
//! the chosen, minus it for the rejected, 0 for neither. A second vote of one person on one pair does not count.

use serde_json::{Map, Value, json};

use koan_data::Message;

use super::{
    InForce,
    items::{Answer, Item},
    votes::{Choice, Vote, Word},
};

/// What becomes of ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// They are no rows.
    #[default]
    Drop,
    /// They are rows of margin 0.
    Keep,
}

/// What votes came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Rows written.
    pub rows: usize,
    /// Items without a majority, kept or not.
    pub ties: usize,
    /// Pairs of which both answers are bad.
    pub both_bad: usize,
    /// Items on which nobody voted.
    pub unvoted: usize,
}

/// The votes of an item that count.
pub(crate) fn by_item(items: &[Item], votes: &[InForce]) -> Vec<Vec<Vote>> {
    let mut of = vec![Vec::new(); items.len()];
    for InForce { item, vote } in votes {
        if vote.vote.counts() && !vote.repeat {
            of[*item].push(vote.clone());
        }
    }
    of
}

/// The rows that `votes` come to, in the order of the items.
pub(crate) fn rows(items: &[Item], votes: &[InForce], ties: Ties) -> (Vec<Value>, Derived) {
    let (mut rows, mut derived) = (Vec::new(), Derived::default());
    for (item, votes) in items.iter().zip(by_item(items, votes)) {
        if votes.is_empty() {
            derived.unvoted += 1;
            continue;
        }
        let row = match &item.answers[..] {
            [one] => rated(item, one, &votes),
            [a, b] => match majority(&votes) {
                Some(Word::A) => Some(pair(item, [a, b], Word::A, &votes)),
                Some(Word::B) => Some(pair(item, [b, a], Word::B, &votes)),
                Some(Word::BothBad) => {
                    derived.both_bad += 1;
                    continue;
                }
                _ => {
                    derived.ties += 1;
                    (ties == Ties::Keep).then(|| pair(item, [a, b], Word::Tie, &votes))
                }
            },
            _ => None,
        };
        derived.ties += usize::from(row.is_none() && item.answers.len() == 1);
        rows.extend(row);
    }
    derived.rows = rows.len();
    (rows, derived)
}

/// What most of the votes on a pair say; a tie if no more say one thing than another.
pub(crate) fn majority(votes: &[Vote]) -> Option<Word> {
    let count = |word| votes.iter().filter(|vote| vote.vote == Choice::Word(word)).count();
    let [a, b, tie, both_bad] = [Word::A, Word::B, Word::Tie, Word::BothBad].map(count);
    match () {
        () if a > b && a > tie + both_bad => Some(Word::A),
        () if b > a && b > tie + both_bad => Some(Word::B),
        () if both_bad > tie && tie + both_bad > a.max(b) => Some(Word::BothBad),
        () => None,
    }
}

fn pair(item: &Item, [chosen, rejected]: [&Answer; 2], winner: Word, votes: &[Vote]) -> Value {
    let loser = if winner == Word::B { Word::A } else { Word::B };
    let is = |vote: &Vote, word| vote.vote == Choice::Word(word);
    let worth = |vote: &Vote| {
        let strength = f64::from(vote.strength.unwrap_or(1));
        if is(vote, winner) {
            strength
        } else if is(vote, loser) {
            -strength
        } else {
            0.0
        }
    };
    // A majority of weak votes may be outweighed by a strong one.
    let mean = votes.iter().map(worth).sum::<f64>() / votes.len() as f64;
    let margin = if winner == Word::Tie { 0.0 } else { mean.max(0.0) };
    let count = |word| votes.iter().filter(|vote| is(vote, word)).count();
    let counts = if winner == Word::Tie {
        json!({"chosen": count(Word::A), "rejected": count(Word::B), "tie": count(Word::Tie), "both_bad": count(Word::BothBad)})
    } else {
        json!({"chosen": count(winner), "rejected": count(loser), "tie": count(Word::Tie), "both_bad": count(Word::BothBad)})
    };
    let agreeing = if winner == Word::Tie { count(Word::Tie) } else { count(winner) };
    let mut row = prompted(item);
    row.insert("chosen".into(), reply(item, &chosen.message));
    row.insert("rejected".into(), reply(item, &rejected.message));
    row.insert("margin".into(), margin.into());
    let mut meta = meta(item, votes);
    meta.insert("votes".into(), counts);
    meta.insert("agreement".into(), (agreeing as f64 / votes.len() as f64).into());
    meta.insert("origin".into(), json!({"chosen": chosen.origin, "rejected": rejected.origin}));
    row.insert("meta".into(), meta.into());
    row.into()
}

fn rated(item: &Item, answer: &Answer, votes: &[Vote]) -> Option<Value> {
    let ratings: Vec<f64> = votes
        .iter()
        .filter_map(|vote| match vote.vote {
            Choice::Rating(rating) => Some(f64::from(rating)),
            Choice::Word(_) => None,
        })
        .collect();
    let good = votes.iter().filter(|vote| vote.vote == Choice::Word(Word::Good)).count();
    let bad = votes.iter().filter(|vote| vote.vote == Choice::Word(Word::Bad)).count();
    let mean = (!ratings.is_empty()).then(|| ratings.iter().sum::<f64>() / ratings.len() as f64);
    let middle = item.scale.map_or(0.0, |scale| f64::from(1 + scale) / 2.0);
    let side = mean.map_or(good.cmp(&bad), |mean| mean.total_cmp(&middle));
    let label = match side {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => return None,
    };
    let mut row = prompted(item);
    row.insert("completion".into(), reply(item, &answer.message));
    row.insert("label".into(), label.into());
    let mut meta = meta(item, votes);
    if let Some(mean) = mean {
        row.insert("rating".into(), mean.into());
        meta.insert("ratings".into(), ratings.into());
    } else {
        meta.insert("votes".into(), json!({"good": good, "bad": bad}));
        meta.insert("agreement".into(), (good.max(bad) as f64 / votes.len() as f64).into());
    }
    meta.insert("origin".into(), answer.origin.clone().into());
    row.insert("meta".into(), meta.into());
    Some(row.into())
}

/// A row's `id` and `prompt`: a text, or a list of messages, with which answers are lists of one.
fn prompted(item: &Item) -> Map<String, Value> {
    let prompt = match &item.prompt[..] {
        [only] if is_plain(item) => only.content.clone().into(),
        messages => messages.iter().map(|message| message.clone().into_fields()).collect::<Vec<_>>().into(),
    };
    Map::from_iter([("id".to_owned(), item.id.clone().into()), ("prompt".to_owned(), prompt)])
}

fn reply(item: &Item, message: &Message) -> Value {
    if is_plain(item) { message.content.clone().into() } else { vec![message.clone().into_fields()].into() }
}

/// Whether prompt and answers are texts alone.
fn is_plain(item: &Item) -> bool {
    item.is_text
        && item.prompt.len() == 1
        && item.answers.iter().all(|answer| answer.message.other.is_empty())
}

fn meta(item: &Item, votes: &[Vote]) -> Map<String, Value> {
    let mut people: Vec<&str> = votes.iter().map(|vote| &vote.annotator[..]).collect();
    people.sort_unstable();
    people.dedup();
    let mut meta = Map::from_iter([("row".to_owned(), Value::from(item.row.clone()))]);
    meta.insert("annotators".into(), people.into());
    let comments: Vec<&str> = votes.iter().filter_map(|vote| vote.comment.as_deref()).collect();
    if !comments.is_empty() {
        meta.insert("comments".into(), comments.into());
    }
    if let Some(source) = &item.meta {
        meta.insert("source".into(), Value::clone(source));
    }
    meta
}
