use super::*;

/// The generator of `n` problems of one level, or of all in turns.
fn generate(kind: &'static Kind, level: Option<usize>, n: usize, split: Split) -> Generate {
    let levels = level.map_or_else(|| (1..=kind.levels.len()).collect(), |level| vec![level]);
    Generate { kind, n, seed: 1, levels, split }
}

fn every_level() -> impl Iterator<Item = (&'static Kind, usize)> {
    KINDS.iter().flat_map(|kind| (1..=kind.levels.len()).map(move |level| (kind, level)))
}

/// What the problems of `generate` ask, whatever the phrasing.
fn keys(generate: &Generate) -> Vec<String> {
    let (mut candidate, mut seen) = (0, HashSet::new());
    let draw = |_| generate.draw(generate.levels[0], &mut candidate, &mut seen).expect("enough problems").key;
    (0..generate.n).map(draw).collect()
}

#[test]
fn names_and_levels_are_those_of_the_table() {
    for kind in KINDS {
        assert!(std::ptr::eq(Kind::by_name(kind.name).expect("in the table"), kind));
        for levels in [vec![], vec![0], vec![kind.levels.len() + 1], vec![1, 1]] {
            let generate = Generate { levels, ..generate(kind, None, 1, Split::All) };
            assert!(matches!(generate.problems(), Err(DataError::Levels { .. })), "{}", kind.name);
        }
    }
    assert!(Kind::by_name("arithmetics").is_none());
}

#[test]
fn train_and_test_are_disjoint_and_distinct() {
    for (kind, level) in every_level() {
        let train = keys(&generate(kind, Some(level), 100, Split::Train));
        let test = keys(&Generate { seed: 2, ..generate(kind, Some(level), 20, Split::Test) });
        let distinct: HashSet<&String> = train.iter().chain(&test).collect();
        assert_eq!(distinct.len(), 120, "{} {level}", kind.name);
    }
}

#[test]
fn a_longer_file_starts_with_the_shorter_one() {
    for kind in KINDS {
        let long = generate(kind, None, 40, Split::All).problems().expect("enough problems");
        let short = generate(kind, None, 17, Split::All).problems().expect("enough problems");
        assert_eq!(short, long[..17], "{}", kind.name);
        let other = Generate { seed: 9, ..generate(kind, None, 40, Split::All) };
        assert_ne!(other.problems().expect("enough problems")[0].prompt, long[0].prompt, "{}", kind.name);
    }
}

#[test]
fn a_problem_reads_as_documented() {
    for (kind, level) in every_level() {
        for problem in generate(kind, Some(level), 20, Split::Test).problems().expect("enough problems") {
            let place = format!("{} {level}: {problem:?}", kind.name);
            assert!(problem.id.starts_with(&format!("{}-test-1-0000", kind.name)), "{place}");
            let meta = problem.meta.expect("in every problem");
            assert_eq!((&meta["kind"], &meta["level"]), (&json!(kind.name), &json!(level)), "{place}");
            let solution = problem.other["solution"].as_str().expect("text");
            assert!(solution.ends_with(&format!("\nThe answer is {}.", problem.answer)), "{place}");
            assert!(problem.prompt.expect("in every problem").contains("Answer "), "{place}");
        }
    }
}

#[test]
fn an_exhausted_level_is_an_error() {
    let bases = Kind::by_name("bases").expect("in the table");
    let error = generate(bases, Some(1), 2000, Split::All).problems().expect_err("1020 at most").to_string();
    assert!(error.starts_with("level 1 gives only 10"), "{error}");
    assert!(error.contains("problems for split `all`, and 2000 were asked for"), "{error}");
    let two = Generate { levels: vec![3, 1], ..generate(bases, None, 3000, Split::All) };
    let error = two.problems().expect_err("level 1 has too few").to_string();
    assert!(error.contains("level 1") && error.contains("1500 were asked for"), "{error}");
}

#[test]
fn a_chain_stays_small() {
    let chain = Kind::by_name("chain").expect("in the table");
    for (level, steps) in [(1, 2), (5, 8), (10, 48)] {
        for problem in generate(chain, Some(level), 30, Split::Train).problems().expect("enough problems") {
            let solution = problem.other["solution"].as_str().expect("text");
            let lines: Vec<&str> = solution.lines().collect();
            assert_eq!(lines.len(), steps + 1);
            for line in &lines[..steps] {
                let numbers = line.split(' ').filter_map(|word| word.parse::<i64>().ok());
                assert!(
                    numbers.clone().count() == 3 && numbers.clone().all(|n| (0..=99).contains(&n)),
                    "{line}"
                );
            }
        }
    }
}
