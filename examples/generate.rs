//! Generates text with a llama model, the transformer written out in tensor operations, in memory reserved beforehand.
//!
//!     cargo run --release -p tensorlogic-rt --example generate -- "A trait object" models/demo-q8_0.gguf

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use tensorlogic::{
    DType, DecodeStream, Device, KvCache, Model, ModelConfig, ReserveFor, Sampler, SamplingOptions, Tensor,
    TensorBuffer,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The weights of one layer.
struct Layer {
    attn_norm: Tensor,
    attn_q: Tensor,
    attn_k: Tensor,
    attn_v: Tensor,
    attn_output: Tensor,
    ffn_norm: Tensor,
    ffn_gate: Tensor,
    ffn_up: Tensor,
    ffn_down: Tensor,
}

impl Layer {
    fn new(model: &Model, i: usize) -> Result<Layer> {
        let weight = |name: &str| model.tensor(&format!("blk.{i}.{name}.weight")).cloned();
        Ok(Layer {
            attn_norm: weight("attn_norm")?,
            attn_q: weight("attn_q")?,
            attn_k: weight("attn_k")?,
            attn_v: weight("attn_v")?,
            attn_output: weight("attn_output")?,
            ffn_norm: weight("ffn_norm")?,
            ffn_gate: weight("ffn_gate")?,
            ffn_up: weight("ffn_up")?,
            ffn_down: weight("ffn_down")?,
        })
    }

    /// `x: [n, dim] → [n, dim]`. Each intermediate is dropped at its last use, and its buffer is free again.
    fn forward(&self, c: &ModelConfig, x: Tensor, cache: &mut KvCache, i: usize) -> Result<Tensor> {
        let (n, pos) = (x.dims()[0], cache.len());
        let y = x.rms_norm(&self.attn_norm, c.norm_eps)?;
        let q = y.linear(&self.attn_q)?.reshape([n, c.n_heads, c.head_dim])?.rope(pos, c.rope_base)?;
        let k = y.linear(&self.attn_k)?.reshape([n, c.n_kv_heads, c.head_dim])?.rope(pos, c.rope_base)?;
        let v = y.linear(&self.attn_v)?.reshape([n, c.n_kv_heads, c.head_dim])?;
        drop(y);
        let seen = cache.attend(i, &q, &k, &v)?.reshape([n, c.n_heads * c.head_dim])?;
        drop((q, k, v));
        let out = seen.linear(&self.attn_output)?;
        drop(seen);
        let sum = x.add(&out)?;
        drop((x, out));
        let y = sum.rms_norm(&self.ffn_norm, c.norm_eps)?;
        let (gate, up) = (y.linear(&self.ffn_gate)?, y.linear(&self.ffn_up)?);
        drop(y);
        let gated = gate.swiglu(&up)?;
        drop((gate, up));
        let out = gated.linear(&self.ffn_down)?;
        drop(gated);
        Ok(sum.add(&out)?)
    }
}

/// A model whose forward pass is written here.
struct Transformer {
    device: Device,
    config: ModelConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    output: Tensor,
}

impl Transformer {
    fn new(device: &Device, model: &Model) -> Result<Transformer> {
        let config = model.config().clone();
        let layers: Result<Vec<Layer>> = (0..config.n_layers).map(|i| Layer::new(model, i)).collect();
        Ok(Transformer {
            device: device.clone(),
            embedding: model.tensor("token_embd.weight")?.clone(),
            layers: layers?,
            norm: model.tensor("output_norm.weight")?.clone(),
            output: model.tensor("output.weight")?.clone(),
            config,
        })
    }

    /// The logits of the token that follows `ids`, which follow what the cache holds. `[1, vocabulary]`.
    fn forward(&self, ids: &[i32], cache: &mut KvCache) -> Result<Tensor> {
        let ids = Tensor::from_slice(&self.device, ids, [ids.len()])?;
        let mut x = self.embedding.embedding_as(&ids, DType::F16)?;
        drop(ids);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&self.config, x, cache, i)?;
        }
        let last = x.slice_last(0)?.rms_norm(&self.norm, self.config.norm_eps)?;
        drop(x);
        Ok(last.linear(&self.output)?)
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().unwrap_or_else(|| "A trait object".to_owned());
    let path = args.next().unwrap_or_else(|| "models/demo-q8_0.gguf".to_owned());

    let device = Device::cpu();
    let model = Model::load(&path, &device)?;
    let tokenizer = model.tokenizer()?;
    let ids: Vec<i32> = tokenizer.encode(&prompt).into_iter().map(|id| id as i32).collect();
    let config = model.config();
    let context = config.context_length.min(ids.len() + 99); // the last of 100 tokens goes through the model no more

    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, context)?;
    device.set_tensor_buffer(buffer);
    let mut cache = model.new_cache(context)?;
    let transformer = Transformer::new(&device, &model)?;
    let options = SamplingOptions::default().with_temperature(0.7).with_top_p(0.9).with_seed(7);
    let mut sampler = Sampler::new(options, config.vocab_size)?;

    let mut text = DecodeStream::new();
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{prompt}")?;
    let mut token = sampler.sample_tensor(&transformer.forward(&ids, &mut cache)?)?;
    let allocated = device.stats().allocation_count;
    let (start, mut n) = (Instant::now(), 0);
    while !tokenizer.is_end(token) {
        write!(stdout, "{}", text.next(&tokenizer, token)?)?;
        stdout.flush()?;
        if cache.len() == context {
            break;
        }
        token = sampler.sample_tensor(&transformer.forward(&[token as i32], &mut cache)?)?;
        n += 1;
    }
    let seconds = start.elapsed().as_secs_f64();

    let (reserve, stats) = (device.tensor_buffer_stats(), device.stats());
    writeln!(stdout, "\n")?;
    writeln!(stdout, "buffers reserved:           {}", reserve.reserved_count)?;
    writeln!(
        stdout,
        "hit rate:                   {:.1}%, fallbacks: {}",
        reserve.hit_rate() * 100.0,
        reserve.fallback_count
    )?;
    writeln!(stdout, "allocations while decoding: {}", stats.allocation_count - allocated)?;
    writeln!(stdout, "peak bytes:                 {}", stats.peak_bytes)?;
    writeln!(stdout, "tokens per second:          {:.0}", f64::from(n) / seconds)?;
    Ok(())
}
