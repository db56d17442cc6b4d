//! The crate's error type. Variants carry data; each message states the problem, the values and the remedy.

use std::path::PathBuf;

use tl_device::DType;

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Every error between a file on disk and generated text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file does not begin with the GGUF magic.
    #[error(
        "not a GGUF file: it begins with {found:02x?}, a GGUF file with 47 47 55 46; give the path of a .gguf file"
    )]
    NotGguf {
        /// The first bytes of the file, at most four.
        found: Vec<u8>,
    },

    /// An unsupported version of the container.
    #[error("GGUF version {version}{} is not supported (2 and 3 are); convert the model again with a current converter",
        if *big_endian { " of a big-endian file" } else { "" })]
    GgufVersion {
        /// The version, in the file's own byte order.
        version: u32,
        /// Whether the file was written for a big-endian machine.
        big_endian: bool,
    },

    /// A tensor that a file of tensors cannot hold.
    #[error("`{name}` cannot be saved: {problem}")]
    NotSaved {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },

    /// A tensor of a file that cannot be one in memory.
    #[error("`{name}` cannot be loaded: {problem}")]
    NotLoaded {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },

    /// A file that ends before a field does.
    #[error(
        "the file ends inside {what} at byte {offset}: {needed} bytes are needed, {remaining} are left; \
         the file is truncated or damaged, fetch it again"
    )]
    Truncated {
        /// The field or data being read.
        what: &'static str,
        /// Its offset, in bytes from the start of the file.
        offset: u64,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes left in the file.
        remaining: u64,
    },

    /// A count or a length that the rest of the file cannot hold.
    #[error(
        "{what} at byte {offset} is {value}, but the rest of the file holds at most {limit}; \
         the file is truncated or damaged, fetch it again"
    )]
    Length {
        /// The count or length.
        what: &'static str,
        /// The field's offset, in bytes from the start of the file.
        offset: u64,
        /// The value found.
        value: u64,
        /// The largest possible value.
        limit: u64,
    },

    /// A field whose value the format does not allow.
    #[error("{what} at byte {offset} is {value}, expected {expected}; the file is damaged or was written wrongly")]
    Field {
        /// The field.
        what: &'static str,
        /// The field's offset, in bytes from the start of the file.
        offset: u64,
        /// The value found.
        value: u64,
        /// The allowed values.
        expected: &'static str,
    },

    /// A string that is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8; the file is damaged or was written wrongly")]
    NotUtf8 {
        /// The string.
        what: &'static str,
        /// Offset of its bytes.
        offset: u64,
    },

    /// A metadata key or tensor name that occurs twice.
    #[error("the {what} `{name}` occurs twice, the second time at byte {offset}; the file was written wrongly")]
    Duplicate {
        /// `metadata key` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
        /// Offset of the second one.
        offset: u64,
    },

    /// Impossible tensor sizes: the element or byte count overflows, or a row is not a whole number of blocks.
    #[error("tensor `{name}` (described at byte {offset}) has the sizes {dims:?} in {format}, {problem}")]
    TensorSizes {
        /// The tensor's name.
        name: String,
        /// Offset of its description.
        offset: u64,
        /// Its sizes, outermost first.
        dims: Vec<u64>,
        /// Its format.
        format: String,
        /// The problem with the sizes.
        problem: &'static str,
    },

    /// A tensor whose data does not lie inside the file.
    #[error(
        "the data of tensor `{name}` lies at bytes {start}..{start}+{len_bytes}, outside the file of {file_len} bytes; \
         the file is truncated or damaged, fetch it again"
    )]
    TensorRange {
        /// The tensor's name.
        name: String,
        /// Offset of its data, in bytes from the start of the file.
        start: u64,
        /// Length of its data.
        len_bytes: u64,
        /// The file's length.
        file_len: u64,
    },

    /// A tensor in a format without kernels.
    #[error("tensor `{name}` is stored as {format}, which cannot be computed on; use a file in one of: {supported}")]
    TensorFormat {
        /// The tensor's name.
        name: String,
        /// Name (or number) of its format.
        format: String,
        /// The formats that can be computed on.
        supported: String,
    },

    /// A required metadata key that is missing.
    #[error(
        "the file has no metadata key `{key}`, which says {meaning}; convert the model again with a current converter"
    )]
    MissingKey {
        /// The key.
        key: String,
        /// The meaning of its value.
        meaning: &'static str,
    },

    /// A metadata value of the wrong type.
    #[error("the metadata key `{key}` holds {found}, expected {expected}")]
    KeyType {
        /// The key.
        key: String,
        /// The type found.
        found: String,
        /// The accepted types.
        expected: &'static str,
    },

    /// A metadata value that no model can have.
    #[error("the metadata key `{key}` is {value}, {problem}")]
    KeyValue {
        /// The key.
        key: String,
        /// The value found.
        value: String,
        /// The problem with the value.
        problem: String,
    },

    /// An architecture without a script.
    #[error("the model's architecture is `{found}`, for which no script comes with the program; there are {known}")]
    Architecture {
        /// The architecture that the file names.
        found: String,
        /// The architectures with a script.
        known: String,
    },

    /// A script that does not compile or fails when it runs.
    #[error("{message}")]
    Script {
        /// The problem, with its place in the script.
        message: String,
    },

    /// An unsupported kind of tokenizer.
    #[error(
        "the file's tokenizer is of the kind `{found}`; supported are `llama` (SentencePiece), \
         `gpt2` (byte-level BPE) and `gemma4`"
    )]
    TokenizerKind {
        /// The kind that the file names.
        found: String,
    },

    /// Tokenizer data that contradicts itself.
    #[error("the file's tokenizer cannot be used: {problem}")]
    TokenizerData {
        /// The problem, with the values.
        problem: String,
    },

    /// A conversation that the model's template rejects, or a missing template.
    #[error("{problem}")]
    Chat {
        /// The problem.
        problem: String,
    },

    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab_size} tokens")]
    TokenId {
        /// The id given.
        id: u32,
        /// The number of tokens.
        vocab_size: usize,
    },

    /// A window too short to predict in, or longer than the model's context.
    #[error("a window of {asked} tokens: this model works for {shortest} to {limit}")]
    Window {
        /// Requested tokens.
        asked: usize,
        /// The minimum.
        shortest: usize,
        /// The maximum.
        limit: usize,
    },
    /// A sampling option outside its range.
    #[error("{option} is {value}, expected {expected}")]
    SamplingOption {
        /// The option's name.
        option: &'static str,
        /// The value given.
        value: f32,
        /// Its range.
        expected: &'static str,
    },

    /// Too many stop strings.
    #[error("{count} stop strings were given, at most {limit} are searched for")]
    TooManyStopStrings {
        /// Number of stop strings.
        count: usize,
        /// The maximum.
        limit: usize,
    },

    /// A stop string that is empty or too long.
    #[error("stop string {index} (the first is 0) has {len_bytes} bytes, expected 1 to {limit}")]
    StopStringLength {
        /// Its place in the list.
        index: usize,
        /// Its length.
        len_bytes: usize,
        /// Maximum length in bytes.
        limit: usize,
    },

    /// Logits that cannot be sampled.
    #[error("the logits cannot be sampled: {problem}")]
    Logits {
        /// The problem.
        problem: String,
    },

    /// A grammar that cannot be used, or a text that cannot continue by it.
    #[error("{problem}")]
    Constraint {
        /// The problem.
        problem: String,
    },

    /// A file that cannot be opened or mapped.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// A file that cannot be written; a file already at that path is unchanged.
    #[error("{}: the file of {} cannot be written: {source}; nothing was left behind",
        .path.display(), tl_device::bytes(*len_bytes))]
    Write {
        /// The path as it was given.
        path: PathBuf,
        /// Length of the whole file.
        len_bytes: u64,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// An error in a model file, with the file's path.
    #[error("{}: {error}", .path.display())]
    File {
        /// The path as it was given.
        path: PathBuf,
        /// The error.
        error: Box<ModelError>,
    },

    /// A part of a split model that contradicts its name or the others.
    #[error("{}: {problem}; fetch all parts of one model into one folder", .path.display())]
    SplitPart {
        /// The part's path.
        path: PathBuf,
        /// The problem, with the values.
        problem: String,
    },

    /// JSON that cannot be parsed, or has an unexpected form.
    #[error("{what} cannot be read: {problem}")]
    Json {
        /// The JSON's purpose.
        what: &'static str,
        /// The problem, with its place.
        problem: String,
    },

    /// A folder that lacks a file of the model.
    #[error(
        "{}: there is no {missing}; give a .gguf file, or a folder with config.json and model.safetensors",
        .path.display()
    )]
    NoModel {
        /// The folder's path.
        path: PathBuf,
        /// The file that is missing.
        missing: String,
    },

    /// A weights file that the folder's model does not use.
    #[error("{}: the model of this folder is in {weights}, not in this file; give the folder's path", .path.display())]
    OtherWeights {
        /// The path as it was given.
        path: PathBuf,
        /// The model's weights files.
        weights: String,
    },

    /// An unknown `model_type` in a folder's configuration.
    #[error("the model's type is `{found}`; known are {known}; others can be read from GGUF files")]
    ModelType {
        /// The type found.
        found: String,
        /// The known types.
        known: String,
    },

    /// A folder whose weights are quantized.
    #[error(
        "the weights are quantized by `{method}`, which is not read from safetensors; take the model as a GGUF file, \
         or with weights in F32, F16 or BF16"
    )]
    QuantizedFolder {
        /// The method that the configuration names.
        method: String,
    },

    /// A value of a folder's configuration that is not supported.
    #[error("`{key}` is {found}, {expected}")]
    Config {
        /// The key.
        key: String,
        /// The value, as JSON.
        found: String,
        /// The accepted values.
        expected: String,
    },

    /// A tensor of a safetensors file in an unsupported type.
    #[error("tensor `{name}` is stored as {stored_type}; of safetensors files, F32, F16 and BF16 are read")]
    StoredType {
        /// The tensor's name in the file.
        name: String,
        /// The type, as the file names it.
        stored_type: String,
    },

    /// A tensor of a folder that the model's family does not have.
    #[error("there is a tensor `{name}`, which a model of the type `{family}` with these sizes does not have")]
    UnknownFolderTensor {
        /// The tensor's name in the file.
        name: String,
        /// The family.
        family: &'static str,
    },

    /// Experts that do not form one tensor.
    #[error("the tensor `{name}` {problem}")]
    Experts {
        /// GGUF's name of the tensor.
        name: String,
        /// The problem with the experts.
        problem: String,
    },

    /// Two tensors of a folder with the same GGUF name.
    #[error("two tensors are both `{name}` in GGUF's terms; the file was written wrongly")]
    TwoNames {
        /// GGUF's name.
        name: String,
    },

    /// A requested tensor that the file lacks.
    #[error("the file has no tensor `{name}`")]
    MissingTensor {
        /// The tensor's name.
        name: String,
    },

    /// Tensors that the architecture's script does not use; ignoring them would change the results.
    #[error("the file has {names}, which the script of the architecture `{architecture}` does not use")]
    UnusedTensors {
        /// The tensors' names.
        names: String,
        /// The architecture.
        architecture: String,
    },

    /// A tensor whose sizes differ from those of the configuration.
    #[error("tensor `{name}` has the sizes {found:?}, but by the file's configuration they are {expected:?}")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// The sizes by the configuration, outermost first.
        expected: Vec<usize>,
        /// The sizes in the file.
        found: Vec<usize>,
    },

    /// A layer whose state cannot lie in pages.
    #[error("layer {layer} keeps {kept}, which cannot be shared out in pages: this model runs one sequence at a time")]
    CachePages {
        /// The layer.
        layer: usize,
        /// What it keeps.
        kept: &'static str,
    },

    /// Sequences that a KV cache cannot continue.
    #[error("the KV cache cannot run this step: {reason}")]
    CacheSequence {
        /// Why.
        reason: &'static str,
    },

    /// A full KV cache.
    #[error(
        "the KV cache is full: it holds {len} of at most {capacity} tokens, {adding} more do not fit; make it larger, or clear it"
    )]
    CacheFull {
        /// Tokens in the cache.
        len: usize,
        /// Tokens to add.
        adding: usize,
        /// Capacity in tokens.
        capacity: usize,
    },

    /// A type that a KV cache does not support.
    #[error("a KV cache keeps float16, float32 or q8_0, not {dtype}")]
    CacheType {
        /// The type given.
        dtype: DType,
    },

    /// A block format for a KV cache on a GPU.
    #[error("a KV cache in {dtype} is for the CPU; on a GPU, keep it in float16 or float32")]
    CacheOnGpu {
        /// The type given.
        dtype: DType,
    },

    /// A head size that the KV cache's block format does not support.
    #[error(
        "a KV cache in {dtype} keeps blocks of {}, and heads of {head_dim} are no whole number of them; keep it in float16",
        dtype.block_elems()
    )]
    CacheBlocks {
        /// The type given.
        dtype: DType,
        /// Elements of a head.
        head_dim: usize,
    },

    /// A window that a layer of a KV cache cannot have, or does not hold.
    #[error(
        "layer {layer} of the KV cache holds a window of {held} tokens, and a window of {asked} was asked for; \
         ask for 1 to {held}, or make the cache with the larger window"
    )]
    CacheWindow {
        /// The layer.
        layer: usize,
        /// The layer's own window.
        held: usize,
        /// The requested window.
        asked: usize,
    },

    /// A step with more tokens than a windowed layer of a KV cache has room for.
    #[error("{adding} tokens at once are too many for a KV cache with windows; let no more than {limit} go at once")]
    CacheStep {
        /// Tokens to add.
        adding: usize,
        /// The largest step.
        limit: usize,
    },

    /// A length to which a KV cache with windows or states cannot be truncated.
    #[error(
        "the KV cache cannot go back from {len} tokens to {asked}: of those before {earliest} its layers keep a window or a state \
         alone; go back to {earliest} or later, or clear it"
    )]
    CacheTruncate {
        /// Tokens in the cache.
        len: usize,
        /// The requested length.
        asked: usize,
        /// The least possible length other than 0.
        earliest: usize,
    },

    /// A layer of a KV cache used out of order.
    #[error(
        "the KV cache got layer {layer}, but layer {expected} of {n_layers} is next; every step goes through all layers in order"
    )]
    CacheLayer {
        /// The layer given.
        layer: usize,
        /// The next layer in order.
        expected: usize,
        /// Number of layers.
        n_layers: usize,
    },

    /// A layer of a KV cache whose kind of state is not the one that the step needs.
    #[error("layer {layer} of the KV cache keeps {kept} where the step wants {asked}; make the cache for this model")]
    CachePart {
        /// The layer.
        layer: usize,
        /// The kind that it keeps.
        kept: &'static str,
        /// The kind that the step needs.
        asked: &'static str,
    },

    /// Layers of one step with different numbers of tokens.
    #[error("layer {layer} brings {found} tokens to the KV cache, but this step began with {expected}")]
    CacheTokens {
        /// The layer.
        layer: usize,
        /// Tokens in the step's first layer.
        expected: usize,
        /// Tokens in this one.
        found: usize,
    },

    /// A KV cache for a model of other sizes.
    #[error("this KV cache has {found} layers, but the model has {expected}; make it for this model")]
    CacheModel {
        /// The model's layers.
        expected: usize,
        /// The cache's layers.
        found: usize,
    },

    /// An empty prompt.
    #[error(
        "there is nothing to start from: the prompt is empty, and this model's tokenizer puts no token before a text"
    )]
    EmptyPrompt,

    /// A prompt that fills the whole context or more.
    #[error(
        "the prompt has {tokens} tokens, but the context has room for {context}; shorten it, or use a larger context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the context has room for.
        context: usize,
    },

    /// A context longer than the model supports.
    #[error("a context of {asked} tokens was asked for, but this model works for 1 to {limit}")]
    ContextLength {
        /// Requested tokens.
        asked: usize,
        /// The model's own limit.
        limit: usize,
    },

    /// A failed tensor operation.
    #[error(transparent)]
    Tensor(#[from] tl_tensor::Error),

    /// Memory that could not be allocated.
    #[error(transparent)]
    Memory(#[from] tl_device::Error),
}

impl ModelError {
    /// The error for an unusable tokenizer.
    pub(crate) fn bad_tokenizer(problem: impl Into<String>) -> ModelError {
        ModelError::TokenizerData { problem: problem.into() }
    }
}
