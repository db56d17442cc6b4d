//! What the tests of the program share: running it, and files that are removed again.
#![allow(dead_code, reason = "each file of tests takes what it needs")]

use std::path::PathBuf;
use std::process::{Command, Output};

/// The project's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program in the project's root, with the words of `line` and then `rest` as its arguments.
pub(crate) fn tl(line: &str, rest: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tl"));
    command.args(line.split_whitespace()).args(rest).current_dir(root());
    command.env_remove("TL_BUFFER_MAX_MB").env_remove("TL_DEVICE");
    command
}

/// As [`tl`], run to its end.
pub(crate) fn run(line: &str, rest: &[&str]) -> Output {
    tl(line, rest).output().unwrap()
}

/// What a program has printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Names of the files in it, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The demo model with a chat template in its file.
pub(crate) fn demo_with_template(folder: &Folder) -> String {
    demo_with(folder, "{% for m in messages %}{{ m.content }}. {% endfor %}")
}

/// The demo model with this chat template in its file.
pub(crate) fn demo_with(folder: &Folder, template: &str) -> String {
    let mut file = std::fs::read(root().join("models/demo-q8_0.gguf")).unwrap();
    let (key, mut template) = ("tokenizer.chat_template", template.to_owned());
    // All that comes behind the new pair keeps its place within blocks of 32 bytes.
    let len = 8 + key.len() + 4 + 8 + template.len() + "{##}".len();
    template += &format!("{{#{}#}}", " ".repeat(len.next_multiple_of(32) - len));
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let pair = [text(key), 8u32.to_le_bytes().to_vec(), text(&template)].concat();
    let n_pairs = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 1;
    file[16..24].copy_from_slice(&n_pairs.to_le_bytes());
    file.splice(24..24, pair);
    let path = folder.file("chat.gguf");
    std::fs::write(&path, file).unwrap();
    path
}
