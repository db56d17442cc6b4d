//! The cache of keys, values and states: windows against whole contexts, refusals, states.

use super::*;
use tl_tensor::Random;
use tl_tensor::quant::format_of;

/// What the values become in a cache of Q8_0.
fn rounded(values: &Tensor<f32>) -> Tensor<f32> {
    let kernels = format_of(DType::Q8_0).unwrap().kernels;
    let mut floats = values.to_vec().unwrap();
    let mut blocks = vec![0; kernels.row_bytes(floats.len())];
    (kernels.quantize.unwrap())(&floats, &mut blocks);
    (kernels.dequantize)(values.device().threads().isa(), &blocks, &mut floats);
    Tensor::from_slice(values.device(), &floats, values.dims()).unwrap()
}

#[test]
fn blocks_keep_what_they_are_given() {
    let device = Device::cpu();
    let (kv_heads, head_dim) = (3, 64);
    let new = |dtype| KvCache::new(&device, 2, kv_heads, head_dim, 90, dtype).unwrap();
    let (mut blocks, mut floats) = (new(DType::Q8_0), new(DType::F32));
    let mut random = Random::new(5);
    let mut tensor = |n: usize, heads: usize| {
        let layout = Layout::new(DType::F32, [n, heads, head_dim]);
        random.normal_tensor(&device, &layout).unwrap().into_typed::<f32>().unwrap()
    };
    for n in [1, 70, 2, 17] {
        for layer in 0..2 {
            let (q, k, v) = (tensor(n, 6), tensor(n, kv_heads), tensor(n, kv_heads));
            let seen = blocks.attend(layer, &q, &k, &v).unwrap().to_vec().unwrap();
            let expected = floats.attend(layer, &q, &rounded(&k), &rounded(&v)).unwrap().to_vec().unwrap();
            for (i, (seen, expected)) in seen.iter().zip(expected).enumerate() {
                assert!((seen - expected).abs() < 1e-5, "{n} tokens, layer {layer}, {i}: {seen} {expected}");
            }
        }
    }
    // Also what is not laid out head by head.
    blocks.clear();
    let (q, k) = (tensor(5, 6), tensor(kv_heads, 5));
    let turned = k.transpose(0, 1).unwrap();
    let seen = blocks.attend(0, &q, &turned, &turned).unwrap().to_vec().unwrap();
    blocks.clear();
    let copied = turned.contiguous().unwrap();
    assert_eq!(blocks.attend(0, &q, &copied, &copied).unwrap().to_vec().unwrap(), seen);
}

/// Every layer of a cache gives the bits of the same layer with room for all tokens: whatever the steps, and wherever the cache goes
/// back to.
#[test]
fn windows_give_the_bits_of_the_whole_context() {
    let device = Device::cpu();
    let spec = |key_dim, value_dim, window| LayerSpec { kv_heads: 2, key_dim, value_dim, window };
    let specs = [spec(32, 32, Some(1)), spec(32, 64, None), spec(64, 32, Some(5)), spec(32, 32, Some(700))];
    let mut random = Random::new(11);
    let sinks = random.normal_tensor(&device, &Layout::new(DType::F32, [4])).unwrap();
    for dtype in [DType::F32, DType::F16, DType::Q8_0] {
        let max_len = 3000;
        let mut windowed = KvCache::with_layers(&device, &specs, max_len, dtype).unwrap();
        assert_eq!(windowed.layouts(2).unwrap()[0].shape().dims(), [517, 2, 64]);
        assert_eq!(windowed.layouts(3).unwrap()[1].shape().dims(), [1212, 2, 32]);
        let whole = specs.map(|spec| LayerSpec { window: None, ..spec });
        let mut whole = KvCache::with_layers(&device, &whole, max_len, dtype).unwrap();
        let mut n_refused = 0;
        for step in 0..80 {
            let pick = random.uniform();
            let n = [1, 1, 1, 2, 7, 64, 511, 512][(pick * 8.0) as usize];
            if pick.fract() > 0.8 || whole.len() + n > max_len {
                let len = (random.uniform() * windowed.len() as f32) as usize;
                let earliest = windowed.earliest_len();
                let truncated = windowed.truncate(len);
                assert_eq!(truncated.is_ok(), len == 0 || len >= earliest.min(windowed.len()), "{len} {earliest}");
                let len = if truncated.is_ok() { len } else { earliest };
                n_refused += usize::from(truncated.is_err());
                windowed.truncate(len).unwrap();
                whole.truncate(len).unwrap();
                assert_eq!(windowed.len(), whole.len());
            }
            if whole.len() + n > max_len {
                windowed.clear();
                whole.clear();
            }
            for (layer, spec) in specs.iter().enumerate() {
                let mut tensor = |heads: usize, width: usize| {
                    let layout = Layout::new(DType::F32, [n, heads, width]);
                    random.normal_tensor(&device, &layout).unwrap().into_typed::<f32>().unwrap()
                };
                let (q, k, v) = (tensor(4, spec.key_dim), tensor(2, spec.key_dim), tensor(2, spec.value_dim));
                let options = Attention { softcap: 20.0, sinks: Some(&sinks), ..Attention::default() };
                let found = windowed.attend_by(layer, &q, &k, &v, &options).unwrap();
                let options = Attention { window: spec.window.unwrap_or(0), ..options };
                let expected = whole.attend_by(layer, &q, &k, &v, &options).unwrap();
                assert!(found.to_vec().unwrap() == expected.to_vec().unwrap(), "{step}: {n} tokens, layer {layer}");
            }
            let held = windowed.positions(2).unwrap();
            assert!(held.end == windowed.len() && (held.len() >= 5.min(held.end)), "{held:?}");
        }
        assert!(n_refused > 0 && windowed.earliest_len() < windowed.len());
    }
}

#[test]
fn windows_that_cannot_be() {
    let device = Device::cpu();
    let spec = LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window: Some(8) };
    let new = |window, max_len| KvCache::with_layers(&device, &[LayerSpec { window, ..spec }], max_len, DType::F16);
    let zeros = |n: usize| Tensor::<f32>::zeros(&device, [n, 1, 4]).unwrap();
    let attend = |cache: &mut KvCache, n, window| {
        let options = Attention { window, ..Attention::default() };
        cache.attend_by(0, &zeros(n), &zeros(n), &zeros(n), &options).map(drop)
    };
    let check = |found: Result<()>, expected: &str| {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(new(Some(0), 9).map(drop), "a window of 0 was asked for");
    let mut cache = new(Some(8), 2000).unwrap();
    check(attend(&mut cache, 1, 9), "layer 0 of the KV cache holds a window of 8 tokens, and a window of 9");
    check(attend(&mut cache, 513, 0), "513 tokens at once are too many");
    attend(&mut cache, 512, 3).unwrap();
    attend(&mut cache, 512, 8).unwrap();
    assert_eq!((cache.positions(0), cache.earliest_len()), (Some(505..1024), 512));
    check(cache.truncate(511), "cannot go back from 1024 tokens to 511");
    assert_eq!(cache.len(), 1024);
    cache.truncate(512).unwrap();
    attend(&mut cache, 1, 0).unwrap();
    cache.truncate(0).unwrap();
    assert_eq!((cache.positions(0), cache.earliest_len()), (Some(0..0), 0));
    // Where all tokens have room, nothing is given up, and no step is too long.
    let mut small = new(Some(8), 520).unwrap();
    attend(&mut small, 519, 0).unwrap();
    small.truncate(1).unwrap();
    attend(&mut small, 519, 0).unwrap();
    assert_eq!(small.len(), 520);
}

/// A layer of attention, one that convolves, and one that does both a convolution and a delta rule, in steps of any
/// length, some of them broken off, with texts that begin anew: the bits of one step.
#[test]
fn states_are_those_of_one_step() {
    let device = Device::cpu();
    let part = |layer, keeps| CachePart { layer, keeps };
    let parts = [
        part(0, Keeps::KeysAndValues(LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window: None })),
        part(1, Keeps::Convolution { channels: 6, taps: 4 }),
        part(2, Keeps::Convolution { channels: 3, taps: 1 }),
        part(2, Keeps::DeltaRule { heads: 2, key_dim: 5, value_dim: 3 }),
    ];
    let new = || KvCache::with_parts(&device, &parts, 40, DType::F16).unwrap();
    assert_eq!((new().n_layers(), new().parts().count()), (3, 4));
    let mut random = Random::new(17);
    let n = 40;
    let mut tensor = |dims: &[usize]| {
        random.normal_tensor(&device, &Layout::new(DType::F32, dims)).unwrap().into_typed::<f32>().unwrap()
    };
    let [q, x, narrow] = [tensor(&[n, 1, 4]), tensor(&[n, 6]), tensor(&[n, 3])];
    let [filter, short] = [tensor(&[6, 4]), tensor(&[3, 1])];
    let [keys, values, gate] = [tensor(&[n, 1, 5]), tensor(&[n, 2, 3]), tensor(&[n, 2])];
    let gate = gate.abs().unwrap().neg().unwrap();
    let none = None::<&Tensor<f32>>;
    // The first `until` parts of a step.
    let step = |cache: &mut KvCache, tokens: Range<usize>, until: usize| -> Vec<f32> {
        let cut = |x: &Tensor<f32>| x.slice(0, tokens.start, tokens.end).unwrap();
        let mut all = Vec::new();
        for (index, part) in parts.iter().enumerate().take(until) {
            let found = match index {
                0 => cache.attend(part.layer, &cut(&q), &cut(&q), &cut(&q)),
                1 => cache.convolve(part.layer, &cut(&x), &filter, none),
                2 => cache.convolve(part.layer, &cut(&narrow), &short, none),
                _ => {
                    let [k, v, gate] = [cut(&keys), cut(&values), cut(&gate)].map(Tensor::into_dyn);
                    let step = DeltaStep { k: &k, v: &v, gate: &gate, beta: &gate, is_tiled: false };
                    cache.update_delta_rule(part.layer, &cut(&keys), &step)
                }
            };
            all.extend(found.unwrap().to_vec().unwrap());
        }
        all
    };
    for (begin, lens) in [(0, &[1, 1, 2, 3, 5, 28][..]), (7, &[9, 1, 1, 1, 1]), (3, &[1; 20])] {
        let mut cache = new();
        // Another text before.
        step(&mut cache, 20..29, 4);
        assert_eq!((cache.len(), cache.earliest_len()), (9, 9));
        let error = cache.truncate(8).unwrap_err().to_string();
        assert!(error.contains("cannot go back from 9 tokens to 8"), "{error}");
        cache.truncate(9).unwrap();
        cache.truncate(0).unwrap();
        let mut at = begin;
        for &len in lens {
            // Steps that are broken off at every part leave nothing behind.
            for until in 0..4 {
                step(&mut cache, 30..30 + len.min(10), until);
                cache.abandon_step();
            }
            let found = step(&mut cache, at..at + len, 4);
            at += len;
            let mut whole = new();
            let width = 4 + 6 + 3 + 6;
            let expected = step(&mut whole, begin..at, 4);
            assert_eq!((found.len(), cache.len()), (len * width, at - begin));
            // The last rows of each part's results.
            let (mut from, mut to) = (0, 0);
            for width in [4, 6, 3, 6] {
                let (all, last) = ((at - begin) * width, len * width);
                let expected = &expected[from + all - last..from + all];
                assert!(found[to..to + last] == *expected, "{begin}, {len} tokens behind {}", at - len);
                (from, to) = (from + all, to + last);
            }
        }
    }
}

/// Queries see through another layer's keys and values what they see through their own.
#[test]
fn layers_that_read_the_keys_of_others() {
    let device = Device::cpu();
    let spec = |window| LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window };
    let specs = [spec(Some(3)), spec(None)];
    let mut cache = KvCache::with_layers(&device, &specs, 2000, DType::F32).unwrap();
    let mut random = Random::new(23);
    let mut tensor = |n: usize| {
        random.normal_tensor(&device, &Layout::new(DType::F32, [n, 1, 4])).unwrap().into_typed::<f32>().unwrap()
    };
    let options = Attention::default();
    for n in [3, 500, 1, 512, 1, 2, 40] {
        let mut own = Vec::new();
        for layer in 0..2 {
            let (q, k) = (tensor(n), tensor(n));
            let early = cache.attend_again(layer, &q, &options).unwrap_err().to_string();
            assert!(early.contains(&format!("got layer {layer}")), "{early}");
            let seen = cache.attend(layer, &q, &k, &k).unwrap().to_vec().unwrap();
            // In the step, and behind its end.
            assert_eq!(cache.attend_again(layer, &q, &options).unwrap().to_vec().unwrap(), seen);
            own.push((q, seen));
        }
        for (layer, (q, seen)) in own.iter().enumerate() {
            assert_eq!(cache.attend_again(layer, q, &options).unwrap().to_vec().unwrap(), *seen, "{n}, {layer}");
        }
        let check = |found: Result<Tensor<f32>>, expected: &str| {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(cache.attend_again(0, &tensor(n + 1), &options), &format!("brings {} tokens", n + 1));
        check(cache.attend_again(2, &tensor(n), &options), "got layer 2");
        let wide = Attention { window: 4, ..options };
        check(cache.attend_again(0, &tensor(n), &wide), "holds a window of 3 tokens, and a window of 4");
        cache.abandon_step();
    }
}

#[test]
fn parts_that_are_not_asked_for() {
    let device = Device::cpu();
    let part = |layer, keeps| CachePart { layer, keeps };
    let spec = LayerSpec { kv_heads: 1, key_dim: 4, value_dim: 4, window: None };
    let convolution = Keeps::Convolution { channels: 4, taps: 3 };
    let mut cache =
        KvCache::with_parts(&device, &[part(0, convolution), part(1, Keeps::KeysAndValues(spec))], 8, DType::F16)
            .unwrap();
    let heads = Tensor::<f32>::ones(&device, [2, 1, 4]).unwrap();
    let (x, w) = (heads.reshape([2, 4]).unwrap(), Tensor::<f32>::ones(&device, [4, 3]).unwrap());
    let none = None::<&Tensor<f32>>;
    let check = |found: Result<Tensor<f32>>, expected: &str| {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(cache.attend(0, &heads, &heads, &heads), "keeps the inputs of a convolution where the step wants keys");
    check(cache.convolve(1, &x, &w, none), "got layer 1, but layer 0 of 2 is next");
    let wide = Tensor::<f32>::ones(&device, [4, 17]).unwrap();
    check(cache.convolve(0, &x, &wide, none), "the number of taps must be 1 to 16");
    let short = Tensor::<f32>::ones(&device, [4, 2]).unwrap();
    check(cache.convolve(0, &x, &short, none), "the state has other sizes than the step");
    cache.convolve(0, &x, &w, none).unwrap();
    check(cache.convolve(1, &x, &w, none), "keeps keys and values where the step wants the inputs of a convolution");
    cache.attend(1, &heads, &heads, &heads).unwrap();
    assert_eq!(cache.len(), 2);
    let skipped = KvCache::with_parts(&device, &[part(1, convolution)], 8, DType::F16);
    assert!(skipped.unwrap_err().to_string().contains("got layer 1, but layer 0"));
}

#[test]
fn types_that_cannot_be() {
    let device = Device::cpu();
    let check = |head_dim: usize, dtype: DType, expected: &str| {
        let error = KvCache::new(&device, 1, 1, head_dim, 8, dtype).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(64, DType::I32, "a KV cache keeps float16, float32 or q8_0, not int32");
    check(48, DType::Q8_0, "blocks of 32, and heads of 48 are no whole number of them; keep it in float16");
    assert!(check_dtype(true, 64, DType::Q8_0).unwrap_err().to_string().contains("is for the CPU"));
}

#[test]
fn the_layers_of_a_step_come_in_order() {
    let device = Device::cpu();
    let mut cache = KvCache::new(&device, 2, 1, 4, 8, DType::F16).unwrap();
    let ones = |n: usize| Tensor::<f32>::ones(&device, [n, 1, 4]).unwrap();
    let mut attend = |layer: usize, n: usize| {
        let result = cache.attend(layer, &ones(n), &ones(n), &ones(n)).map(|out| out.dims().to_vec());
        (result.map_err(|error| error.to_string()), cache.len())
    };
    let ok = |n: usize| Ok(vec![n, 1, 4]);
    assert_eq!(attend(0, 3), (ok(3), 0));
    assert!(attend(0, 3).0.unwrap_err().contains("got layer 0, but layer 1 of 2 is next"));
    assert!(
        attend(1, 2).0.unwrap_err().contains("layer 1 brings 2 tokens to the KV cache, but this step began with 3")
    );
    assert_eq!(attend(1, 3), (ok(3), 3));
    assert!(attend(2, 1).0.unwrap_err().contains("got layer 2"));
    assert!(attend(0, 6).0.unwrap_err().contains("it holds 3 of at most 8 tokens, 6 more do not fit"));
    assert_eq!(attend(0, 5), (ok(5), 3));
    assert_eq!(attend(1, 5), (ok(5), 8));
    assert!(KvCache::new(&device, 0, 1, 4, 8, DType::F16).unwrap().attend(0, &ones(1), &ones(1), &ones(1)).is_err());
}
