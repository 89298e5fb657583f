//! A GGUF file may hold any bytes: it is refused, or imported as a model directory that loads and runs.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use koan_backend::Reference;
use koan_fuzz::{run, scratch};
use koan_model::{checkpoint, gguf};
use koan_text::Tokenizer;
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| scratch("gguf"));

fuzz_target!(|bytes: &[u8]| {
    let (file, out) = (DIR.join("model.gguf"), DIR.join("out"));
    fs::write(&file, bytes).expect("a file in the temporary directory");
    let _ = gguf::info(&file);
    if gguf::import(&file, &out, &mut |_, _, _| {}).is_ok() {
        let model = checkpoint::load(&Reference, &out, Some(1)).expect("what was imported loads");
        run(&Reference, &model);
        let tokenizer = Tokenizer::load(&out).expect("its tokenizer loads");
        assert!(tokenizer.vocab_size() <= model.config().vocab_size);
        let _ = tokenizer.encode("a ab\n", true);
        fs::remove_dir_all(&out).expect("what was just made");
    }
});
