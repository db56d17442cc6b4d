//! What a Rust program does with this crate alone.

use tensorlogic::{
    Device, DeviceOptions, Divergence, Isa, LogProbs, LogProbsWriter, Model, Predictions, Quantization, SyntheticModel,
};

/// A device computes with the instructions that it was given.
#[test]
fn instructions_are_chosen() {
    let device = |isa: Option<Isa>| {
        let mut options = DeviceOptions::default();
        options.isa = isa;
        Device::cpu_with(&options)
    };
    assert_eq!(device(None).threads().isa(), Isa::detect());
    for isa in Isa::all() {
        assert_eq!(device(Some(isa)).threads().isa(), isa);
    }
    assert_eq!(device(Some(Isa::portable())).threads().isa().name(), "portable");
}

/// A model is made, written with fewer bits, and its predictions compared with those before.
#[test]
fn a_model_is_compared_with_itself_in_fewer_bits() -> Result<(), Box<dyn std::error::Error>> {
    let file =
        |name: &str| std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let (wide, narrow, saved) = (file("wide.gguf"), file("narrow.gguf"), file("saved"));
    let device = Device::cpu();
    SyntheticModel::new("tiny", "f32", 1)?.write(&wide, &device)?;
    let report = Quantization::open(&wide, "q8_0")?.write(&narrow, &device, &mut |_| ())?;
    assert!(report.written_bytes < report.read_bytes / 3);
    let tokens: Vec<u32> = (3..19).collect();
    let model = Model::load(&wide, &device)?;
    let mut writer = LogProbsWriter::create(&saved, tokens.len(), model.config().vocab_size, &tokens)?;
    Predictions::new(&model, tokens.len())?.window(&tokens, &mut |_, logits| writer.row(logits))?;
    writer.finish()?;
    let bytes = std::fs::read(&saved)?;
    let mut rows = LogProbs::parse(&bytes)?.rows();
    let mut divergence = Divergence::default();
    let model = Model::load(&narrow, &device)?;
    Predictions::new(&model, tokens.len())?.window(&tokens, &mut |next, logits| {
        divergence.add(&rows.next().unwrap(), next, logits);
        Ok(())
    })?;
    assert!(rows.next().is_none());
    assert!(0.0 < divergence.mean() && divergence.mean() < 0.01, "{divergence:?}");
    [wide, narrow, saved].iter().try_for_each(std::fs::remove_file)?;
    Ok(())
}
