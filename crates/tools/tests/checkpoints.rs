//! Checkpoints that are damaged or of another kind give one error that names the file, and no output. Sound ones are
//! converted in the tests of the crate `metallic`, which can run the result.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use metallic_tools::ToolError;
use metallic_tools::convert::{ConvertOptions, Converted, convert};
use serde_json::{Value, json};

/// The tiny Llama checkpoint of the crate `metallic`, in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../metallic/tests/fixtures/convert/llama");
        for entry in fs::read_dir(source).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Changes a JSON file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut json: Value = serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap();
        change(&mut json);
        fs::write(self.path(name), json.to_string()).unwrap();
    }

    fn convert(&self) -> Result<Converted, ToolError> {
        let options = ConvertOptions { format: None, pre_tokenizer: None, name: None, threads: 1 };
        convert(self.0.path(), &self.path("out.gguf"), &options, &mut |_| ControlFlow::Continue(()))
    }

    /// The message of a conversion that must fail and leave nothing behind.
    #[track_caller]
    fn refusal(&self) -> String {
        let message = self.convert().unwrap_err().to_string();
        assert!(!self.path("out.gguf").exists());
        message
    }
}

/// A safetensors file with this table and `data` bytes.
fn safetensors(table: &str, data: usize) -> Vec<u8> {
    let mut bytes = (table.len() as u64).to_le_bytes().to_vec();
    bytes.extend(table.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn the_untouched_checkpoint_is_converted() {
    assert_eq!(Folder::new().convert().unwrap().architecture, "llama");
}

#[test]
fn damaged_tables_are_refused_by_name() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let cases = [
        (Vec::new(), "too short"),
        (vec![1; 7], "too short"),
        (u64::MAX.to_le_bytes().to_vec(), "its table would have"),
        (50_u64.to_le_bytes().to_vec(), "its table would have"),
        (safetensors("{", 0), "no JSON"),
        (safetensors("[]", 0), "no JSON"),
        (safetensors("{\"x\":1}", 0), "tensor x"),
        (safetensors(&entry("F32", "[2]", "[0,4]"), 8), "it is damaged"),
        (safetensors(&entry("F32", "[2]", "[8,0]"), 8), "it is damaged"),
        (safetensors(&entry("F32", "[18446744073709551615,3]", "[0,8]"), 8), "it is damaged"),
        (safetensors(&entry("F32", "[2]", "[-1,7]"), 8), "tensor x"),
        (safetensors(&entry("F32", "[2]", "[0,8]"), 7), "fetch it again"),
        (safetensors(&entry("F32", "[2]", "[18446744073709551600,18446744073709551608]"), 8), "fetch it again"),
        (safetensors(&entry("F8_E4M3", "[2]", "[0,2]"), 2), "F8_E4M3"),
    ];
    for (bytes, expected) in cases {
        let folder = Folder::new();
        fs::write(folder.path("model.safetensors"), &bytes).unwrap();
        let message = folder.refusal();
        assert!(message.contains(expected) && message.contains("model.safetensors"), "{expected}: {message}");
    }
}

#[test]
fn every_cut_of_the_weights_is_refused() {
    let whole = fs::read(Folder::new().path("model.safetensors")).unwrap();
    let folder = Folder::new();
    for end in (0..whole.len()).step_by(487) {
        fs::write(folder.path("model.safetensors"), &whole[..end]).unwrap();
        folder.refusal();
    }
}

#[test]
fn an_index_leads_to_files_of_its_folder_only() {
    for name in ["../model.safetensors", "/etc/passwd", "..", "a/b.safetensors"] {
        let folder = Folder::new();
        let index = json!({"weight_map": {"x": name}});
        fs::write(folder.path("model.safetensors.index.json"), index.to_string()).unwrap();
        assert!(folder.refusal().contains("is no name of a file beside it"), "{name}");
    }
    let folder = Folder::new();
    let index = json!({"weight_map": {"x": "missing.safetensors"}});
    fs::write(folder.path("model.safetensors.index.json"), index.to_string()).unwrap();
    assert!(folder.refusal().contains("missing.safetensors"));
}

#[test]
fn settings_without_meaning_here_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 12] = [
        (|config| config["architectures"] = json!(["MambaForCausalLM"]), "LlamaForCausalLM"),
        (|config| config["architectures"] = json!([]), "architectures"),
        (|config| config["num_hidden_layers"] = json!(0), "num_hidden_layers"),
        (|config| config["num_hidden_layers"] = json!("two"), "num_hidden_layers"),
        (|config| config["hidden_size"] = Value::Null, "hidden_size"),
        (|config| config["num_attention_heads"] = json!(7), "heads"),
        (|config| config["hidden_act"] = json!("relu"), "relu"),
        (|config| config["quantization_config"] = json!({"bits": 4}), "quantised"),
        (|config| config["rope_parameters"] = json!({"rope_type": "dynamic", "factor": 2.0}), "dynamic"),
        (|config| config["rope_parameters"] = json!({"rope_type": "llama3", "factor": 0}), "rope_scaling"),
        (|config| config["head_dim"] = json!(u64::MAX), "head_dim"),
        (|config| config["tie_word_embeddings"] = json!(5), ""),
    ];
    for (change, expected) in cases {
        let folder = Folder::new();
        folder.edit("config.json", change);
        match folder.convert() {
            Err(error) => assert!(error.to_string().contains(expected), "{expected}: {error}"),
            // A flag of another type counts as absent.
            Ok(_) => assert_eq!(expected, ""),
        }
    }
}

#[test]
fn tokenizers_that_cannot_be_converted_say_why() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 7] = [
        (|file| file["model"]["type"] = json!("WordPiece"), "merges"),
        (|file| file["model"]["merges"] = json!([["a"]]), "no merge of two"),
        (|file| file["model"]["merges"] = json!([1]), "no merge of two"),
        (|file| file["model"]["vocab"] = json!({"a": 1_u64 << 40}), "makes no sense"),
        (|file| file["model"]["vocab"] = json!({"a": -1}), "makes no sense"),
        (|file| file["model"]["vocab"] = json!([]), "no table of tokens"),
        (|file| file["model"]["byte_fallback"] = json!(false), "--pre"),
    ];
    for (change, expected) in cases {
        let folder = Folder::new();
        folder.edit("tokenizer.json", change);
        if expected == "merges" {
            // Falling back to bytes, and with merges, it is read as what it says it has.
            folder.edit("tokenizer.json", |file| file["model"]["merges"] = Value::Null);
        }
        let message = folder.refusal();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let folder = Folder::new();
    fs::remove_file(folder.path("tokenizer.json")).unwrap();
    assert!(folder.refusal().contains("neither tokenizer.json nor tokenizer.model"));
    fs::write(folder.path("tokenizer.model"), [0xff; 64]).unwrap();
    assert!(folder.refusal().contains("no SentencePiece model"));
}

#[test]
fn a_tensor_without_a_place_is_refused() {
    let folder = Folder::new();
    folder.edit("config.json", |config| {
        config["architectures"] = json!(["Qwen2ForCausalLM"]);
        config["tie_word_embeddings"] = json!(true);
    });
    // The same tensors make a Qwen2 without biases, which is fine; a Gemma's norms on both sides have no place in a Llama.
    assert!(folder.convert().is_ok());
    let gemma = Path::new(env!("CARGO_MANIFEST_DIR")).join("../metallic/tests/fixtures/convert/gemma2");
    fs::copy(gemma.join("model.safetensors"), folder.path("model.safetensors")).unwrap();
    fs::remove_file(folder.path("out.gguf")).unwrap();
    assert!(folder.refusal().contains("has no place for the tensor"));
}
