//! Plots as SVG: lines, bars and heat maps of numbers.

use std::fmt::Write;

/// The picture's width and height, and the space around its axes, in the units of SVG.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 32.0;

/// Marks of the vertical axis.
const TICKS: usize = 5;

/// The colours of lines, by turns.
const COLOURS: [&str; 8] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"];

/// The colours of a heat map, from the least to the largest.
const HEAT: [[f64; 3]; 5] =
    [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];

/// How numbers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlotKind {
    /// A line for each row.
    Lines,
    /// A bar for each number; one row.
    Bars,
    /// A rectangle for each number.
    Heat,
}

impl PlotKind {
    /// The kind of that name.
    pub(crate) fn from_name(name: &str) -> Option<PlotKind> {
        Some(match name {
            "lines" => PlotKind::Lines,
            "bars" => PlotKind::Bars,
            "heat" => PlotKind::Heat,
            _ => return None,
        })
    }
}

/// A picture of rows of numbers. `None`: none of them is finite, or they lie too far apart for numbers in between.
pub(crate) fn plot(kind: PlotKind, rows: &[Vec<f64>], title: &str) -> Option<String> {
    let finite = || rows.iter().flatten().copied().filter(|x| x.is_finite());
    let (least, most) = (finite().reduce(f64::min)?, finite().reduce(f64::max)?);
    if !(most - least).is_finite() {
        return None;
    }
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    label(&mut text, WIDTH / 2.0, 20.0, "middle", title);
    match kind {
        PlotKind::Lines => {
            let scale = Scale::new(least, most);
            scale.axes(&mut text, columns(rows));
            lines(&mut text, rows, &scale);
        }
        PlotKind::Bars => {
            let scale = Scale::new(least.min(0.0), most.max(0.0));
            scale.axes(&mut text, columns(rows));
            bars(&mut text, rows.first().map_or(&[], Vec::as_slice), &scale);
        }
        PlotKind::Heat => {
            heat(&mut text, rows, least, most);
            label(&mut text, LEFT, HEIGHT - 10.0, "start", &format!("{} to {}", number(least), number(most)));
        }
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn columns(rows: &[Vec<f64>]) -> usize {
    rows.iter().map(Vec::len).max().unwrap_or(0)
}

/// The vertical axis.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn new(least: f64, most: f64) -> Scale {
        // One value lies in the middle.
        let around = if most > least { 0.0 } else { least.abs().max(1.0) / 2.0 };
        Scale { least: least - around, most: most + around }
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value - self.least) / (self.most - self.least))
    }

    fn axes(&self, text: &mut String, columns: usize) {
        for tick in 0..TICKS {
            let value = self.least + (self.most - self.least) * tick as f64 / (TICKS - 1) as f64;
            let y = self.y(value);
            let right = WIDTH - RIGHT;
            let _ = writeln!(text, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>");
            // Next to the axis' length it is nothing.
            let shown = if value.abs() < (self.most - self.least) * 1e-3 { 0.0 } else { value };
            label(text, LEFT - 6.0, y + 4.0, "end", &number(shown));
        }
        label(text, LEFT, HEIGHT - 10.0, "start", "0");
        label(text, WIDTH - RIGHT, HEIGHT - 10.0, "end", &columns.saturating_sub(1).to_string());
    }
}

fn lines(text: &mut String, rows: &[Vec<f64>], scale: &Scale) {
    let step = (WIDTH - LEFT - RIGHT) / columns(rows).saturating_sub(1).max(1) as f64;
    for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
        // What is no finite number is a gap.
        for part in points.split(|(_, value)| !value.is_finite()).filter(|part| !part.is_empty()) {
            let at =
                |(column, value): &(usize, f64)| format!("{:.1},{:.1}", LEFT + step * *column as f64, scale.y(*value));
            if let [point] = part {
                let place = at(point);
                let (x, y) = place.split_once(',').unwrap_or(("0", "0"));
                let _ = writeln!(text, "<circle cx=\"{x}\" cy=\"{y}\" r=\"2\" fill=\"{colour}\"/>");
                continue;
            }
            let points: Vec<String> = part.iter().map(at).collect();
            let points = points.join(" ");
            let _ = writeln!(
                text,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>"
            );
        }
    }
}

fn bars(text: &mut String, row: &[f64], scale: &Scale) {
    let step = (WIDTH - LEFT - RIGHT) / row.len().max(1) as f64;
    let colour = COLOURS[0];
    for (column, value) in row.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let (x, zero, y) = (LEFT + step * column as f64 + step * 0.1, scale.y(0.0), scale.y(*value));
        let (top, height) = (zero.min(y), (zero - y).abs());
        let width = step * 0.8;
        let _ = writeln!(
            text,
            "<rect x=\"{x:.2}\" y=\"{top:.1}\" width=\"{width:.2}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }
}

fn heat(text: &mut String, rows: &[Vec<f64>], least: f64, most: f64) {
    let width = (WIDTH - LEFT - RIGHT) / columns(rows).max(1) as f64;
    let height = (HEIGHT - TOP - BOTTOM) / rows.len().max(1) as f64;
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + height * at as f64;
        for (column, value) in row.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let x = LEFT + width * column as f64;
            let colour = heat_colour(if most > least { (value - least) / (most - least) } else { 0.5 });
            // A little larger, so that no lines show between neighbours.
            let (wide, high) = (width + 0.2, height + 0.2);
            let _ = writeln!(
                text,
                "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{wide:.2}\" height=\"{high:.2}\" fill=\"{colour}\"/>"
            );
        }
    }
    label(text, LEFT - 6.0, TOP + 12.0, "end", "0");
    label(text, LEFT - 6.0, HEIGHT - BOTTOM, "end", &rows.len().saturating_sub(1).to_string());
}

/// The colour of a share from 0 to 1.
fn heat_colour(share: f64) -> String {
    let place = share.clamp(0.0, 1.0) * (HEAT.len() - 1) as f64;
    let first = (place as usize).min(HEAT.len() - 2);
    let within = place - first as f64;
    let mix =
        |channel: usize| (HEAT[first][channel] * (1.0 - within) + HEAT[first + 1][channel] * within).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// A number of an axis: short.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let mut escaped = String::with_capacity(content.len());
    for c in content.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures() {
        let count = |kind, rows: &[Vec<f64>], what: &str| plot(kind, rows, "").unwrap().matches(what).count();
        let gap = vec![vec![0.0, 1.0, f64::NAN, 2.0, 3.0, f64::INFINITY, 4.0], vec![1.0, 1.0]];
        assert_eq!(count(PlotKind::Lines, &gap, "<polyline"), 3);
        assert_eq!(count(PlotKind::Lines, &gap, "<circle"), 1);
        // The background is one more.
        assert_eq!(count(PlotKind::Bars, &[vec![1.0, -2.0, f64::NAN]], "<rect"), 3);
        assert_eq!(count(PlotKind::Heat, &[vec![1.0, 2.0], vec![f64::NAN, 4.0]], "<rect"), 4);
        let line = plot(PlotKind::Lines, &[vec![0.0, 10.0]], "a < b").unwrap();
        assert!(line.contains("points=\"64.0,368.0 624.0,32.0\"") && line.contains(">a &lt; b</text>"), "{line}");
        assert!(line.contains(">2.5</text>") && line.contains(">10</text>"), "{line}");
        assert!(plot(PlotKind::Lines, &[vec![5.0, 5.0]], "").unwrap().contains("64.0,200.0 624.0,200.0"));
        assert_eq!(plot(PlotKind::Lines, &[vec![f64::NAN]], ""), None);
        assert_eq!(plot(PlotKind::Lines, &[vec![f64::MAX, f64::MIN]], ""), None);
        assert_eq!([heat_colour(0.0), heat_colour(0.5), heat_colour(1.0)], ["#440154", "#21918c", "#fde725"]);
    }
}
