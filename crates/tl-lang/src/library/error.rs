//! Why a builtin gives no value. The evaluator adds the place.

use tl_model::ModelError;
use tl_syntax::Code;
use tl_tensor::OpError;

use crate::op_code::code_of;
use crate::reserve_statement::with_missing_statement;

/// The longest message.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// Why a builtin gives no value.
#[derive(Debug)]
pub(crate) struct BuiltinError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) code: Option<Code>,
    /// The program ends itself with this code; the message is not shown.
    pub(crate) exit: Option<i32>,
}

impl BuiltinError {
    /// A value is nested more deeply than the stack can follow.
    #[cold]
    pub(crate) fn too_deep() -> BuiltinError {
        BuiltinError::new("this value is nested too deeply")
    }

    pub(crate) fn new(message: impl Into<String>) -> BuiltinError {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            // A message may quote a string of the program's, of any length.
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push('…');
        }
        BuiltinError { message, hint: None, code: None, exit: None }
    }

    pub(crate) fn code(self, code: Code) -> BuiltinError {
        BuiltinError { code: Some(code), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> BuiltinError {
        BuiltinError { hint: Some(hint.into()), ..self }
    }
}

impl From<tl_tensor::Error> for BuiltinError {
    fn from(error: tl_tensor::Error) -> BuiltinError {
        let message = error.to_string();
        let code = match &error {
            tl_tensor::Error::Op { error, .. } => code_of(error),
            _ => None,
        };
        let made = BuiltinError::new(match &error {
            tl_tensor::Error::Memory { error, .. } => with_missing_statement(message, error),
            tl_tensor::Error::Op { error: OpError::Device(error), .. } => with_missing_statement(message, error),
            _ => message,
        });
        BuiltinError { code, ..made }
    }
}

impl From<tl_device::Error> for BuiltinError {
    fn from(error: tl_device::Error) -> BuiltinError {
        BuiltinError::new(with_missing_statement(error.to_string(), &error))
    }
}

impl From<ModelError> for BuiltinError {
    fn from(error: ModelError) -> BuiltinError {
        match error {
            ModelError::Tensor(error) => error.into(),
            ModelError::Memory(error) => error.into(),
            other => BuiltinError::new(other.to_string()),
        }
    }
}
