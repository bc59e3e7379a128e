//! Bars and percentile curves as SVG. Colours and text are readable on light and on dark pages.

use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 310.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 70.0;
const BAR: f64 = 11.0;
const COLOURS: [&str; 3] = ["#8a8f98", "#2f81f7", "#d9822b"];
const STYLE: &str = "text{font:12px sans-serif;fill:#57606a}.t{font-size:15px;font-weight:600}.g{stroke:#8a8f98;stroke-opacity:.35}\
     @media(prefers-color-scheme:dark){text{fill:#adbac7}}";

fn begin(height: f64, title: &str, names: &[String]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<text class=\"t\" x=\"16\" y=\"24\">{title}</text>\n"
    );
    for (index, (name, colour)) in names.iter().zip(COLOURS).enumerate() {
        let x = 16.0 + 130.0 * index as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"38\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"49\">{name}</text>",
            x + 18.0
        );
    }
    svg
}

/// A group of horizontal bars for each workload, on a logarithmic scale: servers differ by more than ten times.
pub(super) fn bars(title: &str, names: &[String], groups: &[(String, Vec<Option<f64>>)]) -> String {
    let known: Vec<f64> = groups
        .iter()
        .flat_map(|(_, values)| values.iter().flatten().copied())
        .filter(|value| *value > 0.0)
        .collect();
    let decade = |value: f64| value.log10();
    let low = known.iter().copied().fold(f64::INFINITY, f64::min);
    let high = known.iter().copied().fold(1.0, f64::max);
    let low = decade(low.min(high)).floor();
    let high = decade(high).ceil().max(low + 1.0);
    let x = |value: f64| LEFT + (decade(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let group_height = BAR * names.len() as f64 + 10.0;
    let bottom = TOP + group_height * groups.len() as f64;
    let mut svg = begin(bottom + 30.0, title, names);
    for power in low as i32..=high as i32 {
        let at = x(10_f64.powi(power));
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            short(10_f64.powi(power))
        );
    }
    for (index, (label, values)) in groups.iter().enumerate() {
        let y = TOP + group_height * index as f64 + 5.0;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + group_height / 2.0
        );
        for (side, value) in values.iter().enumerate() {
            let Some(value) = value.filter(|value| *value > 0.0) else {
                continue;
            };
            let y = y + BAR * side as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" style=\"font-size:10px\">{}</text>",
                x(value) - LEFT,
                BAR - 1.5,
                COLOURS[side],
                x(value) + 4.0,
                y + BAR - 2.0,
                short(value)
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Latency in milliseconds over percentiles, both logarithmic: each step to the right is a tenth of the messages.
pub(super) fn percentiles(title: &str, curves: &[(String, Vec<(f64, f64)>)]) -> String {
    const HEIGHT: f64 = 380.0;
    /// The last percentile drawn, 99.99 %, in nines.
    const NINES: f64 = 4.0;
    let (left, bottom) = (70.0, HEIGHT - 40.0);
    let known = curves.iter().flat_map(|(_, points)| points);
    let (low, high) = known
        .filter(|(_, ms)| *ms > 0.0)
        .fold((1.0_f64, 1.0_f64), |(low, high), (_, ms)| {
            (low.min(*ms), high.max(*ms))
        });
    let low = low.log10().floor();
    let high = high.log10().ceil().max(low + 1.0);
    let nines = |quantile: f64| (-(1.0 - quantile).log10()).min(NINES);
    let x = |quantile: f64| left + nines(quantile) / NINES * (WIDTH - left - RIGHT);
    let y = |ms: f64| bottom - (ms.log10() - low) / (high - low) * (bottom - TOP);
    let names: Vec<String> = curves.iter().map(|(name, _)| name.clone()).collect();
    let mut svg = begin(HEIGHT, title, &names);
    for (quantile, label) in [
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
    ] {
        let at = x(quantile);
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 18.0
        );
    }
    for power in low as i32..=high as i32 {
        let ms = 10_f64.powi(power);
        let at = y(ms);
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{ms} ms</text>",
            WIDTH - RIGHT,
            left - 8.0,
            at + 4.0
        );
    }
    for ((_, points), colour) in curves.iter().zip(COLOURS) {
        let path: Vec<String> = points
            .iter()
            .filter(|(quantile, ms)| *ms > 0.0 && *quantile <= 0.9999)
            .map(|(quantile, ms)| format!("{:.1},{:.1}", x(*quantile), y(*ms)))
            .collect();
        if !path.is_empty() {
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" points=\"{}\"/>",
                path.join(" ")
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// 1500000 as "1.5M".
fn short(value: f64) -> String {
    let (value, suffix) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = usize::from(value < 10.0 && value.fract() > 0.05);
    format!("{value:.digits$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_value_is_drawn() {
        let names = ["floor", "a", "b"].map(str::to_owned);
        let groups = [("x".to_owned(), vec![None, Some(1500.0), Some(20.0)])];
        let svg = bars("t", &names, &groups);
        // Three of the legend, two bars.
        assert_eq!(svg.matches("<rect").count(), 5);
        assert!(svg.contains("1.5k") && svg.ends_with("</svg>\n"));
        assert!(!bars("t", &names, &[]).contains("NaN"));
    }

    #[test]
    fn a_curve_is_one_line() {
        let curves = [(
            "a".to_owned(),
            vec![(0.5, 1.0), (0.9999, 20.0), (1.0, 90.0)],
        )];
        let svg = percentiles("t", &curves);
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
