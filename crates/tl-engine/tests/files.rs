//! Files that the project writes, made-up models and converted ones, are models that compute what they should.

use std::path::{Path, PathBuf};

use tl_device::Device;
use tl_engine::{Activations, GenerateOptions, Generator, Model};
use tl_tools::{Quantization, SyntheticModel, weight_formats};

fn project_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A file in the system's folder for such, removed at the end.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> TempFile {
        TempFile(std::env::temp_dir().join(format!("tl-engine-{}-{name}", std::process::id())))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The logits of a text's last token.
fn logits(path: &Path) -> Vec<f32> {
    let model = Model::load(path, &Device::cpu()).unwrap().with_activations(Activations::Float32);
    let prompt = model.tokenizer().unwrap().encode("The borrow checker makes sure that references");
    let mut cache = model.new_cache(64).unwrap();
    let logits = model.forward(&prompt, &mut cache).unwrap();
    let mut values = vec![0.0; logits.n_elems()];
    logits.read_f32(&mut values).unwrap();
    values
}

/// The root mean square of the difference, in parts of the logits' own deviation.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let n = a.len() as f64;
    let mean = a.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = a.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let square = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>() / n;
    (square / variance).sqrt()
}

/// The demo model in every format. The tolerance is twice what was found, a few percent for four bits and half of that for
/// each bit more; of the formats with blocks of 256 only the rows that are as long lose bits here.
#[test]
fn logits_are_near_the_original() {
    let source = project_file("models/demo-f16.gguf");
    let exact = logits(&source);
    for (format, most) in [
        ("f32", 1e-6),
        ("bf16", 0.004),
        ("q8_0", 0.012),
        ("q5_1", 0.07),
        ("q5_0", 0.09),
        ("q4_1", 0.11),
        ("q4_0", 0.14),
        ("iq4_nl", 0.15),
        ("mxfp4", 0.3),
        ("q6_k", 0.014),
        ("q5_k", 0.03),
        ("Q4_K_M", 0.023),
        ("iq4_xs", 0.1),
        ("q3_k", 0.15),
        ("q2_k", 0.3),
    ] {
        let file = TempFile::new(&format!("near-{format}"));
        let quantization = Quantization::open(&source, format).unwrap();
        quantization.write(&file.0, &Device::cpu(), &mut |_| ()).unwrap();
        let found = distance(&exact, &logits(&file.0));
        assert!(found <= most && (found > 0.0 || format == "f32"), "{format}: {found}");
    }
    assert_eq!(distance(&exact, &logits(&source)), 0.0);
}

#[test]
fn a_model_decodes() {
    for format in weight_formats() {
        let file = TempFile::new(&format!("decode-{format}"));
        let device = Device::cpu();
        SyntheticModel::new("tiny", format, 5).unwrap().write(&file.0, &device).unwrap();
        let model = Model::load(&file.0, &device).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos()), (512, Some(1), Some(2)));
        let ids = tokenizer.encode("to be ~ ä");
        assert_eq!(tokenizer.decode(&ids).unwrap(), "to be ~ ä", "{ids:?}");
        let options = GenerateOptions::default().with_max_tokens(10);
        let n = Generator::new(&model, &ids, &options).unwrap().map(Result::unwrap).count();
        assert!(n > 0, "{format}");
    }
}
