//! A reward does not pay for the question: over every family of problems, a completion that repeats the question, its
//! last line or the expressions in it is not correct.

use koan_data::{Arithmetic, Generate, KINDS, Problem, Split};
use koan_reward::{Context, Outcome, RewardConfig, Rewards, Sample};

/// The longest runs of `text` that are written as an operation on numbers.
fn expressions(text: &str) -> Vec<String> {
    let runs = text.split(|c: char| !(c.is_ascii_digit() || " +-*/()^=x×÷·%,.".contains(c)));
    let runs = runs.map(|run| run.trim_matches(|c: char| c.is_whitespace() || ".,=".contains(c)).to_owned());
    runs.filter(|run| run.len() > 2 && run.contains(['+', '-', '*', '/', '^', '=', '×', '÷', '·'])).collect()
}

fn problems() -> Vec<Problem> {
    let mut problems = Vec::new();
    for kind in KINDS {
        let levels = (1..=kind.levels.len()).collect();
        let generate = Generate { kind, n: 40, seed: 7, levels, split: Split::Train };
        problems.extend(generate.problems().expect("problems"));
    }
    let arithmetic = Arithmetic { n: 200, ..Arithmetic::default() };
    problems.extend(arithmetic.generate().expect("problems"));
    problems
}

#[test]
fn echoes_of_the_question_are_not_correct() {
    let rewards = Rewards::build(&[RewardConfig::new("math")], Context::default()).expect("builds");
    let mut correct = Vec::new();
    for problem in problems() {
        let prompt = problem.messages().last().expect("a message").content.clone();
        let last_line = prompt.trim().lines().last().unwrap_or_default().to_owned();
        let mut echoes =
            vec![prompt.clone(), last_line, format!("{prompt} ="), format!("The answer is {prompt}")];
        for expression in expressions(&prompt) {
            echoes.extend([
                format!("\\boxed{{{expression}}}"),
                format!("The answer is {expression}."),
                format!("{expression} = {expression} ="),
                expression,
            ]);
        }
        // By its own verifier, and by the default one.
        let by_default = Problem { reward: None, ..problem.clone() };
        for problem in [&problem, &by_default] {
            for echo in &echoes {
                let judgement = rewards.judge(&Sample::new(problem, echo));
                if judgement.terms[0].outcome == Outcome::Correct {
                    correct.push(format!(
                        "{:?} by {:?}: {echo:?} for {}",
                        problem.id, problem.reward, problem.answer
                    ));
                }
            }
        }
    }
    assert!(
        correct.is_empty(),
        "{} echoes are correct:\n{}",
        correct.len(),
        correct[..correct.len().min(40)].join("\n")
    );
}
