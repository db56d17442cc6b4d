//! The tile registers of AMX: asking the system for them, and the product of `bf16` tiles.
//!
//! The instructions are written as assembly, since the compiler has no stable names for them. A thread has tiles while it
//! holds a [`Session`].
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

/// Whether the CPU has AMX with `bf16`, and the system lets this process use it.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && may_use_tiles())
}

fn has_instructions() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const LEAF: u32 = 7;
    __cpuid_count(0, 0).eax >= LEAF && __cpuid_count(LEAF, 0).edx & (BF16 | TILE) == BF16 | TILE
}

/// Asks Linux for the right to use tile registers, which holds for all threads of the process.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and touches no memory of the process; an older kernel answers with an error.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// Rows of a tile, and 32-bit columns.
pub(crate) const TILE: usize = 16;

/// The tiles of this thread, each of 16 rows of 64 bytes, until it is dropped.
pub(crate) struct Session {
    /// The tiles belong to one thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

/// How the tiles are laid out, as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Session {
    /// Configures the tiles.
    ///
    /// # Safety
    /// [`is_available`] has said so.
    pub(crate) unsafe fn new() -> Session {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(TILE as u8);
        // SAFETY: the instruction reads the 64 bytes; the caller guarantees that CPU and system have tiles.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const configuration,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
        Session { _not_send: std::marker::PhantomData }
    }

    /// `c[r][t] += sum over i of w[r][i] * x[i][t]` for 32 rows and twice 16 columns. A step takes 32 elements: of the
    /// rows, 64 bytes of `bf16` each, `row_stride` bytes apart, at the first of its offsets from `w`; of the columns, 16 lines of 16 pairs
    /// each at the second of its offsets from `x[0]` and from `x[1]`. Offsets count bytes.
    ///
    /// # Safety
    /// All that the steps reach is readable; the sums, 32 lines each, are writable.
    pub(crate) unsafe fn multiply(
        &self,
        w: *const u8,
        row_stride: usize,
        x: [*const u8; 2],
        steps: &[[usize; 2]],
        sums: [*mut [f32; TILE]; 2],
    ) {
        if steps.is_empty() {
            return;
        }
        let range = steps.as_ptr_range();
        // SAFETY: the session configured the tiles; the caller vouches for the memory.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c0} + {line}*1]",
                "tileloadd tmm1, [{c1} + {line}*1]",
                "lea {at}, [{c0} + 1024]",
                "tileloadd tmm2, [{at} + {line}*1]",
                "lea {at}, [{c1} + 1024]",
                "tileloadd tmm3, [{at} + {line}*1]",
                "2:",
                "mov {at}, [{step}]",
                "add {at}, {w}",
                "tileloadd tmm4, [{at} + {stride}*1]",
                "mov {column}, [{step} + 8]",
                "lea {other}, [{column} + {x0}]",
                "tileloadd tmm6, [{other} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "add {column}, {x1}",
                "tileloadd tmm7, [{column} + {line}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {at}, {half}",
                "tileloadd tmm5, [{at} + {stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {step}, 16",
                "cmp {step}, {end}",
                "jne 2b",
                "tilestored [{c0} + {line}*1], tmm0",
                "tilestored [{c1} + {line}*1], tmm1",
                "lea {at}, [{c0} + 1024]",
                "tilestored [{at} + {line}*1], tmm2",
                "lea {at}, [{c1} + 1024]",
                "tilestored [{at} + {line}*1], tmm3",
                c0 = in(reg) sums[0],
                c1 = in(reg) sums[1],
                w = in(reg) w,
                x0 = in(reg) x[0],
                x1 = in(reg) x[1],
                stride = in(reg) row_stride,
                half = in(reg) row_stride * TILE,
                line = in(reg) 64usize,
                step = inout(reg) range.start => _,
                end = in(reg) range.end,
                at = out(reg) _,
                column = out(reg) _,
                other = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Products of tiles that are in registers, `rounds` times four; how many multiply-adds that were.
///
/// # Safety
/// [`is_available`] has said so.
pub(crate) unsafe fn multiply_adds(rounds: usize) -> f64 {
    // SAFETY: the caller guarantees it.
    let _session = unsafe { Session::new() };
    for _ in 0..rounds {
        // SAFETY: the session configured the tiles, and nothing but them is touched.
        unsafe {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem, preserves_flags),
            );
        }
    }
    (4 * TILE * TILE * 32 * rounds) as f64
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session configured the tiles, on this thread.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            );
        }
    }
}
