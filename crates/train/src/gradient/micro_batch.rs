//! How the completions of an update are cut into packed passes.
//!
//! Loss and gradient do not depend on the cut: a token's weight in the loss is fixed before the first pass, and a
//! log-probability does not depend on its neighbours. A group that is too long for one pass is cut, and each part
//! computes the prompt once.

use koan_backend::{Layout, Scored};

/// The completions of one problem that are learned from.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The prompt's tokens.
    pub prompt: &'a [u32],
    /// What of it is scored. A group whose prompt is has one unit: each pass that it is cut into would score the prompt.
    pub scored: Scored,
    /// The shard that its gradient is a part of, from 0; see [`deal`](super::deal).
    pub shard: usize,
    /// Tokens of each completion, with the caller's number for it.
    pub completions: Vec<(usize, &'a [u32])>,
}

/// One forward and backward pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MicroBatch {
    /// The rows; what is scored comes completion after completion.
    pub layout: Layout,
    /// The caller's numbers of the completions, in that order.
    pub completions: Vec<usize>,
}

/// Cuts groups into passes of at most `rows` rows, in their order. Of each group, `unit` completions, one after another, stay
/// together.
///
/// # Panics
/// If a unit of completions with its prompt exceeds `rows`, or a group of several units scores its prompt.
pub fn cut<'a>(groups: impl IntoIterator<Item = &'a Group<'a>>, rows: usize, unit: usize) -> Vec<MicroBatch> {
    let mut passes = vec![MicroBatch::default()];
    for group in groups {
        assert!(
            group.scored != Scored::PromptsToo || group.completions.len() <= unit,
            "a prompt would be scored several times"
        );
        let mut rest = &group.completions[..];
        while !rest.is_empty() {
            let pass = passes.last_mut().expect("there is always a pass");
            let room = rows - pass.layout.len();
            let fits = (1..=rest.len().div_ceil(unit))
                .map(|units| rest.len().min(units * unit))
                .take_while(|&n| {
                    group.scored.rows(group.prompt.len(), rest[..n].iter().map(|(_, c)| c.len())) <= room
                })
                .last()
                .unwrap_or(0);
            if fits == 0 {
                assert!(!pass.layout.is_empty(), "{unit} completions exceed a pass of {rows} rows");
                passes.push(MicroBatch::default());
                continue;
            }
            let (now, later) = rest.split_at(fits);
            pass.layout.push_group_as(group.scored, group.prompt, now.iter().map(|(_, c)| *c));
            pass.completions.extend(now.iter().map(|(number, _)| number));
            rest = later;
        }
    }
    passes.retain(|pass| !pass.completions.is_empty());
    passes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_token_is_scored_once_in_order(
            lengths in prop::collection::vec((1usize..6, prop::collection::vec(1usize..7, 0..6)), 0..6),
            extra in 0usize..30, unit in 1usize..4,
        ) {
            let token = |i: usize| i as u32;
            let texts: Vec<(Vec<u32>, Vec<Vec<u32>>)> = lengths.iter().map(|(prompt, completions)| {
                let text = |n: &usize| (0..*n).map(token).collect::<Vec<_>>();
                (text(prompt), completions.iter().map(text).collect())
            }).collect();
            let mut number = 0..;
            let groups: Vec<Group> = texts.iter().map(|(prompt, completions)| Group {
                prompt,
                scored: Scored::Completions,
                shard: 0,
                completions: number.by_ref().zip(completions.iter().map(Vec::as_slice)).collect(),
            }).collect();
            let rows = 5 + unit * 6 + extra;
            let passes = cut(&groups, rows, unit);
            let all: Vec<u32> = groups.iter().flat_map(|g| g.completions.iter().flat_map(|(_, c)| *c)).copied().collect();
            prop_assert!(passes.iter().all(|p| p.layout.len() <= rows && !p.layout.is_empty()));
            prop_assert_eq!(passes.iter().flat_map(|p| p.layout.targets.clone()).collect::<Vec<_>>(), all);
            let numbers: Vec<usize> = groups.iter().flat_map(|g| g.completions.iter().map(|(n, _)| *n)).collect();
            prop_assert_eq!(passes.iter().flat_map(|p| p.completions.clone()).collect::<Vec<_>>(), numbers);
            for unit in groups.iter().flat_map(|group| group.completions.chunks(unit)) {
                let holds = |pass: &&MicroBatch| unit.iter().any(|(number, _)| pass.completions.contains(number));
                prop_assert_eq!(passes.iter().filter(holds).count(), 1, "a unit lies in one pass");
            }
        }
    }
}
