//! How a layer's rows choose their experts (arXiv:2412.19437, section 2.1.2), and where they then lie.

use crate::OutOfMemory;

/// What makes a score of an expert's logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Each logit's sigmoid.
    Sigmoid,
    /// The softmax over a row's logits.
    Softmax,
}

/// What a group of experts is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupScore {
    /// The sum of its two highest scores.
    SumOfTopTwo,
    /// Its highest score.
    Max,
}

/// How rows choose their experts, and what weights these get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts there are.
    pub experts: usize,
    /// Experts that each row chooses.
    pub per_token: usize,
    /// Groups of neighbours that the experts are in; 1 for no groups.
    pub groups: usize,
    /// Groups that a row chooses from.
    pub groups_kept: usize,
    /// What makes a score of a logit.
    pub scoring: Scoring,
    /// What groups are chosen by.
    pub group_score: GroupScore,
    /// Whether a row's weights are divided by their sum.
    pub normalized: bool,
    /// By what weights are multiplied.
    pub scale: f32,
}

/// Added to the sum that weights are divided by.
pub(crate) const EPSILON: f64 = 1e-20;

impl Routing {
    /// That of [`route_in_turn`](crate::Backend::route_in_turn) among so many experts.
    pub fn in_turn(experts: usize) -> Self {
        Self {
            experts,
            per_token: 1,
            groups: 1,
            groups_kept: 1,
            scoring: Scoring::Sigmoid,
            group_score: GroupScore::Max,
            normalized: false,
            scale: 1.0,
        }
    }

    /// Asserts what operations rely on.
    ///
    /// # Panics
    /// If the experts are not in groups of one size, or the kept groups have fewer experts than a row chooses.
    pub fn check(&self) {
        let Self { experts, per_token, groups, groups_kept, .. } = *self;
        assert!(groups > 0 && experts.is_multiple_of(groups), "{experts} experts in {groups} equal groups");
        assert!((1..=groups).contains(&groups_kept), "{groups_kept} of {groups} groups");
        let within = groups_kept * (experts / groups);
        assert!((1..=within).contains(&per_token), "{per_token} of {within} experts in the kept groups");
    }

    /// Overwrites `best` with the numbers of the experts that a row of `scores` chooses, ascending: see
    /// [`route_forward`](crate::Backend::route_forward). `sums` is memory for as many elements as there are experts.
    pub fn choose<T: Score>(&self, best: &mut [u32], sums: &mut [T], scores: &[T], bias: Option<&[T]>) {
        // NaN is what is chosen last.
        match bias {
            Some(bias) => {
                let sum = |((sum, &s), &b): ((&mut T, &T), &T)| *sum = s.plus(b).or_least();
                sums.iter_mut().zip(scores).zip(bias).for_each(sum);
            }
            None => sums.iter_mut().zip(scores).for_each(|(sum, &s)| *sum = s.or_least()),
        }
        if self.groups_kept < self.groups {
            self.drop_groups(sums);
        }
        top(best, sums);
        best.sort_unstable();
    }

    /// Sets the scores of experts in groups that are not kept to −∞.
    fn drop_groups<T: Score>(&self, sums: &mut [T]) {
        let size = self.experts / self.groups;
        let of_group = |group: &[T]| {
            let (first, second) = group.iter().fold((T::LEAST, T::LEAST), |(first, second), &s| {
                if s > first { (s, first) } else { (first, if s > second { s } else { second }) }
            });
            match self.group_score {
                GroupScore::SumOfTopTwo if size > 1 => first.plus(second).or_least(),
                _ => first,
            }
        };
        let groups: Vec<T> = sums.chunks_exact(size).map(of_group).collect();
        let mut kept = vec![0; self.groups_kept];
        top(&mut kept, &groups);
        for (i, group) in (0..).zip(sums.chunks_exact_mut(size)) {
            if !kept.contains(&i) {
                group.fill(T::LEAST);
            }
        }
    }
}

/// Overwrites `best` with the numbers of the highest of `values`, highest first; of equals the lower number is the higher.
fn top<T: Score>(best: &mut [u32], values: &[T]) {
    let mut found = 0;
    for (i, &value) in (0..).zip(values) {
        if found == best.len() {
            if value <= values[best[found - 1] as usize] {
                continue;
            }
            found -= 1;
        }
        let mut at = found;
        while at > 0 && value > values[best[at - 1] as usize] {
            best[at] = best[at - 1];
            at -= 1;
        }
        best[at] = i;
        found += 1;
    }
}

/// A number that experts are compared by.
pub trait Score: Copy + PartialOrd {
    /// −∞
    const LEAST: Self;
    /// The sum.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// The number, or −∞ instead of NaN.
    #[must_use]
    fn or_least(self) -> Self;
}

impl Score for f32 {
    const LEAST: Self = Self::NEG_INFINITY;

    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn or_least(self) -> Self {
        self.max(Self::LEAST)
    }
}

impl Score for f64 {
    const LEAST: Self = Self::NEG_INFINITY;

    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn or_least(self) -> Self {
        self.max(Self::LEAST)
    }
}

/// Rows sorted by the experts that they chose: where the copy of a row lies that goes to one of its experts. An expert's
/// copies lie back to back in the order of their rows; experts without any take no space.
#[derive(Debug, Default)]
pub struct ExpertRows {
    per_row: usize,
    starts: Vec<usize>,
    rows: Vec<u32>,
    places: Vec<u32>,
}

impl ExpertRows {
    /// Memory for `rows` rows that choose as `of` says.
    ///
    /// # Errors
    /// If the host refuses the memory.
    pub fn new(rows: usize, of: Routing) -> Result<Self, OutOfMemory> {
        let copies = rows.saturating_mul(of.per_token);
        let with_capacity = || {
            let mut places = Vec::new();
            let reserved = places.try_reserve_exact(copies);
            reserved.map(|()| places).map_err(|_| OutOfMemory::of_host(copies.saturating_mul(4)))
        };
        Ok(Self {
            per_row: of.per_token,
            starts: vec![0; of.experts + 1],
            rows: with_capacity()?,
            places: with_capacity()?,
        })
    }

    /// Bytes that it takes.
    pub fn bytes(rows: usize, of: Routing) -> usize {
        rows.saturating_mul(8 * of.per_token).saturating_add(8 * (of.experts + 1))
    }

    /// Sorts rows that chose the experts `chosen`, as many for each row, one row after the other.
    pub fn sort(&mut self, chosen: &[u32]) {
        let Self { per_row, starts, rows, places } = self;
        starts.fill(0);
        for &expert in chosen {
            starts[expert as usize + 1] += 1;
        }
        for e in 1..starts.len() {
            starts[e] += starts[e - 1];
        }
        rows.clear();
        rows.resize(chosen.len(), 0);
        places.clear();
        for (row, chosen) in (0..).zip(chosen.chunks_exact(*per_row)) {
            for &expert in chosen {
                let place = starts[expert as usize];
                starts[expert as usize] += 1;
                rows[place] = row;
                places.push(place as u32);
            }
        }
        // Each start has become its expert's end.
        starts.rotate_right(1);
        starts[0] = 0;
    }

    /// Places `n` rows that choose an expert each, by turns.
    ///
    /// # Panics
    /// If they are for rows that choose several, or `n` is no multiple of the experts.
    pub fn sort_in_turn(&mut self, n: usize) {
        let experts = self.experts();
        assert!(
            self.per_row == 1 && n.is_multiple_of(experts),
            "{n} rows that choose one of {experts} by turns"
        );
        let each = n / experts;
        self.starts.iter_mut().enumerate().for_each(|(e, start)| *start = e * each);
        self.rows.clear();
        self.rows.extend((0..experts).flat_map(|e| (0..each).map(move |i| (i * experts + e) as u32)));
        self.places.clear();
        self.places.extend((0..n).map(|i| (i % experts * each + i / experts) as u32));
    }

    /// Copies in all.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Copies of each row.
    pub fn per_row(&self) -> usize {
        self.per_row
    }

    /// Experts there are.
    pub fn experts(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where the copies lie that go to expert `e`.
    pub fn of(&self, e: usize) -> std::ops::Range<usize> {
        self.starts[e]..self.starts[e + 1]
    }

    /// The row of each copy.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Where the copies of each row lie, in the ascending order of their experts.
    pub fn places(&self) -> &[u32] {
        &self.places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(experts: usize, per_token: usize, groups: usize, groups_kept: usize) -> Routing {
        Routing {
            experts,
            per_token,
            groups,
            groups_kept,
            scoring: Scoring::Sigmoid,
            group_score: GroupScore::SumOfTopTwo,
            normalized: true,
            scale: 1.0,
        }
    }

    fn chosen(of: Routing, scores: &[f64], bias: Option<&[f64]>) -> Vec<u32> {
        of.check();
        let (mut best, mut sums) = (vec![9; of.per_token], vec![0.0; of.experts]);
        of.choose(&mut best, &mut sums, scores, bias);
        best
    }

    #[test]
    fn the_highest_are_chosen_and_of_equals_the_first() {
        let scores = [0.1, 0.5, 0.5, 0.9, 0.5];
        assert_eq!(chosen(routing(5, 1, 1, 1), &scores, None), [3]);
        assert_eq!(chosen(routing(5, 3, 1, 1), &scores, None), [1, 2, 3]);
        assert_eq!(chosen(routing(5, 5, 1, 1), &scores, None), [0, 1, 2, 3, 4]);
        let bias = [0.6, 0.0, 0.0, -0.5, 0.2];
        assert_eq!(chosen(routing(5, 2, 1, 1), &scores, Some(&bias)), [0, 4]);
    }

    #[test]
    fn groups_are_chosen_by_their_two_best_or_their_best() {
        let scores = [0.9, 0.0, 0.5, 0.5, 0.3, 0.2];
        assert_eq!(chosen(routing(6, 2, 3, 1), &scores, None), [2, 3]);
        let best = Routing { group_score: GroupScore::Max, ..routing(6, 2, 3, 1) };
        assert_eq!(chosen(best, &scores, None), [0, 1]);
        // A group of one is chosen by its one.
        assert_eq!(chosen(routing(6, 2, 6, 2), &scores, None), [0, 2]);
        // Scores below 0 are above those of a masked group.
        assert_eq!(chosen(routing(4, 2, 2, 1), &[-3.0, -4.0, -0.5, -9.0], None), [0, 1]);
    }

    #[test]
    fn nan_and_infinities_choose_as_many_as_ever() {
        let nan = f64::NAN;
        assert_eq!(chosen(routing(4, 2, 1, 1), &[nan; 4], None), [0, 1]);
        assert_eq!(chosen(routing(4, 2, 1, 1), &[nan, 0.1, nan, 0.2], None), [1, 3]);
        assert_eq!(chosen(routing(4, 2, 2, 1), &[nan, nan, f64::NEG_INFINITY, nan], Some(&[nan; 4])), [0, 1]);
    }

    #[test]
    fn rows_are_sorted_by_expert() {
        let mut sorted = ExpertRows::new(3, routing(4, 2, 1, 1)).expect("memory");
        sorted.sort(&[1, 3, 0, 3, 1, 3]);
        assert_eq!(sorted.rows(), [1, 0, 2, 0, 1, 2]);
        assert_eq!(sorted.places(), [1, 3, 0, 4, 2, 5]);
        assert_eq!([0, 1, 2, 3].map(|e| sorted.of(e)), [0..1, 1..3, 3..3, 3..6]);
        sorted.sort(&[]);
        assert!(sorted.is_empty() && sorted.of(3) == (0..0));
        let [mut sorted, mut in_turn] =
            [(); 2].map(|()| ExpertRows::new(6, Routing::in_turn(3)).expect("memory"));
        sorted.sort(&[0, 1, 2, 0, 1, 2]);
        in_turn.sort_in_turn(6);
        assert_eq!((in_turn.rows(), in_turn.places()), (sorted.rows(), sorted.places()));
        assert_eq!(in_turn.rows(), [0, 3, 1, 4, 2, 5]);
        assert_eq!([0, 1, 2].map(|e| in_turn.of(e)), [0..2, 2..4, 4..6]);
        in_turn.sort_in_turn(0);
        assert!(in_turn.is_empty() && in_turn.of(2) == (0..0));
    }
}
