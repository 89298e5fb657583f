//! The verifier `math` on real data: answer pairs with an expected verdict, and every answer of GSM8K. The data
//! lie beside the project; where they are absent the tests say so.

use koan_reward::Outcome;
use koan_reward::math::{self, Options};
use serde_json::Value;
use std::path::Path;

/// The lines of a data file beside the project, as JSON.
fn lines(name: &str) -> Option<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

#[test]
fn agrees_with_expected_verdicts() {
    let Some(cases) = lines("math_answers/math_verify_sample.jsonl") else { return };
    let mut disagreements = 0;
    for case in &cases {
        let mut options = Options::default();
        if let Some(precision) = case["precision"].as_u64() {
            options.precision = precision as u32;
        }
        options.strict = case["strict"].as_bool().unwrap_or(options.strict);
        options.allow_set_relation_comp = case["allow_set_relation_comp"].as_bool().unwrap_or(false);
        let text = |field: &str| case[field].as_str().expect("a string").to_owned();
        let verdict = math::judge(&text("completion"), &text("answer"), &options);
        let (correct, expected) = (verdict.outcome == Outcome::Correct, case["expected"] == true);
        if correct != expected {
            disagreements += 1;
            println!("{}: expected {expected}, {verdict:?}, answer {:?}", text("id"), text("answer"));
        }
        assert!(!correct || expected, "{}: a wrong answer was accepted: {verdict:?}", text("id"));
    }
    assert!(disagreements * 100 <= cases.len() * 3, "{disagreements} of {} disagree", cases.len());
}

#[test]
fn gsm8k_accepts_its_answers_and_refuses_their_neighbours() {
    let Some(problems) = lines("gsm8k/train.jsonl") else { return };
    let options = Options::default();
    for problem in &problems {
        let answer = problem["answer"].as_str().expect("a string");
        let number: i64 = answer.replace(',', "").parse().expect("an integer");
        for form in ["so \\boxed{N}", "The answer is N.", "<think>2+2</think><answer>N</answer>"] {
            let outcome = |number: &str| math::judge(&form.replace('N', number), answer, &options).outcome;
            assert_eq!(outcome(answer), Outcome::Correct, "{form} with {answer}");
            assert_eq!(outcome(&(number + 1).to_string()), Outcome::Wrong, "{form} with {answer} + 1");
        }
    }
}
