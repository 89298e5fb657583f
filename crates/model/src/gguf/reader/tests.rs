use std::io::Cursor;

use super::super::fixture::Fixture;
use super::*;

fn read(file: impl Into<Vec<u8>>) -> Result<Gguf<Cursor<Vec<u8>>>, GgufError> {
    Gguf::read(Cursor::new(file.into()))
}

fn refused(fixture: &Fixture) -> GgufError {
    read(fixture.bytes()).expect_err("a file that is refused")
}

#[test]
fn metadata_of_every_type() {
    let mut fixture = Fixture::llama();
    for (code, bytes) in [(0, &[7][..]), (2, &[7, 0]), (4, &[7, 0, 0, 0]), (10, &[7, 0, 0, 0, 0, 0, 0, 0])] {
        fixture.pair("unsigned", code, bytes);
        let gguf = read(fixture.bytes()).expect("a valid file");
        assert_eq!(gguf.metadata.required::<usize>("unsigned").expect("a number"), 7);
    }
    for (code, bytes) in [(1, &[255][..]), (3, &[255; 2]), (5, &[255; 4]), (11, &[255; 8])] {
        fixture.pair("signed", code, bytes);
        let gguf = read(fixture.bytes()).expect("a valid file");
        assert!(matches!(gguf.metadata.required::<usize>("signed"), Err(GgufError::BadValue { .. })));
    }
    fixture.pair("float", 6, &1e-5_f32.to_le_bytes());
    fixture.pair("double", 12, &0.1_f64.to_le_bytes());
    fixture.pair("infinite", 6, &f32::INFINITY.to_le_bytes());
    fixture.pair("true", 7, &[1]);
    let metadata = read(fixture.bytes()).expect("a valid file").metadata;
    assert_eq!(metadata.required::<f64>("float").expect("a float"), 1e-5);
    assert_eq!(metadata.required::<f64>("double").expect("a float"), 0.1);
    assert!(metadata.required::<f64>("infinite").is_err());
    assert!(metadata.required::<bool>("true").expect("a boolean"));
    assert_eq!(metadata.required::<&str>("general.architecture").expect("a string"), "llama");
    assert_eq!(metadata.required::<Vec<&str>>("tokenizer.ggml.merges").expect("strings"), ["a b"]);
    assert!(matches!(metadata.required::<&str>("none"), Err(GgufError::MissingKey { .. })));
    let error = metadata.required::<bool>("general.architecture").expect_err("a string");
    assert_eq!(error.to_string(), "metadata key `general.architecture` is `llama`; expected a boolean");
}

#[test]
fn rows_are_read_where_they_lie() {
    let mut gguf = read(Fixture::llama().bytes()).expect("a valid file");
    assert_eq!(gguf.tensors["token_embd.weight"].shape, [4, 8]);
    let mut rows = [0.0; 16];
    gguf.read_rows("token_embd.weight", 1, &mut rows).expect("two rows");
    assert_eq!(rows.to_vec(), (8..24).map(|i| i as f32).collect::<Vec<_>>());
}

#[test]
fn values_must_be_finite() {
    let mut fixture = Fixture::llama();
    fixture.tensor("output_norm.weight", &[1], &[f32::NAN]);
    let error = read(fixture.bytes()).expect("a valid header").read_rows("output_norm.weight", 0, &mut [0.0]);
    assert!(matches!(error, Err(GgufError::Tensor { name, .. }) if name == "output_norm.weight"));
}

#[test]
fn other_files_are_refused() {
    let mut bytes = Fixture::llama().bytes();
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(matches!(read(bytes), Err(GgufError::Version { found: 0x0300_0000 })));
    assert!(matches!(read(*b"PK\x03\x04\0\0\0\0"), Err(GgufError::Magic { found: [b'P', b'K', 3, 4] })));
    assert!(matches!(read(*b""), Err(GgufError::Truncated { offset: 0, needed: 4, .. })));
}

#[test]
fn what_the_file_claims_is_bounded() {
    let llama = Fixture::llama();
    for (at, what) in [(8, "the number of tensors"), (16, "the number of metadata pairs")] {
        let mut bytes = llama.bytes();
        bytes[at + 7] = 1;
        let error = read(bytes).expect_err("a file that is refused");
        assert!(
            matches!(error, GgufError::Limit { what: w, offset, .. } if w == what && offset == at as u64)
        );
    }
    let with = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = llama.clone();
        change(&mut fixture);
        refused(&fixture)
    };
    assert!(matches!(with(&|f| f.array("x", 0, 1 << 40, &[])), GgufError::Limit { .. }));
    assert!(matches!(with(&|f| f.array("x", 0, 1 << 20, &[])), GgufError::Truncated { .. }));
    assert!(matches!(with(&|f| f.array("x", 9, 1, &[])), GgufError::Malformed { .. }));
    assert!(matches!(with(&|f| f.pair("x", 13, &[])), GgufError::Malformed { .. }));
    assert!(matches!(with(&|f| f.pair("x", 8, &[255; 8])), GgufError::Truncated { .. }));
    assert!(matches!(with(&|f| f.pair("x", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 255])), GgufError::Malformed { .. }));
    assert!(matches!(with(&|f| f.number("general.alignment", 24)), GgufError::BadValue { .. }));
    assert!(matches!(with(&|f| f.pairs.push(f.pairs[0].clone())), GgufError::Duplicate { .. }));
    assert!(matches!(with(&|f| f.tensors.push(f.tensors[0].clone())), GgufError::Duplicate { .. }));
    assert!(matches!(with(&|f| f.tensors[0].1 = vec![]), GgufError::Limit { found: 0, .. }));
    assert!(matches!(with(&|f| f.tensors[0].1 = vec![1; 5]), GgufError::Limit { found: 5, .. }));
    assert!(matches!(with(&|f| f.tensors[0].1 = vec![1 << 21]), GgufError::Limit { .. }));
    assert!(matches!(with(&|f| f.tensors[0].2 = 99), GgufError::TensorType { code: 99, .. }));
    let problem = |change: &dyn Fn(&mut Fixture)| match with(change) {
        GgufError::Tensor { problem, .. } => problem,
        error => panic!("{error}"),
    };
    assert_eq!(problem(&|f| f.tensors[0].1 = vec![8, 0]), "its size is 0 or overflows");
    assert_eq!(problem(&|f| f.tensors[0].1 = vec![1 << 20; 4]), "its size is 0 or overflows");
    assert_eq!(problem(&|f| f.tensors[0].2 = 8), "its rows are not whole blocks");
    assert_eq!(problem(&|f| f.tensors[0].1 = vec![8, 5]), "it overlaps another tensor");
    assert!(problem(&|f| f.tensors[10].1 = vec![800]).starts_with("its data lies beyond the end"));
}
