//! How fast the files of a crawl are read: records a CPU second, with HTTP heads, chunks and content encodings undone.
//!
//!     cargo run --release -p koan-mine --example mine_read -- [--times N] FILE.warc.gz…
//!
//! One thread reads. Time is that of its CPU, as Linux counts it, so that it holds on a busy machine too; of N passes the fastest is said.

use std::path::PathBuf;

use koan_mine::{
    config::Read,
    source::{Item, Reader},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut times = 1;
    if arguments.first().is_some_and(|first| first == "--times") {
        times = arguments.get(1).ok_or("--times N")?.parse()?;
        arguments.drain(..2);
    }
    let files: Vec<PathBuf> = arguments.into_iter().map(PathBuf::from).collect();
    let mut best = f64::INFINITY;
    let (mut records, mut pages, mut bytes, mut skipped) = (0, 0, 0, 0);
    for _ in 0..times {
        let begin = cpu_seconds()?;
        (records, pages, bytes, skipped) = (0, 0, 0, 0);
        for file in &files {
            let mut reader = Reader::open(file, &Read::default())?;
            while let Some(item) = reader.next()? {
                match item {
                    Item::Page(page) => {
                        pages += 1;
                        bytes += page.payload.len();
                    }
                    Item::Skipped(_) => skipped += 1,
                }
            }
            records += reader.records();
        }
        best = best.min(cpu_seconds()? - begin);
    }
    println!(
        "{records} records, {pages} pages ({:.1} MB), {skipped} skipped; {:.3} CPU seconds: {:.0} records and {:.0} MB a second",
        bytes as f64 / 1e6,
        best,
        records as f64 / best,
        bytes as f64 / 1e6 / best
    );
    Ok(())
}

/// CPU seconds of this thread, which is the only one.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}
