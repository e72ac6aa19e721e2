//! The figure of a comparison: a bar per case and machine, on a logarithmic axis of time.

use super::compare::Comparison;
use super::table::{digits, duration};
use crate::figure::{At, BLUE, Decades, Drawing, FAINT, INK, VERMILLION, shortened, width};
use plotters::style::{RGBColor, WHITE};

/// Okabe and Ito's colours, which people with any colour vision can tell apart; bars have letters too.
const COLORS: [RGBColor; 7] = [
    BLUE,
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    VERMILLION,
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x99, 0x99, 0x99),
];
const WIDTH: i32 = 980;
const MARGIN: i32 = 16;
/// Pixels of a bar, and between cases and groups of cases.
const BAR: i32 = 12;
const GAP: i32 = 7;
const GROUP: i32 = 26;
/// Pixels of title and of a line of the legend.
const HEAD: i32 = 52;
const LINE: i32 = 20;
/// Pixels at the right for numbers.
const NUMBERS: i32 = 130;

/// Draws a comparison: time by case and machine, shorter is faster, with the speed over that of the first machine.
pub fn figure(comparison: &Comparison) -> Drawing {
    let machines = comparison.machines.len() as i32;
    let group = |name: &str| name.split('/').next().unwrap_or("").to_string();
    let short = |name: &str| {
        name.split_once('/')
            .map_or(name, |(_, rest)| rest)
            .to_string()
    };
    let mut groups: Vec<String> = comparison.cases.iter().map(|c| group(&c.name)).collect();
    groups.dedup();
    let cases = comparison.cases.len() as i32;
    let body = cases * (machines * BAR + GAP) + groups.len() as i32 * GROUP;
    let top = HEAD + machines * LINE + 14;
    let mut drawing = Drawing::new(WIDTH, top + body + 34 + MARGIN);
    let title = "Time of each case (shorter is faster), and speed over that of A";
    drawing.text((MARGIN, 24), title, 18, INK, At::Left);
    for (k, (machine, mean)) in comparison
        .machines
        .iter()
        .zip(&comparison.means)
        .enumerate()
    {
        let y = HEAD + k as i32 * LINE + 4;
        drawing.fill(
            [(MARGIN, y - 6), (MARGIN + 12, y + 6)],
            COLORS[k % COLORS.len()],
        );
        let mean = match mean {
            Some(mean) if k > 0 => format!(", ×{} in the geometric mean", digits(*mean)),
            _ => String::new(),
        };
        let text = format!(
            "{}  {}{mean}; {}; {}",
            machine.letter, machine.device, machine.system, machine.file
        );
        drawing.text(
            (MARGIN + 20, y),
            &shortened_end(&text, 150),
            12,
            INK,
            At::Left,
        );
    }
    let names = comparison
        .cases
        .iter()
        .map(|c| width(&shortened(&short(&c.name), 30), 12));
    let left = MARGIN + names.max().unwrap_or(0) + 12;
    let right = WIDTH - MARGIN - NUMBERS;
    let times = comparison
        .cases
        .iter()
        .flat_map(|c| c.seconds.iter().flatten());
    // All bars are on one scale; the axis keeps seven decades at most.
    let axis = Decades::around(times.copied());
    axis.below(&mut drawing, [(left, top), (right, top + body)]);
    let middle = ((left + right) / 2, top + body + 28);
    let what =
        "seconds, the median; the line spans the runs; grey and ~ where the runs overlap with A's";
    drawing.text(middle, what, 12, FAINT, At::Middle);
    let mut y = top;
    let mut last = String::new();
    for case in &comparison.cases {
        if group(&case.name) != last {
            last = group(&case.name);
            drawing.text((MARGIN, y + GROUP / 2), &last, 13, INK, At::Left);
            y += GROUP;
        }
        let name = shortened(&short(&case.name), 30);
        drawing.text(
            (left - 8, y + machines * BAR / 2),
            &name,
            12,
            INK,
            At::Right,
        );
        for (k, (seconds, speed)) in case.seconds.iter().zip(&case.speeds).enumerate() {
            let (upper, center) = (y + k as i32 * BAR, y + k as i32 * BAR + BAR / 2);
            let Some(seconds) = seconds else {
                drawing.text((left + 6, center), "not timed", 10, FAINT, At::Left);
                continue;
            };
            let place = axis.place(*seconds).unwrap_or(0.0);
            let end = left + ((f64::from(right - left) * place).round() as i32).max(2);
            let color = COLORS[k % COLORS.len()];
            drawing.fill([(left, upper + 1), (end, upper + BAR - 1)], color);
            let runs_end = case.spreads[k].map_or(end, |(least, most)| {
                // A line from the least to the most of the runs.
                let x = |value: f64| {
                    let place = axis.place(value).unwrap_or(0.0);
                    left + (f64::from(right - left) * place).round() as i32
                };
                drawing.line(&[(x(least), center), (x(most), center)], INK, 1);
                x(most)
            });
            let end = end.max(runs_end);
            let letter = match machines {
                1 => String::new(),
                _ => format!("{}  ", comparison.machines[k].letter),
            };
            // What may be chance is grey.
            let chance = k > 0 && case.within_spread[k];
            let speed = match speed {
                Some(speed) if chance => format!("  ~{}", digits(*speed)),
                Some(speed) if k > 0 => format!("  ×{}", digits(*speed)),
                _ => String::new(),
            };
            let text = format!("{letter}{}{speed}", duration(*seconds));
            // No rule runs through a number.
            let behind = (end + 8 + width(&text, 10), upper + BAR);
            drawing.fill([(end + 1, upper), behind], WHITE);
            let ink = if chance { FAINT } else { INK };
            drawing.text((end + 6, center), &text, 10, ink, At::Left);
        }
        y += machines * BAR + GAP;
    }
    drawing
}

/// A text of `most` characters at most, its beginning.
fn shortened_end(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    let start: String = text.chars().take(most - 1).collect();
    start + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::example;

    #[test]
    fn a_figure_names_machines_and_cases() {
        let mut slow = example("slow & old", 1.0);
        slow.devices[0].cases.remove(0);
        let reports = [("a.json", example("fast", 0.01)), ("b.json", slow)];
        let drawing = figure(&Comparison::new(&reports).unwrap());
        let svg = drawing.svg().unwrap();
        for text in [
            "fast",
            "slow &amp; old",
            "conv",
            "gradient",
            "not timed",
            "lenet5",
        ] {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        assert_eq!(drawing.png().unwrap()[1..4], *b"PNG");
    }
}
