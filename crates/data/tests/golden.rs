//! The problems stay the same in every version: a hash of the file that each kind writes.

use koan_data::{Arithmetic, Generate, KINDS, Problem, Split};

/// FNV-1a, 64 bits, of the problems as they stand in a file.
fn hash(problems: &[Problem]) -> u64 {
    let lines = problems.iter().map(|problem| serde_json::to_string(problem).expect("JSON") + "\n");
    lines.flat_map(String::into_bytes).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[test]
fn arithmetic() {
    let file = |split| {
        let levels = (1..=12).collect();
        Arithmetic { n: 600, seed: 7, levels, split, ..Arithmetic::default() }.generate()
    };
    assert_eq!(hash(&file(Split::Train).expect("enough")), 0x8d97_dac9_94a0_bd18);
}

#[test]
fn kinds() {
    const HASHES: &[(&str, u64)] = &[
        ("chain", 0x06f8_aadf_4eaa_4748),
        ("countdown", 0xc070_2910_13e1_87e3),
        ("equations", 0x6627_206e_ffb8_87c0),
        ("fractions", 0x5cb7_f723_8506_e091),
        ("modular", 0xf563_26aa_c9f4_6a27),
        ("bases", 0x464c_f7d3_6988_6e01),
        ("gcd", 0x003c_3d0c_5ac8_6a3d),
        ("factors", 0x4166_7780_229c_bed7),
        ("sequence", 0x488c_b901_4be4_47f4),
        ("calendar", 0x99bd_398f_b967_ae00),
        ("units", 0xd4d7_9dea_8162_462f),
        ("sort", 0x63e0_b08e_1090_68c1),
        ("count", 0x70ed_dee6_8fa5_775f),
        ("knights", 0x076e_ffdf_915e_7ee7),
        ("zebra", 0x1347_f098_1b53_ed84),
        ("logic", 0xa0ee_dd69_e10f_7b09),
    ];
    let file = |kind: &'static koan_data::Kind| {
        let levels: Vec<usize> = (1..=kind.levels.len()).collect();
        let generate = Generate { kind, n: 20 * levels.len(), seed: 7, levels, split: Split::Train };
        (kind.name, hash(&generate.problems().expect("enough")))
    };
    let hashes: Vec<(&str, u64)> = KINDS.iter().map(file).collect();
    assert_eq!(hashes, HASHES);
}
