//! `tl logits`: a model's predictions after each of some tokens, to compare with another program's.

use serde_json::json;
use tl_engine::Model;
use tl_syntax::SourceMap;

use crate::arguments::LogitsArguments;
use crate::output::{self, Stop};
use crate::report::Recording;
use crate::statistics;

/// Maximum logits of a row in the output for people.
const SHOWN: usize = 8;

/// Runs the tokens through the model and prints the logits after each.
pub(crate) fn run(arguments: &LogitsArguments) -> Result<(), Stop> {
    let device = crate::device::open(&arguments.device)?;
    let recording = Recording::start(&arguments.device, &device, "step")?;
    let model = arguments.how.load(&arguments.model, &device)?;
    let rows = rows(arguments, &model);
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    let recorded = recording.finish(&device, &arguments.model.display().to_string(), &SourceMap::new());
    let rows = rows?;
    recorded?;
    print(arguments, &rows)
}

/// The logits after each token.
fn rows(arguments: &LogitsArguments, model: &Model) -> Result<Vec<Vec<f32>>, Stop> {
    let mut cache = model.new_cache(arguments.ids.len()).map_err(Stop::failed)?;
    let step = if arguments.one_by_one { 1 } else { arguments.ids.len().max(1) };
    let vocab_size = model.config().vocab_size;
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(arguments.ids.len());
    for part in arguments.ids.chunks(step) {
        let logits = model.forward_all(part, &mut cache).map_err(Stop::failed)?;
        let logits = logits.cast::<f32>().and_then(|logits| logits.to_vec()).map_err(Stop::failed)?;
        rows.extend(logits.chunks_exact(vocab_size).map(<[f32]>::to_vec));
        model.device().end_step();
    }
    Ok(rows)
}

fn print(arguments: &LogitsArguments, rows: &[Vec<f32>]) -> Result<(), Stop> {
    if arguments.json {
        return output::print(&format!("{}\n", json!({ "logits": rows })));
    }
    let mut text = String::new();
    for (id, row) in arguments.ids.iter().zip(rows) {
        let mut best: Vec<usize> = (0..row.len()).collect();
        best.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let best = best.iter().take(SHOWN).map(|&at| format!("{at}: {:.3}", row[at]));
        text += &format!("{id:>7}  {}\n", best.collect::<Vec<_>>().join("  "));
    }
    output::print(&text)
}
