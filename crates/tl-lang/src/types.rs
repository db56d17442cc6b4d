//! The types that the checker infers and that records have, and how two of them combine.
//!
//! Types that a program writes are in `declared`.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use tl_device::DType;
use tl_model::{ModelNode, Weights};
use tl_syntax::Code;
use tl_tensor::ops::{Size, Sizes, TensorType};

/// What the checker knows of a value's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    /// Nothing is known; also the type of an expression whose error was reported.
    Unknown,
    /// No value: evaluation never gets here.
    Never,
    Int,
    Float,
    Bool,
    Str,
    Unit,
    Range,
    Dtype,
    Tensor(TensorType),
    List(Box<Type>),
    /// A map from keys of the first type to values of the second.
    Map(Box<Type>, Box<Type>),
    /// A struct that the program declares.
    Struct(Arc<StructType>),
    Record(&'static RecordType),
    Handle(HandleKind),
    /// A tensor or `none`.
    Optional,
}

/// The most values that are known of one value's elements.
const MAX_KNOWN: usize = 4096;

/// What the checker knows of a value itself.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) enum Known {
    #[default]
    Nothing,
    Int(Size),
    Float(f64),
    /// The elements of a list of ints.
    Ints(Sizes),
    /// The elements of an int32 tensor with one dimension.
    Ids(Sizes),
    /// The elements of another list.
    Elements(Arc<[(Type, Known)]>),
    /// The bounds of a range.
    Range(Size, Size),
    Bool(bool),
    Text(Arc<str>),
    DType(DType),
    /// Whether an optional tensor is there, and its type then.
    Optional(Option<TensorType>),
    /// A part of the model that the program is checked with.
    Model(ModelPart),
}

/// A part of a model file.
#[derive(Clone)]
pub(crate) enum ModelPart {
    Whole(Weights),
    Config(Weights),
    Node(ModelNode),
    /// A part that the model does not have.
    Missing,
}

impl PartialEq for ModelPart {
    fn eq(&self, other: &ModelPart) -> bool {
        match (self, other) {
            (ModelPart::Whole(a), ModelPart::Whole(b)) | (ModelPart::Config(a), ModelPart::Config(b)) => {
                a.path() == b.path()
            }
            (ModelPart::Node(a), ModelPart::Node(b)) => a.path() == b.path(),
            (ModelPart::Missing, ModelPart::Missing) => true,
            _ => false,
        }
    }
}

impl std::fmt::Debug for ModelPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelPart")
    }
}

/// The kinds of handles, as types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandleKind {
    Model,
    Node,
    Config,
    Tokenizer,
    DecodeStream,
    KvCache,
    TensorBuffer,
    Plan,
}

impl HandleKind {
    pub(crate) const ALL: [HandleKind; 8] = [
        HandleKind::Model,
        HandleKind::Node,
        HandleKind::Config,
        HandleKind::Tokenizer,
        HandleKind::DecodeStream,
        HandleKind::KvCache,
        HandleKind::TensorBuffer,
        HandleKind::Plan,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            HandleKind::Model => "Model",
            HandleKind::Node => "ModelNode",
            HandleKind::Config => "ModelConfig",
            HandleKind::Tokenizer => "Tokenizer",
            HandleKind::DecodeStream => "DecodeStream",
            HandleKind::KvCache => "KvCache",
            HandleKind::TensorBuffer => "TensorBuffer",
            HandleKind::Plan => "ReservationPlan",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<HandleKind> {
        HandleKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A struct that the program declares. In a session a declaration is checked again with each entry, so two are the same if
/// all that is written of them is.
#[derive(Debug)]
pub(crate) struct StructType {
    pub(crate) name: Arc<str>,
    /// The file that declares it; none if that is the main file, or one that shares its names.
    pub(crate) home: Option<Arc<str>>,
    /// The names of the fields, in order.
    pub(crate) fields: Box<[Arc<str>]>,
    /// The types of the fields as messages show them.
    pub(crate) types: OnceLock<Box<str>>,
    /// Its index among the program's structs.
    pub(crate) index: u32,
}

impl PartialEq for StructType {
    fn eq(&self, other: &StructType) -> bool {
        let are_equal = || {
            self.name == other.name
                && self.home == other.home
                && self.fields == other.fields
                && self.types.get() == other.types.get()
        };
        std::ptr::eq(self, other) || are_equal()
    }
}

impl StructType {
    pub(crate) fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| &**field == name)
    }
}

/// A field's name and type.
pub(crate) type Field = (&'static str, fn() -> Type);

/// The fields of one kind of record.
#[derive(Debug, PartialEq)]
pub(crate) struct RecordType {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
    /// Fields that are not printed plainly.
    pub(crate) special: &'static [(&'static str, Shown)],
}

/// How a field is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Plain,
    Percent,
    Hidden,
}

impl RecordType {
    pub(crate) fn shown(&self, field: &str) -> Shown {
        self.special.iter().find(|(name, _)| *name == field).map_or(Shown::Plain, |(_, shown)| *shown)
    }
}

impl Type {
    pub(crate) fn any_tensor() -> Type {
        Type::Tensor(TensorType::default())
    }

    pub(crate) fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    pub(crate) fn map(key: Type, value: Type) -> Type {
        Type::Map(Box::new(key), Box::new(value))
    }

    /// Whether a value of this type may hold memory that should be freed early.
    pub(crate) fn holds_memory(&self) -> bool {
        !matches!(self, Type::Int | Type::Float | Type::Bool | Type::Unit | Type::Range | Type::Dtype)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Float)
    }

    /// Whether a tensor may stand here. A model's node may turn out to be one.
    pub(crate) fn may_be_tensor(&self) -> bool {
        matches!(self, Type::Unknown | Type::Never | Type::Tensor(_) | Type::Handle(HandleKind::Node))
    }

    /// Whether it is a list of (lists of) numbers, which a tensor can be made of.
    pub(crate) fn may_become_tensor(&self) -> bool {
        match self {
            Type::List(element) => {
                element.may_become_tensor() || matches!(**element, Type::Int | Type::Float | Type::Bool | Type::Unknown)
            }
            _ => false,
        }
    }

    /// Whether nothing is known.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Type::Unknown | Type::Never)
    }

    /// Whether both are of one kind, regardless of sizes.
    pub(crate) fn same_kind(&self, other: &Type) -> bool {
        match (self, other) {
            (a, b) if a.is_open() || b.is_open() => true,
            (Type::List(a), Type::List(b)) => a.same_kind(b),
            (Type::Map(key, value), Type::Map(other_key, other_value)) => {
                key.same_kind(other_key) && value.same_kind(other_value)
            }
            (Type::Tensor(_) | Type::Optional, Type::Tensor(_) | Type::Optional) => true,
            (Type::Tensor(_), Type::Handle(HandleKind::Node)) | (Type::Handle(HandleKind::Node), Type::Tensor(_)) => {
                true
            }
            (a, b) => a == b,
        }
    }

    /// The type of a value that is of one of the two types.
    pub(crate) fn join(&self, other: &Type) -> Type {
        match (self, other) {
            (Type::Never, ty) | (ty, Type::Never) => ty.clone(),
            (Type::Tensor(a), Type::Tensor(b)) => Type::Tensor(join_tensors(a, b)),
            (Type::List(a), Type::List(b)) => Type::list(a.join(b)),
            (Type::Map(key, value), Type::Map(other_key, other_value)) => {
                Type::map(key.join(other_key), value.join(other_value))
            }
            (a, b) if a == b => a.clone(),
            (Type::Optional, Type::Tensor(_)) | (Type::Tensor(_), Type::Optional) => Type::Optional,
            _ => Type::Unknown,
        }
    }

    /// The type after assignments of values of unknown sizes.
    pub(crate) fn widened(&self) -> Type {
        match self {
            Type::Tensor(_) => Type::any_tensor(),
            Type::List(element) => Type::list(element.widened()),
            Type::Map(key, value) => Type::map(key.widened(), value.widened()),
            ty => ty.clone(),
        }
    }
}

fn join_tensors(a: &TensorType, b: &TensorType) -> TensorType {
    let sizes = match (&a.sizes, &b.sizes) {
        (Some(a), Some(b)) if a.len() == b.len() => Some(join_sizes(a, b)),
        _ => None,
    };
    TensorType { dtype: a.dtype.filter(|_| a.dtype == b.dtype), sizes }
}

impl Known {
    /// The value, if it is an int.
    pub(crate) fn size(&self) -> Size {
        match self {
            Known::Int(size) => *size,
            _ => Size::Unknown,
        }
    }

    /// What is known of a list's elements, or of a struct's fields; nothing if that is much. Lists that share their elements
    /// would double with each level.
    pub(crate) fn elements(elements: impl IntoIterator<Item = (Type, Known)>) -> Known {
        let elements: Arc<[(Type, Known)]> = elements.into_iter().collect();
        let count: usize = elements.iter().map(|(_, known)| known.count()).sum();
        if count > MAX_KNOWN { Known::Nothing } else { Known::Elements(elements) }
    }

    /// How many values are known, those of elements included.
    fn count(&self) -> usize {
        match self {
            Known::Elements(elements) => 1 + elements.iter().map(|(_, known)| known.count()).sum::<usize>(),
            Known::Ints(sizes) | Known::Ids(sizes) => 1 + sizes.len(),
            _ => 1,
        }
    }

    pub(crate) fn join(&self, other: &Known) -> Known {
        match (self, other) {
            (a, b) if a == b => a.clone(),
            (Known::Ints(a), Known::Ints(b)) if a.len() == b.len() => Known::Ints(join_sizes(a, b)),
            (Known::Elements(a), Known::Elements(b)) if a.len() == b.len() => {
                let join = |((ty, known), (other, other_known)): (&(Type, Known), &(Type, Known))| {
                    (ty.join(other), known.join(other_known))
                };
                Known::elements(a.iter().zip(&**b).map(join))
            }
            _ => Known::Nothing,
        }
    }

    /// The element of a list, counted from the end where `index` is negative; `None` if nothing is known of the elements.
    pub(crate) fn element(&self, index: i64) -> Option<Result<(Type, Known), Outside>> {
        let len = self.list_len()?;
        let place = if index < 0 { index.checked_add(len as i64)? } else { index };
        let Some(place) = usize::try_from(place).ok().filter(|place| *place < len) else {
            return Some(Err(Outside(len)));
        };
        match self {
            Known::Ints(sizes) => sizes.get(place).map(|size| Ok((Type::Int, Known::Int(*size)))),
            Known::Elements(elements) => elements.get(place).cloned().map(Ok),
            _ => None,
        }
    }

    /// The length of a list whose elements are known.
    pub(crate) fn list_len(&self) -> Option<usize> {
        match self {
            Known::Ints(sizes) => Some(sizes.len()),
            Known::Elements(elements) => Some(elements.len()),
            _ => None,
        }
    }
}

/// The sizes of the tensor that a list becomes, if its elements are known.
///
/// # Errors
/// The lists in it have different lengths.
pub(crate) fn list_sizes(known: &Known) -> Result<Option<Sizes>, (Code, String)> {
    let Known::Elements(elements) = known else {
        let len = known.list_len().map(|len| Size::Known(len as i64));
        return Ok(len.map(|len| [len].into_iter().collect()));
    };
    let mut parts: Option<Sizes> = None;
    for (ty, known) in elements.iter() {
        let found: Sizes = match ty {
            Type::List(_) => match list_sizes(known)? {
                Some(sizes) => sizes,
                None => return Ok(None),
            },
            Type::Int | Type::Float | Type::Bool => Sizes::new(),
            _ => return Ok(None),
        };
        match &parts {
            Some(first) if *first != found => {
                let shown = |sizes: &Sizes| match sizes.first() {
                    Some(len) => format!("a list of {len}"),
                    None => "a number".into(),
                };
                let reason = format!("{} stands beside {}", shown(&found), shown(first));
                let deep = first.len() == found.len() && first.first() == found.first();
                let reason = if deep { "the lists in it have different lengths".into() } else { reason };
                return Err((Code::RaggedList, reason));
            }
            Some(_) => {}
            None => parts = Some(found),
        }
    }
    let len = Size::Known(elements.len() as i64);
    Ok(Some(std::iter::once(len).chain(parts.unwrap_or_default()).collect()))
}

/// A list has only so many elements.
#[derive(Debug)]
pub(crate) struct Outside(pub(crate) usize);

fn join_sizes(a: &[Size], b: &[Size]) -> Sizes {
    a.iter().zip(b).map(|(a, b)| if a == b { *a } else { Size::Unknown }).collect()
}

/// A type as messages show it.
pub(crate) fn show(ty: &Type) -> String {
    match ty {
        Type::Unknown | Type::Never => "a value".into(),
        Type::Int => "int".into(),
        Type::Float => "float".into(),
        Type::Bool => "bool".into(),
        Type::Str => "string".into(),
        Type::Unit => "()".into(),
        Type::Range => "a range".into(),
        Type::Dtype => "a dtype".into(),
        Type::Optional => "a tensor or none".into(),
        Type::Tensor(ty) => show_tensor(ty),
        Type::List(element) => match &**element {
            Type::Unknown | Type::Never => "a list".into(),
            element => format!("[{}]", show(element)),
        },
        Type::Map(key, value) => format!("{{{}: {}}}", show(key), show(value)),
        Type::Struct(ty) => ty.name.to_string(),
        Type::Record(record) => record.name.into(),
        Type::Handle(kind) => kind.name().into(),
    }
}

pub(crate) fn show_tensor(ty: &TensorType) -> String {
    let mut text = ty.dtype.map_or("tensor", DType::name).to_string();
    match &ty.sizes {
        None => text.push_str("[…]"),
        Some(sizes) => {
            text.push('[');
            for (at, size) in sizes.iter().enumerate() {
                let separator = if at == 0 { "" } else { ", " };
                // Writing to a string cannot fail.
                let _ = write!(text, "{separator}{size}");
            }
            text.push(']');
        }
    }
    text
}
