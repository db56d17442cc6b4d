//! From a body to requests for the engine: parsing, the chat template, tokens, grammars. It takes time, and waits for
//! nothing.

use serde_json::{Map, Value};
use tl_engine::{Constraint, DateTime, StopStrings};

use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::sampling::{Common, MAX_CHOICES, chat_logprobs, max_tokens};
use super::served::Served;
#[cfg(not(feature = "grammar"))]
use super::tools::ToolChoice;
use super::tools::{ToolReader, Tools};
use super::{format, messages, prompts};
use crate::clock;
use crate::request::Request;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to a conversation.
    Chat,
    /// The continuation of a text.
    Text,
}

/// A request that is ready to run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) kind: Kind,
    pub(crate) common: Common,
    /// Tokens of each prompt, and the most of each of its answers.
    pub(crate) sizes: Vec<(usize, usize)>,
    /// Requests for the engine, one for each answer; none for a price.
    pub(crate) requests: Vec<Request>,
    /// Tokens of the prompts, each counted once.
    pub(crate) prompt_tokens: usize,
    /// Log-probabilities for each token; `None`: none.
    pub(crate) logprobs: Option<usize>,
    pub(crate) tools: Option<Tools>,
    /// The finder of stop strings, one for each answer to clone.
    pub(crate) stop: StopStrings,
}

/// A constraint that each answer gets a copy of.
#[cfg(feature = "grammar")]
type Shared = Option<tl_engine::Grammar>;
#[cfg(not(feature = "grammar"))]
type Shared = Option<std::convert::Infallible>;

impl Prepared {
    /// Reads a body of this kind, for its price alone where `is_quote` or the body say so.
    pub(crate) fn new(kind: Kind, body: Map<String, Value>, is_quote: bool, served: &Served) -> ApiResult<Prepared> {
        let mut fields = Fields::new(body);
        let mut common = Common::take(&mut fields)?;
        common.is_dry_run |= is_quote;
        if let Some(name) = common.model.as_ref().filter(|name| **name != served.name) {
            let name: String = name.chars().take(100).collect();
            let message = format!("there is no model {name:?}; this server has {:?}", served.name);
            return Err(ApiError::new(404, Some("model_not_found"), message));
        }
        match kind {
            Kind::Chat => chat(fields, common, served),
            Kind::Text => text(fields, common, served),
        }
    }

    /// The reader of calls for an answer.
    pub(crate) fn tool_reader(&self, served: &Served) -> Option<ToolReader> {
        let (tools, form) = (self.tools.as_ref()?, served.tools.as_ref()?);
        Some(ToolReader::new(form.clone(), tools))
    }
}

fn chat(mut fields: Fields, common: Common, served: &Served) -> ApiResult<Prepared> {
    let form = served.chat.as_ref().map_err(|error| {
        let message = format!("this model has no conversations ({error}); /v1/completions continues texts");
        ApiError::new(400, Some("no_chat_template"), message)
    })?;
    let list = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    let messages = messages::read(list)?;
    let tools = Tools::take(&mut fields)?;
    let (logprobs, max_tokens) = (chat_logprobs(&mut fields)?, max_tokens(&mut fields)?);
    let schema = format::take_schema(&mut fields)?;
    let extra = template_variables(&mut fields)?;
    check_chat_unsupported(&mut fields)?;
    fields.end()?;
    if tools.is_some() && served.tools.is_none() {
        let problem = "this model's template takes no tools, or writes their calls in a form that is not understood";
        return Err(ApiError::param("tools", problem));
    }
    let constraint = constraint(served, schema, tools.as_ref())?;
    let now = DateTime::from_unix_seconds(i64::try_from(clock::unix_seconds()).unwrap_or(0));
    let list = tools.as_ref().map(|tools| &tools.list);
    let text = form.text_with(&messages, list, extra.as_ref(), now);
    let prompt = form.encode(&text.map_err(|error| ApiError::param("messages", error))?);
    finish(Kind::Chat, common, served, vec![prompt], Rest { max_tokens, logprobs, constraint, tools })
}

/// Parameters of chat completions that are not supported.
fn check_chat_unsupported(fields: &mut Fields) -> ApiResult<()> {
    fields.neutral("modalities", &[serde_json::json!(["text"])])?;
    fields.neutral("functions", &[serde_json::json!([])])?;
    fields.neutral("function_call", &[serde_json::json!("none")])
}

/// Takes `chat_template_kwargs`, such as `{"enable_thinking": false}`.
fn template_variables(fields: &mut Fields) -> ApiResult<Option<Map<String, Value>>> {
    match fields.take("chat_template_kwargs") {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(ApiError::param("chat_template_kwargs", "expected an object")),
    }
}

fn text(mut fields: Fields, common: Common, served: &Served) -> ApiResult<Prepared> {
    let prompts = prompts::read(fields.take("prompt"), &served.tokenizer)?;
    let logprobs = fields.integer("logprobs", 0..=Request::MAX_LOGPROBS)?;
    let max_tokens = max_tokens(&mut fields)?;
    let schema = format::take_schema(&mut fields)?;
    fields.end()?;
    let constraint = constraint(served, schema, None)?;
    finish(Kind::Text, common, served, prompts, Rest { max_tokens, logprobs, constraint, tools: None })
}

/// Parameters that the kinds read differently.
struct Rest {
    max_tokens: Option<usize>,
    logprobs: Option<usize>,
    constraint: Shared,
    tools: Option<Tools>,
}

fn finish(kind: Kind, common: Common, served: &Served, prompts: Vec<Vec<u32>>, rest: Rest) -> ApiResult<Prepared> {
    let count = prompts.len().saturating_mul(common.n);
    if count > MAX_CHOICES {
        let param = if common.n > 1 { "n" } else { "prompt" };
        return Err(ApiError::param(
            param,
            format_args!("{count} answers are more than the {MAX_CHOICES} that there can be"),
        ));
    }
    let prompt_tokens = prompts.iter().map(Vec::len).sum();
    let sizes: Vec<(usize, usize)> = prompts
        .iter()
        .map(|prompt| {
            // A text that fills the context leaves no token: the engine says so.
            let room = served.context.saturating_sub(prompt.len()).max(1);
            (prompt.len(), rest.max_tokens.unwrap_or(served.max_tokens.min(room)))
        })
        .collect();
    let requests = if common.is_dry_run { Vec::new() } else { requests(&common, served, &prompts, &sizes, &rest)? };
    let stop = StopStrings::new(&common.stop).map_err(|error| ApiError::param("stop", error))?;
    let Rest { logprobs, tools, .. } = rest;
    Ok(Prepared { kind, common, sizes, requests, prompt_tokens, logprobs, tools, stop })
}

/// The requests for the engine, `n` for each prompt.
fn requests(
    common: &Common,
    served: &Served,
    prompts: &[Vec<u32>],
    sizes: &[(usize, usize)],
    rest: &Rest,
) -> ApiResult<Vec<Request>> {
    let mut requests = Vec::with_capacity(prompts.len() * common.n);
    for (prompt, &(len, max_tokens)) in prompts.iter().zip(sizes) {
        // Before a long prompt is copied.
        Request::check_len(len, max_tokens, served.context)?;
        for index in 0..common.n as u64 {
            let mut request = Request::new(prompt.clone(), max_tokens);
            request.sampling = common.sampling.with_seed(common.sampling.seed.wrapping_add(index));
            request.n_logprobs = rest.logprobs.map_or(0, |n| n.max(1));
            request.reuses_prefix = !common.is_seeded;
            request.constraint = rest.constraint.clone().map(boxed);
            requests.push(request);
        }
    }
    Ok(requests)
}

#[cfg(feature = "grammar")]
fn boxed(grammar: tl_engine::Grammar) -> Box<dyn Constraint> {
    Box::new(grammar)
}

#[cfg(not(feature = "grammar"))]
fn boxed(never: std::convert::Infallible) -> Box<dyn Constraint> {
    match never {}
}

/// Compiles what an answer must follow.
#[cfg(feature = "grammar")]
fn constraint(served: &Served, schema: Option<String>, tools: Option<&Tools>) -> ApiResult<Shared> {
    use tl_engine::GrammarSource;
    let forced = tools.and_then(|tools| tools.grammar(served.tools.as_ref()?));
    let (source, param) = match (schema, forced) {
        (Some(_), Some(_)) => {
            return Err(ApiError::param("response_format", "an answer that must call a tool has no other form"));
        }
        (Some(schema), None) => (GrammarSource::JsonSchema(schema), "response_format"),
        (None, Some(grammar)) => (GrammarSource::Lark(grammar), "tools"),
        (None, None) => return Ok(None),
    };
    served.grammar(&source).map(Some).map_err(|error| ApiError::param(param, error))
}

#[cfg(not(feature = "grammar"))]
fn constraint(_: &Served, schema: Option<String>, tools: Option<&Tools>) -> ApiResult<Shared> {
    if schema.is_some() {
        return Err(ApiError::param("response_format", "this server was built without grammars"));
    }
    match tools.map(|tools| &tools.choice) {
        None | Some(ToolChoice::Auto) => Ok(None),
        Some(_) => Err(ApiError::param("tool_choice", "this server was built without grammars; expected none or auto")),
    }
}
