//! Reductions across a workgroup: one number from those of all invocations.

use std::fmt::Write as _;

use super::wgsl::{WORKGROUP, Wgsl};

/// How two numbers become one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    Add,
    Max,
    Min,
}

/// A function `name(own: kind) -> kind` that reduces the numbers of all invocations of the workgroup. All invocations
/// must call it, and all get the result.
pub(crate) struct WorkgroupReduction {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) combine: Combine,
}

pub(crate) const ALL_SUM: WorkgroupReduction =
    WorkgroupReduction { name: "all_sum", kind: "f32", combine: Combine::Add };
pub(crate) const ALL_MAX: WorkgroupReduction =
    WorkgroupReduction { name: "all_max", kind: "f32", combine: Combine::Max };

/// Invocations for rows of `n` elements, four to an invocation.
pub(crate) fn workgroup_for(n: usize) -> u32 {
    u32::try_from(n.div_ceil(4).next_power_of_two()).map_or(WORKGROUP, |size| size.clamp(32, WORKGROUP))
}

/// Declares reductions, by subgroup operations where the device has them, and by shared memory alone elsewhere.
/// `own_lane` is the invocation's number.
pub(crate) fn declare_reductions<'a>(wgsl: Wgsl<'a>, workgroup: u32, functions: &[WorkgroupReduction]) -> Wgsl<'a> {
    let has_subgroups = wgsl.target().subgroup.is_some();
    let mut text = "var<private> own_lane: u32;\n".to_owned();
    if has_subgroups {
        text.push_str(
            "var<private> own_subgroup: u32;\nvar<private> n_subgroups: u32;\nvar<private> place_there: u32;\n",
        );
    }
    for WorkgroupReduction { name, kind, combine } in functions {
        let joined = match combine {
            Combine::Add => "a + b",
            Combine::Max => "max(a, b)",
            Combine::Min => "min(a, b)",
        };
        let _ = writeln!(text, "var<workgroup> of_{name}: array<{kind}, {workgroup}>;");
        let _ = writeln!(text, "fn join_{name}(a: {kind}, b: {kind}) -> {kind} {{ return {joined}; }}");
        let body = if has_subgroups {
            let operation = match combine {
                Combine::Add => "subgroupAdd",
                Combine::Max => "subgroupMax",
                Combine::Min => "subgroupMin",
            };
            format!(
                "// What was left there before has been read, and the subgroup's invocations have left their loops.
    workgroupBarrier();
    let value = {operation}(own);
    if place_there == 0u {{ of_{name}[own_subgroup] = value; }}
    workgroupBarrier();
    var all = of_{name}[0];
    for (var i = 1u; i < n_subgroups; i++) {{ all = join_{name}(all, of_{name}[i]); }}
    return all;"
            )
        } else {
            format!(
                "workgroupBarrier();
    of_{name}[own_lane] = own;
    for (var half = {half}u; half > 0u; half >>= 1u) {{
        workgroupBarrier();
        if own_lane < half {{ of_{name}[own_lane] = join_{name}(of_{name}[own_lane], of_{name}[own_lane + half]); }}
    }}
    workgroupBarrier();
    return of_{name}[0];",
                half = workgroup / 2
            )
        };
        let _ = writeln!(text, "fn {name}(own: {kind}) -> {kind} {{\n    {body}\n}}");
    }
    wgsl.text(&text)
}

/// The entry point of a program with [`declare_reductions`].
pub(crate) fn main_with_reductions(wgsl: Wgsl, workgroup: u32, body: &str) -> String {
    if wgsl.target().subgroup.is_none() {
        return wgsl.main(workgroup, &format!("own_lane = lane;\n    {body}"));
    }
    let builtins = "@builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32,
        @builtin(subgroup_invocation_id) subgroup_lane: u32, ";
    let begin = "own_lane = lane;
    own_subgroup = subgroup;
    n_subgroups = subgroups;
    place_there = subgroup_lane;";
    wgsl.main_with(builtins, workgroup, &format!("{begin}\n    {body}"))
}
