//! What an engine promises, whatever its scheduler does inside.

use std::time::{Duration, Instant};

use tl_device::{Device, DeviceOptions};
use tl_engine::{Constraint, ConstraintState, GenerateOptions, Generator, Model, ModelError, SamplingOptions};
use tl_serve::{Engine, EngineOptions, Finish, Refusal, Request, TokenStream};
use tl_testing::project_file;

fn model() -> Model {
    Model::load(project_file("models/demo-q8_0.gguf"), &Device::cpu()).unwrap()
}

fn greedy(prompt: &[u32], max_tokens: usize) -> Request {
    let mut request = Request::new(prompt.to_vec(), max_tokens);
    request.sampling = SamplingOptions::greedy();
    request
}

/// The tokens to the end, and the reason for it.
fn read(mut stream: TokenStream) -> (Vec<u32>, Option<Finish>) {
    let mut tokens = Vec::new();
    while let Some(token) = stream.wait_next() {
        tokens.push(token.unwrap().id);
    }
    (tokens, stream.finish())
}

fn wait_for(what: &str, is_right: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_right() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn each_sequence_is_that_of_a_generator() {
    let model = model();
    let options = GenerateOptions::default().with_context(64).with_max_tokens(12);
    let alone = |prompt: &[u32], seed: u64| {
        let sampling = SamplingOptions::default().with_seed(seed);
        let generator = Generator::new(&model, prompt, &options.clone().with_sampling(sampling)).unwrap();
        generator.collect::<Result<Vec<u32>, _>>().unwrap()
    };
    let prompts: [&[u32]; 3] = [&[1, 300, 301], &[1, 300, 7, 8, 9], &[1, 500]];
    let expected: Vec<Vec<u32>> = prompts.iter().zip(0..).map(|(prompt, seed)| alone(prompt, seed)).collect();
    let engine = Engine::start(&model, EngineOptions::new(64)).unwrap();
    let allocations = engine.stats().memory.allocation_count;
    for _ in 0..2 {
        let streams: Vec<TokenStream> = prompts
            .iter()
            .zip(0..)
            .map(|(prompt, seed)| {
                let mut request = Request::new(prompt.to_vec(), 12);
                request.sampling = SamplingOptions::default().with_seed(seed);
                request.reuses_prefix = false;
                engine.submit(request).unwrap()
            })
            .collect();
        let found: Vec<Vec<u32>> = streams.into_iter().map(|stream| read(stream).0).collect();
        assert_eq!(found, expected);
    }
    let stats = engine.stats();
    assert_eq!((stats.submitted_count, stats.finished_count, stats.running), (6, 6, 0));
    assert_eq!(stats.memory.allocation_count, allocations);
    assert!(model.device().is_sealed());
}

/// Requests of all lengths, some of which begin alike; every other one is sampled.
fn mixed_requests(n: usize) -> Vec<Request> {
    let mut state = 3u64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let request = |i: usize| {
        let (family, len) = (random(3), [1usize, 5, 31, 32, 33, 127, 128, 129, 140, 200][random(10)]);
        let tail = if random(2) == 0 { len } else { len.saturating_sub(3) };
        let id = |at: usize| if at < tail { (family * 100 + at * 7) % 1500 } else { (i * 13 + at) % 1500 };
        let mut request = Request::new((0..len).map(|at| id(at) as u32).collect(), 1 + random(40));
        request.sampling = SamplingOptions::default().with_seed(i as u64).with_temperature((i % 2) as f32);
        request
    };
    (0..n).map(request).collect()
}

/// What a request gets is what it gets alone, to the last token, whoever else is there or goes; all memory is there before.
#[test]
fn texts_do_not_depend_on_each_other() {
    let mut device_options = DeviceOptions::default();
    device_options.threads = 2;
    let load = || Model::load(project_file("models/demo-q8_0.gguf"), &Device::cpu_with(&device_options)).unwrap();
    let n = 60;
    let alone: Vec<(Vec<u32>, Option<Finish>)> = {
        let engine = Engine::start(&load(), EngineOptions::new(256)).unwrap();
        mixed_requests(n).into_iter().map(|request| read(engine.submit(request).unwrap())).collect()
    };
    let mut options = EngineOptions::new(256).with_sequences(4, 20);
    options.queue = 2 * n;
    let engine = Engine::start(&load(), options).unwrap();
    let before = engine.stats().memory;
    let mut most = 0;
    for round in 0..2 {
        let mut streams = Vec::new();
        for (i, request) in mixed_requests(n).into_iter().enumerate() {
            streams.push(engine.submit(request).unwrap());
            // Some come and go again.
            if i % 5 == round {
                drop(engine.submit(greedy(&[7; 150], 100)).unwrap());
            }
        }
        for (i, stream) in streams.into_iter().enumerate() {
            most = most.max(engine.stats().running);
            assert_eq!(read(stream), alone[i], "request {i}, round {round}");
        }
    }
    assert!(most > 3, "only {most} ran at once");
    wait_for("all ended", || engine.stats().running == 0);
    let stats = engine.stats();
    assert_eq!((stats.finished_count, stats.failed_count, stats.kv_tokens), (2 * n as u64, 0, 0));
    assert!(stats.cached_tokens >= 128, "{}", stats.cached_tokens);
    let after = stats.memory;
    assert_eq!((after.driver_bytes, after.allocation_count), (before.driver_bytes, before.allocation_count));
}

#[test]
fn a_greedy_token_is_the_likeliest() {
    let engine = Engine::start(&model(), EngineOptions::new(32)).unwrap();
    let mut stream = engine.submit(Request { n_logprobs: 3, ..greedy(&[1, 300, 301], 5) }).unwrap();
    let mut count = 0;
    while let Some(token) = stream.wait_next() {
        let token = token.unwrap();
        assert_eq!((token.top.len(), token.top[0].id, Some(token.top[0].logprob)), (3, token.id, token.logprob));
        assert!(token.top.is_sorted_by(|a, b| a.logprob >= b.logprob) && token.top[0].logprob <= 0.0);
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn refusals_have_numbers() {
    let engine = Engine::start(&model(), EngineOptions::new(16)).unwrap();
    let too_long = engine.submit(greedy(&[1; 10], 7)).unwrap_err();
    assert!(matches!(too_long, Refusal::TooLong { needed: 17, limit: 16, .. }), "{too_long}");
    assert!(engine.submit(greedy(&[1; 10], 6)).is_ok());
    assert!(matches!(engine.submit(greedy(&[u32::MAX], 6)), Err(Refusal::Token { .. })));
    assert!(matches!(engine.submit(greedy(&[], 6)), Err(Refusal::EmptyPrompt)));
    let quote = engine.quote(10, 7);
    assert_eq!((quote.needed_tokens, quote.limit_tokens, quote.fits), (17, 16, false));
    assert!(engine.quote(10, 6).fits && engine.quote(1, usize::MAX).needed_tokens == usize::MAX);
}

#[test]
fn options_out_of_range() {
    let model = model();
    let check = |change: fn(&mut EngineOptions), expected: &str| {
        let mut options = EngineOptions::new(16);
        change(&mut options);
        let error = Engine::start(&model, options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|options| options.queue = 0, "queue is 0, expected 1 to 65536");
    check(|options| options.sequences = 0, "sequences is 0");
    check(|options| options.sequences = 257, "sequences is 257, expected 1 to 256");
    check(|options| options.kv_tokens = 15, "kv_tokens is 15, expected at least the 16 tokens");
    check(|options| options.context = 10_000, "works for 1 to 256");
    check(|options| options.context = 0, "works for 1 to 256");
}

#[test]
fn readers_that_go_and_queues_that_are_full() {
    let mut options = EngineOptions::new(256);
    options.queue = 1;
    let engine = Engine::start(&model(), options).unwrap();
    let long = || {
        let mut request = Request::new(vec![1, 300], 250);
        request.sampling.temperature = 2.0;
        request
    };
    let running = engine.submit(long()).unwrap();
    wait_for("it runs", || engine.stats().running == 1);
    let waiting = engine.submit(long()).unwrap();
    let refusal = engine.submit(long()).unwrap_err();
    assert!(matches!(refusal, Refusal::QueueFull { waiting: 1, limit: 1, .. }), "{refusal}");
    drop(waiting);
    let next = engine.submit(greedy(&[1, 300], 3)).unwrap();
    drop(running);
    assert_eq!(read(next).1, Some(Finish::MaxTokens));
    let stats = engine.stats();
    assert_eq!((stats.cancelled_count, stats.refused_count, stats.finished_count), (2, 1, 1));
}

#[test]
fn a_drain_finishes_what_was_taken() {
    let engine = Engine::start(&model(), EngineOptions::new(64)).unwrap();
    let streams = [0; 3].map(|_| engine.submit(greedy(&[1, 300], 20)).unwrap());
    engine.drain(Duration::from_secs(60));
    assert!(matches!(engine.submit(greedy(&[1], 1)), Err(Refusal::Stopping)));
    for stream in streams {
        assert_eq!(read(stream).0.len(), 20);
    }
    wait_for("it ends", || engine.stats().is_ended);
    let engine = Engine::start(&model(), EngineOptions::new(256)).unwrap();
    let mut request = greedy(&[1, 300], 250);
    request.sampling.temperature = 2.0;
    let streams = [engine.submit(request).unwrap(), engine.submit(greedy(&[1], 250)).unwrap()];
    engine.drain(Duration::ZERO);
    for stream in streams {
        assert_eq!(read(stream).1, Some(Finish::Cancelled));
    }
}

/// Allows nothing, with an error.
#[derive(Debug)]
struct Broken;

impl Constraint for Broken {
    fn reset(&mut self) -> tl_engine::Result<()> {
        Ok(())
    }

    fn mask(&mut self, _: &mut [f32]) -> tl_engine::Result<()> {
        Err(ModelError::EmptyPrompt)
    }

    fn accept(&mut self, _: u32) -> tl_engine::Result<()> {
        Ok(())
    }

    fn state(&self) -> ConstraintState {
        ConstraintState::Open
    }
}

#[test]
fn an_error_ends_its_sequence_alone() {
    let engine = Engine::start(&model(), EngineOptions::new(64)).unwrap();
    let mut failing = engine.submit(Request { constraint: Some(Box::new(Broken)), ..greedy(&[1, 300], 5) }).unwrap();
    let next = engine.submit(greedy(&[1, 300], 5)).unwrap();
    assert!(failing.wait_next().is_some_and(|token| token.is_err()));
    assert!(failing.wait_next().is_none() && failing.finish() == Some(Finish::Failed));
    assert_eq!(read(next).0.len(), 5);
    assert_eq!(engine.stats().failed_count, 1);
}

#[test]
fn a_dropped_engine_ends_its_streams() {
    let engine = Engine::start(&model(), EngineOptions::new(64)).unwrap();
    let stream = engine.submit(greedy(&[1, 300], 60)).unwrap();
    drop(engine);
    assert_eq!(read(stream).1, Some(Finish::Cancelled));
}
