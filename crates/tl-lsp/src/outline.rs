//! The outline of a document: its functions, variables, tests, entities, relations and rules.

use lsp_types::{DocumentSymbol, Range, SymbolKind};
use tl_syntax::ast::{Elements, Function, Item, Name, StatementKind};
use tl_syntax::{FileId, Span, parse};

use crate::places::{Encoding, Lines};

/// What a text declares at its top level.
pub(crate) fn outline(text: &str, encoding: Encoding) -> Vec<DocumentSymbol> {
    let lines = Lines::of(text, encoding);
    let symbol = |name: &str, kind, name_span, whole: Span, children: Vec<DocumentSymbol>| {
        let (selection_range, range) = (lines.range(name_span), lines.range(whole.to(name_span)));
        (!name.is_empty()).then(|| symbol(name, kind, selection_range, range, children))
    };
    let function = |function: &Function, kind| {
        let whole = function.span.to(function.body.span);
        symbol(&function.name.text, kind, function.name.span, whole, Vec::new())
    };
    let of_item = |item: &Item| match item {
        Item::Function(written) => function(written, SymbolKind::FUNCTION),
        Item::Impl(written) => {
            let functions =
                written.functions.iter().filter_map(|written| function(written, SymbolKind::METHOD)).collect();
            let name = format!("impl {}", written.name.text);
            symbol(&name, SymbolKind::NAMESPACE, written.name.span, written.span, functions)
        }
        Item::Struct(written) => {
            let fields = written.fields.iter();
            let fields = fields.filter_map(|field| {
                symbol(
                    &field.name.text,
                    SymbolKind::FIELD,
                    field.name.span,
                    field.name.span.to(field.ty.span),
                    Vec::new(),
                )
            });
            symbol(&written.name.text, SymbolKind::STRUCT, written.name.span, written.span, fields.collect())
        }
        Item::Main(main) => symbol("main", SymbolKind::FUNCTION, main.span, main.span.to(main.body.span), Vec::new()),
        Item::Test(test) => {
            let name = format!("test {:?}", &*test.name.text);
            symbol(&name, SymbolKind::EVENT, test.name.span, test.name.span.to(test.body.span), Vec::new())
        }
        Item::Statement(statement) => {
            let name = match &statement.kind {
                StatementKind::Let { name, .. } => name,
                StatementKind::Tensor(declaration) => &declaration.name,
                _ => return None,
            };
            symbol(&name.text, SymbolKind::VARIABLE, name.span, statement.span, Vec::new())
        }
        Item::Entity(entity) => {
            let elements: &[Name] = match &entity.elements {
                Elements::Named(names) => names,
                Elements::Numbered(_) => &[],
            };
            let elements = elements.iter().filter_map(|element| {
                symbol(&element.text, SymbolKind::ENUM_MEMBER, element.span, element.span, Vec::new())
            });
            symbol(&entity.name.text, SymbolKind::ENUM, entity.name.span, entity.span, elements.collect())
        }
        Item::Relation(relation) => {
            symbol(&relation.name.text, SymbolKind::INTERFACE, relation.name.span, relation.span, Vec::new())
        }
        Item::Rule(rule) => {
            let name = format!("rule {}", rule.head.name.text);
            symbol(&name, SymbolKind::EVENT, rule.head.name.span, rule.span, Vec::new())
        }
        Item::SoftRule(rule) => symbol(&rule.name.text, SymbolKind::VARIABLE, rule.name.span, rule.span, Vec::new()),
        Item::Import(_) | Item::Fact(_) => None,
    };
    parse(FileId(0), text).tree.items.iter().filter_map(of_item).collect()
}

#[expect(deprecated, reason = "the protocol's type has a field that is")]
fn symbol(
    name: &str,
    kind: SymbolKind,
    selection_range: Range,
    range: Range,
    children: Vec<DocumentSymbol>,
) -> DocumentSymbol {
    let children = Some(children).filter(|children| !children.is_empty());
    let name = name.to_owned();
    DocumentSymbol { name, detail: None, kind, tags: None, deprecated: None, range, selection_range, children }
}
