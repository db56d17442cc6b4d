//! `tl lsp`, driven by a client over its standard input and output.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use common::{Folder, tl};
use serde_json::{Value, json};

struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    requests: u64,
}

impl Client {
    fn start() -> Client {
        let mut child = tl("lsp", &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Client { child, input, output, requests: 0 };
        let answer = client.request("initialize", json!({ "processId": null, "rootUri": null, "capabilities": {} }));
        assert_eq!(answer["capabilities"]["positionEncoding"], "utf-16");
        client.notify("initialized", json!({}));
        client
    }

    fn send(&mut self, message: Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server ended");
            match line.trim() {
                "" => break,
                header => {
                    if let Some(value) = header.strip_prefix("Content-Length: ") {
                        length = value.parse().unwrap();
                    }
                }
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// The whole answer to a request.
    fn answer(&mut self, method: &str, params: Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id {
                return message;
            }
        }
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The diagnostics that follow a change of a document.
    fn diagnostics(&mut self, uri: &str) -> Vec<Value> {
        loop {
            let message = self.receive();
            if message["method"] == "textDocument/publishDiagnostics" && message["params"]["uri"] == uri {
                return message["params"]["diagnostics"].as_array().unwrap().clone();
            }
        }
    }

    fn open(&mut self, uri: &str, text: &str) -> Vec<Value> {
        let document = json!({ "uri": uri, "languageId": "tl", "version": 1, "text": text });
        self.notify("textDocument/didOpen", json!({ "textDocument": document }));
        self.diagnostics(uri)
    }

    fn change(&mut self, uri: &str, text: &str) -> Vec<Value> {
        let document = json!({ "uri": uri, "version": 2 });
        self.notify(
            "textDocument/didChange",
            json!({ "textDocument": document, "contentChanges": [{ "text": text }] }),
        );
        self.diagnostics(uri)
    }

    fn end(mut self) {
        assert_eq!(self.request("shutdown", Value::Null), Value::Null);
        self.notify("exit", Value::Null);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn at(uri: &str, line: u32, character: u32) -> Value {
    json!({ "textDocument": { "uri": uri }, "position": { "line": line, "character": character } })
}

fn with(mut params: Value, key: &str, value: Value) -> Value {
    params[key] = value;
    params
}

fn place(line: u32, start: u32, end: u32) -> Value {
    json!({ "start": { "line": line, "character": start }, "end": { "line": line, "character": end } })
}

const TEXT: &str = "// Doubles.\nfn double(x: float16[n, 512]) -> float16[n, 512] { x * 2.0 }\n\nmain {\n  let 𝔸 = ones([8, 512]); let y = double(𝔸)\n  print(y)\n}\n";

#[test]
fn a_session() {
    let folder = Folder::new("lsp");
    let path = std::fs::canonicalize(&folder.0).unwrap().join("a.tl");
    std::fs::write(&path, "saved, and not what the editor has").unwrap();
    let uri = &*format!("file://{}", path.display());
    let mut client = Client::start();

    // Errors as one types, and none when they are mended.
    let found = client
        .open(uri, "let buf = TensorBuffer::new()\nlet x = ones([2])\nbuf.recycle(x)\nprint(x, valeu)\nlet = 1\n");
    let messages: Vec<&str> = found.iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(messages[0].starts_with("`x` was recycled before") && messages[1].starts_with("unknown name `valeu`"));
    assert!(messages[2].starts_with("expected the variable's name"));
    assert_eq!((&found[0]["range"], &found[0]["severity"]), (&place(3, 6, 7), &json!(1)));
    assert_eq!(found[0]["relatedInformation"][0]["location"]["range"], place(2, 0, 14));
    assert_eq!(client.change(uri, TEXT), Vec::<Value>::new());

    // Columns are counted in UTF-16: the name in line 4 is one character of two units.
    let hover = |client: &mut Client, line, character| {
        let answer = client.request("textDocument/hover", at(uri, line, character));
        answer["contents"]["value"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(hover(&mut client, 4, 31), "```tl\ny: float16[8, 512]\n```\n\n8.0 KiB (8192 bytes)");
    let function = hover(&mut client, 4, 36);
    assert!(
        function.starts_with("```tl\nfn double(x: float16[n, 512]) -> float16[n, 512]\n```\nDoubles."),
        "{function}"
    );
    let builtin = hover(&mut client, 4, 12);
    assert!(builtin.starts_with("```tl\nones(shape, [dtype]) -> float16[8, 512]\n```\n"), "{builtin}");
    assert_eq!(hover(&mut client, 4, 0), "");

    let definition = client.request("textDocument/definition", at(uri, 4, 36));
    assert_eq!((&definition["uri"], &definition["range"]), (&json!(uri), &place(1, 3, 9)));
    let context = json!({ "includeDeclaration": true });
    let references = client.request("textDocument/references", with(at(uri, 4, 6), "context", context));
    let ranges: Vec<&Value> = references.as_array().unwrap().iter().map(|one| &one["range"]).collect();
    assert_eq!(ranges, [&place(4, 6, 8), &place(4, 42, 44)]);

    let edit = client.request("textDocument/rename", with(at(uri, 1, 4), "newName", json!("twice")));
    let edits: Vec<&Value> = edit["changes"][uri].as_array().unwrap().iter().map(|one| &one["range"]).collect();
    assert_eq!(edits, [&place(1, 3, 9), &place(4, 35, 41)]);
    for (position, name, expected) in [((1, 4), "let", "cannot be a name"), ((4, 12), "twos", "a name of the language")]
    {
        let params = with(at(uri, position.0, position.1), "newName", json!(name));
        let answer = client.answer("textDocument/rename", params);
        assert!(answer["error"]["message"].as_str().unwrap().contains(expected), "{answer}");
    }

    let labels = |answer: Value| -> Vec<String> {
        answer.as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap().to_owned()).collect()
    };
    let all = labels(client.request("textDocument/completion", at(uri, 5, 2)));
    for expected in ["double", "y", "softmax", "print", "while"] {
        assert!(all.iter().any(|label| label == expected), "{expected}: {all:?}");
    }

    let document = json!({ "textDocument": { "uri": uri } });
    let symbols = client.request("textDocument/documentSymbol", document.clone());
    let names: Vec<&str> = symbols.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["double", "main"]);
    let whole = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 9, "character": 0 } });
    let hints = client.request("textDocument/inlayHint", with(document.clone(), "range", whole));
    assert_eq!(labels(hints), [": float16[8, 512] (8.0 KiB)", ": float16[8, 512] (8.0 KiB)"]);
    let options = json!({ "tabSize": 2, "insertSpaces": true });
    let edits = client.request("textDocument/formatting", with(document.clone(), "options", options));
    let expected = TEXT.replace("\n  ", "\n    ");
    assert_eq!(edits[0]["newText"], expected);
    let tokens = client.request("textDocument/semanticTokens/full", document.clone());
    let data = tokens["data"].as_array().unwrap();
    // The comment, `fn`, and `double` where it is declared.
    assert_eq!(data[..15], json!([0, 0, 11, 8, 0, 1, 0, 2, 0, 0, 0, 3, 6, 3, 1]).as_array().unwrap()[..]);

    let answer = client.answer("textDocument/unknown", document);
    assert_eq!(answer["error"]["code"], -32601);
    client.end();
}

#[test]
fn structs() {
    let uri = "untitled:structs";
    let mut client = Client::start();
    let text = "// A pair.\nstruct Pair { a: int, b: int }\nimpl Pair {\n    // Its sum.\n    fn sum(self) -> int { self.a + self.b }\n}\nlet p = Pair { a: 1, b: 2 }\nprint(p.sum(), f\"{p.b}\")\n";
    assert_eq!(client.open(uri, text), Vec::<Value>::new());
    let hover = |client: &mut Client, line, character| {
        let answer = client.request("textDocument/hover", at(uri, line, character));
        answer["contents"]["value"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(hover(&mut client, 6, 9), "```tl\nstruct Pair { a: int, b: int }\n```\nA pair.");
    assert_eq!(hover(&mut client, 7, 9), "```tl\nfn sum(self) -> int\n```\nIts sum.");
    assert_eq!(hover(&mut client, 7, 6), "```tl\np: Pair\n```");
    assert_eq!(hover(&mut client, 7, 20), "```tl\nb: int\n```");
    let edit = client.request("textDocument/rename", with(at(uri, 1, 8), "newName", json!("Two")));
    let lines: Vec<&Value> =
        edit["changes"][uri].as_array().unwrap().iter().map(|one| &one["range"]["start"]["line"]).collect();
    assert_eq!(lines, [1, 2, 6]);
    let symbols = client.request("textDocument/documentSymbol", json!({ "textDocument": { "uri": uri } }));
    assert_eq!((&symbols[0]["children"][1]["name"], &symbols[1]["children"][0]["name"]), (&json!("b"), &json!("sum")));
    client.end();
}

#[test]
fn several_documents() {
    let folder = Folder::new("lsp-several");
    let root = std::fs::canonicalize(&folder.0).unwrap();
    let layers = root.join("layers.tl");
    std::fs::write(&layers, "fn twice(x: int) -> int { x * 2 }\n").unwrap();
    let (uri, layers_uri) =
        (&*format!("file://{}", root.join("main.tl").display()), &*format!("file://{}", layers.display()));
    let mut client = Client::start();
    let text = "import \"layers.tl\"\nlet cache = kv_cache(1, 1, 32, 8)\nprint(twice(3), cache.len)\n";
    assert_eq!(client.open(uri, text), Vec::<Value>::new());
    let definition = client.request("textDocument/definition", at(uri, 2, 8));
    assert_eq!((&definition["uri"], &definition["range"]), (&json!(layers_uri), &place(0, 3, 8)));
    let members = client.request("textDocument/completion", at(uri, 2, 22));
    let labels: Vec<&str> = members.as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap()).collect();
    assert!(labels.contains(&"clear") && labels.contains(&"len") && !labels.contains(&"softmax"), "{labels:?}");
    // A change of the imported file that is not saved shows in the file that imports it, and is gone when it is undone.
    client.open(layers_uri, "fn thrice(x: int) -> int { x * 3 }\n");
    let found = client.diagnostics(uri);
    assert!(found[0]["message"].as_str().unwrap().starts_with("unknown function `twice`"), "{found:?}");
    client.change(layers_uri, "fn twice(x: int) -> int { nothing }\n");
    let found = client.diagnostics(uri);
    assert!(found[0]["message"].as_str().unwrap().contains("layers.tl:1:27: unknown name `nothing`"), "{found:?}");
    client.change(layers_uri, "fn twice(x: int) -> int { x * 2 }\n");
    assert_eq!(client.diagnostics(uri), Vec::<Value>::new());
    let edit = client.request("textDocument/rename", with(at(layers_uri, 0, 4), "newName", json!("double")));
    assert_eq!(edit["changes"][layers_uri].as_array().unwrap().len(), 1);
    assert_eq!(edit["changes"][uri][0]["range"], place(2, 6, 11));
    // Behind a document that is closed without being saved stands the file again.
    client.change(layers_uri, "fn thrice(x: int) -> int { x * 3 }\n");
    assert_eq!(client.diagnostics(uri).len(), 1);
    client.notify("textDocument/didClose", json!({ "textDocument": { "uri": layers_uri } }));
    assert_eq!(client.diagnostics(uri), Vec::<Value>::new());
    client.end();
}

#[test]
fn names_that_cannot_be_given() {
    let uri = "untitled:names";
    let mut client = Client::start();
    let text = "import \"std/nn.tl\" as nn\nfn f(a: int) -> int { let b = a; a + b }\nfn g(c: int) -> int { f(c) }\nprint(nn.accuracy(ones([2, 3]), [0, 1]), g(1))\n";
    assert_eq!(client.open(uri, text), Vec::<Value>::new());
    let mut rename = |line, character, name: &str| {
        let answer = client.answer("textDocument/rename", with(at(uri, line, character), "newName", json!(name)));
        match answer["error"]["message"].as_str() {
            Some(message) => message.to_owned(),
            None => answer["result"]["changes"][uri].as_array().unwrap().len().to_string(),
        }
    };
    // A name of another function is free; one that would mean something else where it is used is not.
    assert_eq!([rename(1, 5, "c"), rename(2, 3, "h")], ["3", "2"]);
    for (name, taken) in [((1, 5), "b"), ((1, 26), "a"), ((1, 3), "g")] {
        let told = rename(name.0, name.1, taken);
        assert!(told.contains("is declared already where this name is used"), "{name:?} {taken}: {told}");
    }
    let told = rename(3, 9, "exactness");
    assert!(told.contains("declared in the standard library"), "{told}");
    client.end();
}

#[test]
fn sessions_without_an_end() {
    let mut client = Client::start();
    client.notify("exit", Value::Null);
    assert_eq!(client.child.wait().unwrap().code(), Some(1));
    let Client { mut child, input, .. } = Client::start();
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
