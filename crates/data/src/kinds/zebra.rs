//! Zebra puzzles: who lives in which house, and has what? The clues of a puzzle suffice for [`Grid::apply`],
//! which only ever excludes what is impossible; so the solution is unique, and its steps are those of a person.
//! No clue can be left out.

use super::text::list;
use super::words::NAMES;
use super::{Draft, Kind};
use crate::random::Random;

pub(super) const KIND: Kind = Kind {
    name: "zebra",
    about: "who lives in which house, with which colour, pet and drink? One solution",
    levels: &[
        "3 houses: names, colours",
        "3 houses: names, colours, pets",
        "4 houses: names, colours, pets",
        "4 houses: names, colours, pets, drinks",
        "5 houses: names, colours, pets, drinks",
    ],
    chance: "1 in 36 at level 1, 1 in 216 at level 2, below 1 in 10,000 from level 3: the whole grid is judged",
    draw,
};

static COLORS: [&str; 8] = ["red", "green", "blue", "white", "yellow", "black", "pink", "brown"];
static PETS: [&str; 8] = ["cat", "dog", "fish", "horse", "parrot", "rabbit", "turtle", "snail"];
static DRINKS: [&str; 8] = ["tea", "coffee", "milk", "juice", "water", "cocoa", "cider", "soda"];

/// Clues to choose from.
const N_CLUES: usize = 150;

/// One value of one attribute, such as the cat of the pets.
type Item = (usize, usize);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Clue {
    At(Item, usize),
    NotAt(Item, usize),
    Same(Item, Item),
    NotSame(Item, Item),
    DirectlyLeft(Item, Item),
    Left(Item, Item),
    Next(Item, Item),
}

impl Clue {
    /// The items it speaks of: the same twice if it is one.
    fn items(self) -> (Item, Item) {
        match self {
            Self::At(item, _) | Self::NotAt(item, _) => (item, item),
            Self::Same(a, b)
            | Self::NotSame(a, b)
            | Self::DirectlyLeft(a, b)
            | Self::Left(a, b)
            | Self::Next(a, b) => (a, b),
        }
    }

    /// Whether it allows its items to be in houses `a` and `b`.
    fn allows(self, a: usize, b: usize) -> bool {
        match self {
            Self::At(_, house) => a == house && a == b,
            Self::NotAt(_, house) => a != house && a == b,
            Self::Same(..) => a == b,
            Self::NotSame(..) => a != b,
            Self::DirectlyLeft(..) => a + 1 == b,
            Self::Left(..) => a < b,
            Self::Next(..) => a.abs_diff(b) == 1,
        }
    }
}

/// The values of each attribute; the first attribute is the names.
type Values = Vec<Vec<&'static str>>;

/// A person, as clues call one.
fn person(values: &Values, (attribute, value): Item) -> String {
    let value = values[attribute][value];
    match attribute {
        0 => value.to_owned(),
        1 => format!("the owner of the {value} house"),
        2 => format!("the owner of the {value}"),
        _ => format!("the drinker of {value}"),
    }
}

fn clue_text(values: &Values, clue: Clue) -> String {
    let (a, b) = clue.items();
    let (a, b) = (person(values, a), person(values, b));
    let text = match clue {
        Clue::At(_, house) => format!("{a} lives in house {}", house + 1),
        Clue::NotAt(_, house) => format!("{a} does not live in house {}", house + 1),
        Clue::Same(..) => format!("{a} is {b}"),
        Clue::NotSame(..) => format!("{a} is not {b}"),
        Clue::DirectlyLeft(..) => format!("{a} lives directly left of {b}"),
        Clue::Left(..) => format!("{a} lives somewhere left of {b}"),
        Clue::Next(..) => format!("{a} lives next to {b}"),
    };
    text[..1].to_uppercase() + &text[1..]
}

/// For each attribute and value, the houses where it can be, one bit each.
#[derive(Clone)]
struct Grid {
    houses: Vec<Vec<u32>>,
}

impl Grid {
    fn new(n_attributes: usize, n_houses: usize) -> Self {
        Self { houses: vec![vec![(1 << n_houses) - 1; n_houses]; n_attributes] }
    }

    fn is_solved(&self) -> bool {
        self.houses.iter().flatten().all(|houses| houses.is_power_of_two())
    }

    /// Keeps `houses` of those of `item`, and calls `log` if that excludes one.
    fn keep(&mut self, (attribute, value): Item, houses: u32, log: &mut impl FnMut(Item, u32)) -> bool {
        let old = self.houses[attribute][value];
        let new = old & houses;
        self.houses[attribute][value] = new;
        if new != old {
            log((attribute, value), new);
        }
        new != old
    }

    /// Excludes what `clues` rule out, until that is all; `log` gets the clue (none: no two values share
    /// a house), the item, and the houses left to it.
    fn apply(&mut self, clues: &[Clue], mut log: impl FnMut(Option<usize>, Item, u32)) {
        let n = self.houses[0].len();
        loop {
            let mut is_changed = false;
            for (i, &clue) in clues.iter().enumerate() {
                let (a, b) = clue.items();
                let (in_a, in_b) = (self.houses[a.0][a.1], self.houses[b.0][b.1]);
                let (mut left_a, mut left_b) = (0, 0);
                for (house_a, house_b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                    let is_possible = in_a >> house_a & 1 == 1 && in_b >> house_b & 1 == 1;
                    if is_possible && clue.allows(house_a, house_b) {
                        left_a |= 1 << house_a;
                        left_b |= 1 << house_b;
                    }
                }
                let mut log = |item, houses| log(Some(i), item, houses);
                is_changed |= self.keep(a, left_a, &mut log);
                is_changed |= self.keep(b, left_b, &mut log);
            }
            let mut log = |item, houses| log(None, item, houses);
            for item in (0..self.houses.len()).flat_map(|a| (0..n).map(move |v| (a, v))) {
                let others = (0..n).filter(|&value| value != item.1).map(|value| self.houses[item.0][value]);
                let (fixed, possible) = others.fold((0, 0), |(fixed, possible), houses: u32| {
                    (if houses.is_power_of_two() { fixed | houses } else { fixed }, possible | houses)
                });
                is_changed |= self.keep(item, !fixed, &mut log);
                let only = ((1 << n) - 1) & !possible; // a house where no other value can be
                if only.is_power_of_two() {
                    is_changed |= self.keep(item, only, &mut log);
                }
            }
            if !is_changed {
                break;
            }
        }
    }

    fn solved_by(mut self, clues: &[Clue]) -> bool {
        self.apply(clues, |_, _, _| {});
        self.is_solved()
    }
}

fn draw(level: usize, random: &mut Random) -> Option<Draft> {
    let (n, n_attributes) = [(3, 2), (3, 3), (4, 3), (4, 4), (5, 4)][level - 1];
    let mut values: Values =
        [NAMES, &COLORS, &PETS, &DRINKS][..n_attributes].iter().map(|all| random.sample(all, n)).collect();
    for values in &mut values {
        values.sort_unstable();
    }
    let truth: Vec<Vec<usize>> =
        (0..n_attributes).map(|_| random.sample(&(0..n).collect::<Vec<_>>(), n)).collect();
    let clues = choose(&truth, random)?;

    let texts: Vec<String> =
        (1..).zip(&clues).map(|(i, &clue)| format!("{i}. {}.", clue_text(&values, clue))).collect();
    let kinds = ["name", "colour", "pet", "drink"];
    let given: Vec<String> =
        kinds.iter().zip(&values).map(|(kind, values)| format!("{kind}s: {}", values.join(", "))).collect();
    let form: Vec<String> = kinds[1..n_attributes].iter().map(|kind| kind.to_uppercase()).collect();
    let question = format!(
        "{n} people live in {n} houses in a row, numbered from 1 on the left. Each has another {}: {}.\n{}\n\
         Who lives where, and with what? Answer in the form NAME: house NUMBER, {}; NAME: and so on.",
        list(&kinds[..n_attributes]),
        given.join("; "),
        texts.join("\n"),
        form.join(", ")
    );
    let answer: Vec<String> = (0..n)
        .map(|name| {
            let house = truth[0][name];
            let rest = (1..n_attributes).map(|attribute| {
                let value = (0..n).find(|&value| truth[attribute][value] == house).unwrap_or_default();
                values[attribute][value]
            });
            let rest: Vec<&str> = rest.collect();
            format!("{}: house {}, {}", values[0][name], house + 1, rest.join(", "))
        })
        .collect();
    Some(Draft {
        key: texts.join(" "),
        question,
        answer: answer.join("; "),
        reward: "assignment",
        steps: steps(&values, &clues),
        ..Draft::default()
    })
}

/// True clues that give the whole grid, none of which can be left out.
fn choose(truth: &[Vec<usize>], random: &mut Random) -> Option<Vec<Clue>> {
    let (n_attributes, n) = (truth.len(), truth[0].len());
    let empty = Grid::new(n_attributes, n);
    let mut clues = Vec::new();
    for _ in 0..N_CLUES {
        let mut item = || (random.below(n_attributes), random.below(n));
        let (a, b) = (item(), item());
        let house = random.below(n);
        let clue = match random.below(12) {
            0 => Clue::At(a, house),
            1 => Clue::NotAt(a, house),
            2..=5 => Clue::Same(a, b),
            6 => Clue::NotSame(a, b),
            7 | 8 => Clue::DirectlyLeft(a, b),
            9 | 10 => Clue::Next(a, b),
            _ => Clue::Left(a, b),
        };
        let of_one_kind = a.0 == b.0 && matches!(clue, Clue::Same(..) | Clue::NotSame(..));
        let says_something = matches!(clue, Clue::At(..) | Clue::NotAt(..)) || a != b && !of_one_kind;
        let (a, b) = clue.items();
        if says_something && clue.allows(truth[a.0][a.1], truth[b.0][b.1]) && !clues.contains(&clue) {
            clues.push(clue);
        }
    }
    let enough = (1..=clues.len()).find(|&n| empty.clone().solved_by(&clues[..n]))?;
    clues.truncate(enough);
    for i in (0..enough).rev() {
        let clue = clues.remove(i);
        if !empty.clone().solved_by(&clues) {
            clues.insert(i, clue);
        }
    }
    Some(clues)
}

/// What each clue leaves, in the order in which it is found.
fn steps(values: &Values, clues: &[Clue]) -> Vec<String> {
    let n = values[0].len();
    let mut steps = Vec::new();
    let mut grid = Grid::new(values.len(), n);
    grid.apply(clues, |clue, item, left| {
        if clue.is_none() && !left.is_power_of_two() {
            return; // that a house is taken needs no line until one is left
        }
        let why = clue.map_or("What is left".to_owned(), |clue| format!("Clue {}", clue + 1));
        let houses: Vec<String> =
            (0..n).filter(|house| left >> house & 1 == 1).map(|house| (house + 1).to_string()).collect();
        steps.push(format!("{why}: {} in house {}", person(values, item), houses.join(" or ")));
    });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ways to put the values of each attribute into houses.
    fn permutations(n: usize) -> Vec<Vec<usize>> {
        if n == 0 {
            return vec![vec![]];
        }
        let insert = |rest: Vec<usize>| {
            (0..n).map(move |at| {
                let mut longer = rest.clone();
                longer.insert(at, n - 1);
                longer
            })
        };
        permutations(n - 1).into_iter().flat_map(insert).collect()
    }

    #[test]
    fn the_clues_have_one_solution() {
        let all = permutations(3);
        for seed in 0..40 {
            let random = &mut Random::stream(seed, 0);
            let truth: Vec<Vec<usize>> = (0..3).map(|_| random.pick(&all).clone()).collect();
            let Some(clues) = choose(&truth, random) else { continue };
            let grids = all
                .iter()
                .flat_map(|a| all.iter().flat_map(|b| all.iter().map(|c| [a.clone(), b.clone(), c.clone()])));
            let fits = |grid: &[Vec<usize>; 3]| {
                clues.iter().all(|clue| {
                    let (a, b) = clue.items();
                    clue.allows(grid[a.0][a.1], grid[b.0][b.1])
                })
            };
            let solutions: Vec<_> = grids.filter(fits).collect();
            assert_eq!(solutions.len(), 1);
            assert_eq!(solutions[0].to_vec(), truth);
        }
    }
}
