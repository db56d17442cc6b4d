//! Names to files, in folders laid out as the caches are.

mod common;

use std::path::Path;

use common::Folder;
use tl_hub::{Kind, Locations, Source, list, resolve};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// Puts files into a model's snapshot as links to blobs.
fn snapshot(root: &Folder, model: &str, commit: &str, files: &[&str]) {
    for file in files {
        let blob = format!("hub/models--{model}/blobs/{commit}-{}", file.replace('/', "-"));
        root.write(&blob, &format!("content of {file}"));
        let link = root.0.join(format!("hub/models--{model}/snapshots/{commit}/{file}"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{commit}-{}", file.replace('/', "-"));
        #[cfg(unix)]
        std::os::unix::fs::symlink(target, link).unwrap();
        #[cfg(not(unix))]
        std::fs::copy(root.0.join(blob), link).map(|_| drop(target)).unwrap();
    }
}

fn ollama_model(root: &Folder, path: &str, digest_digit: &str, content: &str) {
    let digest = digest_digit.repeat(64);
    root.write(&format!("ollama/blobs/sha256-{digest}"), content);
    let layers = format!(
        r#"{{"schemaVersion":2,"layers":[{{"mediaType":"application/vnd.ollama.image.template","digest":"sha256:x","size":1}},
        {{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{digest}","size":{}}}]}}"#,
        content.len()
    );
    root.write(&format!("ollama/manifests/{path}"), &layers);
}

fn caches() -> (Folder, Locations) {
    let root = Folder::new();
    snapshot(
        &root,
        "Org--Repo-GGUF",
        COMMIT,
        &[
            "M-Q8_0.gguf",
            "M-Q4_K_M.gguf",
            "README.md",
            "BF16/M-BF16-00001-of-00002.gguf",
            "BF16/M-BF16-00002-of-00002.gguf",
            "M-F16-00001-of-00002.gguf",
            "mmproj-F16.gguf",
        ],
    );
    snapshot(&root, "Org--Repo-GGUF", OTHER, &["M-Q2_K.gguf"]);
    root.write("hub/models--Org--Repo-GGUF/refs/main", COMMIT);
    snapshot(
        &root,
        "org--safe",
        COMMIT,
        &[
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ],
    );
    root.write("hub/models--org--safe/refs/main", &format!("{COMMIT}\n"));
    snapshot(
        &root,
        "org--half",
        COMMIT,
        &["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"],
    );
    root.write("hub/models--org--empty/refs/main", COMMIT);
    ollama_model(&root, "registry.ollama.ai/library/llama3.2/1b", "a", "gguf a");
    ollama_model(&root, "registry.ollama.ai/library/llama3.2/latest", "b", "gguf b");
    ollama_model(&root, "hf.co/Org/Repo/Q8_0", "c", "gguf c");
    let locations = Locations { hub_cache: Some(root.0.join("hub")), ollama: Some(root.0.join("ollama")) };
    (root, locations)
}

#[test]
fn names_in_the_caches() {
    let (root, locations) = caches();
    let gguf = format!("hub/models--Org--Repo-GGUF/snapshots/{COMMIT}");
    let blob = |digit: &str| format!("ollama/blobs/sha256-{}", digit.repeat(64));
    for (spec, kind, expected, n_parts) in [
        ("Org/Repo-GGUF", Kind::Gguf, format!("{gguf}/M-Q4_K_M.gguf"), 1),
        ("org/repo-gguf", Kind::Gguf, format!("{gguf}/M-Q4_K_M.gguf"), 1),
        ("ORG/REPO-gguf:q8_0", Kind::Gguf, format!("{gguf}/M-Q8_0.gguf"), 1),
        ("org/repo-gguf:M-Q8_0.gguf", Kind::Gguf, format!("{gguf}/M-Q8_0.gguf"), 1),
        ("org/repo-gguf:bf16", Kind::Gguf, format!("{gguf}/BF16/M-BF16-00001-of-00002.gguf"), 2),
        ("org/repo-gguf:Q2_K", Kind::Gguf, format!("hub/models--Org--Repo-GGUF/snapshots/{OTHER}/M-Q2_K.gguf"), 1),
        ("org/safe", Kind::HuggingFace, format!("hub/models--org--safe/snapshots/{COMMIT}"), 2),
        ("ollama:llama3.2:1b", Kind::Gguf, blob("a"), 1),
        ("ollama:llama3.2", Kind::Gguf, blob("b"), 1),
        ("ollama:LLAMA3.2:1B", Kind::Gguf, blob("a"), 1),
        ("ollama:library/llama3.2:1b", Kind::Gguf, blob("a"), 1),
        ("ollama:hf.co/org/repo:q8_0", Kind::Gguf, blob("c"), 1),
    ] {
        let model = resolve(spec, &locations).unwrap_or_else(|error| panic!("{spec}: {error}"));
        assert_eq!(model.path, root.0.join(&expected), "{spec}");
        assert_eq!((model.kind, model.parts.len(), model.name.as_str()), (kind, n_parts, spec));
        let bytes: u64 = model.parts.iter().map(|part| part.metadata().unwrap().len()).sum();
        assert!(model.bytes == bytes && bytes > 0, "{spec}: {} for {bytes}", model.bytes);
    }
}

#[test]
fn what_is_not_there_says_where_and_what_to_do() {
    let (root, locations) = caches();
    root.write("ollama/manifests/registry.ollama.ai/library/only/latest", "{}");
    for (spec, expected) in [
        ("org/none", &["there is no model \"org/none\"", "hub/models--org--none", "tl pull org/none"][..]),
        ("org/none:Q8_0", &["tl pull org/none:Q8_0"]),
        ("org/empty", &["models--org--empty/snapshots", "tl pull org/empty"]),
        ("org/half", &["config.json, but not all weights", "tl pull org/half"]),
        ("org/repo-gguf:Q5_K_M", &["has no \"Q5_K_M\"", "BF16, Q4_K_M, Q8_0", "tl pull org/repo-gguf:Q5_K_M"]),
        ("org/repo-gguf:F16", &["has no \"F16\""]),
        ("nothing", &["there is no model \"nothing\"", "`org/repo` of a hub"]),
        ("llama3.2:1b", &["ollama has it: write `ollama:llama3.2:1b`"]),
        ("./none.gguf", &["looked at ./none.gguf"]),
        ("none.gguf", &["looked at none.gguf"]),
        ("", &["there is no model \"\""]),
        ("a\0b", &["there is no model"]),
        ("a/b/c/d", &["looked at a/b/c/d"]),
        ("../../etc/x", &["looked at ../../etc/x"]),
        ("org/re po", &["is no name of a model", "' '"]),
        ("org/repo-gguf:../../x", &["is no name of a model"]),
        ("ollama:none", &["ollama/manifests/registry.ollama.ai/library/none/latest", "ollama pull none"]),
        ("ollama:../../../x", &["is no name of a model"]),
        ("ollama:", &["is no name of a model"]),
        ("ollama:only", &["the manifest has no layer application/vnd.ollama.image.model"]),
    ] {
        let error = resolve(spec, &locations).expect_err(spec).to_string();
        for part in expected {
            assert!(error.contains(part), "{spec}: {error:?} lacks {part:?}");
        }
    }
    let error = resolve("org/none", &Locations::default()).unwrap_err().to_string();
    assert!(error.contains("tl pull org/none"), "{error}");
}

#[test]
fn paths() {
    let root = Folder::new();
    for file in [
        "one/model.gguf",
        "one/mmproj-F16.gguf",
        "one/config.json",
        "two/a.gguf",
        "two/b.gguf",
        "split/m-00001-of-00002.gguf",
        "split/m-00002-of-00002.gguf",
        "torn/m-00001-of-00003.gguf",
        "torn/m-00002-of-00003.gguf",
        "hf/config.json",
        "hf/model.safetensors",
        "both/config.json",
        "both/model.safetensors",
        "both/m.gguf",
        "nothing/README.md",
        "old/config.json",
        "old/pytorch_model.bin",
    ] {
        root.write(file, "x");
    }
    let check = |name: &str, expected: Result<(Kind, &str, usize), &str>| {
        let spec = root.0.join(name);
        let found = resolve(spec.to_str().unwrap(), &Locations::default());
        match (found, expected) {
            (Ok(model), Ok((kind, path, n_parts))) => {
                assert_eq!((model.kind, model.path, model.parts.len()), (kind, root.0.join(path), n_parts), "{name}");
                assert_eq!(model.bytes, n_parts as u64);
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    };
    check("one/model.gguf", Ok((Kind::Gguf, "one/model.gguf", 1)));
    check("one", Ok((Kind::Gguf, "one/model.gguf", 1)));
    check("two", Err("2 models in this folder; give the path of one of a.gguf, b.gguf"));
    check("split", Ok((Kind::Gguf, "split/m-00001-of-00002.gguf", 2)));
    check("split/m-00001-of-00002.gguf", Ok((Kind::Gguf, "split/m-00001-of-00002.gguf", 2)));
    check("split/m-00002-of-00002.gguf", Err("part 2 of 2; give the first part, m-00001-of-00002.gguf"));
    check("torn", Err("parts of a split model"));
    check(
        "torn/m-00001-of-00003.gguf",
        Err("in 3 parts, of which 1 are missing, the first of them m-00003-of-00003.gguf"),
    );
    check("hf", Ok((Kind::HuggingFace, "hf", 1)));
    check("both", Ok((Kind::HuggingFace, "both", 1)));
    check("hf/model.safetensors", Err("give the folder"));
    check("hf/config.json", Err("give the folder"));
    check("nothing", Err("no GGUF file"));
    check("old", Err("no weights that are read"));
    check("absent", Err("there is no model"));
}

#[test]
fn nothing_leads_out_of_a_cache() {
    let (root, locations) = caches();
    let secret = root.write("secret.gguf", "secret");
    root.write("hub/models--org--out/refs/main", "../../../x");
    root.write("hub/models--org--out/snapshots/x/m.gguf", "x");
    let error = resolve("org/out", &locations).unwrap_err().to_string();
    assert!(error.contains("no name of a commit"), "{error}");
    #[cfg(unix)]
    {
        let link = root.0.join(format!("hub/models--org--link/snapshots/{COMMIT}/m.gguf"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&secret, link).unwrap();
        let error = resolve("org/link", &locations).unwrap_err().to_string();
        assert!(error.contains("leads out of the cache"), "{error}");
    }
    for (digest, size, expected) in [
        ("sha256:../../secret.gguf", 6, "64 hexadecimal digits"),
        ("sha256:AA", 6, "64 hexadecimal digits"),
        ("../secret.gguf", 6, "64 hexadecimal digits"),
        (&format!("sha256:{}", "a".repeat(64)), 7, "6 bytes, where the manifest says 7"),
        (&format!("sha256:{}", "d".repeat(64)), 7, "opening the model that the manifest names"),
    ] {
        let layers = format!(
            r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{digest}","size":{size}}}]}}"#
        );
        root.write("ollama/manifests/registry.ollama.ai/library/bad/latest", &layers);
        let error = resolve("ollama:bad", &locations).unwrap_err().to_string();
        assert!(error.contains(expected), "{digest}: {error}");
    }
    for (manifest, expected) in
        [("<html>", "no manifest"), ("[1]", "no manifest"), (&" ".repeat(2 << 20), "more than 1048576")]
    {
        root.write("ollama/manifests/registry.ollama.ai/library/bad/latest", manifest);
        let error = resolve("ollama:bad", &locations).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Path::new(&secret).exists());
}

#[test]
fn everything_is_listed_and_resolves() {
    let (_root, locations) = caches();
    let listed = list(&locations).unwrap();
    let names: Vec<(Source, &str)> = listed.iter().map(|entry| (entry.source, entry.model.name.as_str())).collect();
    assert_eq!(
        names,
        [
            (Source::HubCache, "Org/Repo-GGUF:BF16"),
            (Source::HubCache, "Org/Repo-GGUF:Q4_K_M"),
            (Source::HubCache, "Org/Repo-GGUF:Q8_0"),
            (Source::HubCache, "org/safe"),
            (Source::Ollama, "ollama:hf.co/Org/Repo:Q8_0"),
            (Source::Ollama, "ollama:llama3.2:1b"),
            (Source::Ollama, "ollama:llama3.2:latest"),
        ]
    );
    for entry in &listed {
        assert_eq!(resolve(&entry.model.name, &locations).unwrap(), entry.model);
    }
    assert_eq!(list(&Locations::default()).unwrap(), []);
    let absent = Locations { hub_cache: Some("/nonexistent/x".into()), ollama: Some("/nonexistent/y".into()) };
    assert_eq!(list(&absent).unwrap(), []);
}
