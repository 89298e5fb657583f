use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// The value of `a + b * c`, from its text: sums of products.
fn evaluate(text: &str) -> i64 {
    let product = |term: &str| {
        term.split(" * ").map(|factor| factor.parse::<i64>().expect("a number")).product::<i64>()
    };
    let difference = |term: &str| {
        let mut parts = term.split(" - ").map(product);
        parts.next().expect("a term") - parts.sum::<i64>()
    };
    text.split(" + ").map(difference).sum()
}

fn expressions(problems: &[Problem]) -> Vec<String> {
    let expression = |problem: &Problem| problem.meta.as_ref()?["expression"].as_str().map(str::to_owned);
    problems.iter().map(|problem| expression(problem).expect("in every problem")).collect()
}

/// The generator of `n` problems of `levels` in `split`.
fn arithmetic(n: usize, levels: &[usize], split: Split) -> Arithmetic {
    Arithmetic { n, levels: levels.to_vec(), split, ..Arithmetic::default() }
}

#[test]
fn the_sizes_are_those_of_the_table() {
    let sizes =
        LEVELS.each_ref().map(|level| (0..level.n_codes()).filter_map(|code| level.decode(code)).count());
    assert_eq!(sizes, [100, 900, 8100, 5050, 4950, 100, 4000, 720, 1_620_000, 2_916_000, 8100, 11_520]);
}

#[test]
fn levels_share_no_expression() {
    let mut seen = HashSet::new();
    for (i, level) in LEVELS.iter().enumerate() {
        let step = if level.n_codes() > 100_000 { 97 } else { 1 };
        for expression in (0..level.n_codes()).step_by(step).filter_map(|code| level.decode(code)) {
            assert!(seen.insert(expression.to_string()), "level {}: {expression}", i + 1);
        }
    }
}

#[test]
fn a_problem_reads_as_documented() {
    let [problem] = arithmetic(1, &[12], Split::Test).generate().expect("one").try_into().expect("one");
    let meta = problem.meta.expect("meta");
    let expression = meta["expression"].as_str().expect("text");
    assert_eq!(problem.id, "arithmetic-test-0-000000");
    assert_eq!(problem.prompt, Some(DEFAULT_PHRASING.replace(SLOT, expression)));
    assert_eq!(meta["level"], 12);
}

#[test]
fn the_first_problems_stay_the_same() {
    let first = arithmetic(6, &[1, 4, 8], Split::Train).generate().expect("six");
    assert_eq!(expressions(&first), ["4 + 7", "73 - 62", "29 * 9", "3 + 7", "97 - 39", "33 * 7"]);
}

#[test]
fn the_default_is_possible() {
    assert_eq!(Arithmetic::default().generate().expect("enough expressions").len(), Arithmetic::default().n);
}

#[test]
fn the_whole_of_a_level_and_no_more() {
    let all = expressions(&arithmetic(100, &[1], Split::All).generate().expect("all"));
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 100);
    assert!(arithmetic(usize::MAX, &[1, 2], Split::All).generate().is_err());
    let error = arithmetic(201, &[1, 2], Split::All).generate().expect_err("one too many").to_string();
    assert_eq!(
        error,
        "level 1 gives only 100 problems for split `all`, and 101 were asked for; \
         make fewer problems or add levels"
    );
}

#[test]
fn every_level_has_its_share_of_the_test_split() {
    for (i, level) in LEVELS.iter().enumerate() {
        let (mut all, mut test) = (0.0, 0.0);
        for expression in (0..level.n_codes()).filter_map(|code| level.decode(code)) {
            all += 1.0;
            test += f64::from(u8::from(Split::Test.holds(expression.hash())));
        }
        // Four standard deviations of a binomial, doubled in variance as commuted pairs go together.
        assert!((test - 0.1 * all).abs() < 4.0 * (2.0 * 0.1 * 0.9 * all).sqrt(), "level {}: {test}", i + 1);
    }
}

#[test]
fn commuted_operands_are_on_the_same_side() {
    for level in [0, 2, 5, 10] {
        for expression in (0..LEVELS[level].n_codes()).filter_map(|code| LEVELS[level].decode(code)) {
            let operands = expression.operands.iter().rev().copied().collect();
            let commuted = Expression { operands, operators: expression.operators.clone() };
            assert_eq!(expression.hash(), commuted.hash(), "{expression}");
        }
    }
}

#[test]
fn options_are_checked() {
    for levels in [&[][..], &[0], &[13], &[1, 1]] {
        assert!(
            matches!(arithmetic(1, levels, Split::All).generate(), Err(DataError::Levels { .. })),
            "{levels:?}"
        );
    }
    let phrasing = "What is it?".to_owned();
    let error = Arithmetic { phrasing, ..Arithmetic::default() }.generate().expect_err("no slot").to_string();
    assert_eq!(error, "phrasing `What is it?` has no {expression}; say where the expression goes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_right(level in 1..=LEVELS.len(), at: prop::sample::Index) {
        let level = &LEVELS[level - 1];
        if let Some(expression) = level.decode(at.index(level.n_codes() as usize) as u32) {
            prop_assert_eq!(expression.value(), evaluate(&expression.to_string()));
        }
    }

    #[test]
    fn a_longer_file_starts_with_the_shorter_one(seed: u64, n in 0_usize..60, more in 0_usize..60) {
        let short = Arithmetic { n, seed, levels: vec![8, 1, 2], ..Arithmetic::default() };
        let long = Arithmetic { n: n + more, ..short.clone() };
        let (short, long) = (short.generate().expect("short"), long.generate().expect("long"));
        prop_assert_eq!(&short[..], &long[..n]);
        let distinct: HashSet<_> = expressions(&long).into_iter().collect();
        prop_assert_eq!(distinct.len(), n + more);
        for problem in &long {
            let expression = &expressions(std::slice::from_ref(problem))[0];
            prop_assert_eq!(&problem.answer, &evaluate(expression).to_string());
        }
    }

    #[test]
    fn train_and_test_are_disjoint_for_any_seeds(a: u64, b: u64) {
        let train = Arithmetic { seed: a, ..arithmetic(500, &[2, 4], Split::Train) };
        let test = Arithmetic { seed: b, ..arithmetic(100, &[2, 4], Split::Test) };
        let train: HashSet<_> = expressions(&train.generate().expect("train")).into_iter().collect();
        let test = expressions(&test.generate().expect("test"));
        prop_assert!(test.iter().all(|expression| !train.contains(expression)));
    }
}
