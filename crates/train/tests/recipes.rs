//! Every recipe that comes with the project is one that loads.

use koan_train::RlConfig;
use std::path::Path;

#[test]
fn every_recipe_loads() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let mut n = 0;
    for entry in std::fs::read_dir(recipes).expect("the recipes") {
        let path = entry.expect("an entry").path();
        let config = RlConfig::load(&path, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(config.eval.is_some(), "{}: a recipe measures what it claims", path.display());
        n += 1;
    }
    assert!(n >= 3, "{n} recipes");
}
