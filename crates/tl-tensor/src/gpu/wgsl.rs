//! GPU programs in WGSL, put together for the data types at hand.
//!
//! Programs compute in `f32`. Data types and stored formats choose only how elements are loaded and stored, by the
//! functions that [`Wgsl`] writes for each binding: `load_x(i)` for element `i` of `x`, `store4_out(i, v)` for elements
//! `4 i .. 4 i + 3` of the result. Results are stored four at a time, so that one text serves types of one, two and
//! four bytes and no two invocations write into one word. The last store may reach beyond the result, into the padding
//! that every buffer has.

use std::fmt::Write as _;

use tl_device::{DType, ShaderTarget};

/// Invocations of a workgroup, unless a program says otherwise.
pub(crate) const WORKGROUP: u32 = 256;

/// A builder of programs: extensions, bindings with their loads and stores, numbers, functions, the body.
pub(crate) struct Wgsl<'a> {
    target: &'a ShaderTarget,
    /// The directives at the beginning.
    enables: String,
    text: String,
    n_bindings: usize,
}

impl<'a> Wgsl<'a> {
    pub(crate) fn new(target: &'a ShaderTarget) -> Wgsl<'a> {
        let enables = if target.has_f16 { "enable f16;\n".to_owned() } else { String::new() };
        Wgsl { target, enables, text: String::new(), n_bindings: 0 }
    }

    pub(crate) fn target(&self) -> &ShaderTarget {
        self.target
    }

    /// An extension of the language.
    pub(crate) fn enable(mut self, name: &str) -> Self {
        let _ = writeln!(self.enables, "enable {name};");
        self
    }

    /// Functions or constants.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// A binding that is read: `load_NAME(i: u32)` gives element `i`, as `f32`; `int32` as `i32`, `bool` as `bool`.
    pub(crate) fn read(self, name: &str, dtype: DType) -> Self {
        let (stored, kind, value) = match dtype {
            DType::F32 => ("f32", "f32", "DATA[i]"),
            DType::F16 if self.target.has_f16 => ("f16", "f32", "f32(DATA[i])"),
            DType::F16 => ("u32", "f32", "unpack2x16float(DATA[i >> 1u])[i & 1u]"),
            DType::I32 => ("i32", "i32", "DATA[i]"),
            DType::Bool => ("u32", "bool", "((DATA[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu) != 0u"),
            // The one format without blocks: the upper half of a `float32`.
            DType::Block(_) => ("u32", "f32", "bitcast<f32>(((DATA[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu) << 16u)"),
        };
        let data = format!("{name}_data");
        let mut all = self.binding(&data, "read", stored);
        let value = value.replace("DATA", &data);
        let _ = writeln!(all.text, "fn load_{name}(i: u32) -> {kind} {{ return {value}; }}");
        all
    }

    /// A binding that is read as plain words, `NAME_data[i]`, for the loads of stored formats.
    pub(crate) fn read_words(self, name: &str) -> Self {
        self.binding(&format!("{name}_data"), "read", "u32")
    }

    /// A binding that is read as an array of `stored`, `NAME_data[i]`.
    pub(crate) fn read_as(self, name: &str, stored: &str) -> Self {
        self.binding(&format!("{name}_data"), "read", stored)
    }

    /// As [`Wgsl::read`], four at a time: `load4_NAME(i: u32)` gives elements `4 i .. 4 i + 3` as a vector. Not for
    /// `bool`.
    pub(crate) fn read4(self, name: &str, dtype: DType) -> Self {
        let (stored, value) = match dtype {
            DType::F16 if self.target.has_f16 => ("vec4<f16>", "vec4<f32>(DATA[i])"),
            DType::F16 => ("vec2<u32>", "vec4<f32>(unpack2x16float(DATA[i].x), unpack2x16float(DATA[i].y))"),
            DType::I32 => ("vec4<i32>", "DATA[i]"),
            DType::Block(_) => (
                "vec2<u32>",
                "bitcast<vec4<f32>>((DATA[i].xxyy << vec4<u32>(16u, 0u, 16u, 0u)) & vec4<u32>(0xffff0000u))",
            ),
            _ => ("vec4<f32>", "DATA[i]"),
        };
        let data = format!("{name}_data");
        let mut all = self.binding(&data, "read", stored);
        let (kind, value) = (scalar_of(dtype), value.replace("DATA", &data));
        let _ = writeln!(all.text, "fn load4_{name}(i: u32) -> vec4<{kind}> {{ return {value}; }}");
        all
    }

    /// The result: `store4_NAME(i: u32, v)` stores elements `4 i .. 4 i + 3`, `load4_NAME(i: u32)` loads them. `v` is
    /// a `vec4<f32>`, of `int32` a `vec4<i32>`, of `bool` a `vec4<bool>`.
    pub(crate) fn write(self, name: &str, dtype: DType) -> Self {
        let (stored, kind, store, load) = match dtype {
            DType::F32 => ("vec4<f32>", "vec4<f32>", "DATA[i] = v;", "DATA[i]"),
            DType::F16 if self.target.has_f16 => {
                ("vec4<f16>", "vec4<f32>", "DATA[i] = vec4<f16>(v);", "vec4<f32>(DATA[i])")
            }
            DType::F16 => (
                "vec2<u32>",
                "vec4<f32>",
                "DATA[i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));",
                "vec4<f32>(unpack2x16float(DATA[i].x), unpack2x16float(DATA[i].y))",
            ),
            DType::I32 => ("vec4<i32>", "vec4<i32>", "DATA[i] = v;", "DATA[i]"),
            DType::Bool | DType::Block(_) => (
                "u32",
                "vec4<bool>",
                "let w = select(vec4<u32>(0u), vec4<u32>(1u, 0x100u, 0x10000u, 0x1000000u), v); \
                 DATA[i] = w.x | w.y | w.z | w.w;",
                "(vec4<u32>(DATA[i]) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u)) != vec4<u32>(0u)",
            ),
        };
        let data = format!("{name}_data");
        let mut all = self.binding(&data, "read_write", stored);
        let (store, load) = (store.replace("DATA", &data), load.replace("DATA", &data));
        let _ = writeln!(all.text, "fn store4_{name}(i: u32, v: {kind}) {{ {store} }}");
        let _ = writeln!(all.text, "fn load4_{name}(i: u32) -> {kind} {{ return {load}; }}");
        all
    }

    /// The result as plain words, `NAME_data[i]`, to read and to write.
    pub(crate) fn write_words(self, name: &str) -> Self {
        self.binding(&format!("{name}_data"), "read_write", "u32")
    }

    /// The result, stored element by element: `store_NAME(i: u32, v: f32)`. Only for `float32`, and for `float16` where
    /// the device has it, since no two invocations may write into one word.
    pub(crate) fn write_each(self, name: &str, dtype: DType) -> Self {
        let stored = if dtype == DType::F16 { "f16" } else { "f32" };
        let data = format!("{name}_data");
        let mut all = self.binding(&data, "read_write", stored);
        let _ = writeln!(all.text, "fn store_{name}(i: u32, v: f32) {{ {data}[i] = {stored}(v); }}");
        all
    }

    /// The device's word for indices out of range, after all other bindings: `report(index, size)`. The launch sets
    /// `reports_faults`.
    pub(crate) fn faults(mut self) -> Self {
        self.text.push_str("struct Fault { flag: atomic<u32>, index: i32, size: u32, unused: u32 }\n");
        let mut all = self.declare("fault", "read_write", "Fault");
        all.text.push_str(
            "fn report(index: i32, size: u32) {
                 if atomicExchange(&fault.flag, 1u) == 0u { fault.index = index; fault.size = size; }
             }\n",
        );
        all
    }

    fn binding(self, data: &str, access: &str, stored: &str) -> Self {
        self.declare(data, access, &format!("array<{stored}>"))
    }

    fn declare(mut self, name: &str, access: &str, kind: &str) -> Self {
        let binding = self.n_bindings;
        self.n_bindings += 1;
        let _ = writeln!(self.text, "@group(0) @binding({binding}) var<storage, {access}> {name}: {kind};");
        self
    }

    /// The numbers: fields of `p`, as `n: u32, eps: f32`, in the order of the launch's immediates. Give vectors first,
    /// because of their alignment.
    pub(crate) fn params(mut self, fields: &str) -> Self {
        let _ = writeln!(self.text, "struct Params {{ {fields} }}\nvar<immediate> p: Params;");
        self
    }

    /// The entry point. `body` may use `group` (the workgroup's number; a few more than requested may run) and
    /// `lane` (the invocation's number in the workgroup).
    pub(crate) fn main(self, workgroup: u32, body: &str) -> String {
        self.main_with("", workgroup, body)
    }

    /// As [`Wgsl::main`], with more built-in values: `@builtin(subgroup_size) subgroup_size: u32, `.
    pub(crate) fn main_with(mut self, builtins: &str, workgroup: u32, body: &str) -> String {
        let _ = write!(
            self.text,
            "@compute @workgroup_size({workgroup})
fn main({builtins}@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {{
    let group = workgroup.x + workgroup.y * workgroups.x;
    {body}
}}
"
        );
        self.enables + &self.text
    }
}

/// The WGSL type of a value of this data type in a program.
pub(crate) fn scalar_of(dtype: DType) -> &'static str {
    match dtype {
        DType::I32 => "i32",
        DType::Bool => "bool",
        _ => "f32",
    }
}
