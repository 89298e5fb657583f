//! Generated problems through their verifiers: every answer is accepted in every usual form, near misses are not.

use koan_data::{Generate, KINDS, Problem, Split};
use koan_reward::{Context, Kind, Outcome, Sample};
use serde_json::Map;

/// Some problems of every kind and level.
fn problems() -> Vec<Problem> {
    let level =
        |kind, level| Generate { kind, n: 12, seed: 4, levels: vec![level], split: Split::All }.problems();
    let of_kind = |kind: &'static koan_data::Kind| {
        (1..=kind.levels.len()).flat_map(move |n| level(kind, n).expect("enough problems"))
    };
    KINDS.iter().flat_map(of_kind).collect()
}

fn judge(problem: &Problem, completion: &str) -> Outcome {
    let name = problem.reward.as_deref().expect("generated problems name their verifier");
    let kind = Kind::by_name(name).expect("a verifier");
    let verifier = kind.build(&Map::new(), &Context::default()).expect("no options");
    verifier.judge(&Sample::new(problem, completion)).outcome
}

fn prompt(problem: &Problem) -> &str {
    problem.prompt.as_deref().expect("generated problems have prompts")
}

/// Answers that are nearly right. Each differs from the answer in what its verifier compares.
fn near_misses(problem: &Problem) -> Vec<String> {
    let answer = problem.answer.as_str();
    let mut misses = vec![format!("{answer}1")];
    if answer.contains(|c: char| c.is_ascii_digit() && c != '4') {
        misses.push(answer.replace(|c: char| c.is_ascii_digit(), "４")); // other digits: full-width ones are read
    }
    match problem.reward.as_deref() {
        Some("number") => {
            misses.extend([
                format!("{answer}e99999999999"),
                format!("{answer} {answer}9"),
                format!("-(1+{answer})"),
            ]);
            if let Ok(number) = answer.parse::<i64>() {
                misses.extend([number + 1, number - 1, number * 10 + 3].map(|number| number.to_string()));
            }
        }
        Some("countdown") => misses.extend([
            problem.meta.as_ref().expect("in every problem")["target"].to_string(),
            format!("{answer} + 0"),
            format!("{answer} + 1"),
            format!("({answer})**1"),
            format!("{answer} = 1"),
            format!("{answer}, {answer}"),
            answer.replace(' ', "").replace(['+', '-', '*', '/'], ""),
            answer.replace(' ', "").replace(['+', '-', '*', '/'], "."),
            answer.split(['(', ')', '+', '-', '*', '/']).collect::<Vec<_>>().join(" "),
        ]),
        Some("assignment") => {
            let first = answer.split([',', ';']).next().expect("an entry");
            misses.extend([
                first.to_owned(),
                format!("{answer}, {first}"),
                answer.replacen(": ", ": not ", 1).replacen(" = ", " = not ", 1),
                answer
                    .replacen("knight", "k", 1)
                    .replacen("knave", "knight", 1)
                    .replacen(": k,", ": knave,", 1),
                answer.replacen("= ", "= -1", 1).replacen("house ", "house 1", 1),
            ]);
        }
        _ => {
            let words: Vec<&str> = answer.split(", ").collect();
            let reversed: Vec<&str> = words.iter().rev().copied().collect();
            misses.extend([reversed.join(", "), words[1..].join(", "), words.concat()]);
            misses.push(format!("{answer}, {}", words[0]));
        }
    }
    misses.retain(|miss| miss != answer);
    misses
}

#[test]
fn answers_are_accepted_in_every_form() {
    for problem in problems() {
        let answer = &problem.answer;
        for completion in [
            answer.clone(),
            format!("\\boxed{{{answer}}}"),
            format!("<think>It may be 7.</think>\n<answer>{answer}</answer>"),
            format!("The answer is {answer}."),
            format!("So:\n\n**Answer:** {answer}"),
            problem.other["solution"].as_str().expect("text").to_owned(),
        ] {
            assert_eq!(judge(&problem, &completion), Outcome::Correct, "{}\n{completion}", prompt(&problem));
        }
    }
}

#[test]
fn near_misses_are_refused() {
    for problem in problems() {
        let misses = near_misses(&problem);
        for miss in misses {
            for completion in [format!("\\boxed{{{miss}}}"), format!("The answer is {miss}."), miss] {
                assert_ne!(judge(&problem, &completion), Outcome::Correct, "{} {completion}", problem.answer);
            }
        }
        let answer = &problem.answer;
        for completion in [
            String::new(),
            format!("<answer>{answer}"),
            format!("\\boxed{{{answer}"),
            format!("<think>The answer is {answer}."),
            format!("\\boxed{{{answer}}} \\boxed{{}}"),
            (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(" "),
            "true false tautology contradiction contingent Monday Tuesday".to_owned(),
        ] {
            assert_ne!(judge(&problem, &completion), Outcome::Correct, "{}\n{completion}", prompt(&problem));
        }
    }
}

#[test]
fn an_echoed_prompt_earns_nothing() {
    for kind in KINDS {
        let levels = (1..=kind.levels.len()).collect();
        let generate = Generate { kind, n: 300, seed: 5, levels, split: Split::Train };
        for problem in generate.problems().expect("enough problems") {
            assert_ne!(judge(&problem, prompt(&problem)), Outcome::Correct, "{}", prompt(&problem));
        }
    }
}
