//! Every program that the operations launch here, in every data type, stored format and arrangement, is valid and can be
//! written for every backend. Needs no GPU: simulated ones show their programs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use tl_device::{Device, Launch, LaunchListener, ShaderTarget, Simulation};
use tl_tensor::ops;

type Programs = BTreeMap<(&'static str, u64), String>;

/// The programs that all operations launch on a device of this kind.
fn programs(target: &ShaderTarget) -> Programs {
    let found = Arc::new(Mutex::new(Programs::new()));
    let (kept, own_target) = (found.clone(), target.clone());
    let mut simulation = Simulation::default();
    simulation.is_gpu = true;
    simulation.target = Some(target.clone());
    simulation.on_launch = Some(LaunchListener::new(move |launch: &Launch| {
        let text = (launch.source)(&own_target);
        let previous = kept.lock().unwrap().insert((launch.name, launch.variant), text.clone());
        // The name and the number stand for one text.
        assert!(previous.is_none_or(|previous| previous == text), "{} {:x} has two texts", launch.name, launch.variant);
    }));
    let device = Device::simulated(simulation);
    for op in ops::all() {
        crate::reference(op.name).expect("none is missing")(&device, op);
    }
    drop(device);
    Arc::into_inner(found).unwrap().into_inner().unwrap()
}

/// Parses, validates and writes a program for each backend.
fn check(name: &str, text: &str, has_matrix: bool) {
    let shown = |problem: String| format!("{name}: {problem}\n{text}");
    let module = naga::front::wgsl::parse_str(text).map_err(|error| shown(error.emit_to_string(text))).unwrap();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|error| shown(error.emit_to_string(text))).unwrap();
    write(&module, &info, has_matrix).map_err(shown).unwrap();
}

fn write(module: &naga::Module, info: &ModuleInfo, has_matrix: bool) -> Result<(), String> {
    let spirv = spv::Options { lang_version: (1, 6), ..spv::Options::default() };
    spv::write_vec(module, info, &spirv, None).map_err(|error| format!("SPIR-V: {error}"))?;
    let metal = msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..msl::Options::default() };
    let pipeline = msl::PipelineOptions::default();
    msl::write_string(module, info, &metal, &pipeline).map_err(|error| format!("MSL: {error}"))?;
    // Direct3D's language has no cooperative matrices.
    if !has_matrix {
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_2,
            fake_missing_bindings: true,
            immediates_target: Some(hlsl::BindTarget::default()),
            ..hlsl::Options::default()
        };
        let mut written = String::new();
        hlsl::Writer::new(&mut written, &options, &hlsl::PipelineOptions::default())
            .write(module, info, None)
            .map_err(|error| format!("HLSL: {error}"))?;
    }
    Ok(())
}

#[test]
fn every_program_can_be_written_for_every_backend() {
    let plain = ShaderTarget::default();
    let mut rich = plain.clone();
    (rich.has_f16, rich.subgroup, rich.has_matrix_16, rich.has_matrix_8) = (true, Some((32, 32)), true, true);
    rich.max_workgroup_bytes = 32 << 10;
    let mut small_matrix = rich.clone();
    small_matrix.has_matrix_16 = false;
    for target in [plain, rich, small_matrix] {
        let programs = programs(&target);
        assert!(programs.len() > 100, "only {} programs were seen", programs.len());
        for ((name, _), text) in &programs {
            check(name, text, text.contains("wgpu_cooperative_matrix"));
        }
    }
}
