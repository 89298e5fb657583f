//! Who is shown what next, and what their votes come to so far.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    InForce, LabelError, Progress, Sharing,
    items::{Item, Settings},
    seeded,
    votes::{Choice, Vote, Votes, Word},
};

/// Votes between a person's vote on an item and being asked again.
const REPEAT_AFTER: usize = 10;

/// Items, votes, people.
#[derive(Debug)]
pub(super) struct Desk {
    items: Arc<[Item]>,
    places: HashMap<String, usize>,
    /// The places in the order in which they are shown: one order for all, so that pairs get all their votes early.
    order: Vec<usize>,
    settings: Settings,
    sharing: Sharing,
    log: Option<Votes>,
    /// All votes in force, by number.
    votes: HashMap<u64, InForce>,
    /// Votes that count of each item.
    counts: Vec<usize>,
    people: HashMap<String, Person>,
    elsewhere: usize,
}

/// What somebody did.
#[derive(Debug, Default)]
struct Person {
    /// The numbers of the votes in force, in their order.
    trail: Vec<u64>,
    done: HashMap<Asked, u64>,
    /// What is shown again because its vote was taken back.
    again: Option<Asked>,
    /// What was shown last: the item, and the one that its page holds ready.
    shown: [Option<Asked>; 2],
}

/// An item as it is put to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) item: usize,
    /// Whether it is put to them a second time.
    pub(super) repeat: bool,
}

/// A vote as it is asked for.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) annotator: String,
    pub(super) asked: Asked,
    pub(super) vote: Choice,
    pub(super) strength: Option<u8>,
    pub(super) comment: Option<String>,
    pub(super) seconds: f64,
}

/// Where a person stands.
#[derive(Debug, Serialize)]
pub(super) struct Standing {
    /// What to look at now, and after it; none when nothing is left.
    pub(super) current: Option<Shown>,
    pub(super) next: Option<Shown>,
    /// Votes so far, and what is left to this person.
    mine: usize,
    left: usize,
    /// The vote that `undo` would take back.
    last: Option<String>,
    all: Progress,
}

/// An item by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    item: String,
    repeat: bool,
}

/// Why a vote was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("you voted on this already, in another window perhaps; this page goes on with the next")]
    Voted,
    #[error("you were not asked this a second time; this page goes on with the next")]
    NotAsked,
    #[error("there is no vote of yours to take back")]
    NothingToUndo,
    #[error("{0}; your vote is not kept yet: free some space, then vote again")]
    Log(#[from] LabelError),
}

impl Desk {
    pub(super) fn new(
        items: Vec<Item>,
        settings: Settings,
        sharing: Sharing,
        log: Option<Votes>,
        votes: Vec<Vote>,
    ) -> Self {
        let places = items.iter().enumerate().map(|(place, item)| (item.id.clone(), place)).collect();
        // By the items' hashes: where a row is in its file says nothing of when it is shown.
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_cached_key(|&place| seeded::bits(settings.seed, &["order", &items[place].id]));
        let counts = vec![0; items.len()];
        let (votes_in_force, people) = (HashMap::new(), HashMap::new());
        let mut desk = Self {
            items: items.into(),
            places,
            order,
            settings,
            sharing,
            log,
            votes: votes_in_force,
            counts,
            people,
            elsewhere: 0,
        };
        let withdrawn: HashSet<u64> = votes.iter().filter_map(|vote| vote.withdraws).collect();
        for vote in votes.into_iter().filter(|vote| vote.withdraws.is_none() && !withdrawn.contains(&vote.n))
        {
            match desk.places.get(&vote.item) {
                Some(&item) => desk.note(InForce { item, vote }),
                None => desk.elsewhere += 1,
            }
        }
        desk
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    pub(super) fn item(&self, id: &str) -> Option<(usize, &Item)> {
        self.places.get(id).map(|&place| (place, &self.items[place]))
    }

    /// The items, and copies of the votes in force, in the order in which they came.
    pub(super) fn snapshot(&self) -> (Arc<[Item]>, Vec<InForce>) {
        let mut votes: Vec<InForce> = self.votes.values().cloned().collect();
        votes.sort_by_key(|in_force| in_force.vote.n);
        (Arc::clone(&self.items), votes)
    }

    pub(super) fn progress(&self) -> Progress {
        let each = self.sharing.votes_each;
        Progress {
            items: self.items.len(),
            voted: self.counts.iter().filter(|&&n| n > 0).count(),
            votes: self.counts.iter().map(|&n| n.min(each)).sum(),
            wanted: self.items.len() * each,
            elsewhere: self.elsewhere,
        }
    }

    /// Whether a person sees the second answer of a pair first: of a pair put to them again, the other one than before.
    pub(super) fn is_swapped(&self, name: &str, Asked { item, repeat }: Asked) -> bool {
        let swapped = seeded::bits(self.settings.seed, &["side", &self.items[item].id, name]) % 2 == 1;
        swapped != repeat
    }

    /// Where a person stands; what they are shown is noted.
    pub(super) fn standing(&mut self, name: &str) -> Standing {
        let nobody = Person::default();
        let person = self.people.get(name).unwrap_or(&nobody);
        let current = self.choose(name, person, None);
        let next = current.and_then(|current| self.choose(name, person, Some(current)));
        let open = |place: &usize| {
            self.counts[*place] < self.sharing.votes_each && !person.done.contains_key(&first(*place))
        };
        let left = self.order.iter().filter(|place| open(place)).count() + self.repeats(name, person).len();
        let again = person.again.filter(|again| !open(&again.item) && !again.repeat);
        let last = person.trail.last().and_then(|n| self.votes.get(n)).map(|last| last.vote.vote.name());
        let shown = |asked: Asked| Shown { item: self.items[asked.item].id.clone(), repeat: asked.repeat };
        let standing = Standing {
            current: current.map(shown),
            next: next.map(shown),
            mine: person.trail.len(),
            left: left + usize::from(again.is_some()),
            last,
            all: self.progress(),
        };
        if let Some(person) = self.people.get_mut(name) {
            person.shown = [current, next];
        }
        standing
    }

    /// What to show a person: what they took back, what is due again, what is first in the order and on nobody else's page, what
    /// is on somebody's page, and at the end what else is to be repeated.
    fn choose(&self, name: &str, person: &Person, after: Option<Asked>) -> Option<Asked> {
        let free = |asked: &Asked| Some(*asked) != after;
        let voted = person.trail.len() + usize::from(after.is_some());
        let repeats = self.repeats(name, person);
        let due =
            repeats.iter().filter(|(_, at)| voted > at + REPEAT_AFTER).map(|(asked, _)| *asked).find(free);
        let open = |asked: &Asked| {
            free(asked)
                && !person.done.contains_key(asked)
                && self.counts[asked.item] < self.sharing.votes_each
        };
        let on_pages: HashMap<usize, usize> = self
            .people
            .iter()
            .filter(|(other, _)| *other != name)
            .flat_map(|(_, other)| other.shown)
            .flatten()
            .fold(HashMap::new(), |mut pages, asked| {
                *pages.entry(asked.item).or_default() += 1;
                pages
            });
        let alone = |asked: &Asked| {
            let pages = on_pages.get(&asked.item).copied().unwrap_or(0);
            self.counts[asked.item] + pages < self.sharing.votes_each
        };
        let all = || self.order.iter().map(|&place| first(place)).filter(open);
        let last = person.trail.last().and_then(|n| self.votes.get(n)).map(|last| last.item);
        person.again.filter(free).or(due).or_else(|| all().find(alone)).or_else(|| all().next()).or_else(
            || {
                let rest = repeats.iter().map(|(asked, _)| *asked);
                rest.filter(free)
                    .find(|asked| Some(asked.item) != last && after.is_none_or(|a| a.item != asked.item))
            },
        )
    }

    /// What is to be put to a person again, with the place of their first vote in their trail.
    fn repeats(&self, name: &str, person: &Person) -> Vec<(Asked, usize)> {
        let chosen = |item: usize| {
            seeded::share(self.settings.seed, &["repeat", &self.items[item].id, name]) < self.sharing.repeat
        };
        let votes = person.trail.iter().enumerate().filter_map(|(at, n)| Some((at, self.votes.get(n)?)));
        votes
            .filter(|(_, InForce { item, vote })| !vote.repeat && vote.vote.counts() && chosen(*item))
            .map(|(at, in_force)| (Asked { item: in_force.item, repeat: true }, at))
            .filter(|(asked, _)| !person.done.contains_key(asked))
            .collect()
    }

    /// Takes a vote: it is on the disk when this returns. The same vote sent again is taken once.
    pub(super) fn vote(&mut self, cast: Cast) -> Result<(), Refused> {
        let Cast { annotator, asked, vote, strength, comment, seconds } = cast;
        let person = self.people.get(&annotator);
        if asked.repeat && !person.is_some_and(|person| person.done.contains_key(&first(asked.item))) {
            return Err(Refused::NotAsked);
        }
        let before = person.and_then(|person| person.done.get(&asked));
        if let Some(before) = before.and_then(|n| self.votes.get(n)) {
            let same = (before.vote.vote, before.vote.strength) == (vote, strength)
                && before.vote.comment == comment;
            return if same { Ok(()) } else { Err(Refused::Voted) };
        }
        let item = &self.items[asked.item];
        let is_pair = item.answers.len() == 2;
        let vote = Vote {
            n: 0,
            at: String::new(),
            input: String::new(),
            item: item.id.clone(),
            row: item.row.clone(),
            vote,
            shown_first: is_pair.then(|| if self.is_swapped(&annotator, asked) { Word::B } else { Word::A }),
            strength,
            comment,
            seconds,
            repeat: asked.repeat,
            withdraws: None,
            annotator,
        };
        let vote = self.append(vote)?;
        self.note(InForce { item: asked.item, vote });
        Ok(())
    }

    /// Takes a person's last vote back. `expected` is what they were told it was: a request that is sent again takes nothing more.
    pub(super) fn undo(&mut self, name: &str, votes: usize) -> Result<(), Refused> {
        let trail = self.people.get(name).map(|person| &person.trail[..]).unwrap_or_default();
        if trail.len() < votes {
            return Ok(());
        }
        let last = trail.last().and_then(|n| self.votes.get(n)).ok_or(Refused::NothingToUndo)?;
        let (n, item, repeat) = (last.vote.n, last.item, last.vote.repeat);
        let undo = Vote {
            vote: Choice::Word(Word::Undo),
            withdraws: Some(n),
            strength: None,
            comment: None,
            seconds: 0.0,
            ..last.vote.clone()
        };
        self.append(undo)?;
        let asked = Asked { item, repeat };
        if let Some(InForce { vote, .. }) = self.votes.remove(&n)
            && !repeat
            && vote.vote.counts()
        {
            self.counts[item] -= 1;
        }
        let person = self.people.entry(name.to_owned()).or_default();
        person.trail.pop();
        person.done.remove(&asked);
        person.again = Some(asked);
        Ok(())
    }

    fn append(&mut self, vote: Vote) -> Result<Vote, LabelError> {
        self.log.as_mut().expect("votes are taken by who holds their file").append(vote)
    }

    fn note(&mut self, in_force: InForce) {
        let InForce { item, vote } = &in_force;
        let asked = Asked { item: *item, repeat: vote.repeat };
        let person = self.people.entry(vote.annotator.clone()).or_default();
        person.trail.push(vote.n);
        person.done.insert(asked, vote.n);
        person.again = person.again.filter(|again| *again != asked);
        self.counts[*item] += usize::from(vote.vote.counts() && !vote.repeat);
        self.votes.insert(vote.n, in_force);
    }
}

fn first(item: usize) -> Asked {
    Asked { item, repeat: false }
}
