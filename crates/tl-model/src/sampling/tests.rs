//! Choices against plain references: filters alone and together, penalties, awkward logits and options.

use proptest::prelude::*;

use super::*;

#[test]
fn random_sequence_is_the_published_one() {
    let mut random = Random { state: [1, 2, 3, 4] };
    let first: Vec<u64> = (0..4).map(|_| random.next()).collect();
    assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    // Filled from the seed by splitmix64, whose first numbers from this seed are published too.
    let random = Random::new(1477776061723855037);
    assert_eq!(random.state[..3], [1985237415132408290, 2979275885539914483, 13511426838097143398]);
}

#[test]
fn exp_is_accurate() {
    for i in 0..=70_000 {
        let x = -f64::from(i) / 100.0;
        let (ours, std) = (exp(x), x.exp());
        assert!((ours - std).abs() <= 4.0 * f64::EPSILON * std, "exp({x}) = {ours}, not {std}");
    }
    assert_eq!((exp(0.0), exp(-709.0), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
}

#[test]
fn argmax_takes_the_first_of_equals() {
    let check = |logits: &[f32], expected: Option<u32>| assert_eq!(argmax(logits).ok(), expected, "{logits:?}");
    check(&[1.0, 3.0, 3.0], Some(1));
    check(&[f32::NEG_INFINITY, f32::NEG_INFINITY], Some(0));
    check(&[-0.0, 0.0], Some(0));
    check(&[], None);
    check(&[1.0, f32::NAN], None);
}

#[test]
fn other_options_begin_anew() {
    let mut penalties = SamplingOptions::default().with_seed(3);
    penalties.presence_penalty = 2.0;
    let logits = [0.5, 0.4, 0.3, 0.2];
    let draw = |sampler: &mut Sampler| -> Vec<u32> {
        let mut next = || {
            let token = sampler.sample(&logits).unwrap();
            sampler.accept(token);
            token
        };
        (0..20).map(|_| next()).collect()
    };
    let all = [SamplingOptions::greedy(), penalties, SamplingOptions::default().with_seed(3), penalties];
    let mut changed = Sampler::new(SamplingOptions::default(), logits.len()).unwrap();
    for options in all {
        draw(&mut changed);
        changed.set_options(options).unwrap();
        assert_eq!(draw(&mut changed), draw(&mut Sampler::new(options, logits.len()).unwrap()), "{options:?}");
    }
    assert!(changed.set_options(SamplingOptions::default().with_top_p(0.0)).is_err());
    assert_eq!(*changed.options(), penalties);
}

/// Shares of 20,000 draws.
fn shares(options: SamplingOptions, logits: &[f32]) -> Vec<f64> {
    let mut sampler = Sampler::new(options, logits.len()).unwrap();
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..20_000 {
        counts[sampler.sample(logits).unwrap() as usize] += 1.0 / 20_000.0;
    }
    counts
}

#[test]
fn draws_have_the_right_shares() {
    let ln = |p: f32| p.ln();
    let logits = [ln(0.1), ln(0.4), f32::NEG_INFINITY, ln(0.2), ln(0.3)];
    let check = |temperature: f32, top_k: usize, top_p: f32, expected: [f64; 5]| {
        let got = shares(SamplingOptions { temperature, top_k, top_p, seed: 7, ..Default::default() }, &logits);
        for (got, expected) in got.iter().zip(expected) {
            // Four standard deviations of 20,000 draws are below 0.015; what cannot be drawn never is.
            assert!((got - expected).abs() < 0.015 && (expected > 0.0 || *got == 0.0), "{got} for {expected}");
        }
    };
    check(1.0, 0, 1.0, [0.1, 0.4, 0.0, 0.2, 0.3]);
    check(0.0, 0, 1.0, [0.0, 1.0, 0.0, 0.0, 0.0]);
    check(0.5, 0, 1.0, [1.0 / 30.0, 16.0 / 30.0, 0.0, 4.0 / 30.0, 9.0 / 30.0]);
    check(1.0, 2, 1.0, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    check(1.0, 1, 1.0, [0.0, 1.0, 0.0, 0.0, 0.0]);
    check(1.0, 9, 1.0, [0.1, 0.4, 0.0, 0.2, 0.3]);
    check(1.0, 0, 0.6, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    check(1.0, 0, 0.85, [0.0, 4.0 / 9.0, 0.0, 2.0 / 9.0, 3.0 / 9.0]);
    check(1.0, 3, 0.5, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    check(1.0, 0, f32::MIN_POSITIVE, [0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn top_p_over_a_large_flat_vocabulary() {
    // All equal: the first tokens win, and the loop goes through several of its steps.
    let logits = vec![0.0; 5000];
    let options = SamplingOptions { top_p: 0.5, ..SamplingOptions::default() };
    let mut sampler = Sampler::new(options, logits.len()).unwrap();
    for _ in 0..1000 {
        assert!(sampler.sample(&logits).unwrap() < 2500);
    }
    assert_eq!(sampler.candidates.len(), 2500);
    assert_eq!(sampler.candidates.capacity(), 5000);
}

#[test]
fn what_is_kept_is_what_sorting_everything_keeps() {
    let mut random = Random::new(3);
    for n in [1, 2, 7, 255, 256, 257, 700, 5000] {
        for (top_k, top_p) in [(0, 0.9), (0, 0.05), (0, 0.999_999), (1, 1.0), (40, 0.8), (300, 1.0), (4999, 0.5)] {
            // Eighths: many are equal.
            let logits: Vec<f32> = (0..n).map(|_| (random.unit() * 80.0).round() as f32 / 8.0).collect();
            let options = SamplingOptions { temperature: 0.7, top_k, top_p, seed: 1, ..Default::default() };
            let mut sampler = Sampler::new(options, n).unwrap();
            let token = sampler.sample(&logits).unwrap();
            let scale = Scale { largest: f64::from(logits.iter().copied().fold(0.0, f32::max)), temperature: 0.7 };
            let mut all: Vec<Candidate> =
                (0..n).map(|i| Candidate { logit: logits[i], id: i as u32, weight: scale.weight(logits[i]) }).collect();
            all.sort_by(Candidate::order);
            if top_k > 0 {
                all.truncate(top_k);
            }
            let wanted = all.iter().map(|c| c.weight).sum::<f64>() * f64::from(top_p);
            let mut sum = 0.0;
            let is_kept = |c: &&Candidate| {
                let before = sum;
                sum += c.weight;
                before < wanted
            };
            let expected: Vec<u32> = all.iter().take_while(is_kept).map(|c| c.id).collect();
            let kept: Vec<u32> = sampler.candidates.iter().map(|c| c.id).collect();
            assert!(expected.contains(&token));
            if top_p < 1.0 || (1..n).contains(&top_k) {
                assert_eq!(kept, expected, "{n} {top_k} {top_p}");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..300).map(|i| (i * 37 % 101) as f32 / 25.0).collect();
    let draw = |seed: u64| -> Vec<u32> {
        let options = SamplingOptions { temperature: 0.8, top_k: 40, top_p: 0.95, seed, ..Default::default() };
        let mut sampler = Sampler::new(options, logits.len()).unwrap();
        (0..12).map(|_| sampler.sample(&logits).unwrap()).collect()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn bad_options_and_logits_are_errors() {
    let check = |temperature: f32, top_p: f32, ok: bool| {
        let options = SamplingOptions { temperature, top_p, ..SamplingOptions::default() };
        assert_eq!(Sampler::new(options, 4).is_ok(), ok, "{options:?}");
    };
    check(0.0, 1.0, true);
    check(-0.1, 1.0, false);
    check(f32::NAN, 1.0, false);
    check(f32::INFINITY, 1.0, false);
    check(1.0, 0.0, false);
    check(1.0, 1.01, false);
    check(1.0, f32::NAN, false);
    let mut sampler = Sampler::new(SamplingOptions::default(), 2).unwrap();
    for logits in [&[f32::NAN, 0.0][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 2], &[]] {
        assert!(sampler.sample(logits).is_err(), "{logits:?}");
    }
}

#[test]
fn options_outside_their_ranges_are_named() {
    let plain = SamplingOptions::default;
    let check = |options: SamplingOptions, expected: Option<&str>| {
        let wrong = match Sampler::new(options, 4) {
            Err(ModelError::SamplingOption { option, .. }) => Some(option),
            other => other.map(|_| None).unwrap(),
        };
        assert_eq!(wrong, expected, "{options:?}");
    };
    for (value, is_right) in [(0.0, true), (1.0, true), (-0.1, false), (1.1, false), (f32::NAN, false)] {
        check(SamplingOptions { min_p: value, ..plain() }, (!is_right).then_some("min_p"));
    }
    let values = [f32::NAN, f32::INFINITY, -1.0, 100.1, 0.0, 0.001, 100.0];
    for (value, is_right) in values.into_iter().zip([false, false, false, false, true, true, true]) {
        let (presence, frequency) = ("presence_penalty", "frequency_penalty");
        check(SamplingOptions { presence_penalty: value, ..plain() }, (!is_right).then_some(presence));
        check(SamplingOptions { frequency_penalty: value, ..plain() }, (!is_right).then_some(frequency));
        let wrong = (value != 100.0).then_some("repetition_penalty");
        check(SamplingOptions { repetition_penalty: value, ..plain() }, wrong);
    }
    let most = SamplingOptions::MAX_PENALTY_WINDOW;
    check(SamplingOptions { penalty_window: most, ..plain() }, None);
    check(SamplingOptions { penalty_window: most + 1, ..plain() }, Some("penalty_window"));
    check(SamplingOptions { penalty_window: usize::MAX, presence_penalty: 1.0, ..plain() }, Some("penalty_window"));
}

#[test]
fn a_seed_gives_these_tokens() {
    let logits: Vec<f32> = (0..1000).map(|i| (i * 379 % 1009) as f32 / 80.0).collect();
    let check = |temperature: f32, top_k: usize, top_p: f32, expected: [u32; 8]| {
        let options = SamplingOptions { temperature, top_k, top_p, seed: 11, ..Default::default() };
        let mut sampler = Sampler::new(options, logits.len()).unwrap();
        assert_eq!(expected.map(|_| sampler.sample(&logits).unwrap()), expected, "{options:?}");
        // A window alone penalizes nothing, and a new start is one.
        sampler.reset();
        sampler.accept(expected[0]);
        assert_eq!(expected.map(|_| sampler.sample(&logits).unwrap()), expected, "{options:?}");
        assert!(sampler.state.history.is_none());
    };
    check(1.0, 0, 1.0, [881, 804, 977, 599, 298, 740, 157, 45]);
    check(0.7, 0, 0.9, [471, 487, 423, 937, 378, 511, 189, 804]);
    check(0.8, 40, 1.0, [551, 756, 945, 165, 993, 764, 599, 402]);
    check(1.3, 40, 0.8, [157, 362, 354, 575, 591, 165, 599, 402]);
    check(0.0, 0, 1.0, [402; 8]);
}

#[test]
fn min_p_draws_have_the_right_shares() {
    let logits = [0.1f32, 0.4, 0.0, 0.2, 0.3].map(f32::ln);
    let check = |options: SamplingOptions, expected: [f64; 5]| {
        for (got, expected) in shares(SamplingOptions { seed: 7, ..options }, &logits).iter().zip(expected) {
            assert!((got - expected).abs() < 0.015 && (expected > 0.0 || *got == 0.0), "{got} for {expected}");
        }
    };
    let plain = SamplingOptions::default();
    check(SamplingOptions { min_p: 0.2, ..plain }, [0.1, 0.4, 0.0, 0.2, 0.3]);
    check(SamplingOptions { min_p: 0.4, ..plain }, [0.0, 4.0 / 9.0, 0.0, 2.0 / 9.0, 3.0 / 9.0]);
    check(SamplingOptions { min_p: 0.6, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    check(SamplingOptions { min_p: 1.0, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]);
    check(SamplingOptions { min_p: 1e-30, ..plain }, [0.1, 0.4, 0.0, 0.2, 0.3]);
    // Top-p is of what min-p leaves: 4/9 and 3/9 are more than 0.7.
    check(SamplingOptions { min_p: 0.4, top_p: 0.7, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    check(SamplingOptions { min_p: 0.4, top_k: 2, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    check(SamplingOptions { min_p: 0.7, top_k: 4, ..plain }, [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0]);
    // Of probabilities after the temperature: at 0.5, 9/30 are 9/16 of 16/30.
    check(SamplingOptions { min_p: 0.6, temperature: 0.5, ..plain }, [0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn penalties_change_the_logits_of_the_last_tokens() {
    let check = |options: SamplingOptions, last: &[u32], logits: &[f32], expected: &[f32]| {
        let mut sampler = Sampler::new(options, logits.len()).unwrap();
        last.iter().for_each(|&token| sampler.accept(token));
        let mut changed = logits.to_vec();
        sampler.penalize(&mut changed);
        assert_eq!(changed, expected, "{options:?} {last:?}");
    };
    let plain = SamplingOptions::default();
    let repetition = SamplingOptions { repetition_penalty: 2.0, ..plain };
    check(repetition, &[0, 1, 1, 2], &[3.0, -3.0, 0.0, 1.0], &[1.5, -6.0, 0.0, 1.0]);
    check(repetition, &[0, 7, u32::MAX], &[3.0, 3.0], &[1.5, 3.0]);
    check(repetition, &[0, 1], &[f32::NEG_INFINITY, f32::INFINITY], &[f32::NEG_INFINITY, f32::INFINITY]);
    check(repetition, &[0, 1], &[f32::MIN, f32::MAX], &[f32::MIN, f32::MAX / 2.0]);
    let favoured = SamplingOptions { repetition_penalty: 0.5, ..plain };
    check(favoured, &[0, 1], &[f32::MAX, -2.0], &[f32::MAX, -1.0]);
    let presence = SamplingOptions { presence_penalty: 0.5, ..plain };
    check(presence, &[1, 1, 1], &[3.0, 3.0], &[3.0, 2.5]);
    let frequency = SamplingOptions { frequency_penalty: 0.5, ..plain };
    check(frequency, &[1, 1, 0, 1], &[3.0, 3.0], &[2.5, 1.5]);
    // The repetition penalty comes before those that are subtracted.
    let all = SamplingOptions { presence_penalty: 0.25, frequency_penalty: 0.5, ..repetition };
    check(all, &[1, 1], &[3.0, 3.0], &[3.0, 0.25]);
    // The window: the first of four no longer counts.
    let narrow = SamplingOptions { penalty_window: 3, ..frequency };
    check(narrow, &[0, 1, 1, 2], &[3.0, 3.0, 3.0], &[3.0, 2.0, 2.5]);
    check(narrow, &[0, 1, 1, 2, 2, 2], &[3.0, 3.0, 3.0], &[3.0, 3.0, 1.5]);
    check(SamplingOptions { penalty_window: 0, ..all }, &[0, 1], &[3.0, 3.0], &[3.0, 3.0]);
}

#[test]
fn reset_forgets_the_last_tokens() {
    let options = SamplingOptions { temperature: 0.0, presence_penalty: 2.0, penalty_window: 4, ..Default::default() };
    let mut sampler = Sampler::new(options, 3).unwrap();
    let logits = [1.0, 2.0, 0.5];
    for _ in 0..2 {
        let chosen: Vec<u32> = (0..7)
            .map(|_| {
                let token = sampler.sample(&logits).unwrap();
                sampler.accept(token);
                token
            })
            .collect();
        // Once each has been chosen, the order is that without penalties, until the ring lets the first go.
        assert_eq!(chosen, [1, 0, 2, 1, 1, 1, 0]);
        sampler.reset();
    }
}

#[test]
fn the_device_chooses_only_without_penalties() {
    let check = |options: SamplingOptions, expected: bool| {
        assert_eq!(Sampler::new(options, 2).unwrap().chooses_on_device(), expected, "{options:?}");
    };
    let greedy = SamplingOptions::greedy();
    check(greedy, true);
    check(SamplingOptions { min_p: 0.5, top_k: 3, top_p: 0.5, ..greedy }, true);
    check(SamplingOptions { repetition_penalty: 1.1, penalty_window: 0, ..greedy }, true);
    check(SamplingOptions { repetition_penalty: 1.1, ..greedy }, false);
    check(SamplingOptions { presence_penalty: 0.1, ..greedy }, false);
    check(SamplingOptions { frequency_penalty: 0.1, ..greedy }, false);
    check(SamplingOptions::default(), false);
}

/// The logits after the penalties, with `last` the tokens that count.
fn penalized(options: &SamplingOptions, last: &[u32], logits: &[f32]) -> Vec<f32> {
    let penalize = |(&logit, id): (&f32, u32)| {
        let count = last.iter().filter(|token| **token == id).count();
        if count == 0 {
            return logit;
        }
        let penalty = f64::from(options.repetition_penalty);
        let x = f64::from(logit);
        let repeated = if x > 0.0 { x / penalty } else { x * penalty };
        (repeated - (f64::from(options.presence_penalty) + f64::from(options.frequency_penalty) * count as f64)) as f32
    };
    logits.iter().zip(0..).map(penalize).collect()
}

/// The ids that a choice is among, most likely first. Where it depends on the last bits of a sum or an exponential, more of
/// them are kept with a `slack` above 0, fewer with one below.
fn kept(options: &SamplingOptions, logits: &[f32], slack: f64) -> Vec<u32> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = |logit: f32| ((f64::from(logit) - largest) / f64::from(options.temperature)).exp();
    let mut all: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    if options.top_k > 0 {
        all.truncate(options.top_k);
    }
    let least = (f64::from(options.min_p) * (1.0 - slack)).min(1.0);
    all.retain(|(logit, _)| weight(*logit) >= least);
    let wanted = all.iter().map(|(logit, _)| weight(*logit)).sum::<f64>() * f64::from(options.top_p) * (1.0 + slack);
    let mut sum = 0.0;
    let is_kept = |(logit, _): &(f32, u32)| {
        let before = sum;
        sum += weight(*logit);
        before < wanted
    };
    all.into_iter().take_while(is_kept).map(|(_, id)| id).collect()
}

/// Logits with many equal ones and some that are minus infinity; with what cannot be sampled now and then.
fn some_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        200 => (-80i32..80).prop_map(|eighths| eighths as f32 / 8.0),
        20 => Just(f32::NEG_INFINITY),
        20 => -10.0f32..10.0,
    ];
    let odd = prop_oneof![30 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))];
    let logits = prop_oneof![prop::collection::vec(logit.clone(), 1..20), prop::collection::vec(logit, 200..700)];
    (logits, odd, any::<prop::sample::Index>()).prop_map(|(mut logits, odd, at)| {
        if let Some(odd) = odd {
            let at = at.index(logits.len());
            logits[at] = odd;
        }
        logits
    })
}

fn some_options() -> impl Strategy<Value = SamplingOptions> {
    let filters = (
        prop_oneof![Just(0.0f32), Just(1.0), 0.05f32..3.0],
        prop_oneof![Just(0usize), 1usize..8, 8usize..400],
        prop_oneof![Just(1.0f32), 0.01f32..1.0, Just(0.5)],
        prop_oneof![2 => Just(0.0f32), 2 => 0.0001f32..1.0, 1 => Just(1.0)],
    );
    let penalties = (
        prop_oneof![Just(1.0f32), 0.5f32..3.0],
        prop_oneof![Just(0.0f32), 0.0f32..4.0],
        prop_oneof![Just(0.0f32), 0.0f32..2.0],
        prop_oneof![Just(0usize), 1usize..12, Just(64)],
    );
    (filters, penalties, any::<u64>()).prop_map(|(filters, penalties, seed)| {
        let (temperature, top_k, top_p, min_p) = filters;
        let (repetition_penalty, presence_penalty, frequency_penalty, penalty_window) = penalties;
        SamplingOptions {
            temperature,
            top_k,
            top_p,
            seed,
            min_p,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            penalty_window,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn choices_are_those_of_the_plain_way(
        options in some_options(),
        logits in some_logits(),
        tokens in prop::collection::vec(0u32..24, 0..40),
    ) {
        let mut sampler = Sampler::new(options, logits.len()).unwrap();
        let room = |sampler: &Sampler| {
            let ring = sampler.state.history.as_ref().map(|history| history.ring.capacity());
            (sampler.candidates.capacity(), sampler.weights.capacity(), sampler.logits.capacity(), ring)
        };
        let room_before = room(&sampler);
        // The drawn token becomes one of the last, four times.
        let mut tokens = tokens;
        tokens.iter().for_each(|&token| sampler.accept(token));
        for _ in 0..4 {
            let last = &tokens[tokens.len().saturating_sub(options.penalty_window)..];
            let changed = penalized(&options, last, &logits);
            let unit = sampler.state.random.clone().unit();
            let token = sampler.sample(&logits);
            let largest = changed.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if changed.iter().any(|logit| logit.is_nan()) || (options.temperature > 0.0 && largest.is_infinite()) {
                prop_assert!(token.is_err());
                break;
            }
            let token = token.unwrap();
            if options.temperature == 0.0 {
                prop_assert_eq!(Some(token as usize), changed.iter().position(|logit| *logit == largest));
            } else {
                let is_filtered = (1..logits.len()).contains(&options.top_k) || options.min_p > 0.0 || options.top_p < 1.0;
                let order: Vec<u32> = if is_filtered {
                    let order: Vec<u32> = sampler.candidates.iter().map(|candidate| candidate.id).collect();
                    let (least, most) = (kept(&options, &changed, -1e-9), kept(&options, &changed, 1e-9));
                    prop_assert!((least.len()..=most.len()).contains(&order.len()));
                    let (mut sorted, mut expected) = (order.clone(), most[..order.len()].to_vec());
                    sorted.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(sorted, expected);
                    order
                } else {
                    (0..logits.len() as u32).collect()
                };
                // The random number falls into the token's share.
                let temperature = f64::from(options.temperature);
                let weight = |id: u32| ((f64::from(changed[id as usize]) - f64::from(largest)) / temperature).exp();
                let total: f64 = order.iter().map(|&id| weight(id)).sum();
                let before: f64 = order.iter().take_while(|id| **id != token).map(|&id| weight(id)).sum();
                let (left, slack) = (unit * total, 1e-9 * total);
                prop_assert!(order.contains(&token) && weight(token) > 0.0);
                prop_assert!(before - slack <= left && left <= before + weight(token) + slack);
            }
            sampler.accept(token);
            tokens.push(token);
        }
        prop_assert_eq!(room(&sampler), room_before);
    }
}

#[test]
fn tiny_temperatures_are_greedy() {
    let mut sampler = Sampler::new(SamplingOptions { temperature: 1e-30, ..Default::default() }, 3).unwrap();
    assert_eq!(sampler.sample(&[1.0, 1.0001, 0.0]).unwrap(), 1);
}
