//! How fast the verifier `math` is on one core: `math_speed FILE.jsonl [REPEATS]`. Lines hold `answer` and
//! `completion`, and may hold `precision`, `strict` and `allow_set_relation_comp`. Each line is judged REPEATS
//! times (1,000), and its best of five rounds counts. Writes one JSON object: microseconds, and outcomes.

use koan_reward::math::{self, Options};
use serde_json::{Value, json};
use std::{collections::BTreeMap, error::Error, hint::black_box, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: math_speed FILE.jsonl [REPEATS]")?;
    let repeats: u32 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let mut times = Vec::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&file)?.lines() {
        let case: Value = serde_json::from_str(line)?;
        let text = |field: &str| case[field].as_str().unwrap_or_default().to_owned();
        let (answer, completion) = (text("answer"), text("completion"));
        let mut options = Options::default();
        options.precision = case["precision"].as_u64().map_or(options.precision, |value| value as u32);
        options.strict = case["strict"].as_bool().unwrap_or(options.strict);
        options.allow_set_relation_comp = case["allow_set_relation_comp"].as_bool().unwrap_or_default();
        let round = || {
            let start = Instant::now();
            for _ in 0..repeats {
                black_box(math::judge(black_box(&completion), black_box(&answer), &options));
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats)
        };
        times.push((0..5).map(|_| round()).fold(f64::INFINITY, f64::min));
        *outcomes.entry(math::judge(&completion, &answer, &options).outcome.name()).or_default() += 1;
    }
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let result = json!({
        "cases": times.len(), "median_us": times[times.len() / 2], "mean_us": mean,
        "max_us": times[times.len() - 1], "outcomes": outcomes,
    });
    println!("{result}");
    Ok(())
}
