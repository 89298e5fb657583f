//! Directories with matrices in FP8: what is written is read back, and what is damaged is named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use koan_backend::{Reference, fp8};
use koan_model::{
    Config, Role,
    checkpoint::{self, WeightType, Weights},
    safetensors_file::Entry,
    testkit,
};
use serde_json::{Map, Value, json};

/// A file of tensors: dtype, shape and bytes by name.
#[derive(Clone)]
struct File(BTreeMap<String, (String, Vec<usize>, Vec<u8>)>);

impl File {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("there");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        let tensor = |info: &Value| {
            let place = |i: usize| 8 + length + info["data_offsets"][i].as_u64().expect("an offset") as usize;
            let shape = info["shape"].as_array().expect("a shape").iter();
            let shape = shape.map(|n| n.as_u64().expect("a size") as usize).collect();
            (info["dtype"].as_str().expect("a type").to_owned(), shape, bytes[place(0)..place(1)].to_vec())
        };
        let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
        Self(tensors.map(|(name, info)| (name.clone(), tensor(info))).collect())
    }

    fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, (dtype, shape, bytes)) in &self.0 {
            let offsets = [data.len(), data.len() + bytes.len()];
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
            data.extend(bytes);
        }
        let header = Value::Object(header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(path, [&length[..], header.as_bytes(), &data].concat()).expect("written");
    }

    fn f32s(&self, name: &str) -> Vec<f32> {
        self.0[name].2.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect()
    }

    fn set_f32s(&mut self, name: &str, values: &[f32]) {
        self.0.get_mut(name).expect("there").2 = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    }
}

/// A model with matrices of more than one block, ragged ones too, stored as `stored`.
fn model(folder: &Path, name: &str, changes: Value, stored: WeightType) -> (PathBuf, Config) {
    let mut all = json!({"hidden_size": 136, "intermediate_size": 260, "num_hidden_layers": 1});
    all.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
    let config = testkit::config_with(15, false, all);
    let model = testkit::model(&Reference, config, 5);
    let dir = folder.join(name);
    checkpoint::save_as(stored, &Reference, &model, &dir, Path::new("none")).expect("saved");
    let config = Config::load(&dir).expect("a config");
    (dir, config)
}

const WEIGHT: &str = "model.layers.0.mlp.up_proj.weight";
const SCALES: &str = "model.layers.0.mlp.up_proj.weight_scale_inv";

#[test]
fn what_is_written_in_fp8_is_read_as_the_definition_says() {
    let folder = tempfile::tempdir().expect("a folder");
    for (i, kind) in testkit::kinds().into_iter().enumerate() {
        let (exact, exact_config) =
            model(folder.path(), &format!("exact-{i}"), kind.clone(), WeightType::F32);
        let rounded = folder.path().join(format!("fp8-{i}"));
        checkpoint::convert(&exact, &rounded, WeightType::Fp8, &mut |_, _| {}).expect("converted");
        let config = Config::load(&rounded).expect("a config");
        assert!(config.fp8.is_some_and(|fp8| !fp8.power_of_two_scales));
        assert_eq!(
            config.raw["quantization_config"],
            json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]})
        );
        let file = File::read(&rounded.join("model.safetensors"));
        let (exact, weights) = (
            Weights::open(&exact, &exact_config).expect("weights"),
            Weights::open(&rounded, &config).expect("weights"),
        );
        let entries = config.tensors().into_iter().flat_map(|info| {
            let [_, columns] = info.matrix();
            let (exact, read) = (exact.read(&info).expect("read"), weights.read(&info).expect("read"));
            let (exact, read) = (exact.into_owned(), read.into_owned());
            let mut start = 0;
            let entry = move |entry: &Entry| {
                let part = start..start + entry.shape.iter().product::<usize>();
                start = part.end;
                (entry.clone(), info.role, columns, exact[part.clone()].to_vec(), read[part].to_vec())
            };
            info.entries.clone().iter().map(entry).collect::<Vec<_>>()
        });
        for (Entry { name, shape }, role, columns, exact, read) in entries {
            let (dtype, ..) = &file.0[&name];
            if !matches!(role, Role::Product | Role::Expert) {
                assert_eq!(dtype, if role == Role::RouterBias { "F32" } else { "BF16" }, "{name}");
                assert!(!file.0.contains_key(&format!("{name}_scale_inv")), "{name}");
                continue;
            }
            assert_eq!(dtype, "F8_E4M3", "{name}");
            let blocks = |n: usize| n.div_ceil(128);
            let scales_name = format!("{name}_scale_inv");
            assert_eq!(file.0[&scales_name].0, "F32");
            assert_eq!(file.0[&scales_name].1, [blocks(shape[0]), blocks(columns)], "{name}");
            let scales = file.f32s(&scales_name);
            // Each block's scale is its largest magnitude over 448, and each element its code times that.
            let mut largest = vec![0.0f32; scales.len()];
            let block = |i: usize| i / columns / 128 * blocks(columns) + i % columns / 128;
            exact.iter().enumerate().for_each(|(i, x)| largest[block(i)] = largest[block(i)].max(x.abs()));
            for (scale, largest) in scales.iter().zip(&largest) {
                assert_eq!(*scale, largest / 448.0, "{name}");
            }
            for (i, ((x, read), &code)) in exact.iter().zip(&read).zip(&file.0[&name].2).enumerate() {
                let scale = scales[block(i)];
                assert_eq!(code, fp8::to_bits(x / scale), "{name}[{i}]");
                assert_eq!(*read, fp8::from_bits(code) * scale, "{name}[{i}]");
                let spacing = (x.abs() / 16.0).max(scale / 1024.0);
                assert!((x - read).abs() <= 1.001 * spacing, "{name}[{i}]: {x} became {read}");
            }
        }
        // What is read again is written to the same codes; and saved in another type, config.json says so.
        let again = folder.path().join(format!("again-{i}"));
        checkpoint::convert(&rounded, &again, WeightType::Fp8, &mut |_, _| {}).expect("converted");
        let again = File::read(&again.join("model.safetensors"));
        assert_eq!(again.0[WEIGHT], file.0[WEIGHT], "codes");
        let model = checkpoint::load(&Reference, &rounded, Some(8)).expect("loads");
        let saved = folder.path().join(format!("saved-{i}"));
        checkpoint::save(&Reference, &model, &saved, &rounded).expect("saved");
        let config = Config::load(&saved).expect("a config");
        assert!(config.fp8.is_none() && !config.raw.contains_key("quantization_config"));
        assert_eq!(config.raw["dtype"], "float32");
        let saved = Weights::open(&saved, &config).expect("weights");
        for info in config.tensors() {
            assert_eq!(saved.read(&info).expect("read"), weights.read(&info).expect("read"), "{}", info.name);
        }
    }
}

#[test]
fn scales_may_lie_in_another_shard_than_their_matrix() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, config) = model(folder.path(), "model", json!({}), WeightType::Fp8);
    let infos = config.tensors();
    let read = |weights: &Weights| -> Vec<Vec<f32>> {
        infos.iter().map(|info| weights.read(info).expect("read").into_owned()).collect()
    };
    let whole = read(&Weights::open(&dir, &config).expect("weights"));
    let mut matrices = File::read(&dir.join("model.safetensors"));
    let scales = File(
        matrices.0.iter().filter(|(n, _)| n.ends_with("inv")).map(|(n, t)| (n.clone(), t.clone())).collect(),
    );
    matrices.0.retain(|name, _| !scales.0.contains_key(name));
    fs::remove_file(dir.join("model.safetensors")).expect("removed");
    let mut map = Map::new();
    for (name, file) in [("a.safetensors", &matrices), ("b.safetensors", &scales)] {
        file.write(&dir.join(name));
        map.extend(file.0.keys().map(|tensor| (tensor.clone(), name.into())));
    }
    let index = json!({"weight_map": map}).to_string();
    fs::write(dir.join("model.safetensors.index.json"), index).expect("written");
    assert_eq!(read(&Weights::open(&dir, &config).expect("weights")), whole);
}

/// What `checkpoint::load` says of `dir`.
fn refused(dir: &Path) -> String {
    checkpoint::load(&Reference, dir, Some(4)).err().expect("refused").to_string()
}

/// What is done to a file.
type Damage = Box<dyn Fn(&mut File)>;

#[test]
fn damaged_scales_and_codes_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, _) = model(folder.path(), "model", json!({}), WeightType::Fp8);
    let path = dir.join("model.safetensors");
    let good = File::read(&path);
    let scale = |x: f32| {
        move |file: &mut File| {
            let mut scales = file.f32s(SCALES);
            scales[3] = x;
            file.set_f32s(SCALES, &scales);
        }
    };
    let code = |x: u8| move |file: &mut File| file.0.get_mut(WEIGHT).expect("there").2[700] = x;
    let shape =
        |shape: Vec<usize>| move |file: &mut File| file.0.get_mut(SCALES).expect("there").1 = shape.clone();
    let dtype = |name: &'static str, dtype: &'static str| {
        move |file: &mut File| file.0.get_mut(name).expect("there").0 = dtype.into()
    };
    let cases: Vec<(Damage, &str)> = vec![
        (Box::new(|file| drop(file.0.remove(SCALES))), "up_proj.weight_scale_inv` is missing"),
        (Box::new(|file| drop(file.0.remove(WEIGHT))), "they are there, but the tensor is missing"),
        (Box::new(shape(vec![2, 3])), "has shape [2, 3]; a matrix of [260, 136] has [3, 2]"),
        (Box::new(shape(vec![6])), "has shape [6]"),
        (Box::new(scale(0.0)), "block (1, 1)"),
        (Box::new(scale(-1.0)), "-1e0, is not a positive number"),
        (Box::new(scale(1e-40)), "is not a positive number"),
        (Box::new(scale(f32::NAN)), "up_proj.weight_scale_inv` in"),
        (Box::new(scale(f32::INFINITY)), "holds NaN or infinity"),
        (Box::new(scale(4480.0)), "4.48e3, is larger than that of any real model"),
        (Box::new(code(0x7f)), "up_proj.weight` in"),
        (Box::new(code(0xff)), "holds NaN or infinity"),
        (Box::new(dtype(SCALES, "I32")), "up_proj.weight_scale_inv` is stored as I32"),
        (Box::new(dtype(WEIGHT, "F8_E5M2")), "they are there, but it is not stored as F8_E4M3"),
        (
            Box::new(|file| {
                let name = "model.norm.weight";
                let norm = file.0.get_mut(name).expect("there");
                (norm.0, norm.2) = ("F8_E4M3".into(), vec![0; 136]);
            }),
            "only matrices",
        ),
    ];
    for (damage, wanted) in cases {
        let mut file = good.clone();
        damage(&mut file);
        file.write(&path);
        let error = refused(&dir);
        assert!(error.contains(wanted) && error.contains("model"), "{wanted}: {error}");
        assert!(error.contains("up_proj.weight") || error.contains("model.norm.weight"), "{error}");
    }
    good.write(&path);
    // Only powers of two, where config.json says so.
    let text = fs::read_to_string(dir.join("config.json")).expect("there");
    let with = |extra: &str| text.replace("\"fmt\": \"e4m3\"", &format!("\"fmt\": \"e4m3\", {extra}"));
    fs::write(dir.join("config.json"), with("\"scale_fmt\": \"ue8m0\"")).expect("written");
    assert!(refused(&dir).contains("is no power of two"), "{}", refused(&dir));
    let mut powers = good.clone();
    let names: Vec<String> = powers.0.keys().filter(|name| name.ends_with("_scale_inv")).cloned().collect();
    for name in &names {
        let scales: Vec<f32> =
            powers.f32s(name).iter().map(|x| f32::from_bits(x.to_bits() & 0x7f80_0000)).collect();
        powers.set_f32s(name, &scales);
    }
    powers.write(&path);
    checkpoint::load(&Reference, &dir, Some(4)).expect("powers of two");
    // Matrices in FP8 of which config.json says nothing.
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config.as_object_mut().expect("an object").remove("quantization_config");
    fs::write(dir.join("config.json"), config.to_string()).expect("written");
    assert!(refused(&dir).contains("no quantization_config"), "{}", refused(&dir));
}

#[test]
fn other_ways_to_quantise_are_refused_by_name() {
    let good = json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]});
    let of = |changes: Value| {
        let mut table = good.clone();
        table.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        let mut raw = testkit::config(11, false).raw;
        raw.insert("quantization_config".into(), table);
        Config::from_json(raw, Path::new("test"))
    };
    assert!(of(json!({})).is_ok_and(|config| config.fp8.is_some()));
    for ignored in [json!({"modules_to_not_convert": ["lm_head"]}), json!({"scale_fmt": null})] {
        assert!(of(ignored).is_ok());
    }
    for (changes, wanted) in [
        (json!({"quant_method": "awq"}), "`quant_method` is \"awq\" in `test`; supported: fp8"),
        (json!({"quant_method": null}), "`quant_method` is null"),
        (json!({"quant_method": "compressed-tensors"}), "weights in bf16, f16 or f32"),
        (json!({"fmt": "e5m2"}), "`fmt` is \"e5m2\" in `test`; supported: e4m3"),
        (json!({"activation_scheme": "static"}), "supported: dynamic"),
        (json!({"weight_block_size": [1, 128]}), "`weight_block_size` is [1,128]"),
        (json!({"weight_block_size": [128, 128, 128]}), "supported: [128, 128]"),
        (json!({"weight_block_size": null}), "`weight_block_size` is null"),
        (json!({"scale_fmt": "e5m2"}), "`scale_fmt` is \"e5m2\""),
        (json!({"scale_fmt": 8}), "`scale_fmt` is 8"),
    ] {
        let error = of(changes.clone()).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{changes}: {error}");
    }
}
