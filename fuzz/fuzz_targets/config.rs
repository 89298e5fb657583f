//! A `config.json` may hold any bytes: it is refused, or one whose tensors, memory and run can be planned.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use koan_backend::Reference;
use koan_fuzz::{ones, run, scratch};
use koan_model::{Config, Head, Purpose, Residency, TensorInfo};
use libfuzzer_sys::fuzz_target;

/// Models of more numbers are planned, not made.
const SMALL: usize = 1 << 12;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| scratch("config"));

fuzz_target!(|bytes: &[u8]| {
    for name in ["config.json", "generation_config.json"] {
        fs::write(DIR.join(name), bytes).expect("a file in the temporary directory");
    }
    let Ok(config) = Config::load(&DIR) else { return };
    let sizes: Vec<u128> = config.tensors().iter().map(numbers).collect();
    assert!(sizes.iter().all(|&n| n > 0));
    assert_eq!(config.parameters() as u128, sizes.iter().sum::<u128>());
    assert!(config.model_bytes(&Reference, Residency::Rollout) as u128 >= 4 * sizes.iter().sum::<u128>());
    assert!(config.gradient_bytes(&Reference) as u128 >= 4 * sizes.iter().sum::<u128>());

    let longest = config.longest_sequence();
    assert!(longest > 0);
    for purpose in [Purpose::Inference, Purpose::Training, Purpose::Recomputing] {
        assert!(purpose.bytes(&Reference, &config, longest) >= 4 * longest * purpose.elements_per_row(&config) / 2);
    }
    assert!(Head::bytes(&Reference, &config, longest) > 0);
    assert!(config.cache_elements_per_row().checked_mul(4 * longest).is_some());

    if config.parameters() <= SMALL && config.head_dim <= SMALL {
        run(&Reference, &ones(&Reference, config, longest.min(8)));
    }
});

fn numbers(info: &TensorInfo) -> u128 {
    info.shape.iter().map(|&size| size as u128).product()
}
