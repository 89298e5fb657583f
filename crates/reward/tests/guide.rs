//! What the guide shows works as it stands.

use std::path::Path;

use koan_reward::{Context, Problem, RewardConfig, Rewards, Sample};
use serde::Deserialize;

fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/rewards.md");
    let guide = std::fs::read_to_string(path).expect("the guide");
    let blocks = guide.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n').map(str::to_owned)).collect()
}

#[test]
fn its_configs_are_configs() {
    #[derive(Deserialize)]
    struct Config {
        reward: Vec<RewardConfig>,
    }
    let blocks = blocks("toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let config: Config = toml::from_str(&block).expect(&block);
        for reward in config.reward {
            let resolved = reward.resolved().expect(&block);
            let written = toml::to_string(&resolved).expect("plain values");
            assert_eq!(toml::from_str::<RewardConfig>(&written).expect(&written), resolved);
        }
    }
}

#[test]
fn its_program_judges() {
    let [program] = blocks("python").try_into().expect("one program");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("judge.py");
    std::fs::write(&path, program).expect("written");
    let command = format!("command=[\"python3\", \"{}\"]", path.display());
    let config = RewardConfig::parse("external", &[command, "timeout_s=60".to_owned()]).expect("options");
    let rewards = match Rewards::build(&[config], Context::default()) {
        Ok(rewards) => rewards,
        Err(error) => return println!("skipped: {error}"), // no Python here
    };
    let judge = |answer: &str| {
        let problem = Problem { answer: answer.to_owned(), ..Problem::default() };
        let judgement = rewards.judge(&Sample::new(&problem, "It is 7."));
        (judgement.reward, judgement.terms[0].reason.clone())
    };
    assert_eq!(judge("7"), (Some(0.997), "3 words".to_owned()));
    assert_eq!(judge("8").0, Some(-0.003));
    assert_eq!(judge(""), (None, "not decided, says the answer".to_owned()));
}
