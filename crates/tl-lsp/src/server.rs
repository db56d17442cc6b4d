//! The server: messages in, answers and diagnostics out.

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types::notification::{
    DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, Exit, Notification as _, PublishDiagnostics,
};
use lsp_types::request::{
    Completion, DocumentSymbolRequest, Formatting, GotoDefinition, HoverRequest, InlayHintRequest, References, Rename,
    Request as _, SemanticTokensFullRequest,
};
use lsp_types::{
    CompletionOptions, CompletionParams, Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity,
    DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams, DocumentFormattingParams,
    DocumentSymbolParams, GotoDefinitionParams, HoverParams, HoverProviderCapability, InitializeParams,
    InlayHintParams, Location, NumberOrString, OneOf, Position, PublishDiagnosticsParams, ReferenceParams,
    RenameParams, SemanticTokens, SemanticTokensFullOptions, SemanticTokensOptions, SemanticTokensParams,
    ServerCapabilities, TextDocumentPositionParams, TextDocumentSyncCapability, TextDocumentSyncKind, TextEdit, Uri,
    WorkDoneProgressOptions,
};
use serde_json::{Value, json};
use tl_syntax::{FileId, Severity};

use crate::documents::{Document, Documents, ReadSource};
use crate::places::{Encoding, Lines, uri_of};
use crate::{completion, hints, hover, names, outline, tokens};

/// Serves an editor over standard input and output until it ends the session. `read` reads files that are not open.
///
/// # Errors
/// What broke the connection, as a message.
pub fn serve(read: Box<ReadSource>) -> Result<(), String> {
    let (connection, threads) = Connection::stdio();
    let result = Server::start(&connection, read).and_then(|mut server| server.run());
    // The threads end with the connection.
    drop(connection);
    result?;
    threads.join().map_err(|error| error.to_string())
}

struct Server<'c> {
    connection: &'c Connection,
    documents: Documents,
    encoding: Encoding,
}

/// An answer, or an error's code and message.
type Answer = Result<Value, (ErrorCode, String)>;

impl<'c> Server<'c> {
    /// Answers the editor's first request.
    fn start(connection: &'c Connection, read: Box<ReadSource>) -> Result<Server<'c>, String> {
        let (id, params) = connection.initialize_start().map_err(|error| error.to_string())?;
        let params: InitializeParams = serde_json::from_value(params).map_err(|error| error.to_string())?;
        let general = params.capabilities.general.unwrap_or_default();
        let encoding = Encoding::choose(general.position_encodings.as_deref());
        let info = json!({ "name": "tl", "version": env!("CARGO_PKG_VERSION") });
        let answer = json!({ "capabilities": capabilities(encoding), "serverInfo": info });
        connection.initialize_finish(id, answer).map_err(|error| error.to_string())?;
        Ok(Server { connection, documents: Documents::new(read), encoding })
    }

    fn run(&mut self) -> Result<(), String> {
        while let Ok(message) = self.connection.receiver.recv() {
            match message {
                Message::Request(request) => {
                    if self.connection.handle_shutdown(&request).map_err(|error| error.to_string())? {
                        return Ok(());
                    }
                    let Request { id, method, params } = request;
                    let answer = self.answer(&method, params);
                    self.send(Message::Response(response(id, answer)))?;
                }
                Message::Notification(notification) if notification.method == Exit::METHOD => {
                    return Err("the editor ended the session without `shutdown`".to_owned());
                }
                Message::Notification(notification) => self.notified(notification)?,
                Message::Response(_) => {}
            }
        }
        Err("the editor closed the connection without `shutdown`".to_owned())
    }

    fn send(&self, message: Message) -> Result<(), String> {
        self.connection.sender.send(message).map_err(|error| error.to_string())
    }

    /// Follows a change of a document. A notification that cannot be read is left alone, as the protocol says.
    fn notified(&mut self, Notification { method, params }: Notification) -> Result<(), String> {
        match &*method {
            DidOpenTextDocument::METHOD => {
                let Ok(params) = serde_json::from_value::<DidOpenTextDocumentParams>(params) else { return Ok(()) };
                self.changed(params.text_document.uri, params.text_document.text)
            }
            DidChangeTextDocument::METHOD => {
                let Ok(params) = serde_json::from_value::<DidChangeTextDocumentParams>(params) else { return Ok(()) };
                // Each change is the whole text.
                let Some(change) = params.content_changes.into_iter().next_back() else { return Ok(()) };
                self.changed(params.text_document.uri, change.text)
            }
            DidCloseTextDocument::METHOD => {
                let Ok(params) = serde_json::from_value::<DidCloseTextDocumentParams>(params) else { return Ok(()) };
                let changed = self.documents.close(&params.text_document.uri);
                self.publish(params.text_document.uri, Vec::new())?;
                self.publish_all(&changed)
            }
            _ => Ok(()),
        }
    }

    fn changed(&mut self, uri: Uri, text: String) -> Result<(), String> {
        let changed = self.documents.set(uri, text);
        self.publish_all(&changed)
    }

    fn publish_all(&self, paths: &[String]) -> Result<(), String> {
        for path in paths {
            if let Some(document) = self.documents.at(path) {
                self.publish(document.uri.clone(), diagnostics(document, self.encoding))?;
            }
        }
        Ok(())
    }

    fn publish(&self, uri: Uri, diagnostics: Vec<Diagnostic>) -> Result<(), String> {
        let params = PublishDiagnosticsParams { uri, diagnostics, version: None };
        self.send(Message::Notification(Notification::new(PublishDiagnostics::METHOD.to_owned(), params)))
    }

    fn answer(&self, method: &str, params: Value) -> Answer {
        let encoding = self.encoding;
        match method {
            HoverRequest::METHOD => {
                let params: HoverParams = read(params)?;
                self.at(&params.text_document_position_params, |document, offset| {
                    hover::hover(document, offset, encoding)
                })
            }
            GotoDefinition::METHOD => {
                let params: GotoDefinitionParams = read(params)?;
                self.at(&params.text_document_position_params, |document, offset| {
                    names::definition(document, offset, encoding)
                })
            }
            Completion::METHOD => {
                let params: CompletionParams = read(params)?;
                self.at(&params.text_document_position, completion::completions)
            }
            References::METHOD => {
                let params: ReferenceParams = read(params)?;
                let with_declaration = params.context.include_declaration;
                self.at(&params.text_document_position, |document, offset| {
                    names::references(&self.documents, document, offset, with_declaration, encoding)
                })
            }
            Rename::METHOD => {
                let RenameParams { text_document_position: at, new_name, .. } = read(params)?;
                let (document, offset) = self.place(&at)?;
                let edit = names::rename(&self.documents, document, offset, &new_name, encoding);
                edit.map(|edit| json!(edit)).map_err(|problem| (ErrorCode::RequestFailed, problem))
            }
            DocumentSymbolRequest::METHOD => {
                let params: DocumentSymbolParams = read(params)?;
                Ok(json!(outline::outline(&self.document(&params.text_document.uri)?.text, encoding)))
            }
            InlayHintRequest::METHOD => {
                let params: InlayHintParams = read(params)?;
                Ok(json!(hints::hints(self.document(&params.text_document.uri)?, params.range, encoding)))
            }
            Formatting::METHOD => {
                let params: DocumentFormattingParams = read(params)?;
                Ok(json!(format(&self.document(&params.text_document.uri)?.text, encoding)))
            }
            SemanticTokensFullRequest::METHOD => {
                let params: SemanticTokensParams = read(params)?;
                let data = tokens::tokens(self.document(&params.text_document.uri)?, encoding);
                Ok(json!(SemanticTokens { result_id: None, data }))
            }
            _ => Err((ErrorCode::MethodNotFound, format!("{method} is not served"))),
        }
    }

    fn document(&self, uri: &Uri) -> Result<&Document, (ErrorCode, String)> {
        self.documents.find(uri).ok_or_else(|| (ErrorCode::InvalidParams, format!("{} is not open", uri.as_str())))
    }

    fn place(&self, at: &TextDocumentPositionParams) -> Result<(&Document, u32), (ErrorCode, String)> {
        let document = self.document(&at.text_document.uri)?;
        Ok((document, self.encoding.offset(&document.text, at.position)))
    }

    fn at<T: serde::Serialize>(
        &self,
        at: &TextDocumentPositionParams,
        find: impl FnOnce(&Document, u32) -> T,
    ) -> Answer {
        let (document, offset) = self.place(at)?;
        Ok(json!(find(document, offset)))
    }
}

fn read<T: serde::de::DeserializeOwned>(params: Value) -> Result<T, (ErrorCode, String)> {
    serde_json::from_value(params).map_err(|error| (ErrorCode::InvalidParams, error.to_string()))
}

fn response(id: RequestId, answer: Answer) -> Response {
    match answer {
        Ok(value) => Response::new_ok(id, value),
        Err((code, message)) => Response::new_err(id, code as i32, message),
    }
}

fn capabilities(encoding: Encoding) -> ServerCapabilities {
    let completion =
        CompletionOptions { trigger_characters: Some(vec![".".to_owned()]), ..CompletionOptions::default() };
    let semantic = SemanticTokensOptions {
        work_done_progress_options: WorkDoneProgressOptions::default(),
        legend: tokens::legend(),
        range: None,
        full: Some(SemanticTokensFullOptions::Bool(true)),
    };
    ServerCapabilities {
        position_encoding: Some(encoding.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        completion_provider: Some(completion),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        rename_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        inlay_hint_provider: Some(OneOf::Left(true)),
        semantic_tokens_provider: Some(semantic.into()),
        ..ServerCapabilities::default()
    }
}

/// The edit that formats a text; none where it has errors, which are shown anyway.
fn format(text: &str, encoding: Encoding) -> Option<Vec<TextEdit>> {
    let formatted = tl_syntax::format(FileId(0), text).ok()?;
    if formatted == text {
        return Some(Vec::new());
    }
    let end = Lines::of(text, encoding).position(text.len() as u32);
    let range = lsp_types::Range { start: Position::default(), end };
    Some(vec![TextEdit { range, new_text: formatted }])
}

/// What is wrong with a document. Errors in files that it imports stand at its beginning, with their places.
fn diagnostics(document: &Document, encoding: Encoding) -> Vec<Diagnostic> {
    let sources = &document.analysis.sources;
    let lines = Lines::of(&document.text, encoding);
    let shown = document.analysis.diagnostics.iter().map(|diagnostic| {
        let span = diagnostic.span();
        let is_own = span.file == FileId(0);
        let mut message = diagnostic.message.clone();
        if !is_own {
            message = format!("{}: {message}", sources.describe(span));
        }
        diagnostic.hints.iter().for_each(|hint| message.push_str(&format!("\nhelp: {hint}")));
        let related = diagnostic.labels.iter().skip(1).filter_map(|label| {
            let file = sources.file(label.span.file)?;
            let uri = if label.span.file == FileId(0) { document.uri.clone() } else { uri_of(file.name())? };
            let location = Location { uri, range: Lines::of(file.text(), encoding).range(label.span) };
            Some(DiagnosticRelatedInformation { location, message: label.text.clone() })
        });
        let related: Vec<_> = related.collect();
        Diagnostic {
            range: if is_own { lines.range(span) } else { lsp_types::Range::default() },
            severity: Some(match diagnostic.severity {
                Severity::Error => DiagnosticSeverity::ERROR,
                Severity::Warning => DiagnosticSeverity::WARNING,
            }),
            code: diagnostic.code.map(|code| NumberOrString::String(code.name().to_owned())),
            source: Some("tl".to_owned()),
            message,
            related_information: Some(related).filter(|related| !related.is_empty()),
            ..Diagnostic::default()
        }
    });
    shown.collect()
}
