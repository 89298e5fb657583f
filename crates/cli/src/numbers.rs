//! Numbers on the command line: within what can be meant, so that no size overflows later.

use std::{num::NonZero, thread};

use crate::ranks::on_this_machine;

/// The most of what is counted in one command: completions per prompt, tokens, sequences, steps.
pub(crate) const MAX_COUNT: u64 = 1 << 20;
/// The most problems that are generated, and completions that are sampled, by one command.
pub(crate) const MAX_ROWS: u64 = 1 << 24;

/// A count from 1 to [`MAX_COUNT`].
pub(crate) fn count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    within(text, 1, MAX_COUNT)
}

/// A count from 1 to [`MAX_ROWS`].
pub(crate) fn rows(text: &str) -> Result<NonZero<usize>, String> {
    NonZero::new(within(text, 1, MAX_ROWS)?).ok_or_else(|| "write at least 1".to_owned())
}

/// Threads, at least one; 0 is as many as the machine has cores.
pub(crate) fn threads(text: &str) -> Result<NonZero<usize>, String> {
    let threads = within(text, 0, koan_cpu::MAX_THREADS as u64)?;
    Ok(NonZero::new(threads).unwrap_or_else(all_cores))
}

/// As many as the machine has cores for this process, and for each of those that make a run with it.
pub(crate) fn all_cores() -> NonZero<usize> {
    let own = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let (processes, _) = on_this_machine();
    // A launcher may have given each process cores of its own.
    let share = NonZero::new(online_cores().unwrap_or(own.get()) / processes);
    own.min(share.unwrap_or(NonZero::<usize>::MIN))
}

/// Cores of the machine, where the system says: in the form `0-3,8`.
fn online_cores() -> Option<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(1 + last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)?)
    };
    text.trim().split(',').map(count).sum()
}

/// A price or a power: 0 or more.
pub(crate) fn amount(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite());
    number.ok_or_else(|| "write a number of 0 or more".to_owned())
}

fn within<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("write a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!((count("1"), count("1048576")), (Ok(1_usize), Ok(1 << 20)));
        for text in
            ["0", "-1", "1048577", "18446744073709551615", "18446744073709551616", "", "1e3", "NaN", "٣"]
        {
            assert_eq!(count::<u64>(text), Err("write a number from 1 to 1048576".to_owned()), "{text}");
        }
        assert_eq!((threads("0"), threads("3").map(NonZero::get)), (Ok(all_cores()), Ok(3)));
        assert_eq!((amount("0"), amount("0.4")), (Ok(0.0), Ok(0.4)));
        for text in ["-1", "inf", "NaN", "a", ""] {
            assert!(amount(text).is_err(), "{text}");
        }
        assert!(threads("1000000000").is_err_and(|words| words.ends_with("from 0 to 1024")));
    }
}
