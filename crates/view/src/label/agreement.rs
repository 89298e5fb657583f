//! How far people agree, beyond chance.
//!
//! - Cohen's κ of two people: (p_o − p_e)/(1 − p_e), p_o the share of items on which they say the same, p_e = Σ_k p₁ₖ p₂ₖ of their own shares
//!   of each class (Cohen 1960),
//! - Fleiss' κ of all: (P̄ − P̄_e)/(1 − P̄_e), P_i = (Σ_j n_ij² − n_i)/(n_i(n_i − 1)) of an item with n_i votes, P̄_e = Σ_j p_j² of the shares of
//!   each class among all votes (Fleiss 1971; items may have different numbers of votes, at least two),
//! - Krippendorff's α of ratings on a scale: 1 − D_o/D_e with squared differences, so that 4 against 5 is less than 1 against 5.
//!
//! Classes are what can be said: `a`, `b`, `tie`, `both_bad`; `good`, `bad`; or the points of the scale. Where all votes are of one class, chance
//! alone would agree always, and κ and α are undefined. Intervals are of 1000 resamples of the items.

use std::{collections::BTreeMap, fmt};

use super::{
    InForce,
    derive::by_item,
    items::{Item, Settings, said},
    seeded::Stream,
    votes::{Choice, Vote, Word},
};

/// Resamples of an interval.
const RESAMPLES: usize = 1000;
/// Most people whose pairs are listed: the pairs of more would fill pages.
const MAX_PEOPLE: usize = 20;
/// Most items listed on which people differ.
const MAX_DIFFERENT: usize = 50;
/// Characters of a prompt where it is listed.
const SHOWN_CHARS: usize = 60;

/// How far people agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Votes of each person.
    pub people: Vec<Habits>,
    /// Each two people who voted on the same items.
    pub pairs: Vec<(String, String, Cohen)>,
    /// All together.
    pub fleiss: Fleiss,
    /// α of ratings.
    pub alpha: Option<Estimate>,
    /// Items on which people say different things.
    pub different: Vec<Different>,
}

/// How a person votes.
#[derive(Clone, Debug, PartialEq)]
pub struct Habits {
    /// Their name.
    pub name: String,
    /// Votes that count.
    pub votes: usize,
    /// Median seconds of a vote.
    pub seconds: f64,
    /// Of the votes for one of two answers, how many are for the one shown first, and how many there are.
    pub first: (usize, usize),
    /// Of the items put to them again, on how many they said the same, and how many there are.
    pub same_again: (usize, usize),
}

/// Agreement of two people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cohen {
    /// Items on which both voted.
    pub items: usize,
    /// Share on which they say the same.
    pub observed: f64,
    /// Beyond chance; undefined if all votes are of one class.
    pub kappa: Option<f64>,
}

/// Agreement of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fleiss {
    /// Items with two votes or more.
    pub items: usize,
    /// P̄: the share of pairs of votes on one item that are the same.
    pub observed: f64,
    /// Beyond chance; undefined if all votes are of one class.
    pub kappa: Option<Estimate>,
}

/// A value with its 95 % interval over items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Where 95 % of resamples lie, of those in which it is defined; none if fewer than half are.
    pub interval: Option<[f64; 2]>,
}

/// An item on which people differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Different {
    /// The item.
    pub item: String,
    /// Its row.
    pub row: String,
    /// The start of the prompt.
    pub prompt: String,
    /// Who said what.
    pub votes: Vec<(String, Choice)>,
}

/// Cohen's κ of what two people say of the same items.
pub fn cohen<T: Ord>(said: &[(T, T)]) -> Cohen {
    let n = said.len() as f64;
    let mut shares: BTreeMap<&T, [f64; 2]> = BTreeMap::new();
    for (one, other) in said {
        shares.entry(one).or_default()[0] += 1.0 / n;
        shares.entry(other).or_default()[1] += 1.0 / n;
    }
    let same = said.iter().filter(|(one, other)| one == other).count();
    let observed = if said.is_empty() { 0.0 } else { same as f64 / n };
    let chance: f64 = shares.values().map(|[one, other]| one * other).sum();
    let is_defined = shares.len() > 1;
    Cohen { items: said.len(), observed, kappa: is_defined.then(|| (observed - chance) / (1.0 - chance)) }
}

/// P̄ and Fleiss' κ of items' votes by class; items with fewer than two are left out.
pub fn fleiss(counts: &[Vec<usize>]) -> Option<(f64, Option<f64>)> {
    let rated: Vec<(&Vec<usize>, f64)> =
        counts.iter().map(|of| (of, of.iter().sum::<usize>() as f64)).filter(|(_, n)| *n >= 2.0).collect();
    if rated.is_empty() {
        return None;
    }
    let agreement = |(of, n): &(&Vec<usize>, f64)| {
        (of.iter().map(|&count| (count * count) as f64).sum::<f64>() - n) / (n * (n - 1.0))
    };
    let observed = rated.iter().map(agreement).sum::<f64>() / rated.len() as f64;
    let all: f64 = rated.iter().map(|(_, n)| n).sum();
    let classes = rated.iter().map(|(of, _)| of.len()).max().unwrap_or(0);
    let of_class =
        |class: usize| rated.iter().map(|(of, _)| of.get(class).copied().unwrap_or(0)).sum::<usize>();
    let totals: Vec<usize> = (0..classes).map(of_class).collect();
    let chance: f64 = totals.iter().map(|&total| (total as f64 / all).powi(2)).sum();
    let is_defined = totals.iter().filter(|&&total| total > 0).count() > 1;
    Some((observed, is_defined.then(|| (observed - chance) / (1.0 - chance))))
}

/// Krippendorff's α of items' ratings, with squared differences; undefined if all ratings are the same.
pub fn alpha(ratings: &[Vec<f64>]) -> Option<f64> {
    let rated: Vec<&Vec<f64>> = ratings.iter().filter(|of| of.len() >= 2).collect();
    let all: Vec<f64> = rated.iter().flat_map(|of| of.iter().copied()).collect();
    // Σ over ordered pairs of (x − y)² is 2(n Σx² − (Σx)²).
    let spread = |of: &[f64]| {
        let (sum, squares) = of.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
        2.0 * (of.len() as f64 * squares - sum * sum)
    };
    let n = all.len() as f64;
    let observed = rated.iter().map(|of| spread(of) / (of.len() as f64 - 1.0)).sum::<f64>() / n;
    let chance = spread(&all) / (n * (n - 1.0));
    (chance > 0.0).then(|| 1.0 - observed / chance)
}

/// `value` of `items`, with the interval over resamples of them.
fn estimate<T: Clone>(items: &[T], seed: u64, value: impl Fn(&[T]) -> Option<f64>) -> Option<Estimate> {
    let of_all = value(items)?;
    let mut random = Stream(seed);
    let mut values: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let drawn: Vec<T> = items.iter().map(|_| items[random.below(items.len())].clone()).collect();
            value(&drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let interval = (2 * values.len() > RESAMPLES).then(|| [at(0.025), at(0.975)]);
    Some(Estimate { value: of_all, interval })
}

impl Agreement {
    pub(crate) fn of(items: &[Item], votes: &[InForce], settings: Settings) -> Self {
        let by_item = by_item(items, votes);
        let mut names: Vec<&str> = votes.iter().map(|in_force| &in_force.vote.annotator[..]).collect();
        names.sort_unstable();
        names.dedup();
        let people = names.iter().map(|name| Habits::of(name, votes)).collect();
        let said_by = |votes: &[Vote], name: &str| votes.iter().find(|v| v.annotator == name).map(|v| v.vote);
        let listed = &names[..names.len().min(MAX_PEOPLE)];
        let mut pairs = Vec::new();
        for (i, one) in listed.iter().enumerate() {
            for other in &listed[i + 1..] {
                let both: Vec<(Choice, Choice)> = by_item
                    .iter()
                    .filter_map(|votes| Some((said_by(votes, one)?, said_by(votes, other)?)))
                    .collect();
                if !both.is_empty() {
                    pairs.push(((*one).to_owned(), (*other).to_owned(), cohen(&both)));
                }
            }
        }
        let mut classes: Vec<Choice> = by_item.iter().flatten().map(|vote| vote.vote).collect();
        classes.sort_unstable();
        classes.dedup();
        let count = |votes: &Vec<Vote>| {
            classes.iter().map(|class| votes.iter().filter(|v| v.vote == *class).count()).collect()
        };
        let shared: Vec<&Vec<Vote>> = by_item.iter().filter(|votes| votes.len() >= 2).collect();
        let counts: Vec<Vec<usize>> = shared.iter().map(|votes| count(votes)).collect();
        let kappa = estimate(&counts, settings.seed, |counts| fleiss(counts)?.1);
        let observed = fleiss(&counts).map_or(0.0, |(observed, _)| observed);
        let ratings: Vec<Vec<f64>> = shared
            .iter()
            .map(|votes| {
                votes
                    .iter()
                    .filter_map(|v| if let Choice::Rating(r) = v.vote { Some(f64::from(r)) } else { None })
                    .collect()
            })
            .filter(|of: &Vec<f64>| of.len() >= 2)
            .collect();
        let alpha = estimate(&ratings, settings.seed, alpha);
        let different = items
            .iter()
            .zip(&by_item)
            .filter(|(_, votes)| votes.iter().any(|vote| vote.vote != votes[0].vote));
        let different = different.map(|(item, votes)| Different {
            item: item.id.clone(),
            row: item.row.clone(),
            prompt: item.prompt.last().map(said).unwrap_or_default(),
            votes: votes.iter().map(|vote| (vote.annotator.clone(), vote.vote)).collect(),
        });
        Self {
            people,
            pairs,
            fleiss: Fleiss { items: counts.len(), observed, kappa },
            alpha,
            different: different.collect(),
        }
    }
}

impl Habits {
    fn of(name: &str, votes: &[InForce]) -> Self {
        let own = || votes.iter().filter(|v| v.vote.annotator == name && v.vote.vote.counts());
        let first_votes: Vec<&Vote> = own().map(|v| &v.vote).filter(|vote| !vote.repeat).collect();
        let mut seconds: Vec<f64> = first_votes.iter().map(|vote| vote.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let sided = own().filter_map(|v| match v.vote.vote {
            Choice::Word(word @ (Word::A | Word::B)) => Some(v.vote.shown_first == Some(word)),
            _ => None,
        });
        let first = sided.fold((0, 0), |(first, all), is_first| (first + usize::from(is_first), all + 1));
        let again = own().filter(|v| v.vote.repeat).filter_map(|again| {
            let before = own().find(|v| v.item == again.item && !v.vote.repeat)?;
            Some(before.vote.vote == again.vote.vote)
        });
        let same_again = again.fold((0, 0), |(same, all), is_same| (same + usize::from(is_same), all + 1));
        Self {
            name: name.to_owned(),
            votes: first_votes.len(),
            seconds: seconds.get(seconds.len() / 2).copied().unwrap_or(0.0),
            first,
            same_again,
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.value)?;
        match self.interval {
            Some([low, high]) => write!(f, " (95 % interval {low:.2} to {high:.2})"),
            None => write!(f, " (no interval: too few items)"),
        }
    }
}

/// The start of a text on one line, without what a terminal would obey.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNDEFINED: &str = "undefined: all votes say the same";
        let percent = |(part, all): (usize, usize)| {
            if all == 0 {
                "-".to_owned()
            } else {
                format!("{:.0} % of {all}", 100.0 * part as f64 / all as f64)
            }
        };
        writeln!(
            f,
            "{:20} {:>6} {:>9}  {:16} same when asked again",
            "person", "votes", "seconds", "first preferred"
        )?;
        for person in &self.people {
            let Habits { name, votes, seconds, first, same_again } = person;
            let (first, again) = (percent(*first), percent(*same_again));
            writeln!(f, "{name:20} {votes:>6} {seconds:>9.1}  {first:16} {again}")?;
        }
        if !self.pairs.is_empty() {
            writeln!(f, "\nCohen's kappa of two people:")?;
        }
        for (one, other, cohen) in &self.pairs {
            let kappa = cohen.kappa.map_or(UNDEFINED.to_owned(), |kappa| format!("{kappa:.2}"));
            let names = format!("{one}, {other}");
            writeln!(
                f,
                "  {names:30} {kappa}, same on {:.0} % of {} shared",
                100.0 * cohen.observed,
                cohen.items
            )?;
        }
        match self.fleiss {
            Fleiss { items: 0, .. } => writeln!(
                f,
                "\nNo two people voted on the same; --votes-per-pair 2 asks for it, and agreement can then be measured."
            )?,
            Fleiss { items, observed, kappa } => {
                let kappa = kappa.map_or(UNDEFINED.to_owned(), |kappa| kappa.to_string());
                let share = 100.0 * observed;
                writeln!(
                    f,
                    "\nFleiss' kappa of all: {kappa}; {share:.0} % of votes on the same are equal, {items} shared"
                )?;
            }
        }
        if let Some(alpha) = self.alpha {
            writeln!(f, "Krippendorff's alpha of ratings: {alpha}")?;
        }
        if !self.different.is_empty() {
            writeln!(f, "\nWhere people differ ({}):", self.different.len())?;
        }
        for Different { row, prompt, votes, .. } in self.different.iter().take(MAX_DIFFERENT) {
            let votes: Vec<String> =
                votes.iter().map(|(name, vote)| format!("{name} {}", vote.name())).collect();
            let (row, prompt) = (plain(row), plain(prompt));
            writeln!(f, "  {row}: {} | {prompt}", votes.join(", "))?;
        }
        if self.different.len() > MAX_DIFFERENT {
            writeln!(f, "  and {} more; the votes file has them all", self.different.len() - MAX_DIFFERENT)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: Option<f64>, expected: f64) {
        let value = value.expect("defined");
        assert!((value - expected).abs() < 1e-12, "{value}, not {expected}");
    }

    #[test]
    fn two_people_agree_as_worked_by_hand() {
        // Both yes 20, both no 15, yes and no 5, no and yes 10: p_o = 0.70, p_e = 0.5 · 0.6 + 0.5 · 0.4 = 0.50.
        let said: Vec<(bool, bool)> =
            [((true, true), 20), ((false, false), 15), ((true, false), 5), ((false, true), 10)]
                .into_iter()
                .flat_map(|(pair, n)| std::iter::repeat_n(pair, n))
                .collect();
        let found = cohen(&said);
        assert_eq!(found.items, 50);
        near(Some(found.observed), 0.70);
        near(found.kappa, 0.40);
        near(cohen(&[(1, 2), (2, 1)]).kappa, -1.0);
        near(cohen(&[(1, 1), (2, 2)]).kappa, 1.0);
        assert_eq!(cohen(&[(1, 1); 9]), Cohen { items: 9, observed: 1.0, kappa: None });
        assert_eq!(cohen::<u8>(&[]), Cohen { items: 0, observed: 0.0, kappa: None });
    }

    #[test]
    fn many_people_agree_as_published() {
        // Fleiss' own example, with 14 votes on each of ten subjects: κ = 0.210 (en.wikipedia.org/wiki/Fleiss'_kappa).
        let counts: Vec<Vec<usize>> = [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
        .iter()
        .map(|of| of.to_vec())
        .collect();
        let (observed, kappa) = fleiss(&counts).expect("votes");
        assert!((observed - 0.378).abs() < 5e-4 && (kappa.expect("defined") - 0.210).abs() < 5e-4);
        let with_interval = estimate(&counts, 7, |counts| fleiss(counts)?.1).expect("defined");
        let [low, high] = with_interval.interval.expect("an interval");
        assert!(low < 0.21 && 0.21 < high && low > -0.2 && high < 0.7, "{low} to {high}");
        // Two votes each of one class alone; an item with a single vote says nothing.
        assert_eq!(fleiss(&[vec![2, 0], vec![2, 0]]), Some((1.0, None)));
        assert_eq!(fleiss(&[vec![1, 0], vec![0, 1]]), None);
        // P̄ = 1/2; shares 3/4 and 1/4: P̄_e = 5/8.
        let (observed, kappa) = fleiss(&[vec![2, 0], vec![1, 1], vec![1, 0]]).expect("votes");
        near(Some(observed), 0.5);
        near(kappa, (0.5 - 0.625) / (1.0 - 0.625));
    }

    #[test]
    fn ratings_agree_by_how_far_they_are_apart() {
        near(alpha(&[vec![1.0, 1.0], vec![5.0, 5.0]]), 1.0);
        // D_o = (0 + 1 · 2)/4 = 0.5; values 1, 1, 4, 5: Σ over ordered pairs = 2(4 · 43 − 121) = 102, D_e = 102/12 = 8.5.
        near(alpha(&[vec![1.0, 1.0], vec![4.0, 5.0]]), 1.0 - 0.5 / 8.5);
        assert_eq!(alpha(&[vec![3.0, 3.0], vec![3.0, 3.0]]), None);
        assert_eq!(alpha(&[vec![3.0]]), None);
    }
}
