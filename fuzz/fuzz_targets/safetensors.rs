//! A `model.safetensors` may hold any bytes: it is refused, or a model that runs; what opens is read within its bounds.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use koan_backend::Reference;
use koan_fuzz::{CONFIG, run, scratch};
use koan_model::{
    checkpoint,
    safetensors_file::{Entry, Reader},
};
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = scratch("safetensors");
    fs::write(dir.join("config.json"), CONFIG).expect("a config");
    dir
});

fuzz_target!(|bytes: &[u8]| {
    let file = DIR.join("model.safetensors");
    // A new file each time: what was mapped of the last one stays as it was.
    let _ = fs::remove_file(&file);
    fs::write(&file, bytes).expect("a file in the temporary directory");
    if let Ok(model) = checkpoint::load(&Reference, DIR.as_path(), None) {
        run(&Reference, &model);
    }
    let Ok(reader) = Reader::open(&file) else { return };
    for name in reader.names() {
        for shape in [vec![], vec![0], vec![1], vec![2, 2], vec![bytes.len() / 4]] {
            let entry = Entry { name: name.clone(), shape };
            if let Ok(values) = reader.read(&entry) {
                assert_eq!(values.len(), entry.len());
                assert!(values.iter().all(|x| x.is_finite()));
            }
        }
    }
});
