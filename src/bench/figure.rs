//! The figure of a comparison: a bar per case and machine, on a logarithmic axis of time.

use super::compare::{ComparedCase, Comparison};
use super::table::{digits, duration};
use crate::figure::{At, BLUE, Decades, Drawing, FAINT, INK, VERMILLION, ends, shortened, width};
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
/// Pixels below the bars: the numbers of the axis, its title, and how to read the figure.
const FOOT: i32 = 58;
/// Pixels at the right for numbers.
const NUMBERS: i32 = 150;

/// The area of the bars.
struct Area {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl Area {
    /// The x of a time.
    fn x(&self, axis: &Decades, seconds: f64) -> i32 {
        let place = axis.place(seconds).unwrap_or(0.0);
        self.left + (f64::from(self.right - self.left) * place).round() as i32
    }
}

/// The group of a case: the part of its name before the slash.
fn group(name: &str) -> &str {
    name.split('/').next().unwrap_or("")
}

/// The name of a case in its group, shortened where it is long.
fn short(name: &str) -> String {
    shortened(name.split_once('/').map_or(name, |(_, rest)| rest), 30)
}

/// Draws a comparison: time by case and machine, shorter is faster, with the speed over that of the first machine.
pub fn figure(comparison: &Comparison) -> Drawing {
    let machines = comparison.machines.len() as i32;
    let mut groups: Vec<&str> = comparison.cases.iter().map(|c| group(&c.name)).collect();
    groups.dedup();
    let cases = comparison.cases.len() as i32;
    let body = cases * (machines * BAR + GAP) + groups.len() as i32 * GROUP;
    let legends: Vec<Vec<String>> = (0..comparison.machines.len())
        .map(|k| legend(comparison, k))
        .collect();
    let lines = legends.iter().map(Vec::len).sum::<usize>() as i32;
    let top = HEAD + lines * LINE + 14;
    let mut drawing = Drawing::new(WIDTH, top + body + FOOT + MARGIN);
    head(&mut drawing, &legends);
    let cases = comparison.cases.iter();
    let names = cases.clone().map(|c| width(&short(&c.name), 12));
    let area = Area {
        left: MARGIN + names.max().unwrap_or(0) + 12,
        right: WIDTH - MARGIN - NUMBERS,
        top,
        bottom: top + body,
    };
    let times = cases.flat_map(|c| c.seconds.iter().flatten());
    // All bars are on one scale; the axis keeps seven decades at most.
    let axis = Decades::around(times.copied());
    foot(&mut drawing, &area, &axis);
    let mut y = top;
    let mut last = "";
    for case in &comparison.cases {
        if group(&case.name) != last {
            last = group(&case.name);
            drawing.text((MARGIN, y + GROUP / 2), last, 13, INK, At::Left);
            y += GROUP;
        }
        let at = (area.left - 8, y + machines * BAR / 2);
        drawing.text(at, &short(&case.name), 12, INK, At::Right);
        for (k, machine) in comparison.machines.iter().enumerate() {
            let letter = match machines {
                1 => String::new(),
                _ => format!("{}  ", machine.letter),
            };
            let upper = y + k as i32 * BAR;
            bar(&mut drawing, (&area, &axis), (case, k), &letter, upper);
        }
        y += machines * BAR + GAP;
    }
    drawing
}

/// Draws the title and the legends.
fn head(drawing: &mut Drawing, legends: &[Vec<String>]) {
    let title = "Time of each case (shorter is faster), and speed over that of A";
    drawing.text((MARGIN, 24), title, 18, INK, At::Left);
    let mut y = HEAD + 4;
    for (k, lines) in legends.iter().enumerate() {
        drawing.fill(
            [(MARGIN, y - 6), (MARGIN + 12, y + 6)],
            COLORS[k % COLORS.len()],
        );
        for line in lines {
            drawing.text((MARGIN + 20, y), line, 12, INK, At::Left);
            y += LINE;
        }
    }
}

/// Draws the axis below the bars, with its title and how to read the figure.
fn foot(drawing: &mut Drawing, area: &Area, axis: &Decades) {
    axis.below(drawing, [(area.left, area.top), (area.right, area.bottom)]);
    let middle = (area.left + area.right) / 2;
    let title = "time of a case (s), median of its runs";
    drawing.text((middle, area.bottom + 30), title, 12, INK, At::Middle);
    let how = "lines span the runs; grey and ~: it may be chance, as the runs overlap with A's, or one of the two ran once";
    drawing.text((middle, area.bottom + 50), how, 12, FAINT, At::Middle);
}

/// Draws the bar of a case on machine `k`, with the spread of its runs and its numbers.
fn bar(
    drawing: &mut Drawing,
    (area, axis): (&Area, &Decades),
    (case, k): (&ComparedCase, usize),
    letter: &str,
    upper: i32,
) {
    let (left, center) = (area.left, upper + BAR / 2);
    let Some(seconds) = case.seconds[k] else {
        drawing.text((left + 6, center), "not timed", 10, FAINT, At::Left);
        return;
    };
    let end = area.x(axis, seconds).max(left + 2);
    let color = COLORS[k % COLORS.len()];
    drawing.fill([(left, upper + 1), (end, upper + BAR - 1)], color);
    let runs_end = case.spreads[k].map_or(end, |(least, most)| {
        // A line from the least to the most of the runs.
        let most = area.x(axis, most);
        drawing.line(&[(area.x(axis, least), center), (most, center)], INK, 1);
        most
    });
    let end = end.max(runs_end);
    // What may be chance is grey.
    let chance = k > 0 && case.within_spread[k];
    let speed = match case.speeds[k] {
        Some(speed) if chance => format!("  ~{}", digits(speed)),
        Some(speed) if k > 0 => format!("  ×{}", digits(speed)),
        _ => String::new(),
    };
    let once = if case.runs[k] == 1 { " (1 run)" } else { "" };
    let text = format!("{letter}{}{once}{speed}", duration(seconds));
    // No rule runs through a number.
    let behind = (end + 8 + width(&text, 10), upper + BAR);
    drawing.fill([(end + 1, upper), behind], WHITE);
    let ink = if chance { FAINT } else { INK };
    drawing.text((end + 6, center), &text, 10, ink, At::Left);
}

/// The legend of a machine: its device, system and file, wrapped into lines that fit the figure.
fn legend(comparison: &Comparison, k: usize) -> Vec<String> {
    const WIDEST: i32 = WIDTH - 2 * MARGIN - 20;
    let machine = &comparison.machines[k];
    let mean = match comparison.means[k] {
        Some(mean) if k > 0 => format!(", ×{} in the geometric mean", digits(mean)),
        _ => String::new(),
    };
    let first = format!("{}  {}{mean}", machine.letter, machine.device);
    let mut lines: Vec<String> = Vec::new();
    for piece in [&first, &machine.system, &machine.file] {
        // Of a path that is longer than a line, the end tells it from others.
        let most = (1..=piece.chars().count())
            .rev()
            .find(|&most| width(&ends(piece, most), 12) <= WIDEST);
        let piece = ends(piece, most.unwrap_or(1));
        match lines.last_mut() {
            Some(line) if width(&format!("{line}; {piece}"), 12) <= WIDEST => {
                *line += &format!("; {piece}");
            }
            _ => lines.push(piece),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::example;

    #[test]
    fn a_figure_says_where_there_was_a_single_run_and_names_files_whole() {
        let mut once = example("once", 0.25);
        once.devices[0].cases[0].timing.as_mut().unwrap().runs = 1;
        let file = format!("{}/b.json", "measured-on-another-day".repeat(5));
        let reports = [("a.json", example("fast", 1.0)), (file.as_str(), once)];
        let drawing = figure(&Comparison::new(&reports).unwrap());
        let texts = drawing.texts();
        let has = |wanted: &str| texts.iter().any(|(text, ..)| text.contains(wanted));
        assert!(has("B  5.00 ms (1 run)  ~4.00"), "{texts:?}");
        assert!(has(&file), "{texts:?}");
        assert!(has("time of a case (s)"), "{texts:?}");
        assert!(
            texts
                .iter()
                .all(|(_, left, right)| *left >= 0 && *right <= WIDTH),
            "{texts:?}"
        );
    }

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
