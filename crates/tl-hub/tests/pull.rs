//! Downloads from hubs that behave, that break off, and that lie.

mod common;
#[path = "common/server.rs"]
mod server;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::Folder;
use ring::digest;
use serde_json::{Value, json};
use server::{Reply, Request, Server};
use tl_hub::{HubError, Kind, Locations, PullOptions, pull, resolve};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(content: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, content).as_ref())
}

fn git_sha1(content: &[u8]) -> String {
    let mut blob = format!("blob {}\0", content.len()).into_bytes();
    blob.extend(content);
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref())
}

/// The digest that names a file's blob: large files are in large file storage.
fn digest_of(name: &str, content: &[u8]) -> String {
    if name.ends_with(".json") { git_sha1(content) } else { sha256(content) }
}

fn content(name: &str, len: usize) -> Vec<u8> {
    name.bytes().cycle().take(len).collect()
}

type Files = HashMap<String, Vec<u8>>;

fn files(list: &[(&str, usize)]) -> Files {
    list.iter().map(|(name, len)| ((*name).to_owned(), content(name, *len))).collect()
}

/// What a hub says of a repository with these files.
fn description(id: &str, files: &Files) -> Value {
    let mut siblings: Vec<Value> = files
        .iter()
        .map(|(name, content)| {
            let mut sibling = json!({ "rfilename": name, "size": content.len(), "blobId": git_sha1(content) });
            if !name.ends_with(".json") {
                sibling["blobId"] = json!("f".repeat(40));
                sibling["lfs"] = json!({ "sha256": sha256(content), "size": content.len(), "pointerSize": 130 });
            }
            sibling
        })
        .collect();
    siblings.sort_by_key(|sibling| sibling["rfilename"].as_str().unwrap().to_owned());
    json!({ "id": id, "sha": COMMIT, "siblings": siblings, "private": false })
}

/// A file's answer, from the byte that is asked for on.
fn file_reply(request: &Request, content: &[u8]) -> Reply {
    match request.from() {
        None => Reply::new(200, content),
        Some(from) if from < content.len() => Reply::new(206, &content[from..])
            .header("Content-Range", format!("bytes {from}-{}/{}", content.len() - 1, content.len())),
        Some(_) => Reply::new(416, ""),
    }
}

/// A hub that behaves.
fn answer(request: &Request, id: &str, files: &Files) -> Reply {
    let path = request.path.split('?').next().unwrap();
    if path.eq_ignore_ascii_case(&format!("/api/models/{id}/revision/main")) {
        return Reply::new(200, description(id, files).to_string()).header("Content-Type", "application/json");
    }
    let name = path.strip_prefix(&format!("/{id}/resolve/{COMMIT}/"));
    match name.and_then(|name| files.get(name)) {
        Some(content) => file_reply(request, content),
        None => Reply::new(404, "no"),
    }
}

fn options(server: &Server, root: &Folder) -> PullOptions {
    PullOptions {
        endpoint: server.url.clone(),
        timeout: Duration::from_secs(10),
        ..PullOptions::new(root.0.join("hub"))
    }
}

/// Every file below a folder, sorted, with `/` between folders.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.symlink_metadata().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_gguf_model_lies_as_in_hugging_face_s_cache() {
    let root = Folder::new();
    let all = files(&[("M-Q4_K_M.gguf", 700_000), ("M-Q8_0.gguf", 10), ("README.md", 5)]);
    let served = all.clone();
    let server = Server::start(move |request| answer(request, "Org/Repo", &served));
    let mut seen = Vec::new();
    let path = pull("org/repo", &options(&server, &root), |progress| {
        assert_eq!((progress.file, progress.index, progress.n_files), ("M-Q4_K_M.gguf", 0, 1));
        seen.push((progress.done_bytes, progress.total_bytes));
    })
    .unwrap();
    assert_eq!(path, root.0.join(format!("hub/models--Org--Repo/snapshots/{COMMIT}/M-Q4_K_M.gguf")));
    assert_eq!(fs::read(&path).unwrap(), all["M-Q4_K_M.gguf"]);
    assert!(seen.is_sorted() && seen.len() > 2, "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&(0, 700_000)), Some(&(700_000, 700_000))));
    let repository = root.0.join("hub/models--Org--Repo");
    let blob = format!("blobs/{}", sha256(&all["M-Q4_K_M.gguf"]));
    assert_eq!(tree(&repository), [blob.as_str(), "refs/main", &format!("snapshots/{COMMIT}/M-Q4_K_M.gguf")]);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), PathBuf::from(format!("../../{blob}")));
    assert_eq!(server.lines().len(), 2);

    // Again: the hub is asked what there is, and nothing is sent.
    let again = pull("Org/Repo", &options(&server, &root), |_| {}).unwrap();
    assert_eq!((again, server.lines().len()), (path.clone(), 3));
    // Another quantization joins the first.
    let other = pull("org/repo:q8_0", &options(&server, &root), |_| {}).unwrap();
    assert_eq!(fs::read(other).unwrap(), all["M-Q8_0.gguf"]);
    let locations = Locations { hub_cache: Some(root.0.join("hub")), ollama: None };
    assert_eq!(resolve("org/repo", &locations).unwrap().path, path);
    // A blob that was damaged is fetched anew.
    fs::write(repository.join(&blob), "short").unwrap();
    pull("org/repo", &options(&server, &root), |_| {}).unwrap();
    assert_eq!(fs::read(&path).unwrap(), all["M-Q4_K_M.gguf"]);
}

#[test]
fn all_parts_of_a_model_come() {
    let gguf = ["Q8_0/M-Q8_0-00001-of-00002.gguf", "Q8_0/M-Q8_0-00002-of-00002.gguf"];
    let safe = [
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    let single = ["config.json", "model.safetensors", "tokenizer.json"];
    let extra = ["README.md", "pytorch_model.bin", "onnx/model.onnx", "original/config.json", "strange name.bin"];
    for (names, kind, opened) in [
        (&gguf[..], Kind::Gguf, "/Q8_0/M-Q8_0-00001-of-00002.gguf"),
        (&safe[..], Kind::HuggingFace, ""),
        (&single[..], Kind::HuggingFace, ""),
    ] {
        let root = Folder::new();
        let list: Vec<(&str, usize)> = names.iter().chain(&extra).map(|name| (*name, 100 + name.len())).collect();
        let served = files(&list);
        let server = Server::start(move |request| answer(request, "o/r", &served));
        let path = pull("o/r", &options(&server, &root), |_| {}).unwrap();
        assert_eq!(path, root.0.join(format!("hub/models--o--r/snapshots/{COMMIT}{opened}")));
        let mut expected = names.to_vec();
        expected.sort_unstable();
        assert_eq!(tree(&root.0.join(format!("hub/models--o--r/snapshots/{COMMIT}"))), expected);
        let locations = Locations { hub_cache: Some(root.0.join("hub")), ollama: None };
        let model = resolve("o/r", &locations).unwrap();
        assert_eq!((model.kind, model.path), (kind, path));
    }
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let root = Folder::new();
    let all = files(&[("m.gguf", 1000)]);
    let stored = all["m.gguf"].clone();
    let storage = Server::start(move |request| file_reply(request, &stored));
    // Another port is another host.
    let target = format!("{}/secret/m?signature=1", storage.url);
    let served = all.clone();
    let hub = Server::start(move |request| match request.path.as_str() {
        path if path.starts_with("/o/r/resolve/") => Reply::new(302, "").header("Location", "/elsewhere/m.gguf"),
        "/elsewhere/m.gguf" => Reply::new(307, "").header("Location", target.clone()),
        _ => answer(request, "o/r", &served),
    });
    let options = PullOptions { token: Some("hf_secret".to_owned()), ..options(&hub, &root) };
    let path = pull("o/r", &options, |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), all["m.gguf"]);
    let sent = |server: &Server| -> Vec<Option<String>> {
        server.requests().iter().map(|request| request.headers.get("authorization").cloned()).collect()
    };
    assert_eq!(sent(&hub), vec![Some("Bearer hf_secret".to_owned()); 3]);
    assert_eq!(sent(&storage), [None]);
}

#[test]
fn what_breaks_off_goes_on() {
    // Within one pull: each answer but the last ends early.
    let root = Folder::new();
    let all = files(&[("m.gguf", 1_000_000)]);
    let served = all.clone();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let server = Server::start(move |request| {
        let mut reply = answer(request, "o/r", &served);
        if request.path.contains("/resolve/") && counted.fetch_add(1, Ordering::Relaxed) < 5 {
            reply.length = Some(reply.body.len());
            reply.body.truncate(150_000);
        }
        reply
    });
    let path = pull("o/r", &options(&server, &root), |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), all["m.gguf"]);
    let ranges: Vec<Option<usize>> = server.requests()[1..].iter().map(Request::from).collect();
    assert_eq!(ranges, [None, Some(150_000), Some(300_000), Some(450_000), Some(600_000), Some(750_000)]);

    // From one pull to the next.
    let root = Folder::new();
    let partial = root.0.join(format!("hub/models--o--r/blobs/{}.incomplete", sha256(&all["m.gguf"])));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &all["m.gguf"][..400_000]).unwrap();
    let path = pull("o/r", &options(&server, &root), |_| {}).unwrap();
    assert_eq!(fs::read(path).unwrap(), all["m.gguf"]);
    assert_eq!(server.requests().last().unwrap().from(), Some(400_000));
    assert!(!partial.exists());

    // What is there is whole already, or more than the file, or a range is not known there.
    for (there, ignores_range) in
        [(&all["m.gguf"][..], false), (&vec![7; 2_000_000][..], false), (&all["m.gguf"][..9], true)]
    {
        let root = Folder::new();
        let partial = root.0.join(format!("hub/models--o--r/blobs/{}.incomplete", sha256(&all["m.gguf"])));
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(&partial, there).unwrap();
        let served = all.clone();
        let server = Server::start(move |request| {
            let mut request = request.clone();
            if ignores_range {
                request.headers.remove("range");
            }
            answer(&request, "o/r", &served)
        });
        let path = pull("o/r", &options(&server, &root), |_| {}).unwrap();
        assert_eq!(fs::read(path).unwrap(), all["m.gguf"]);
    }
}

#[test]
fn a_hub_without_a_list_of_sizes_is_asked_for_each_file() {
    let root = Folder::new();
    let all = files(&[("model.safetensors", 500), ("config.json", 20)]);
    let served = all.clone();
    let server = Server::start(move |request| {
        if request.path.starts_with("/api/") {
            let siblings: Vec<Value> = served.keys().map(|name| json!({ "rfilename": name })).collect();
            return Reply::new(200, json!({ "sha": COMMIT, "siblings": siblings }).to_string());
        }
        let name = request.path.rsplit('/').next().unwrap();
        let content = &served[name];
        if request.method == "HEAD" && !name.ends_with(".json") {
            // Large files are elsewhere; the hub's own answer has their size and digest.
            return Reply::new(302, "")
                .header("Location", "http://storage.invalid/x")
                .header("X-Linked-Size", content.len().to_string())
                .header("X-Linked-ETag", format!("\"{}\"", sha256(content)));
        }
        let mut reply = file_reply(request, content);
        reply.headers.push(("ETag".to_owned(), format!("W/\"{}\"", git_sha1(content))));
        reply
    });
    let path = pull("o/r", &options(&server, &root), |_| {}).unwrap();
    for (name, content) in &all {
        assert_eq!(&fs::read(path.join(name)).unwrap(), content);
        assert!(root.0.join("hub/models--o--r/blobs").join(digest_of(name, content)).exists());
    }
}

#[test]
fn a_hub_that_says_no() {
    let root = Folder::new();
    for (status, at_file, expected) in [
        (401, false, "set HF_TOKEN"),
        (403, true, "accept its terms"),
        (404, false, "there is no such model, revision or file"),
        (404, true, "there is no such model, revision or file"),
        (429, false, "too many requests; try again after 17 seconds"),
        (500, true, "the hub is in trouble"),
        (503, false, "the hub is in trouble"),
        (304, false, "the hub answers 304"),
    ] {
        let all = files(&[("m.gguf", 100)]);
        let server = Server::start(move |request| {
            if request.path.contains("/resolve/") == at_file {
                return Reply::new(status, "no").header("Retry-After", "17");
            }
            answer(request, "o/r", &all)
        });
        let error = pull("o/r", &options(&server, &root), |_| {}).unwrap_err();
        assert!(matches!(error, HubError::Status { status: found, .. } if found == status), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let nobody = PullOptions { endpoint: "http://127.0.0.1:9".to_owned(), ..PullOptions::new(root.0.join("hub")) };
    let error = pull("o/r", &nobody, |_| {}).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }) && error.to_string().contains("try again"), "{error}");
    assert_eq!(tree(&root.0.join("hub/models--o--r/snapshots")), [""; 0]);
}

/// How a hub lies, and what is said of it.
type Lie = (&'static str, fn(&Request, &Files) -> Reply, &'static str);

fn api_of(request: &Request, files: &Files, change: fn(&mut Value)) -> Reply {
    if request.path.starts_with("/api/") {
        let mut description = description("o/r", files);
        change(&mut description);
        return Reply::new(200, description.to_string());
    }
    answer(request, "o/r", files)
}

fn file_of(request: &Request, files: &Files, change: fn(&Request, &[u8]) -> Reply) -> Reply {
    if request.path.contains("/resolve/") { change(request, &files["m.gguf"]) } else { answer(request, "o/r", files) }
}

const LIES: [Lie; 25] = [
    ("a web page", |r, f| api_of(r, f, |_| {}).page(r), "the answer is a web page, not JSON"),
    ("no JSON", |r, f| api_of(r, f, |v| *v = json!("x")), "not what a hub says of a model"),
    (
        "an endless list",
        |_, _| Reply { is_endless: true, ..Reply::new(200, vec![b' '; 1 << 20]) },
        "more than 16777216 bytes",
    ),
    ("a commit with dots", |r, f| api_of(r, f, |v| v["sha"] = json!("../../x")), "is not 40 hexadecimal digits"),
    ("no commit", |r, f| api_of(r, f, |v| v["sha"] = json!(null)), "not what a hub says of a model"),
    (
        "a name above",
        |r, f| api_of(r, f, |v| v["siblings"][0]["rfilename"] = json!("../../m.gguf")),
        "leads out of the repository",
    ),
    (
        "a name from the root",
        |r, f| api_of(r, f, |v| v["siblings"][0]["rfilename"] = json!("/etc/m.gguf")),
        "leads out",
    ),
    (
        "a name with backslashes",
        |r, f| api_of(r, f, |v| v["siblings"][0]["rfilename"] = json!("..\\m.gguf")),
        "leads out",
    ),
    ("a name of a drive", |r, f| api_of(r, f, |v| v["siblings"][0]["rfilename"] = json!("C:m.gguf")), "leads out"),
    ("nothing to run", |r, f| api_of(r, f, |v| v["siblings"] = json!([])), "there is nothing to run"),
    (
        "a size too large",
        |r, f| api_of(r, f, |v| v["siblings"][0]["lfs"]["size"] = json!(1u64 << 50)),
        "more than the 4398046511104 allowed",
    ),
    (
        "a size above the body",
        |r, f| api_of(r, f, |v| v["siblings"][0]["lfs"]["size"] = json!(2000)),
        "1000 bytes where 2000 are missing",
    ),
    (
        "a size below the body",
        |r, f| api_of(r, f, |v| v["siblings"][0]["lfs"]["size"] = json!(10)),
        "1000 bytes where 10 are missing",
    ),
    (
        "another digest",
        |r, f| api_of(r, f, |v| v["siblings"][0]["lfs"]["sha256"] = json!("a".repeat(64))),
        "has the digest",
    ),
    (
        "a digest of dots",
        |r, f| api_of(r, f, |v| v["siblings"][0]["lfs"]["sha256"] = json!("../x")),
        "states no size and no digest",
    ),
    ("other content", |r, f| file_of(r, f, |_, c| Reply::new(200, vec![1; c.len()])), "has the digest"),
    (
        "an endless body",
        |r, f| file_of(r, f, |_, _| Reply { is_endless: true, ..Reply::new(200, vec![1; 1 << 16]) }),
        "more comes than the 1000 bytes",
    ),
    (
        "a body cut off",
        |r, f| file_of(r, f, |_, c| Reply { length: Some(c.len()), ..Reply::new(200, &c[..10]) }),
        "try again",
    ),
    ("an empty body", |r, f| file_of(r, f, |_, c| Reply { length: Some(c.len()), ..Reply::new(200, "") }), "try again"),
    (
        "another range",
        |r, f| file_of(r, f, |_, c| Reply::new(206, c).header("Content-Range", "bytes 5-999/1000")),
        "and \"bytes 5-999/1000\" came",
    ),
    ("no content", |r, f| file_of(r, f, |_, _| Reply::new(204, "")), "status 204 where a file was asked for"),
    (
        "a circle",
        |r, f| file_of(r, f, |r, _| Reply::new(302, "").header("Location", r.path.clone())),
        "points elsewhere more than 8 times",
    ),
    (
        "a file of its own",
        |r, f| file_of(r, f, |_, _| Reply::new(302, "").header("Location", "file:///etc/passwd")),
        "is no address",
    ),
    ("nowhere", |r, f| file_of(r, f, |_, _| Reply::new(302, "")), "the hub answers 302"),
    (
        "many files",
        |r, f| api_of(r, f, |v| v["siblings"] = vec![json!({ "rfilename": "a" }); 60_000].into()),
        "60000 files",
    ),
];

impl Reply {
    /// A web page in place of JSON.
    fn page(self, request: &Request) -> Self {
        if request.path.starts_with("/api/") {
            Self::new(200, "<html>login</html>").header("Content-Type", "text/html")
        } else {
            self
        }
    }
}

#[test]
fn a_hub_that_lies() {
    for (lie, reply, expected) in LIES {
        let root = Folder::new();
        let all = files(&[("m.gguf", 1000)]);
        let server = Server::start(move |request| reply(request, &all));
        let error = pull("o/r", &options(&server, &root), |_| {}).expect_err(lie).to_string();
        assert!(error.contains(expected), "{lie}: {error}");
        // Nothing that a reader would take for a file, and little on the disk.
        let left = tree(&root.0);
        assert!(
            left.iter().all(|name| name.ends_with(".incomplete") || name.ends_with("pull.lock")),
            "{lie}: {left:?}"
        );
        let bytes: u64 = left.iter().map(|name| root.0.join(name).metadata().unwrap().len()).sum();
        assert!(bytes <= 1000, "{lie}: {bytes} bytes are left");
    }
}

#[test]
fn a_name_of_another_model_is_not_believed() {
    let root = Folder::new();
    let all = files(&[("m.gguf", 10)]);
    let server = Server::start(move |request| api_of(request, &all, |value| value["id"] = json!("../x")));
    let path = pull("o/r", &options(&server, &root), |_| {}).unwrap();
    assert!(path.starts_with(root.0.join("hub/models--o--r/snapshots")), "{}", path.display());
}

#[test]
fn names_and_settings_that_cannot_be() {
    let root = Folder::new();
    let server = Server::start(|_| Reply::new(200, "{}"));
    let good = options(&server, &root);
    for (spec, change, expected) in [
        ("nothing", good.clone(), "is no name of a model"),
        ("../r", good.clone(), "is no name of a model"),
        ("o/r:../x", good.clone(), "is no name of a model"),
        ("o/r", PullOptions { revision: "../main".to_owned(), ..good.clone() }, "the revision"),
        ("o/r", PullOptions { revision: String::new(), ..good.clone() }, "the revision"),
        ("o/r", PullOptions { endpoint: "ftp://x".to_owned(), ..good.clone() }, "the hub's endpoint"),
        ("o/r", PullOptions { endpoint: "huggingface.co".to_owned(), ..good.clone() }, "the hub's endpoint"),
        ("o/r", PullOptions { token: Some("a\r\nX: y".to_owned()), ..good.clone() }, "the hub's token"),
        ("o/r", PullOptions { proxy: Some("::".to_owned()), ..good.clone() }, "the proxy"),
    ] {
        let error = pull(spec, &change, |_| {}).unwrap_err().to_string();
        assert!(error.contains(expected), "{spec}: {error}");
        assert!(!error.contains("X: y"), "{error}");
    }
    assert_eq!(server.lines(), [""; 0]);
}

#[test]
fn a_quantization_that_is_not_there() {
    let root = Folder::new();
    let all = files(&[("M-Q8_0.gguf", 10), ("M-Q2_K.gguf", 10)]);
    let server = Server::start(move |request| answer(request, "o/r", &all));
    let error = pull("o/r:Q4_K_M", &options(&server, &root), |_| {}).unwrap_err().to_string();
    assert_eq!(error, "\"o/r:Q4_K_M\": o/r has no \"Q4_K_M\"; it has Q2_K, Q8_0");
}

#[test]
fn two_pulls_of_one_model_exclude_each_other() {
    let root = Folder::new();
    let all = files(&[("m.gguf", 300_000)]);
    let server = Arc::new(Server::start(move |request| answer(request, "o/r", &all)));
    let mut n_refused = 0;
    pull("o/r", &options(&server, &root), |_| {
        let error = pull("O/R", &options(&server, &root), |_| {}).unwrap_err();
        assert!(matches!(error, HubError::Locked { .. }), "{error}");
        n_refused += 1;
    })
    .unwrap();
    assert!(n_refused > 0);
    pull("o/r", &options(&server, &root), |_| {}).unwrap();
}

#[test]
fn other_revisions_have_their_own_references() {
    let root = Folder::new();
    let all = files(&[("m.gguf", 10)]);
    let server = Server::start(move |request| {
        let mut request = request.clone();
        request.path = request
            .path
            .replace("/revision/refs%2Fpr%2F1", "/revision/main")
            .replace(&format!("/revision/{COMMIT}"), "/revision/main");
        answer(&request, "o/r", &all)
    });
    for (revision, expected) in [("refs/pr/1", Some("refs/refs/pr/1")), (COMMIT, None)] {
        let path =
            pull("o/r", &PullOptions { revision: revision.to_owned(), ..options(&server, &root) }, |_| {}).unwrap();
        assert!(path.exists());
        let references: Vec<String> =
            tree(&root.0.join("hub/models--o--r")).into_iter().filter(|name| name.starts_with("refs")).collect();
        assert_eq!(references, expected.into_iter().collect::<Vec<_>>());
        fs::remove_dir_all(root.0.join("hub")).unwrap();
    }
}
