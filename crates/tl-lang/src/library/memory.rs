//! Memory that a program reserves and measures: the device's TensorBuffer, and buffers of its own.

use tl_device::{Device, Layout, LayoutStats, ReserveKind, TensorBuffer, TensorBufferStats};

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{ArgTypes, Builtin, Context, always};
use crate::types::{HandleKind, Known, RecordType, Shown, Type};
use crate::value::{Handle, List, Record, Value};

const SHAPE: Param = Param::required("shape", ParamKind::Ints);
const COUNT: Param = Param::required("n", ParamKind::Int);
const DTYPE: Param = Param::optional("dtype", ParamKind::DType, DefaultValue::Absent);
const BUFFER: Param = Param::required("buffer", ParamKind::Handle(HandleKind::TensorBuffer));

/// A method of TensorBuffers.
const METHOD: Builtin = Builtin { owner: Some(HandleKind::TensorBuffer), ..Builtin::BASE };

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "buffer_reserve",
        doc: "Allocates `n` buffers of exactly this shape and dtype, `float16` unless given, on the current device now.",
        params: &[SHAPE, COUNT, DTYPE],
        run: |context, args| reserve(&current(context.device)?, args, 0, ReserveKind::Exact),
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_reserve_up_to",
        doc: "As `buffer_reserve`, for every shape of as many dimensions that is no larger in each of them.",
        params: &[SHAPE, COUNT, DTYPE],
        run: |context, args| reserve(&current(context.device)?, args, 0, ReserveKind::UpTo),
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_reserve_learnable",
        doc: "As `buffer_reserve`, in the reserve that learnable tensors take from.",
        params: &[SHAPE, COUNT, DTYPE],
        run: |context, args| reserve(&current(context.device)?, args, 0, ReserveKind::Learnable),
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_reserve_plan",
        doc: "Reserves what `buffer_trace { … }` found, on the current device now.",
        params: &[Param::required("plan", ParamKind::Handle(HandleKind::Plan))],
        run: |context, args| {
            let Handle::Plan(plan) = args.handle(0, HandleKind::Plan)? else {
                return Err(BuiltinError::new("not a ReservationPlan"));
            };
            plan.reserve(&current(context.device)?)?;
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_seal",
        doc: "From here on, a tensor that would need a new allocation is an error that names the `buffer_reserve` line it wants.",
        run: |context, _| {
            context.device.seal();
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_unseal",
        doc: "Allows new allocations again.",
        run: |context, _| {
            context.device.unseal();
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_stats",
        doc: "What the device's memory holds and did, a record.",
        result: stats_type,
        run: |context, _| Ok(stats_record(context.device, &context.device.tensor_buffer_stats())),
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_clear",
        doc: "Frees the reserved buffers, or those of one shape, that nobody holds; the others are freed when they come back.",
        params: &[Param::optional("shape", ParamKind::Ints, DefaultValue::Absent)],
        run: |context, args| clear(context, args),
        ..Builtin::BASE
    },
    Builtin {
        name: "buffer_clear_learnable",
        doc: "Frees the buffers of this shape in the learnable reserve that nobody holds.",
        params: &[SHAPE],
        run: |context, args| {
            if let Some(buffer) = context.device.tensor_buffer() {
                buffer.clear_learnable_shape(args.shape(0)?);
            }
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "TensorBuffer::new",
        doc: "A TensorBuffer of one's own, empty.",
        result: always!(Handle(HandleKind::TensorBuffer)),
        run: |context, _| Ok(Value::Handle(Handle::TensorBuffer(TensorBuffer::new(context.device)))),
        ..Builtin::BASE
    },
    Builtin {
        name: "alloc",
        doc: "Allocates `n` buffers of exactly this shape and dtype, `float16` unless given.",
        params: &[BUFFER, SHAPE, COUNT, DTYPE],
        run: |_, args| reserve(buffer(args)?, args, 1, ReserveKind::Exact),
        ..METHOD
    },
    Builtin {
        name: "alloc_up_to",
        doc: "As `alloc`, for every shape of as many dimensions that is no larger in each of them.",
        params: &[BUFFER, SHAPE, COUNT, DTYPE],
        run: |_, args| reserve(buffer(args)?, args, 1, ReserveKind::UpTo),
        ..METHOD
    },
    Builtin {
        name: "alloc_learnable",
        doc: "As `alloc`, in the reserve that learnable tensors take from.",
        params: &[BUFFER, SHAPE, COUNT, DTYPE],
        run: |_, args| reserve(buffer(args)?, args, 1, ReserveKind::Learnable),
        ..METHOD
    },
    Builtin {
        name: "stats",
        doc: "What the buffer holds and did, with the device's bytes, a record.",
        params: &[BUFFER],
        result: stats_type,
        run: |context, args| Ok(stats_record(context.device, &buffer(args)?.stats())),
        ..METHOD
    },
    Builtin {
        name: "clear_all",
        doc: "Frees all buffers that nobody holds, learnable ones included; the others are freed when they come back.",
        params: &[BUFFER],
        run: |_, args| {
            buffer(args)?.clear();
            Ok(Value::Unit)
        },
        ..METHOD
    },
    Builtin {
        name: "clear",
        doc: "Frees the buffers of this shape that nobody holds.",
        params: &[BUFFER, SHAPE],
        run: |_, args| {
            buffer(args)?.clear_shape(args.shape(1)?);
            Ok(Value::Unit)
        },
        ..METHOD
    },
    Builtin {
        name: "clear_learnable",
        doc: "Frees the buffers of this shape in the learnable reserve that nobody holds.",
        params: &[BUFFER, SHAPE],
        run: |_, args| {
            buffer(args)?.clear_learnable_shape(args.shape(1)?);
            Ok(Value::Unit)
        },
        ..METHOD
    },
];

/// The device's TensorBuffer, made by the first reservation.
fn current(device: &Device) -> Result<TensorBuffer, BuiltinError> {
    match device.tensor_buffer() {
        Some(buffer) => Ok(buffer),
        None => {
            let buffer = TensorBuffer::new(device);
            device.replace_tensor_buffer(Some(buffer.clone()))?;
            Ok(buffer)
        }
    }
}

fn buffer<'a>(args: &'a Args<'_>) -> Result<&'a TensorBuffer, BuiltinError> {
    match args.handle(0, HandleKind::TensorBuffer)? {
        Handle::TensorBuffer(buffer) => Ok(buffer),
        _ => Err(BuiltinError::new("not a TensorBuffer")),
    }
}

fn reserve(buffer: &TensorBuffer, args: &Args<'_>, first: usize, kind: ReserveKind) -> Result<Value, BuiltinError> {
    let layout: Layout = args.layout(first, first + 2)?;
    let count = args.size(first + 1)?;
    match kind {
        ReserveKind::Exact => buffer.reserve(layout, count)?,
        ReserveKind::UpTo => buffer.reserve_up_to(layout, count)?,
        ReserveKind::Learnable => buffer.reserve_learnable(layout, count)?,
    }
    Ok(Value::Unit)
}

fn clear(context: &Context<'_>, args: &Args<'_>) -> Result<Value, BuiltinError> {
    if let Some(buffer) = context.device.tensor_buffer() {
        match args.is_given(0) {
            true => buffer.clear_shape(args.shape(0)?),
            false => buffer.clear(),
        }
    }
    Ok(Value::Unit)
}

static STATS: RecordType = RecordType {
    name: "buffer statistics",
    fields: &[
        ("reserved", || Type::Int),
        ("taken", || Type::Int),
        ("reused", || Type::Int),
        ("fallbacks", || Type::Int),
        ("reserved_bytes", || Type::Int),
        ("live_bytes", || Type::Int),
        ("peak_bytes", || Type::Int),
        ("pooled_bytes", || Type::Int),
        ("allocations", || Type::Int),
        ("evictions", || Type::Int),
        ("hit_rate", || Type::Float),
        ("by_shape", || Type::list(Type::Record(&SHAPE_STATS))),
    ],
    special: &[("hit_rate", Shown::Percent), ("by_shape", Shown::Hidden)],
};

static SHAPE_STATS: RecordType = RecordType {
    name: "statistics of a shape",
    fields: &[
        ("shape", || Type::list(Type::Int)),
        ("dtype", || Type::Dtype),
        ("kind", || Type::Str),
        ("reserved", || Type::Int),
        ("in_use", || Type::Int),
        ("most_in_use", || Type::Int),
        ("taken", || Type::Int),
        ("reused", || Type::Int),
        ("fallbacks", || Type::Int),
        ("reserved_bytes", || Type::Int),
    ],
    special: &[],
};

fn stats_type(_: &ArgTypes<'_>) -> (Type, Known) {
    (Type::Record(&STATS), Known::Nothing)
}

/// A counter; one above the largest int saturates.
fn int(n: impl TryInto<i64>) -> Value {
    Value::Int(n.try_into().unwrap_or(i64::MAX))
}

fn stats_record(device: &Device, buffer: &TensorBufferStats) -> Value {
    let memory = device.stats();
    let by_shape = buffer.by_layout.iter().map(shape_record);
    let values = vec![
        int(buffer.reserved_count),
        int(buffer.taken_count),
        int(buffer.reused_count),
        int(buffer.fallback_count),
        int(buffer.reserved_bytes),
        int(memory.live_bytes),
        int(memory.peak_bytes),
        int(memory.pooled_bytes),
        int(memory.allocation_count),
        int(memory.eviction_count),
        Value::Float(buffer.hit_rate()),
        Value::List(List::new(by_shape.collect())),
    ];
    Value::Record(std::sync::Arc::new(Record { ty: &STATS, values }))
}

fn shape_record(stats: &LayoutStats) -> Value {
    let kind = match stats.kind {
        ReserveKind::Exact => "exact",
        ReserveKind::UpTo => "up_to",
        ReserveKind::Learnable => "learnable",
    };
    let values = vec![
        Value::Ints(crate::ints::Ints::from_sizes(stats.layout.shape())),
        Value::DType(stats.layout.dtype()),
        Value::text(kind),
        int(stats.reserved_count),
        int(stats.in_use_count),
        int(stats.most_in_use),
        int(stats.taken_count),
        int(stats.reused_count),
        int(stats.fallback_count),
        int(stats.reserved_bytes),
    ];
    Value::Record(std::sync::Arc::new(Record { ty: &SHAPE_STATS, values }))
}
