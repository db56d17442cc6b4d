//! One number from those of all invocations of a workgroup.

use std::fmt::Write as _;

use super::wgsl::{WORKGROUP, Wgsl};

/// How numbers of all invocations become one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Add,
    Max,
    Min,
}

/// A function `name(own: kind) -> kind` that gives every invocation of the workgroup what the numbers of all make together.
/// All invocations call it.
pub(crate) struct Together {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) join: Join,
}

pub(crate) const ALL_SUM: Together = Together { name: "all_sum", kind: "f32", join: Join::Add };
pub(crate) const ALL_MAX: Together = Together { name: "all_max", kind: "f32", join: Join::Max };

/// Invocations for rows of `n` elements, four to an invocation.
pub(crate) fn workgroup_for(n: usize) -> u32 {
    u32::try_from(n.div_ceil(4).next_power_of_two()).map_or(WORKGROUP, |size| size.clamp(32, WORKGROUP))
}

/// Functions over all of a workgroup, through subgroups where the device has them, and through shared memory alone
/// elsewhere. `own_lane` is the invocation's number.
pub(crate) fn together<'a>(wgsl: Wgsl<'a>, workgroup: u32, functions: &[Together]) -> Wgsl<'a> {
    let has_subgroups = wgsl.target().subgroup.is_some();
    let mut text = "var<private> own_lane: u32;\n".to_owned();
    if has_subgroups {
        text.push_str(
            "var<private> own_subgroup: u32;\nvar<private> n_subgroups: u32;\nvar<private> place_there: u32;\n",
        );
    }
    for Together { name, kind, join } in functions {
        let joined = match join {
            Join::Add => "a + b",
            Join::Max => "max(a, b)",
            Join::Min => "min(a, b)",
        };
        let _ = writeln!(text, "var<workgroup> of_{name}: array<{kind}, {workgroup}>;");
        let _ = writeln!(text, "fn join_{name}(a: {kind}, b: {kind}) -> {kind} {{ return {joined}; }}");
        let body = if has_subgroups {
            let operation = match join {
                Join::Add => "subgroupAdd",
                Join::Max => "subgroupMax",
                Join::Min => "subgroupMin",
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

/// The entry point of a program with functions of [`together`].
pub(crate) fn main_together(wgsl: Wgsl, workgroup: u32, body: &str) -> String {
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
