//! How fast texts are signed for near-duplicates: MB of text a CPU second.
//!
//!     cargo run --release -p koan-mine --example mine_sign -- [--times N] TEXTS.jsonl…
//!
//! One thread signs; reading is not counted. Of N passes the fastest is said. `bench/peers/mine_signatures.py` does the same by public tools.

use std::path::PathBuf;

use koan_data::rows::Rows;
use koan_mine::near::{Near, Scratch, Signer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut times = 1;
    if arguments.first().is_some_and(|first| first == "--times") {
        times = arguments.get(1).ok_or("--times N")?.parse()?;
        arguments.drain(..2);
    }
    let mut texts = Vec::new();
    for path in arguments.into_iter().map(PathBuf::from) {
        for row in Rows::open(&path)? {
            let row: serde_json::Value = serde_json::from_slice(&row?.1?)?;
            texts.push(row["text"].as_str().ok_or("a row has a `text`")?.to_owned());
        }
    }
    let (near, mut scratch) = (Near::default(), Scratch::default());
    let signer = Signer::new(&near);
    let (mut best, mut signed) = (f64::INFINITY, 0);
    for _ in 0..times {
        let begin = cpu_seconds()?;
        signed = texts.iter().filter(|text| signer.sign(text, &mut scratch).is_some()).count();
        best = best.min(cpu_seconds()? - begin);
    }
    let bytes = texts.iter().map(String::len).sum::<usize>() as f64;
    println!(
        "koan: {signed} texts, {:.1} MB, {} min-hashes of {} words each; {best:.3} CPU seconds: {:.1} MB a second",
        bytes / 1e6,
        near.bands * near.rows,
        near.ngram,
        bytes / 1e6 / best
    );
    Ok(())
}

/// CPU seconds of this thread, which is the only one.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}
