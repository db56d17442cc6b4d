//! The crate's one error type. Variants carry data; the message of each says what is wrong, with the values, and
//! what to do about it.

use std::path::PathBuf;

use tl_device::DType;

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, ModelError>;

/// Everything that can go wrong between a file on disk and generated text.
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

    /// A version of the container that is not read.
    #[error("GGUF version {version}{} is not supported (2 and 3 are); convert the model again with a current converter",
        if *big_endian { " of a big-endian file" } else { "" })]
    GgufVersion {
        /// The version, in the file's own byte order.
        version: u32,
        /// Whether the file was written for a big-endian machine.
        big_endian: bool,
    },

    /// The file ends inside something.
    #[error(
        "the file ends inside {what} at byte {offset}: {needed} bytes are needed, {remaining} are left; \
         the file is truncated or damaged, fetch it again"
    )]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins, in bytes from the start of the file.
        offset: u64,
        /// How many bytes it needs.
        needed: u64,
        /// How many bytes the file still has.
        remaining: u64,
    },

    /// A count or a length that the rest of the file cannot hold.
    #[error(
        "{what} at byte {offset} is {value}, but the rest of the file holds at most {limit}; \
         the file is truncated or damaged, fetch it again"
    )]
    Length {
        /// Which count or length.
        what: &'static str,
        /// Where the field lies, in bytes from the start of the file.
        offset: u64,
        /// The value found.
        value: u64,
        /// The largest value that could be true.
        limit: u64,
    },

    /// A field whose value the format does not allow.
    #[error("{what} at byte {offset} is {value}, expected {expected}; the file is damaged or was written wrongly")]
    Field {
        /// Which field.
        what: &'static str,
        /// Where the field lies, in bytes from the start of the file.
        offset: u64,
        /// The value found.
        value: u64,
        /// What is allowed.
        expected: &'static str,
    },

    /// A string that is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8; the file is damaged or was written wrongly")]
    NotUtf8 {
        /// Which string.
        what: &'static str,
        /// Where its bytes begin.
        offset: u64,
    },

    /// Two metadata keys or two tensors of one name.
    #[error("the {what} `{name}` occurs twice, the second time at byte {offset}; the file was written wrongly")]
    Duplicate {
        /// `metadata key` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
        /// Where the second one begins.
        offset: u64,
    },

    /// A tensor whose sizes cannot be: the element or byte count overflows, or a row is no whole number of blocks.
    #[error("tensor `{name}` (described at byte {offset}) has the sizes {dims:?} in {format}, {problem}")]
    TensorSizes {
        /// The tensor's name.
        name: String,
        /// Where its description begins.
        offset: u64,
        /// Its sizes, outermost first.
        dims: Vec<u64>,
        /// Its format.
        format: String,
        /// What is wrong with them.
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
        /// Where its data begins, in bytes from the start of the file.
        start: u64,
        /// How long its data is.
        len_bytes: u64,
        /// The file's length.
        file_len: u64,
    },

    /// A tensor in a format that nothing computes on.
    #[error("tensor `{name}` is stored as {format}, which cannot be computed on; use a file in one of: {supported}")]
    TensorFormat {
        /// The tensor's name.
        name: String,
        /// Name (or number) of its format.
        format: String,
        /// The formats that can be computed on.
        supported: String,
    },

    /// A metadata key that is needed and not there.
    #[error(
        "the file has no metadata key `{key}`, which says {meaning}; convert the model again with a current converter"
    )]
    MissingKey {
        /// The key.
        key: String,
        /// What it would have told.
        meaning: &'static str,
    },

    /// A metadata value of another type than the key needs.
    #[error("the metadata key `{key}` holds {found}, expected {expected}")]
    KeyType {
        /// The key.
        key: String,
        /// The type found.
        found: String,
        /// The types that would do.
        expected: &'static str,
    },

    /// A metadata value that makes no model.
    #[error("the metadata key `{key}` is {value}, {problem}")]
    KeyValue {
        /// The key.
        key: String,
        /// The value found.
        value: String,
        /// Why it cannot be used.
        problem: String,
    },

    /// An architecture without a script.
    #[error("the model's architecture is `{found}`, for which no script comes with the program; there are {known}")]
    Architecture {
        /// The architecture that the file names.
        found: String,
        /// Those that there are.
        known: String,
    },

    /// The script of an architecture that cannot be compiled, or ran into an error.
    #[error("{message}")]
    Script {
        /// What is wrong, with the place in the script.
        message: String,
    },

    /// A kind of tokenizer that this crate does not have.
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
        /// What is wrong, with the values.
        problem: String,
    },

    /// A conversation that the model's template does not take, or no template at all.
    #[error("{problem}")]
    Chat {
        /// What is wrong.
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

    /// A window of a text that predictions cannot be made in.
    #[error("a window of {asked} tokens: this model works for {shortest} to {limit}")]
    Window {
        /// Tokens asked for.
        asked: usize,
        /// The fewest that there must be.
        shortest: usize,
        /// The most that there may be.
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

    /// More stop strings than are searched for.
    #[error("{count} stop strings were given, at most {limit} are searched for")]
    TooManyStopStrings {
        /// How many were given.
        count: usize,
        /// How many there may be.
        limit: usize,
    },

    /// A stop string that is empty or too long.
    #[error("stop string {index} (the first is 0) has {len_bytes} bytes, expected 1 to {limit}")]
    StopStringLength {
        /// Its place in the list.
        index: usize,
        /// Its length.
        len_bytes: usize,
        /// The most bytes that it may have.
        limit: usize,
    },

    /// Logits from which nothing can be chosen.
    #[error("the logits cannot be sampled: {problem}")]
    Logits {
        /// What is wrong with them.
        problem: String,
    },

    /// A grammar that the text is to follow: it cannot be used, or the text cannot go on by it.
    #[error("{problem}")]
    Constraint {
        /// What is wrong.
        problem: String,
    },

    /// A file that cannot be opened or mapped.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },

    /// A file that cannot be written; what was there before stays as it was.
    #[error("{}: the file of {} cannot be written: {source}; nothing was left behind",
        .path.display(), tl_device::bytes(*len_bytes))]
    Write {
        /// The path as it was given.
        path: PathBuf,
        /// How long the whole file would have been.
        len_bytes: u64,
        /// What the operating system says.
        source: std::io::Error,
    },

    /// Something wrong with a model file, whose path is added here.
    #[error("{}: {error}", .path.display())]
    File {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<ModelError>,
    },

    /// A part of a split model that contradicts its name or the others.
    #[error("{}: {problem}; fetch all parts of one model into one folder", .path.display())]
    SplitPart {
        /// The part's path.
        path: PathBuf,
        /// What is wrong, with the values.
        problem: String,
    },

    /// JSON that cannot be read, or is not of the form that is expected.
    #[error("{what} cannot be read: {problem}")]
    Json {
        /// What the JSON is for.
        what: &'static str,
        /// What is wrong, with the place.
        problem: String,
    },

    /// A folder without a file that a model needs.
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

    /// A file of weights that are not those of the folder's model.
    #[error("{}: the model of this folder is in {weights}, not in this file; give the folder's path", .path.display())]
    OtherWeights {
        /// The path as it was given.
        path: PathBuf,
        /// The files that the model is in.
        weights: String,
    },

    /// A `model_type` in a folder's configuration whose names are not known.
    #[error("the model's type is `{found}`; known are {known}; others can be read from GGUF files")]
    ModelType {
        /// The type found.
        found: String,
        /// The types that are known.
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

    /// A value of a folder's configuration that cannot be used.
    #[error("`{key}` is {found}, {expected}")]
    Config {
        /// The key.
        key: String,
        /// The value, as JSON.
        found: String,
        /// What would do.
        expected: String,
    },

    /// A tensor of a safetensors file in a type that is not read.
    #[error("tensor `{name}` is stored as {stored_type}; of safetensors files, F32, F16 and BF16 are read")]
    StoredType {
        /// The tensor's name in the file.
        name: String,
        /// The type, as the file names it.
        stored_type: String,
    },

    /// A tensor of a folder whose name the model's family does not have.
    #[error("there is a tensor `{name}`, which a model of the type `{family}` with these sizes does not have")]
    UnknownFolderTensor {
        /// The tensor's name in the file.
        name: String,
        /// The family.
        family: &'static str,
    },

    /// Experts that make no tensor together.
    #[error("the tensor `{name}` {problem}")]
    Experts {
        /// GGUF's name of the tensor.
        name: String,
        /// What is wrong with the experts.
        problem: String,
    },

    /// Two tensors of a folder that are the same one in GGUF.
    #[error("two tensors are both `{name}` in GGUF's terms; the file was written wrongly")]
    TwoNames {
        /// GGUF's name.
        name: String,
    },

    /// A tensor that is asked for and that the file does not have.
    #[error("the file has no tensor `{name}`")]
    MissingTensor {
        /// The tensor's name.
        name: String,
    },

    /// Tensors that an architecture's script does not ask for, so that leaving them out would change the results.
    #[error("the file has {names}, which the script of the architecture `{architecture}` does not use")]
    UnusedTensors {
        /// The tensors' names.
        names: String,
        /// The architecture.
        architecture: String,
    },

    /// A tensor of other sizes than the configuration says.
    #[error("tensor `{name}` has the sizes {found:?}, but by the file's configuration they are {expected:?}")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// The sizes by the configuration, outermost first.
        expected: Vec<usize>,
        /// The sizes in the file.
        found: Vec<usize>,
    },

    /// A KV cache without room for more tokens.
    #[error(
        "the KV cache is full: it holds {len} of at most {capacity} tokens, {adding} more do not fit; make it larger, or clear it"
    )]
    CacheFull {
        /// Tokens in the cache.
        len: usize,
        /// Tokens that were to be added.
        adding: usize,
        /// Tokens that it has room for.
        capacity: usize,
    },

    /// A type that keys and values cannot be kept in.
    #[error("a KV cache keeps float16, float32 or q8_0, not {dtype}")]
    CacheType {
        /// The type given.
        dtype: DType,
    },

    /// A format of blocks for a KV cache on a GPU.
    #[error("a KV cache in {dtype} is for the CPU; on a GPU, keep it in float16 or float32")]
    CacheOnGpu {
        /// The type given.
        dtype: DType,
    },

    /// Heads that a KV cache's format of blocks cannot keep.
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
        /// The window that it was made for.
        held: usize,
        /// The window asked for.
        asked: usize,
    },

    /// More tokens at once than a layer of a KV cache with a window has room for.
    #[error("{adding} tokens at once are too many for a KV cache with windows; let no more than {limit} go at once")]
    CacheStep {
        /// Tokens that were to be added.
        adding: usize,
        /// The most that go at once.
        limit: usize,
    },

    /// A length that a KV cache with windows or states cannot go back to.
    #[error(
        "the KV cache cannot go back from {len} tokens to {asked}: of those before {earliest} its layers keep a window or a state \
         alone; go back to {earliest} or later, or clear it"
    )]
    CacheTruncate {
        /// Tokens in the cache.
        len: usize,
        /// The length asked for.
        asked: usize,
        /// The least length other than 0 that it can go back to.
        earliest: usize,
    },

    /// A layer of a KV cache that is not the next one.
    #[error(
        "the KV cache got layer {layer}, but layer {expected} of {n_layers} is next; every step goes through all layers in order"
    )]
    CacheLayer {
        /// The layer given.
        layer: usize,
        /// The layer whose turn it is.
        expected: usize,
        /// Layers in all.
        n_layers: usize,
    },

    /// A layer of a KV cache that keeps something else than is asked for.
    #[error("layer {layer} of the KV cache keeps {kept} where the step wants {asked}; make the cache for this model")]
    CachePart {
        /// The layer.
        layer: usize,
        /// What it keeps.
        kept: &'static str,
        /// What the step wants.
        asked: &'static str,
    },

    /// Layers of one step that bring different numbers of tokens.
    #[error("layer {layer} brings {found} tokens to the KV cache, but this step began with {expected}")]
    CacheTokens {
        /// The layer.
        layer: usize,
        /// Tokens in the step's first layer.
        expected: usize,
        /// Tokens in this one.
        found: usize,
    },

    /// A KV cache made for a model of other sizes.
    #[error("this KV cache has {found} layers, but the model has {expected}; make it for this model")]
    CacheModel {
        /// The model's layers.
        expected: usize,
        /// The cache's layers.
        found: usize,
    },

    /// No tokens to start from.
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
        /// Tokens that there is room for.
        context: usize,
    },

    /// A context that the model was not trained for.
    #[error("a context of {asked} tokens was asked for, but this model works for 1 to {limit}")]
    ContextLength {
        /// Tokens asked for.
        asked: usize,
        /// The model's own limit.
        limit: usize,
    },

    /// An operation on tensors that failed.
    #[error(transparent)]
    Tensor(#[from] tl_tensor::Error),

    /// Memory that cannot be had.
    #[error(transparent)]
    Memory(#[from] tl_device::Error),
}

impl ModelError {
    /// The error for a tokenizer that cannot be used.
    pub(crate) fn bad_tokenizer(problem: impl Into<String>) -> ModelError {
        ModelError::TokenizerData { problem: problem.into() }
    }
}
