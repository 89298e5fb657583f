//! Knights and knaves: knights always tell the truth, knaves always lie, and each person says one thing. A
//! truth table over all 2^n assignments shows that exactly one fits.

use super::text::list;
use super::words::NAMES;
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "knights",
    about: "knights, who tell the truth, and knaves, who lie: who is what?",
    levels: &[
        "2 people, simple statements",
        "3 people, simple statements",
        "3 people, also and, or, if",
        "4 people, also and, or, if",
        "5 people, also and, or, if",
        "6 people, also and, or, if",
        "8 people, also and, or, if",
    ],
    chance: "1 in 2^n for n people: 1 in 4 at level 1, 1 in 256 at level 7",
    draw,
};

/// How many sets of statements are tried for one problem.
const MAX_TRIES: usize = 100;

/// What a person says of people, who are numbers.
enum Claim {
    Role(usize, bool),
    Same(usize, usize),
    Different(usize, usize),
    And(Box<Claim>, Box<Claim>),
    Or(Box<Claim>, Box<Claim>),
    If(Box<Claim>, Box<Claim>),
}

impl Claim {
    /// A claim of `speaker`, one of `n` people.
    fn random(speaker: usize, n: usize, compound: bool, random: &mut Random) -> Self {
        let other = |random: &mut Random| (speaker + 1 + random.below(n - 1)) % n;
        match random.below(if compound { 6 } else { 4 }) {
            0 | 1 => Self::Role(other(random), random.coin()),
            2 => Self::Same(speaker, other(random)),
            3 => Self::Different(speaker, other(random)),
            _ => {
                let (a, b) = (random.below(n), other(random));
                let mut role = |person| Box::new(Self::Role(person, random.coin()));
                let (a, b) = (role(if a == b { speaker } else { a }), role(b));
                match random.below(3) {
                    0 => Self::And(a, b),
                    1 => Self::Or(a, b),
                    _ => Self::If(a, b),
                }
            }
        }
    }

    /// Whether it is true where bit `i` of `knights` says whether person `i` is one.
    fn holds(&self, knights: u32) -> bool {
        let is_knight = |person: &usize| knights >> person & 1 == 1;
        match self {
            Self::Role(person, knight) => is_knight(person) == *knight,
            Self::Same(a, b) => is_knight(a) == is_knight(b),
            Self::Different(a, b) => is_knight(a) != is_knight(b),
            Self::And(a, b) => a.holds(knights) && b.holds(knights),
            Self::Or(a, b) => a.holds(knights) || b.holds(knights),
            Self::If(a, b) => !a.holds(knights) || b.holds(knights),
        }
    }

    /// The last person of whom it speaks, in their order.
    fn last(&self) -> usize {
        match self {
            Self::Role(person, _) => *person,
            Self::Same(a, b) | Self::Different(a, b) => *a.max(b),
            Self::And(a, b) | Self::Or(a, b) | Self::If(a, b) => a.last().max(b.last()),
        }
    }

    /// As `speaker` says it.
    fn text(&self, speaker: usize, names: &[&str]) -> String {
        let text = |claim: &Self| claim.text(speaker, names);
        match self {
            Self::Role(person, knight) if *person == speaker => format!("I am {}", role(*knight)),
            Self::Role(person, knight) => format!("{} is {}", names[*person], role(*knight)),
            Self::Same(_, other) => format!("{} and I are of the same kind", names[*other]),
            Self::Different(_, other) => format!("{} and I are of different kinds", names[*other]),
            Self::And(a, b) => format!("{} and {}", text(a), text(b)),
            Self::Or(a, b) => format!("{} or {}", text(a), text(b)),
            Self::If(a, b) => format!("if {} then {}", text(a), text(b)),
        }
    }
}

fn role(knight: bool) -> &'static str {
    if knight { "a knight" } else { "a knave" }
}

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (n, compound) = ([2, 3, 3, 4, 5, 6, 8][level - 1], level >= 3);
    let names = random.sample(NAMES, n);
    let fits = |claims: &[Claim], knights: u32| {
        (0..n).all(|person| claims[person].holds(knights) == (knights >> person & 1 == 1))
    };
    let claims = (0..MAX_TRIES).find_map(|_| {
        let claims: Vec<_> = (0..n).map(|speaker| Claim::random(speaker, n, compound, random)).collect();
        ((0..1 << n).filter(|&knights| fits(&claims, knights)).count() == 1).then_some(claims)
    })?;
    let knights = (0..1 << n).find(|&knights| fits(&claims, knights))?;

    let mut steps = Vec::new();
    suppose(&claims, &names, 0, 0, &mut steps);
    let says = |speaker: usize| {
        let text = claims[speaker].text(speaker, &names);
        format!("{} says: \"{}{}.\"", names[speaker], text[..1].to_uppercase(), &text[1..])
    };
    let said: Vec<String> = (0..n).map(says).collect();
    let form = "Answer in the form NAME: ROLE, NAME: ROLE, and so on.";
    let island = match random.below(2) {
        0 => "On an island, knights always tell the truth and knaves always lie.",
        _ => "Everyone here is either a knight, who never lies, or a knave, who always lies.",
    };
    let answer =
        (0..n).map(|person| format!("{}: {}", names[person], &role(knights >> person & 1 == 1)[2..]));
    Some(Draft {
        key: said.join(" "),
        question: format!("{island} You meet {}. {} Who is what? {form}", list(&names), said.join(" ")),
        answer: answer.collect::<Vec<_>>().join(", "),
        reward: "assignment",
        steps,
        ..Draft::default()
    })
}

/// Supposes each role of `person` in turn, those before being as `knights` says, until everything fits: one line
/// each, indented by one space per person.
fn suppose(claims: &[Claim], names: &[&str], person: usize, knights: u32, steps: &mut Vec<String>) -> bool {
    if person == names.len() {
        return true;
    }
    for knight in [true, false] {
        let knights = knights | u32::from(knight) << person;
        let wrong = (0..=person).find(|&speaker| {
            speaker.max(claims[speaker].last()) == person
                && claims[speaker].holds(knights) != (knights >> speaker & 1 == 1)
        });
        let outcome = match wrong {
            None => "no contradiction".to_owned(),
            Some(speaker) if knights >> speaker & 1 == 1 => {
                format!("then the knight {} lies", names[speaker])
            }
            Some(speaker) => format!("then the knave {} tells the truth", names[speaker]),
        };
        steps.push(format!("{}Suppose {} is {}: {outcome}", " ".repeat(person), names[person], role(knight)));
        if wrong.is_none() && suppose(claims, names, person + 1, knights, steps) {
            return true;
        }
    }
    false
}
