//! The builtin `generate`: what it reserves, what it keeps from call to call, and what it does on a device that is sealed.

use tl_device::{Device, DeviceOptions, Layout, ReservationPlan, Simulation, TensorBuffer};
use tl_lang::Interpreter;

/// What the program prints on this device.
fn printed(device: &Device, program: &str) -> String {
    let program = format!("let m = load_model(\"../../models/demo-q8_0.gguf\")\n{program}");
    match Interpreter::new(device).run(&program) {
        Ok(outcome) => outcome.output,
        Err(error) => panic!("{program}: {error}"),
    }
}

fn error(device: &Device, program: &str) -> String {
    let program = format!("let m = load_model(\"../../models/demo-q8_0.gguf\")\n{program}");
    Interpreter::new(device).run(&program).err().unwrap_or_else(|| panic!("{program} runs")).to_string()
}

fn cpu(threads: usize) -> Device {
    let mut options = DeviceOptions::default();
    options.threads = threads;
    Device::cpu_with(&options)
}

fn simulated_gpu() -> Device {
    let mut simulation = Simulation::default();
    simulation.is_gpu = true;
    Device::simulated(simulation)
}

/// Twelve calls, and what the last eleven allocate.
const TWELVE: &str = r#"
let text = generate(m, "A trait object", 20, temperature: 0)
let before = buffer_stats().allocations
for i in 0..11 { assert(generate(m, "A trait object", 20, temperature: 0) == text) }
print(buffer_stats().allocations - before)
"#;

#[test]
fn later_calls_allocate_nothing() {
    for device in [cpu(1), cpu(3), simulated_gpu()] {
        let program = format!("let live = buffer_stats().live_bytes\n{TWELVE}print(buffer_stats().peak_bytes - live)");
        let output = printed(&device, &program);
        let (allocations, peak) = output.trim_end().split_once('\n').unwrap();
        assert_eq!(allocations, "0", "{device:?}");
        // A prompt of 4 tokens and 20 more: 22 layers of keys and values, one head of 32 elements in float16; and activations.
        let cache_bytes = 24 * 22 * 2 * 32 * 2;
        assert!((cache_bytes..cache_bytes * 3 / 2).contains(&peak.parse().unwrap()), "{device:?}: {peak}");
        // With the model goes what it kept.
        assert_eq!(device.stats().live_bytes, 0, "{device:?}");
        assert!(device.tensor_buffer().is_none(), "{device:?}");
    }
}

#[test]
fn a_longer_text_reserves_again_and_a_shorter_one_does_not() {
    let program = r#"
fn ask(m: Model, n: int, prompt: string) -> int {
    let text = generate(m, prompt, n, temperature: 0)
    buffer_stats().allocations
}
let first = ask(m, 20, "A trait object")
print(ask(m, 8, "A trait object and an object and a trait") == first, ask(m, 1, "A") == first)
let second = ask(m, 30, "A trait object")
print(second > first, ask(m, 20, "A trait object") == second, ask(m, 30, "A trait object") == second)
"#;
    for device in [cpu(2), simulated_gpu()] {
        assert_eq!(printed(&device, program), "true true\ntrue true true\n", "{device:?}");
    }
}

/// What a sealed device has is enough from the first call on, and what is missing is told.
#[test]
fn sealed() {
    for device in [cpu(1), cpu(3), simulated_gpu()] {
        device.seal_at_first_use();
        assert_eq!(printed(&device, TWELVE), "0\n", "{device:?}");
        assert!(device.is_sealed());
        device.unseal();
        let message = error(&device, "buffer_seal()\nprint(generate(m, \"A trait object\", 20))");
        for part in ["memory is sealed", "24 tokens", "reserved no memory", "before `buffer_seal()`", "tl plan"] {
            assert!(message.contains(part), "{device:?}: {message}");
        }
        device.unseal();
        let program = "let s = generate(m, \"A\", 9)\nbuffer_seal()\nlet s = generate(m, \"A\", 5)\nlet s = generate(m, \"A\", 90)";
        let message = error(&device, program);
        assert!(message.contains("reserved memory for ") && message.contains(":5:"), "{device:?}: {message}");
    }
}

/// Reservations of the program that serve the call are used, and where they do not, they stay as they are.
#[test]
fn the_programs_own_reservations_go_first() {
    let call = "let text = generate(m, \"A trait object\", 20, temperature: 0)\n";
    for device in [cpu(2), simulated_gpu()] {
        device.start_trace();
        printed(&device, call);
        let plan = device.stop_trace().plan().unwrap();
        let lines: String = plan.rows.iter().map(|row| tl_lang::reserve_statement(row) + "\n").collect();
        let program =
            format!("{lines}print(buffer_stats().reserved)\nbuffer_seal()\n{call}print(buffer_stats().fallbacks)");
        assert_eq!(printed(&device, &program), format!("{}\n0\n", plan.count()), "{device:?}");
        device.unseal();
        // A line less does not serve it.
        let fewer: Vec<&str> = lines.lines().filter(|line| !line.contains("[1, 1536]")).collect();
        let fewer = fewer.join("\n");
        device.replace_tensor_buffer(None).unwrap();
        let program = format!("{fewer}\nlet n = buffer_stats().taken\n{call}print(buffer_stats().taken == n)");
        assert_eq!(printed(&device, &program), "true\n", "{device:?}");
        // By a plan nothing else is reserved.
        let buffer = TensorBuffer::new(&device);
        plan.reserve(&buffer).unwrap();
        buffer.keep_to_plan();
        device.replace_tensor_buffer(Some(buffer.clone())).unwrap();
        let before = device.stats().allocation_count;
        printed(&device, call);
        assert_eq!((device.stats().allocation_count, buffer.stats().fallback_count), (before, 0), "{device:?}");
    }
}

/// The program's buffer is back in its place whatever the call ends with.
#[test]
fn errors() {
    let device = cpu(1);
    let buffer = TensorBuffer::new(&device);
    "exact float16[8] 1".parse::<ReservationPlan>().unwrap().reserve(&buffer).unwrap();
    device.replace_tensor_buffer(Some(buffer.clone())).unwrap();
    let message = error(&device, "print(generate(m, \"\", 0, min_p: 7))");
    assert!(message.contains("min_p is 7"), "{message}");
    let message = error(&device, &format!("print(generate(m, \"{}\"))", "a b ".repeat(300)));
    assert!(message.contains("tokens") && message.contains("256"), "{message}");
    let taken = device.take(&Layout::from(vec![8]), tl_device::Role::Activation).unwrap();
    assert_eq!(buffer.stats().in_use_count, 1);
    drop(taken);
}
