//! `tl serve` as its clients see it: a program on a port, spoken to over plain sockets.

#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{Folder, demo_with, demo_with_template, root, run, text, tl};
use serde_json::{Value, json};

/// The time that anything may take here.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server, killed at the end.
struct Server {
    child: Child,
    address: SocketAddr,
    /// What it said before it listened.
    line: String,
}

impl Server {
    fn start(model: &str, options: &str) -> Server {
        let mut child = tl("serve --port 0 --threads 1", &[model])
            .args(options.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Some((_, address)) = line.trim().rsplit_once("http://") else {
            let stderr = text(&child.wait_with_output().unwrap().stderr);
            panic!("the server did not start: {line}{stderr}");
        };
        Server { address: address.parse().unwrap(), line: line.clone(), child }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes, and reads to the end of the connection.
    fn exchange(&self, bytes: &[u8]) -> Response {
        let mut stream = self.connect();
        // A server that refuses a long body does not read it to its end.
        let _ = stream.write_all(bytes);
        let mut out = Vec::new();
        let _ = stream.read_to_end(&mut out);
        Response::parse(&String::from_utf8_lossy(&out))
    }

    fn get(&self, path: &str) -> Response {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
    }

    fn post_bytes(&self, path: &str, body: &[u8], headers: &str) -> Response {
        self.exchange(&post(path, body, headers))
    }

    fn post(&self, path: &str, body: &Value) -> Response {
        self.post_bytes(path, body.to_string().as_bytes(), "")
    }

    fn stats(&self) -> Value {
        self.get("/stats").json()
    }

    /// Waits until the server's state is as expected.
    fn wait_for(&self, what: &str, is_right: impl Fn(&Value) -> bool) {
        let start = Instant::now();
        loop {
            let stats = self.stats();
            if is_right(&stats) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {stats}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end; returns its status and what it logged.
    fn end(mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(path: &str, body: &[u8], headers: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn parse(all: &str) -> Response {
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or((all, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { without_chunks(body) } else { body.to_owned() };
        Response { status, head: head.to_owned(), body }
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The data of all events.
    fn events(&self) -> Vec<String> {
        self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

fn without_chunks(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((len, after)) = rest.split_once("\r\n") {
        let len = usize::from_str_radix(len, 16).unwrap();
        out += after.get(..len).unwrap_or_default();
        rest = after.get(len + 2..).unwrap_or_default();
    }
    out
}

fn greedy(prompt: &str, max_tokens: usize) -> Value {
    json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "seed": 1})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const DEMO: &str = "models/demo-q8_0.gguf";

#[test]
fn a_completion_is_that_of_generate() {
    let server = Server::start(DEMO, "");
    assert!(
        server.line.starts_with("4 sequences of 256 tokens at once, queue 16, 64 connections, "),
        "{}",
        server.line
    );
    let prompt = "A trait object";
    let generated = run(&format!("generate {DEMO} -n 24 --temperature 0 --json --threads 1"), &["--prompt", prompt]);
    let expected: Value = serde_json::from_str(&text(&generated.stdout)).unwrap();
    let answer = server.post("/v1/completions", &greedy(prompt, 24)).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], expected["text"]);
    assert_eq!((&choice["finish_reason"], &answer["object"]), (&json!("length"), &json!("text_completion")));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 4, "completion_tokens": 24, "total_tokens": 28}));
    // Streamed, it is the same, and so is a sampled one with its seed.
    let streamed = with(greedy(prompt, 24), json!({"stream": true, "stream_options": {"include_usage": true}}));
    let events = server.post("/v1/completions", &streamed).events();
    let parsed: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let pieces: String = parsed.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!((json!(pieces), events.last().map(String::as_str)), (expected["text"].clone(), Some("[DONE]")));
    assert_eq!(parsed.last().unwrap()["usage"], answer["usage"]);
    let seeded = with(greedy(prompt, 24), json!({"temperature": 1, "seed": 5, "n": 2}));
    let texts = |answer: Value| [0, 1].map(|index: usize| answer["choices"][index]["text"].clone());
    let first = texts(server.post("/v1/completions", &seeded).json());
    assert_eq!(first, texts(server.post("/v1/completions", &seeded).json()));
    assert_ne!(first[0], first[1]);
    // Memory is as it was.
    let stats = server.stats();
    server.post("/v1/completions", &seeded).json();
    assert_eq!(server.stats()["memory"]["allocations"], stats["memory"]["allocations"]);
}

#[test]
fn a_conversation() {
    let folder = Folder::new("serve-chat");
    let server = Server::start(&demo_with(&folder, TOOL_TEMPLATE), "--name demo");
    let body = json!({"model": "demo", "max_tokens": 16, "temperature": 0, "messages": [
        {"role": "system", "content": "Rust"},
        {"role": "user", "content": [{"type": "text", "text": "A trait"}, {"type": "text", "text": " object"}]},
    ]});
    let answer = server.post("/v1/chat/completions", &body).json();
    let message = &answer["choices"][0]["message"];
    assert_eq!((&answer["object"], &message["role"]), (&json!("chat.completion"), &json!("assistant")));
    let content = message["content"].as_str().unwrap();
    let events = server.post("/v1/chat/completions", &with(body.clone(), json!({"stream": true}))).events();
    let deltas = events[..events.len() - 1].iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let pieces: Vec<Value> = deltas.map(|event| event["choices"][0].clone()).collect();
    let streamed: String = pieces.iter().filter_map(|piece| piece["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, content);
    assert_eq!(pieces[0]["delta"]["role"], "assistant");
    assert_eq!(pieces.last().unwrap()["finish_reason"], answer["choices"][0]["finish_reason"]);
    // An answer ends before a stop string.
    let stop: String = content.chars().skip(3).take(3).collect();
    let stopped = server.post("/v1/chat/completions", &with(body.clone(), json!({"stop": stop}))).json();
    assert_eq!(stopped["choices"][0]["message"]["content"].as_str().unwrap(), content.split(&stop).next().unwrap());
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    // Log-probabilities: the greedy token is the likeliest.
    let logged = with(body.clone(), json!({"logprobs": true, "top_logprobs": 3}));
    let logged = server.post("/v1/chat/completions", &logged).json();
    for token in logged["choices"][0]["logprobs"]["content"].as_array().unwrap() {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["logprob"]), (3, &token["logprob"]));
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let price = server.post("/v1/chat/completions", &with(body, json!({"dry_run": true}))).json();
    assert_eq!((&price["sequences"][0]["fits"], &price["sequences"][0]["max_tokens"]), (&json!(true), &json!(16)));
}

#[cfg(feature = "grammar")]
#[test]
fn an_answer_by_a_schema() {
    let folder = Folder::new("serve-schema");
    let server = Server::start(&demo_with_template(&folder), "");
    let schema = json!({"type": "object", "properties": {"size": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["size"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let body =
        json!({"max_tokens": 200, "messages": [{"role": "user", "content": "How large?"}], "response_format": format});
    let answer = server.post("/v1/chat/completions", &body).json();
    let content: Value = serde_json::from_str(answer["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(content["size"].as_u64().is_some_and(|size| size < 100), "{content}");
    let wrong = with(body, json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}));
    let wrong = server.post("/v1/chat/completions", &wrong);
    assert!(wrong.status == 400 && wrong.body.contains("`not`"), "{}", wrong.body);
}

/// A template that takes tools, and writes their calls between two marks.
const TOOL_TEMPLATE: &str = "{% for t in tools or [] %}{{ t | tojson }}
{% endfor %}{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>
{{ c.function | tojson }}
</tool_call>{% endfor %}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

#[cfg(feature = "grammar")]
#[test]
fn calls_of_tools() {
    let folder = Folder::new("serve-tools");
    let server = Server::start(&demo_with(&folder, TOOL_TEMPLATE), "");
    let parameters = json!({"type": "object", "properties": {"is_hot": {"type": "boolean"}}, "required": ["is_hot"],
        "additionalProperties": false});
    let body = json!({"max_tokens": 100, "messages": [{"role": "user", "content": "Is it hot?"}],
        "tools": [{"type": "function", "function": {"name": "heat", "parameters": parameters}}]});
    let forced = with(body.clone(), json!({"tool_choice": "required"}));
    let choice = server.post("/v1/chat/completions", &forced).json()["choices"][0].clone();
    assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("heat")));
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["is_hot"].is_boolean(), "{arguments}");
    let streamed =
        with(forced, json!({"stream": true, "tool_choice": {"type": "function", "function": {"name": "heat"}}}));
    let events = server.post("/v1/chat/completions", &streamed).events();
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(last["choices"][0]["delta"]["tool_calls"][0]["function"]["name"], "heat", "{events:?}");
    // The call goes back to the model with its result.
    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "yes"});
    let again = json!([body["messages"][0], choice["message"], result]);
    let again = with(body, json!({"messages": again, "max_tokens": 4}));
    let answer = server.post("/v1/chat/completions", &again).json();
    assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
}

#[test]
fn other_paths() {
    let server = Server::start(DEMO, "--cors https://example.org");
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "demo-q8_0");
    assert_eq!(server.get("/v1/models/demo-q8_0").json()["id"], "demo-q8_0");
    let tokens = server.post("/tokenize", &json!({"text": "A trait object"})).json();
    assert_eq!(tokens["count"], 4);
    assert_eq!(server.post("/detokenize", &json!({"tokens": tokens["tokens"]})).json()["text"], "A trait object");
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("\ntl_requests_running 0\n") && metrics.contains("# TYPE tl_kv_bytes gauge"), "{metrics}");
    assert!(server.get("/").body.contains("<title>TensorLogic</title>"));
    let price = server.post("/v1/quote", &greedy("A trait object", 300)).json();
    assert_eq!((&price["sequences"][0]["needed_tokens"], &price["sequences"][0]["fits"]), (&json!(304), &json!(false)));
    let preflight = |origin: &str| {
        let request =
            format!("OPTIONS /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: {origin}\r\n\r\n");
        server.exchange(request.as_bytes())
    };
    assert!(preflight("https://example.org").head.contains("access-control-allow-origin: https://example.org"));
    assert!(!preflight("https://example.com").head.contains("allow-origin"));
}

#[test]
fn what_is_refused() {
    let folder = Folder::new("serve-refused");
    let chat = demo_with_template(&folder);
    let server = Server::start(&chat, "");
    let text_path = "/v1/completions";
    let check = |path: &str, body: &[u8], status: u16, expected: &str| {
        let response = server.post_bytes(path, body, "");
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(response.status, status, "{shown}: {}", response.body);
        let error = serde_json::from_str::<Value>(&response.body).unwrap()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(expected), "{shown}: {error}");
        assert!(error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some(), "{error}");
    };
    let prompt = |more: &str| format!("{{\"prompt\": \"A\", {more}}}").into_bytes();
    check(text_path, b"", 400, "not JSON");
    check(text_path, b"[]", 400, "no object");
    check(text_path, b"{}", 400, "prompt: it is missing");
    check(text_path, b"{\"prompt\": \"\xff\"}", 400, "not JSON");
    check(text_path, "[".repeat(100_000).as_bytes(), 400, "nested deeper than 64");
    check(text_path, format!("{{\"prompt\": [{}1]}}", "1,".repeat(110_000)).as_bytes(), 400, "more than 100000 values");
    check(text_path, &prompt("\"n\": 1000"), 400, "n: expected a whole number from 1 to 16");
    check(text_path, &prompt("\"logprobs\": 21"), 400, "logprobs");
    check(text_path, &prompt("\"max_tokens\": 1000"), 400, "it needs 1002; a sequence has memory for 256");
    check(text_path, &prompt("\"max_tokens\": 18446744073709551615"), 400, "needs 18446744073709551615");
    check(text_path, &prompt("\"max_tokens\": 0"), 400, "at least 1");
    check(text_path, &prompt("\"temperature\": 1e400"), 400, "not JSON");
    check(text_path, &prompt("\"echo\": true"), 400, "echo: this server does not support");
    check(text_path, &prompt("\"model\": \"other\""), 404, "there is no model");
    check(text_path, b"{\"prompt\": [99999]}", 400, "token 99999 is outside");
    check(
        text_path,
        format!("{{\"prompt\": {}}}", json!("A ".repeat(3000))).as_bytes(),
        400,
        "a sequence has memory for 256",
    );
    check("/v1/chat/completions", b"{\"messages\": []}", 400, "messages: expected 1 to 4096");
    let tools = br#"{"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]}"#;
    check("/v1/chat/completions", tools, 400, "takes no tools");
    check("/detokenize", b"{\"tokens\": [99999]}", 400, "99999");
    check("/v1/nothing", b"{}", 404, "no such path");
    check(text_path, &vec![b' '; 2 << 20], 413, "longer than the 1048576 bytes");
    let wrong_method = server.get(text_path);
    assert!(wrong_method.status == 405 && wrong_method.head.contains("allow: POST"), "{}", wrong_method.head);
    let plain = server
        .exchange(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(plain.status, 415);
    let many: String = (0..100).map(|i| format!("X-{i}: a\r\n")).collect();
    assert_eq!(server.exchange(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).status, 431);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    assert_eq!(server.exchange(long.as_bytes()).status, 431);
    assert_eq!(server.exchange(b"\x16\x03\x01 hello\r\n\r\n").status, 400);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_model_without_a_template_has_no_conversations() {
    let server = Server::start(DEMO, "");
    let response = server.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": "a"}]}));
    assert!(response.status == 400 && response.body.contains("/v1/completions continues texts"), "{}", response.body);
}

#[test]
fn keys_and_the_log() {
    let folder = Folder::new("serve-keys");
    let keys = folder.file("keys");
    std::fs::write(&keys, "sk-first\nsk-second\n").unwrap();
    let server = Server::start(DEMO, &format!("--api-key-file {keys}"));
    let body = greedy("A secret prompt", 2).to_string();
    let status = |header: &str| server.post_bytes("/v1/completions", body.as_bytes(), header).status;
    assert_eq!(status("Authorization: Bearer sk-second\r\n"), 200);
    assert_eq!(status("Authorization: Bearer sk-third\r\n"), 401);
    assert_eq!(status(""), 401);
    for (path, expected) in
        [("/health", 200), ("/ready", 200), ("/", 200), ("/metrics", 401), ("/stats", 401), ("/x", 401)]
    {
        assert_eq!(server.get(path).status, expected, "{path}");
    }
    server.get("/a-secret-path?a-secret");
    server.signal("-TERM");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("route=/v1/completions status=200") && log.contains("prompt_tokens="), "{log}");
    assert!(log.contains("route=unknown status=401"), "{log}");
    assert!(!log.contains("secret") && !log.contains("sk-"), "{log}");
}

#[test]
fn clients_that_are_slow_or_gone() {
    let server = Server::start(DEMO, "--connections 3");
    let body = with(greedy("A trait object", 240), json!({"temperature": 1, "stream": true}));
    // A client that goes frees its sequence, streamed or not.
    for is_streamed in [true, false] {
        let body = with(body.clone(), json!({"stream": is_streamed}));
        let mut stream = server.connect();
        stream.write_all(&post("/v1/completions", body.to_string().as_bytes(), "")).unwrap();
        server.wait_for("it runs", |stats| stats["running"] == 1);
        drop(stream);
        server.wait_for("it is cancelled", |stats| stats["running"] == 0);
    }
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("tl_requests_cancelled_total 2"), "{metrics}");
    // One that reads nothing does not stop the engine.
    let mut silent = server.connect();
    silent.write_all(&post("/v1/completions", body.to_string().as_bytes(), "")).unwrap();
    server.wait_for("it is done", |stats| stats["generated_tokens"].as_u64() >= Some(240) && stats["running"] == 0);
    // Half-open connections take places, and are closed in time.
    drop(silent);
    let mut open: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    open[1].write_all(b"GET /health HTTP/1.1\r\nX-Slow: ").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let turned_away = server.get("/health");
    assert!(turned_away.status == 503 && turned_away.head.contains("retry-after"), "{}", turned_away.head);
    for mut stream in open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(server.get("/health").status, 200);
}

/// What is planned without a server is what a server says.
#[test]
fn the_plan_of_a_server() {
    let output = run("plan", &[DEMO, "--serve", "--json", "--memory-limit", "64MiB"]);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((plan["context"].as_u64(), plan["kv_tokens"].as_u64()), (Some(256), Some(16 * 256)));
    let parts = ["weights", "kv_cache", "activations", "workspace", "heap"];
    let sum: u64 = parts.iter().map(|part| plan[format!("{part}_bytes")].as_u64().unwrap()).sum();
    assert_eq!(plan["total_bytes"].as_u64(), Some(sum));
    let server = Server::start(DEMO, "--memory-limit 64MiB");
    let stats = server.get("/stats").json();
    assert_eq!((&stats["sequences"], &stats["kv"]["capacity"]), (&plan["sequences"], &plan["kv_tokens"]));
    let device = |name: &str| stats["memory"][name].as_u64();
    assert_eq!(device("kv_bytes"), plan["kv_cache_bytes"].as_u64());
    assert_eq!(device("other_device_bytes"), plan["activations_bytes"].as_u64());
    let told = run("plan", &[DEMO, "--serve", "--memory-limit", "34MiB", "--sequences", "8"]);
    let told = (told.status.code(), String::from_utf8_lossy(&told.stderr).into_owned());
    assert!(told.0 == Some(1) && told.1.contains("take fewer --sequences"), "{told:?}");
    assert_eq!(run("plan", &[DEMO, "--sequences", "8"]).status.code(), Some(2));
}

#[test]
fn more_requests_than_may_wait() {
    let server = Server::start(DEMO, "--queue 1 --sequences 1");
    let body = with(greedy("A trait object", 240), json!({"temperature": 1})).to_string();
    let send = || {
        let mut stream = server.connect();
        stream.write_all(&post("/v1/completions", body.as_bytes(), "")).unwrap();
        stream
    };
    let mut running = send();
    server.wait_for("one runs", |stats| stats["running"] == 1);
    let waiting = send();
    server.wait_for("one waits", |stats| stats["waiting"] == 1);
    let refused = server.post_bytes("/v1/completions", body.as_bytes(), "");
    assert!(refused.status == 429 && refused.head.contains("retry-after: "), "{}", refused.body);
    assert!(refused.body.contains("1 requests are waiting, of at most 1"), "{}", refused.body);
    // A client that gives up makes room.
    drop(waiting);
    server.wait_for("none waits", |stats| stats["waiting"] == 0);
    let mut out = String::new();
    running.read_to_string(&mut out).unwrap();
    assert_eq!(Response::parse(&out).status, 200);
}

#[test]
fn running_requests_finish_before_the_end() {
    for (patience, is_whole) in [("60", true), ("0", false)] {
        let server = Server::start(DEMO, &format!("--drain {patience}"));
        let mut stream = server.connect();
        let body = with(greedy("A trait object", 240), json!({"temperature": 1})).to_string();
        stream.write_all(&post("/v1/completions", body.as_bytes(), "")).unwrap();
        server.wait_for("it runs", |stats| stats["running"] == 1);
        server.signal("-TERM");
        if is_whole {
            let start = Instant::now();
            while server.get("/ready").status != 503 {
                assert!(start.elapsed() < PATIENCE);
            }
            let refused = server.post("/v1/completions", &greedy("A", 1));
            assert!(refused.status == 503 && refused.head.contains("retry-after"), "{}", refused.body);
        }
        let mut out = String::new();
        stream.read_to_string(&mut out).unwrap();
        let response = Response::parse(&out);
        assert_eq!(response.status, if is_whole { 200 } else { 503 }, "{out}");
        if is_whole {
            assert_eq!(response.json()["usage"]["completion_tokens"], 240);
        }
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn wrong_arguments() {
    let folder = Folder::new("serve-wrong");
    let keys = folder.file("keys");
    std::fs::write(&keys, "# none\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let check = |options: &[&str], code: i32, expected: &str| {
        let output = run(&format!("serve {DEMO}"), options);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {stderr}");
        assert!(stderr.contains(expected), "{options:?}: {stderr}");
    };
    check(&["--context", "1000"], 1, "works for 1 to 256");
    check(&["--queue", "0"], 1, "queue is 0, expected 1 to 65536");
    check(&["--max-tokens", "0"], 1, "max_tokens is 0");
    check(&["--api-key-file", &keys], 1, "there is no key");
    check(&["--api-key-file", "none"], 1, "none");
    check(&["--memory-limit", "4MiB"], 1, "more than the limit");
    check(&["--port", &port], 1, &port);
    check(&["--host", "nowhere"], 2, "--host");
    check(&["--connections", "0"], 2, "--connections");
}

/// A Python with OpenAI's package: the variable `TL_OPENAI_PYTHON`, or `python3`.
fn python() -> String {
    std::env::var("TL_OPENAI_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

#[test]
fn openai_s_own_client() {
    let folder = Folder::new("serve-openai");
    let keys = folder.file("keys");
    std::fs::write(&keys, "sk-first\n").unwrap();
    let server = Server::start(&demo_with_template(&folder), &format!("--api-key-file {keys}"));
    let mut client = Command::new(python());
    client
        .arg(root().join("scripts/openai_client.py"))
        .arg(format!("http://{}", server.address))
        .args(["--key", "sk-first"]);
    if cfg!(feature = "grammar") {
        client.arg("--chat");
    }
    match client.output() {
        Ok(output) if output.status.code() == Some(77) => println!("skipped: {}", text(&output.stderr)),
        Ok(output) => assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr)),
        Err(error) => println!("skipped: {}: {error}", python()),
    }
}
