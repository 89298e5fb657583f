//! Every recipe that comes with the project is one that loads.

use koan_train::{
    reject::RejectConfig,
    rl::RlConfig,
    supervised::{Stage, SupervisedConfig},
};
use std::path::Path;

#[test]
fn every_recipe_loads() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut n = 0;
    for entry in std::fs::read_dir(recipes).expect("the recipes") {
        let path = entry.expect("an entry").path();
        let shown = path.display();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        n += 1;
        let text = std::fs::read_to_string(&path).expect("text");
        // Of many steps: `koan recipe` runs it in the test of the guide. Of `koan mine`: its own test runs them.
        let of_mine = ["mine-tiny-loop", "mine-tiny-pool"];
        if text.contains("[[step]]")
            || path.file_stem().is_some_and(|name| of_mine.iter().any(|of| name == *of))
        {
            continue;
        }
        if text.lines().any(|line| line.starts_with("batch_tokens = ")) {
            let config = SupervisedConfig::load(Stage::Pretrain, &path, &[]);
            config.unwrap_or_else(|error| panic!("{shown}: {error}"));
            continue;
        }
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("reject-")) {
            RejectConfig::load(&path, &[]).unwrap_or_else(|error| panic!("{shown}: {error}"));
            continue;
        }
        let config = RlConfig::load(&path, &[]).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert!(config.eval.is_some(), "{shown}: a recipe measures what it claims");
    }
    assert!(n >= 6, "{n} recipes");
}
