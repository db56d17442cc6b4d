//! scratch
use tl_lang::{Host, Interpreter, SourceText};
struct Out;
impl Host for Out {
    fn print(&mut self, text: &str) { use std::io::Write; print!("{text}"); std::io::stdout().flush().unwrap(); }
    fn read_source(&mut self, path: &str, _i: &str) -> Result<SourceText, String> { std::fs::read_to_string(path).map(|text| SourceText { name: path.into(), text }).map_err(|e| e.to_string()) }
    fn open_path(&mut self, path: &str) -> Result<std::path::PathBuf, String> { Ok(path.into()) }
    fn args(&mut self) -> Vec<String> { std::env::args().skip(2).collect() }
    fn env(&mut self, _n: &str) -> Option<String> { None }
    fn time_ms(&mut self) -> f64 { use std::time::*; SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3 }
}
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let device = tl_device::Device::cpu();
    let mut host = Out;
    let result = Interpreter::with_host(&device, &mut host).run_named(&path, &text);
    match result {
        Ok(o) => eprintln!("exit {} warnings {:?}", o.exit_code, o.warnings),
        Err(e) => { eprintln!("{e}"); for (n, s) in &e.calls { eprintln!("  in {n} called at {}", e.sources.describe(*s)); } }
    }
}
