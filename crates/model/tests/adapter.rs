//! Adapters in PEFT's format: in and out, merged, refused by name; and PEFT's own numbers, where the fixtures lie beside the
//! project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use koan_backend::{Backend, Layout, Reference};
use koan_cpu::{Cpu, Isa};
use koan_model::{
    Activations, AdapterSpec, CacheForm, Config, Head, Model, Purpose, Targets,
    checkpoint::{self, Place, Weights},
    safetensors_file::{Entry, FileError, write},
    testkit,
};
use serde_json::{Value, json};

/// Log-probabilities of completions after prompts, one after another.
fn log_probs<B: Backend>(b: &B, model: &Model<B>, rows: &[(Vec<u32>, Vec<u32>)]) -> Vec<f64> {
    let mut layout = Layout::default();
    for (prompt, completion) in rows {
        layout.push_group(prompt, [&completion[..]]);
    }
    let mut activations =
        Activations::new(b, model.config(), layout.len(), Purpose::Inference).expect("memory");
    let mut head = Head::new(b, model.config(), layout.head_rows.len()).expect("memory");
    let layout = model.upload(b, layout).expect("memory");
    model.forward(b, &layout, &mut activations, None);
    let [log_probs, _] = model.log_probs(b, &activations, &layout, 1.0, &mut head);
    log_probs
}

fn rows() -> Vec<(Vec<u32>, Vec<u32>)> {
    vec![(vec![3, 1, 4], vec![1, 5, 9]), (vec![2], vec![6, 5, 3, 5, 8])]
}

fn find(model: &Path, adapter: &Path) -> Place {
    Place::find(model, Some(adapter)).expect("both are there")
}

/// A model's directory, and one of an adapter on it with random values.
fn write_both(folder: &Path, spec: AdapterSpec) -> (PathBuf, PathBuf) {
    let (base, dir) = (folder.join("base"), folder.join("adapter"));
    testkit::write_model(&base, 3).expect("written");
    let config = Config::load(&base).expect("a config").with_adapter(spec).expect("an adapter");
    let mut model = checkpoint::load_as(&Reference, &base, config, 64, 7).expect("loads");
    for (i, param) in model.weights.tensors_mut().enumerate().filter(|(_, param)| param.info().trained) {
        let values = param.value_mut();
        let random = |j: usize| f64::from(testkit::random(i as u64, j as u64));
        values.iter_mut().enumerate().for_each(|(j, value)| *value = random(j));
    }
    checkpoint::save(&Reference, &model, &dir, &base).expect("saved");
    (base, dir)
}

/// The same on a model with experts.
fn write_both_with_experts(folder: &Path, targets: &[&str]) -> (PathBuf, PathBuf) {
    let (base, dir) = (folder.join("base"), folder.join("adapter"));
    let kind =
        testkit::deepseek(serde_json::json!({"model_type": "deepseek_v3", "first_k_dense_replace": 1}));
    testkit::write_model_with(&base, 3, kind).expect("written");
    let spec = testkit::adapter(Targets::Suffixes(targets.iter().map(|&t| t.to_owned()).collect()));
    let config = Config::load(&base).expect("a config").with_adapter(spec).expect("an adapter");
    let mut model = checkpoint::load_as(&Reference, &base, config, 64, 7).expect("loads");
    for (i, param) in model.weights.tensors_mut().enumerate().filter(|(_, param)| param.info().trained) {
        let random = |j: usize| f64::from(testkit::random(i as u64, j as u64));
        param.value_mut().iter_mut().enumerate().for_each(|(j, value)| *value = random(j));
    }
    checkpoint::save(&Reference, &model, &dir, &base).expect("saved");
    (base, dir)
}

#[test]
fn adapters_of_experts_come_back_as_one_entry_an_expert_and_merge() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, dir) = write_both_with_experts(folder.path(), &["o_proj", "experts.down_proj"]);
    let place = find(&base, &dir);
    assert_eq!(place.config().expect("a config").adapter.expect("an adapter").layers(), 3);
    let model = checkpoint::load(&Reference, &place, Some(64)).expect("loads");
    let again = folder.path().join("again");
    checkpoint::save(&Reference, &model, &again, &base).expect("saved");
    let file = "adapter_model.safetensors";
    let [one, two] = [&dir, &again].map(|dir| fs::read(dir.join(file)).expect("there"));
    assert!(one == two, "the adapter is as it was");
    let name = "base_model.model.model.layers.1.mlp.experts.5.down_proj.lora_B.weight";
    assert!(String::from_utf8_lossy(&one).contains(name));
    let of_peft = fs::read_to_string(dir.join("adapter_config.json")).expect("there");
    assert!(of_peft.contains("\"experts.3.down_proj\"") && !of_peft.contains("\"down_proj\""), "{of_peft}");

    let merged = folder.path().join("merged");
    checkpoint::merge(&place, &merged, &mut |_, _| {}).expect("merged");
    let merged = checkpoint::load(&Reference, &merged, Some(64)).expect("loads");
    let [with, within] = [&model, &merged].map(|model| log_probs(&Reference, model, &rows()));
    for (with, within) in with.iter().zip(&within) {
        assert!((with - within).abs() < 1e-4, "{with} against {within}");
    }

    let config = Config::load(&base).expect("a config");
    let all = config.with_adapter(testkit::adapter(Targets::AllLinear)).expect("an adapter");
    assert!(all.tensors().iter().all(|info| !info.trained || !info.name.contains(".experts.")));
    let some = testkit::adapter(Targets::Suffixes(vec!["down_proj".into()]));
    let some = config.with_adapter(some).expect("an adapter");
    assert!(some.tensors().iter().all(|info| !info.trained || !info.name.contains(".experts.")));

    // One expert's is missing.
    let lost = String::from_utf8_lossy(&one).into_owned();
    assert!(lost.contains("experts.5.down_proj.lora_A"));
    let renamed = one.windows(16).position(|bytes| bytes == b"experts.5.down_p").expect("there");
    let mut bytes = one.clone();
    bytes[renamed + 8] = b'7';
    fs::write(dir.join(file), bytes).expect("written");
    let error = checkpoint::load(&Reference, &place, Some(64)).err().expect("refused").to_string();
    assert!(error.contains("all experts of a layer are adapted, or none"), "{error}");
}

fn change(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("adapter_config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).expect("read")).expect("JSON");
    change(&mut config);
    fs::write(&path, config.to_string()).expect("written");
}

#[test]
fn a_fresh_adapter_changes_nothing_and_its_down_matrices_are_uniform() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base");
    testkit::write_model(&base, 3).expect("written");
    let config = Config::load(&base).expect("a config");
    let adapted = config.with_adapter(testkit::adapter(Targets::AllLinear)).expect("an adapter");
    let of_base = checkpoint::load(&Reference, &base, Some(64)).expect("loads");
    let model = checkpoint::load_as(&Reference, &base, adapted.clone(), 64, 7).expect("loads");
    assert_eq!(log_probs(&Reference, &of_base, &rows()), log_probs(&Reference, &model, &rows()));
    let again = checkpoint::load_as(&Reference, &base, adapted, 64, 8).expect("loads");
    for (param, other) in model.weights.tensors().zip(again.weights.tensors()) {
        let info = param.info();
        if info.name.ends_with("lora_B.weight") {
            assert!(param.value().iter().all(|&x| x == 0.0), "{}", info.name);
        }
        if info.name.ends_with("lora_A.weight") {
            let bound = (info.shape[1] as f64).sqrt().recip();
            let largest = param.value().iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            assert!(largest <= bound && largest > 0.8 * bound, "{}: {largest} of {bound}", info.name);
            let mean = param.value().iter().sum::<f64>() / param.value().len() as f64;
            assert!(mean.abs() < 0.3 * bound, "{}", info.name);
            assert_ne!(param.value(), other.value(), "{}: of another seed", info.name);
        }
    }
}

#[test]
fn what_is_frozen_is_held_once() {
    let config = testkit::config(11, false);
    let adapted = config.with_adapter(testkit::adapter(Targets::AllLinear)).expect("an adapter");
    let model = testkit::model(&Reference, adapted.clone(), 1);
    for param in model.weights.tensors() {
        let info = param.info();
        let held =
            info.trained || info.role.is_head() && info.name.contains("embed") || !info.role.is_product();
        assert_eq!(param.value().is_empty(), !held, "{}: values beside the packed form", info.name);
    }
    let trained: usize = adapted.tensors().iter().map(koan_model::TensorInfo::trained_len).sum();
    assert_eq!(trained, adapted.parameters() - config.parameters());
    assert_eq!(adapted.gradient_bytes(&Reference), 8 * trained, "no gradient of what is frozen");
}

#[test]
fn an_adapter_comes_back_as_it_was_saved() {
    let spec = |rslora| AdapterSpec {
        rslora,
        ..testkit::adapter(Targets::Suffixes(vec!["v_proj".into(), "mlp.up_proj".into()]))
    };
    for spec in [spec(true), spec(false), testkit::adapter(Targets::AllLinear)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (base, dir) = write_both(folder.path(), spec.clone());
        let place = find(&base, &dir);
        let config = place.config().expect("a config");
        let adapter = config.adapter.clone().expect("an adapter");
        assert_eq!((adapter.spec.rank, adapter.spec.alpha, adapter.spec.rslora), (3, 4.0, spec.rslora));
        assert_eq!(adapter.layers(), if spec.targets == Targets::AllLinear { 14 } else { 4 });
        let model = checkpoint::load(&Reference, &place, Some(64)).expect("loads");
        let again = folder.path().join("again");
        checkpoint::save(&Reference, &model, &again, &base).expect("saved");
        for name in ["adapter_model.safetensors", "tokenizer.json", "README.md"] {
            let [one, two] = [&dir, &again].map(|dir| fs::read(dir.join(name)).expect("there"));
            assert!(one == two, "{name}");
        }
        // By the name of its base model alone.
        let found = Place::find(&dir, None).expect("its base model is where it says");
        assert_eq!((found.model(), found.adapter()), (base.as_path(), Some(dir.as_path())));
        let of_both = log_probs(&Reference, &model, &rows());
        let inference = checkpoint::load_for_inference(&Reference, &found, Some(64)).expect("loads");
        assert_eq!(of_both, log_probs(&Reference, &inference, &rows()));
        let alone = checkpoint::load(&Reference, &base, Some(64)).expect("loads");
        assert_ne!(of_both, log_probs(&Reference, &alone, &rows()));
        let on_same = model
            .on_same_base(&Reference, config.base(), |info| -> Result<Vec<f32>, koan_backend::OutOfMemory> {
                panic!("{} is the same", info.name)
            })
            .expect("memory");
        let [a, b] = [&on_same, &alone].map(|model| log_probs(&Reference, model, &rows()));
        assert_eq!(a, b, "the reference policy is the model without the adapter");
    }
}

#[test]
fn merging_gives_what_the_adapter_computes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, dir) = write_both(folder.path(), testkit::adapter(Targets::AllLinear));
    let place = find(&base, &dir);
    let out = folder.path().join("merged");
    checkpoint::merge(&place, &out, &mut |_, _| {}).expect("merged");
    let merged = checkpoint::load(&Reference, &out, Some(64)).expect("a model");
    assert!(out.join("tokenizer.json").exists() && !out.join("adapter_config.json").exists());
    let adapted = checkpoint::load(&Reference, &place, Some(64)).expect("loads");
    let [merged, adapted] = [&merged, &adapted].map(|model| log_probs(&Reference, model, &rows()));
    for (a, b) in merged.iter().zip(&adapted) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    let error = checkpoint::merge(&find_alone(&base), &folder.path().join("other"), &mut |_, _| {});
    assert!(error.expect_err("no adapter").to_string().contains("no adapter"));
}

/// PEFT's `lora_bias`: one on B of the expansion of latents is of keys and of values.
#[test]
fn an_adapter_of_latents_with_a_bias_acts_in_both_forms() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, dir) = write_both_with_experts(folder.path(), &["kv_b_proj"]);
    let plain = log_probs(
        &Reference,
        &checkpoint::load(&Reference, find(&base, &dir), None).expect("loads"),
        &rows(),
    );
    let layer = "base_model.model.model.layers.0.self_attn.kv_b_proj";
    let entry = |name: &str, shape: &[usize]| Entry { name: format!("{layer}.{name}"), shape: shape.into() };
    let entries =
        [entry("lora_A.weight", &[3, 9]), entry("lora_B.weight", &[48, 3]), entry("lora_B.bias", &[48])];
    let file = dir.join("adapter_model.safetensors");
    fs::remove_file(&file).expect("there");
    write(&file, &entries, |i| {
        Ok::<_, FileError>(
            (0..entries[i].len() as u64).map(|j| testkit::random(i as u64, j)).collect::<Vec<_>>(),
        )
    })
    .expect("written");
    change(&dir, |config| config["lora_bias"] = true.into());
    let place = find(&base, &dir);
    let [expanded, latent] = [CacheForm::Expanded, CacheForm::Latent].map(|cache| {
        let model = checkpoint::load(&Reference, place.clone().caching(cache), None).expect("loads");
        log_probs(&Reference, &model, &rows())
    });
    assert!(plain.iter().zip(&expanded).any(|(a, b)| (a - b).abs() > 1e-3), "the adapter does something");
    for (a, b) in expanded.iter().zip(&latent) {
        assert!((a - b).abs() < 1e-10, "{a} {b}");
    }
}

fn find_alone(model: &Path) -> Place {
    Place::find(model, None).expect("it is there")
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, dir) = write_both(folder.path(), testkit::adapter(Targets::AllLinear));
    let original = fs::read(dir.join("adapter_config.json")).expect("there");
    for (key, value) in [
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({"nblocks": 2})),
        ("alora_invocation_tokens", json!([1, 2])),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("trainable_token_indices", json!([0])),
        ("layer_replication", json!([[0, 2]])),
        ("arrow_config", json!({"top_k": 3})),
        ("velora_config", json!({"rank": 3})),
        ("monteclora_config", json!({"samples": 3})),
        ("something_new", json!(0.5)),
        ("peft_type", json!("IA3")),
        ("peft_type", json!(null)),
        ("task_type", json!("SEQ_2_SEQ_LM")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("bias", json!("some")),
        ("alpha_pattern", json!({"layers\\.(0|1)\\..*q_proj": 4})),
    ] {
        change(&dir, |config| config[key] = value.clone());
        let error = find(&base, &dir).config().expect_err(key).to_string();
        assert!(error.contains(key) && error.contains("adapter_config.json"), "{key}: {error}");
        fs::write(dir.join("adapter_config.json"), &original).expect("written");
    }
    for (key, value, said) in [
        ("r", json!(0), "rank 0"),
        ("r", json!("8"), "`r` is \"8\""),
        ("r", json!(1u64 << 40), "rank"),
        ("lora_alpha", json!("x"), "`lora_alpha`"),
        ("use_rslora", json!(1), "`use_rslora`"),
    ] {
        change(&dir, |config| config[key] = value.clone());
        let error = find(&base, &dir).config().expect_err(key).to_string();
        assert!(error.contains(said), "{key}: {error}");
        fs::write(dir.join("adapter_config.json"), &original).expect("written");
    }
    // What says nothing, or begins otherwise, is read.
    for (key, value) in [
        ("use_dora", json!(null)),
        ("init_lora_weights", json!("gaussian")),
        ("target_modules", json!("all-linear")),
        ("lora_dropout", json!(0.1)),
    ] {
        change(&dir, |config| config[key] = value.clone());
        find(&base, &dir).config().expect(key);
    }
    fs::write(dir.join("adapter_config.json"), "[").expect("written");
    assert!(find(&base, &dir).config().is_err());
    fs::write(dir.join("adapter_config.json"), &original).expect("written");
    fs::rename(dir.join("adapter_model.safetensors"), dir.join("adapter_model.bin")).expect("renamed");
    let error = find(&base, &dir).config().expect_err("pickled").to_string();
    assert!(error.contains("safe_serialization"), "{error}");
}

#[test]
fn an_alpha_of_its_own_scales_a_layer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, dir) = write_both(folder.path(), testkit::adapter(Targets::Suffixes(vec!["v_proj".into()])));
    let compute = || {
        let model = checkpoint::load(&Reference, find(&base, &dir), Some(64)).expect("loads");
        log_probs(&Reference, &model, &rows())
    };
    change(&dir, |config| config["lora_alpha"] = json!(8));
    let doubled = compute();
    change(&dir, |config| {
        config["lora_alpha"] = json!(4);
        config["alpha_pattern"] = json!({"self_attn.v_proj": 8.0});
    });
    assert_eq!(compute(), doubled);
    change(&dir, |config| config["alpha_pattern"] = json!({"^model.layers.1.self_attn.v_proj$": 8.0}));
    let one = compute();
    assert_ne!(one, doubled);
    let model = find(&base, &dir).config().expect("a config");
    let error = Config::load(&base).expect("a config").with_adapter_from(&dir).expect_err("not trained");
    assert!(model.adapter.is_some() && error.to_string().contains("model merge"), "{error}");
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (base, dir) = write_both(folder.path(), testkit::adapter(Targets::AllLinear));
    let other = folder.path().join("other");
    for (change, said) in [
        (json!({"hidden_size": 32}), "of another base model"),
        (json!({"num_hidden_layers": 1}), "no linear layer `model.layers.1"),
        (json!({"intermediate_size": 48}), "mlp"),
    ] {
        let config = testkit::config_with(15, true, change);
        let model = testkit::model(&Reference, config, 4);
        checkpoint::save(&Reference, &model, &other, &base).expect("saved");
        let place = find(&other, &dir);
        let error = checkpoint::load(&Reference, &place, Some(8)).err().expect("another model").to_string();
        assert!(error.contains(said), "{error}");
        fs::remove_dir_all(&other).expect("removed");
    }
    let error = Place::find(&dir, Some(&dir)).expect_err("on itself").to_string();
    assert!(error.contains("the base model's directory"), "{error}");
    change(&dir, |config| config["base_model_name_or_path"] = json!("somewhere/else"));
    let error = Place::find(&dir, None).expect_err("no base").to_string();
    assert!(error.contains("`somewhere/else`"), "{error}");
    let error =
        Place::find(&base, Some(&base)).expect("a place").config().expect_err("no adapter").to_string();
    assert!(error.contains("no adapter_config.json"), "{error}");
}

#[test]
fn an_adapter_that_makes_no_sense_is_refused() {
    let config = testkit::config(11, true);
    let suffixes = |names: &[&str]| Targets::Suffixes(names.iter().map(|&name| name.to_owned()).collect());
    let plain = || testkit::adapter(Targets::AllLinear);
    for (spec, said) in [
        (AdapterSpec { rank: 0, ..plain() }, "rank 0"),
        (AdapterSpec { rank: 1 << 20, ..plain() }, "rank"),
        (AdapterSpec { alpha: 0.0, ..plain() }, "alpha 0"),
        (AdapterSpec { alpha: f64::NAN, ..plain() }, "alpha"),
        (AdapterSpec { targets: suffixes(&[]), ..plain() }, "no targets"),
        (
            AdapterSpec { targets: suffixes(&["q_proj", "qkv"]), ..plain() },
            "`qkv`; it has down_proj, gate_proj",
        ),
        (AdapterSpec { targets: suffixes(&["proj"]), ..plain() }, "`proj`"),
        (AdapterSpec { targets: suffixes(&["lm_head"]), ..plain() }, "`lm_head`"),
    ] {
        let error = config.with_adapter(spec).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
}

fn fixtures() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stages/lora");
    if !dir.is_dir() {
        println!("skipped: no fixtures beside the project");
        return None;
    }
    Some(dir)
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a fixture")).expect("a fixture")
}

fn close(found: f64, wanted: f64, near: f64, what: &str) {
    let error = (found - wanted).abs() / wanted.abs().max(1e-3);
    assert!(error < near, "{what} is {found}, wanted {wanted}, {error:.1e} off");
}

#[test]
fn adapters_of_peft_give_its_numbers() {
    let Some(dir) = fixtures() else { return };
    let text = fs::read_to_string(dir.join("rows.jsonl")).expect("a fixture");
    let ids = |row: &Value, key: &str| -> Vec<u32> {
        let ids = row[key].as_array().expect("token ids");
        ids.iter().map(|id| id.as_u64().expect("a token") as u32).collect()
    };
    let rows: Vec<(Vec<u32>, Vec<u32>)> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a fixture"))
        .map(|row: Value| (ids(&row, "prompt_ids"), ids(&row, "completion_ids")))
        .collect();
    let expected = json_of(dir.join("expected.json"));
    let adapters = expected["adapters"].as_object().expect("adapters");
    assert_eq!(adapters.len(), 7);
    for (name, wanted) in adapters {
        let base = dir.join(wanted["base"].as_str().expect("a name"));
        let place = find(&base, &dir.join("adapters").join(name));
        let wanted_log_probs: Vec<f64> = wanted["log_probs"]
            .as_array()
            .expect("rows")
            .iter()
            .flat_map(|row| row.as_array().expect("numbers").iter().filter_map(Value::as_f64))
            .collect();
        let check = |found: Vec<f64>, near: f64| {
            assert_eq!(found.len(), wanted_log_probs.len(), "{name}");
            for (found, &wanted) in found.iter().zip(&wanted_log_probs) {
                close(*found, wanted, near, &format!("{name}: a log-probability"));
            }
        };
        let model = checkpoint::load(&Reference, &place, Some(64)).expect("a fixture");
        check(log_probs(&Reference, &model, &rows), 1e-8);
        let cpu = Cpu::new(Isa::Portable, 2).expect("a processor");
        let model = checkpoint::load_for_inference(&cpu, &place, Some(64)).expect("a fixture");
        check(log_probs(&cpu, &model, &rows), 1e-5);

        let out = tempfile::tempdir().expect("a folder");
        let out = out.path().join("merged");
        let merged = checkpoint::merge(&place, &out, &mut |_, _| {});
        if wanted["peft_can_merge"] == false {
            assert!(merged.expect_err("no tensor for it").to_string().contains("can't be merged"), "{name}");
            continue;
        }
        merged.expect("merged");
        let config = Config::load(&out).expect("a config");
        let weights = Weights::open(&out, &config).expect("weights");
        for (tensor, wanted) in
            wanted["merged_tensors_that_differ_from_the_base"].as_object().expect("tensors")
        {
            let info = config.tensors().into_iter().find(|info| info.name == *tensor).expect(tensor);
            let values = weights.read(&info).expect("read");
            let sum = values.iter().map(|&x| f64::from(x)).sum::<f64>();
            let norm = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            close(sum, wanted["sum"].as_f64().expect("a number"), 1e-5, &format!("{name}: sum of {tensor}"));
            close(
                norm,
                wanted["norm"].as_f64().expect("a number"),
                1e-6,
                &format!("{name}: norm of {tensor}"),
            );
        }
    }
}
