//! Tokenizers, and texts as a model's chat template writes them.

use std::sync::Arc;

use parking_lot::Mutex;
use tl_chat::{DateTime, Message};
use tl_device::Device;
use tl_model::{ChatForm, Checkpoint, DecodeStream, EncodeOptions, Tokenizer};

use super::args::Args;
use super::error::BuiltinError;
use super::models::{MODEL, model};
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, Context, always};
use crate::types::{HandleKind, Known, Type};
use crate::value::{Handle, TokenDecoder, Value};

const TOKENIZER: Param = Param::required("tokenizer", ParamKind::Handle(HandleKind::Tokenizer));
const STREAM: Param = Param::required("stream", ParamKind::Handle(HandleKind::DecodeStream));

/// Heap bytes of encoding for each byte of a text: words, ids of 4 bytes, and ints of 8. A text of almost as many tokens as bytes
/// may take more.
const ENCODING_BYTES: usize = 12;

/// Heap bytes of decoding for each token: its id, and its characters.
const DECODING_BYTES: usize = 16;

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "load_tokenizer",
        doc: "The tokenizer that a model carries, or that of the path or name, as for `load_model`.",
        params: &[Param::required("model", ParamKind::ModelOrPath)],
        result: always!(Handle(HandleKind::Tokenizer)),
        run: load_tokenizer,
        ..Builtin::BASE
    },
    Builtin {
        name: "tokenize",
        doc: "The tokens of a text, a list of ints, beginning with the start token where the model wants one. With `special`, texts of \
              special tokens such as `<|im_start|>` are these tokens, and nothing is put before.",
        params: &[
            TOKENIZER,
            Param::required("text", ParamKind::Text),
            Param::optional("special", ParamKind::Bool, DefaultValue::Bool(false)),
        ],
        result: |_| (Type::list(Type::Int), Known::Nothing),
        run: |context, args| {
            let special = args.bool(2)?;
            check_encoding(context.device, args.text(1)?)?;
            let options = EncodeOptions::default().with_add_special(!special).with_parse_special(special);
            let ids = tokenizer(args)?.encode_with(args.text(1)?, &options);
            let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
            Ok(Value::ints(&ids))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "chat_template",
        doc: "A conversation as the model's own chat template writes it, up to where the answer begins. `messages` is a list of pairs, \
              `[[\"system\", \"Be brief.\"], [\"user\", \"Hello\"]]`. Give the text to `tokenize` with `special: true`; what the messages \
              say never becomes a special token.",
        params: &[MODEL, Param::required("messages", ParamKind::List)],
        result: always!(Str),
        run: |context, args| {
            let messages = messages(args.value(1), context.device)?;
            let form = ChatForm::of(model(args, 0)?)?;
            // This crate has no clock: a program that wants the date writes it into a message.
            Ok(Value::text(form.text(&messages, DateTime::from_unix_seconds(0))?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "detokenize",
        doc: "The text of tokens.",
        params: &[TOKENIZER, Param::required("ids", ParamKind::Ints)],
        result: always!(Str),
        run: |context, args| {
            let n = args.value(1).list_len().unwrap_or(0);
            let what = || format!("the text of {n} tokens");
            context.device.check_heap(n.saturating_mul(DECODING_BYTES), what)?;
            Ok(Value::text(tokenizer(args)?.decode(&args.ids(1)?)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "is_end",
        doc: "Whether the token ends a text.",
        owner: Some(HandleKind::Tokenizer),
        params: &[TOKENIZER, Param::required("id", ParamKind::Int)],
        result: always!(Bool),
        run: |_, args| {
            let id = id(args, 1)?;
            Ok(Value::Bool(tokenizer(args)?.is_end(id)))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "decode_stream",
        doc: "Turns tokens into text as they come: `.next(id)` gives the characters that the token completes.",
        params: &[TOKENIZER],
        result: always!(Handle(HandleKind::DecodeStream)),
        run: |_, args| {
            let decoding = TokenDecoder { tokenizer: tokenizer(args)?.clone(), stream: DecodeStream::new() };
            Ok(Value::Handle(Handle::DecodeStream(Arc::new(Mutex::new(decoding)))))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "next",
        doc: "The text that the token completes, whole characters only; it may be empty.",
        owner: Some(HandleKind::DecodeStream),
        params: &[STREAM, Param::required("id", ParamKind::Int)],
        result: always!(Str),
        run: |_, args| {
            let id = id(args, 1)?;
            let mut decoding = stream(args)?.lock();
            let TokenDecoder { tokenizer, stream } = &mut *decoding;
            Ok(Value::text(stream.next(tokenizer, id)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "finish",
        doc: "What is left when no token follows: the bytes of a character that was never completed, as replacement characters.",
        owner: Some(HandleKind::DecodeStream),
        params: &[STREAM],
        result: always!(Str),
        run: |_, args| Ok(Value::text(stream(args)?.lock().stream.finish())),
        ..Builtin::BASE
    },
];

/// The messages of a list of pairs, role and text.
fn messages(list: &Value, device: &Device) -> Result<Vec<Message>, BuiltinError> {
    let wrong =
        || BuiltinError::new("`chat_template`: a message is a list of two strings, as in [\"user\", \"Hello\"]");
    let n = list.list_len().unwrap_or(0);
    let message = |index: usize| match list.element(index).as_ref().map(|pair| (pair.element(0), pair.element(1))) {
        Some((Some(Value::Str(role)), Some(Value::Str(text)))) => {
            // Room for the message and its copies in the template's output.
            let what = || format!("a message of {}", tl_device::bytes(text.len() as u64));
            device.check_heap(text.len().saturating_mul(4), what)?;
            Ok(Message::new(&*role, &*text))
        }
        _ => Err(wrong()),
    };
    (0..n).map(message).collect()
}

/// An error if the heap has no room for encoding a text.
pub(super) fn check_encoding(device: &Device, text: &str) -> Result<(), BuiltinError> {
    let what = || format!("encoding a text of {}", tl_device::bytes(text.len() as u64));
    Ok(device.check_heap(text.len().saturating_mul(ENCODING_BYTES), what)?)
}

fn tokenizer<'a>(args: &'a Args<'_>) -> Result<&'a Arc<Tokenizer>, BuiltinError> {
    match args.handle(0, HandleKind::Tokenizer)? {
        Handle::Tokenizer(tokenizer) => Ok(tokenizer),
        _ => Err(BuiltinError::new("not a tokenizer")),
    }
}

fn stream<'a>(args: &'a Args<'_>) -> Result<&'a Mutex<TokenDecoder>, BuiltinError> {
    match args.handle(0, HandleKind::DecodeStream)? {
        Handle::DecodeStream(stream) => Ok(stream),
        _ => Err(BuiltinError::new("not a decode stream")),
    }
}

fn id(args: &Args<'_>, index: usize) -> Result<u32, BuiltinError> {
    let id = args.int(index)?;
    u32::try_from(id).map_err(|_| BuiltinError::new(format!("{id} is not a token id")))
}

fn load_tokenizer(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let tokenizer = match args.value(0) {
        Value::Handle(Handle::Model(model)) => model.weights.tokenizer()?,
        _ => {
            let path = args.path(0, context.host)?;
            Arc::new(Tokenizer::of(&Checkpoint::open(&path)?)?)
        }
    };
    Ok(Value::Handle(Handle::Tokenizer(tokenizer)))
}
