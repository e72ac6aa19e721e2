//! The whole of `show`, on results that were written for it.
// Parts are lists of ranges, and most have one.
#![allow(clippy::single_range_in_vec_init)]

mod scan;

use super::*;
use crate::sink::{Files, ParameterPlace, PartLayout, Sink};
use std::ops::Range;

/// Parameters, one after the other: layer, name, entries.
fn places(list: &[(&str, &str, usize)]) -> Vec<ParameterPlace> {
    let mut offset = 0;
    let mut out = Vec::new();
    for (layer, name, count) in list {
        out.push(ParameterPlace {
            name: format!("{layer}.{name}"),
            layer: layer.to_string(),
            offset,
            count: *count,
            shape: vec![*count],
        });
        offset += count;
    }
    out
}

/// A result on disk, with its folder, which goes with it.
fn result(
    parts: &[(PartLayout, Vec<f64>)],
    places: Vec<ParameterPlace>,
) -> (tempfile::TempDir, Blocks) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let provenance = Provenance {
        loss: Some("cross-entropy(mean)".into()),
        curvature: Some("ggn".into()),
        ..Provenance::now()
    };
    let mut sink = Files::<f64>::create(&path).unwrap();
    sink = sink.parameters(places).provenance(provenance);
    let layouts: Vec<PartLayout> = parts.iter().map(|p| p.0.clone()).collect();
    sink.begin(&layouts).unwrap();
    for (k, (layout, values)) in parts.iter().enumerate() {
        match layout.columns {
            None => sink.vector(k, values).unwrap(),
            Some(_) => {
                let (rows, columns) = (layout.row_count(), layout.column_count());
                sink.tile(k, 0..rows, 0..columns, values, false).unwrap();
            }
        }
    }
    sink.finish().unwrap();
    let blocks = Blocks::open(&path).unwrap();
    (folder, blocks)
}

fn all(blocks: &Blocks, options: &ShowOptions) -> Shown {
    show(blocks, "out", options).unwrap()
}

fn zoomed(blocks: &Blocks, zoom: Zoom) -> Result<Shown> {
    let options = ShowOptions {
        zoom: Some(zoom),
        ..ShowOptions::default()
    };
    show(blocks, "out", &options)
}

/// Red, green and blue of every pixel, and how wide a row is.
fn decoded(file: &[u8]) -> ((u32, u32), Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    ((info.width, info.height), pixels)
}

#[test]
fn a_lone_entry_is_seen_in_the_png_of_a_large_part_and_entries_have_their_colours() {
    let side = 1000;
    let mut values = vec![1e-4; side * side];
    values[777 * side + 333] = -2.0;
    values[side] = f64::NAN;
    let layout = PartLayout::matrix("full", vec![0..side], vec![0..side]);
    let (_folder, blocks) = result(&[(layout, values)], Vec::new());
    let options = ShowOptions {
        size: 100,
        ..ShowOptions::default()
    };
    let shown = all(&blocks, &options);
    assert_eq!(shown.notes.len(), 2, "{:?}", shown.notes);
    let picture = shown.pictures().next().unwrap();
    let (drawing, (x, y, width, height)) = sheet::alone(picture, 100);
    assert_eq!((width, height), (100, 100));
    let ((wide, high), pixels) = decoded(&drawing.png().unwrap());
    assert_eq!((wide, high), drawing.size());
    let pixel = |column: usize, row: usize| {
        let at = ((y as usize + row) * wide as usize + x as usize + column) * 3;
        [pixels[at], pixels[at + 1], pixels[at + 2]]
    };
    assert_eq!(pixel(33, 77), scale::at(1.0, true));
    assert_eq!(pixel(0, 0), scale::BROKEN);
    assert_eq!(pixel(50, 50), scale::Scale::new(2.0).color(1e-4));
    let svg = drawing.svg().unwrap();
    assert!(
        svg.contains("10 × 10 entries") && svg.contains("(green)"),
        "{svg}"
    );
}

#[test]
fn small_parts_have_squares_for_entries_and_borders_between_layers() {
    let list = places(&[
        ("first", "weight", 6),
        ("first", "bias", 2),
        ("second", "weight", 2),
    ]);
    let values = (0..100).map(|k| f64::from(k) - 50.0).collect();
    let layout = PartLayout::matrix("full", vec![0..10], vec![0..10]);
    let (_folder, blocks) = result(&[(layout, values)], list);
    let shown = all(&blocks, &ShowOptions::default());
    let picture = shown.pictures().next().unwrap();
    let (drawing, map) = sheet::alone(picture, 400);
    assert_eq!((map.2, map.3), (400, 400));
    let svg = drawing.svg().unwrap();
    for text in [
        "full",
        "10 × 10",
        "first",
        "second",
        "−10¹",
        "Every entry",
        "image/png;base64",
    ] {
        assert!(svg.contains(text), "no {text} in {svg}");
    }
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    // The border is where the second layer begins, eight entries of forty pixels in.
    let border = format!(
        "<rect x=\"{}\" y=\"{}\" width=\"1\" height=\"400\"",
        map.0 + 320,
        map.1
    );
    assert!(svg.contains(&border), "no {border} in {svg}");
    let inside = zoomed(&blocks, Zoom::Layer("first".into(), None)).unwrap();
    let svg = inside.drawing().svg().unwrap();
    assert!(svg.contains(">weight</text>") && svg.contains(">bias</text>"));
    assert_eq!(inside.parts[0].shape, [8, 8]);
}

#[test]
fn a_zoom_takes_the_smallest_part_that_has_it_and_refuses_what_none_has() {
    let list = places(&[("a", "w", 3), ("b", "w", 2)]);
    let full: Vec<f64> = (0..25).map(f64::from).collect();
    let parts = [
        (PartLayout::matrix("full", vec![0..5], vec![0..5]), full),
        (PartLayout::vector("diag", vec![0..5]), vec![1.0; 5]),
        (
            PartLayout::matrix("layer=b", vec![3..5], vec![3..5]),
            vec![7.0; 4],
        ),
    ];
    let (_folder, blocks) = result(&parts, list);
    let shown = |rows: Range<usize>, columns: Range<usize>| {
        zoomed(&blocks, Zoom::Range(rows, columns)).map(|s| s.parts[0].clone())
    };
    let layer = |name: &str| zoomed(&blocks, Zoom::Layer(name.into(), None));
    assert_eq!(layer("b").unwrap().parts[0].part, "layer=b");
    assert_eq!(layer("a").unwrap().parts[0].part, "full");
    let zoom = Zoom::Layer("b".into(), Some("a".into()));
    let between = zoomed(&blocks, zoom).unwrap().parts[0].clone();
    assert_eq!(
        (between.part.as_str(), &between.shape[..]),
        ("full", &[2, 3][..])
    );
    let corner = between.statistics.largest.unwrap();
    assert_eq!((corner.value, corner.row, corner.column), (22.0, 4, 2));
    assert_eq!(shown(3..4, 4..5).unwrap().statistics.norm, 7.0);
    assert_eq!(shown(2..4, 4..5).unwrap().part, "full");
    let refused = |result: Result<Shown>, texts: &[&str]| {
        let error = result.err().expect("a refusal");
        assert!(matches!(error, crate::Error::Request(_)));
        for text in texts {
            assert!(error.to_string().contains(text), "no {text} in {error}");
        }
    };
    refused(layer("bb"), &["bb", "did you mean b"]);
    refused(
        zoomed(&blocks, Zoom::Range(0..6, 0..6)),
        &["full", "layer=b", "rows 3..5"],
    );
    let some = ShowOptions {
        parts: vec!["diag".into()],
        zoom: Some(Zoom::Layer("a".into(), None)),
        ..ShowOptions::default()
    };
    assert_eq!(all(&blocks, &some).parts[0].shape, [3]);
}

#[test]
fn nothing_that_a_result_holds_is_too_odd_to_be_shown() {
    let nan = f64::NAN;
    let matrix = |name: &str, rows: usize, columns: usize| {
        PartLayout::matrix(name, vec![0..rows], vec![0..columns])
    };
    let long: Vec<f64> = (0..1_000_000)
        .map(|k| f64::from(k % 7919) - 3000.0)
        .collect();
    let cases = [
        (matrix("one", 1, 1), vec![1e-300]),
        (matrix("zeros", 30, 20), vec![0.0; 600]),
        (matrix("broken", 3, 5), vec![nan; 15]),
        (matrix("thread", 1, 5000), vec![f64::MAX; 5000]),
        (matrix("pole", 3000, 1), vec![-5e-324; 3000]),
        (PartLayout::vector("long", vec![0..1_000_000]), long),
        (PartLayout::vector("short", vec![5..6]), vec![-2.0]),
        (
            PartLayout::vector("odd", vec![0..4]),
            vec![nan, f64::INFINITY, 0.0, -1e308],
        ),
        (
            PartLayout::matrix("<b>&\"'</script>", vec![0..1], vec![3..4]),
            vec![1.0],
        ),
        (matrix("more", 2, 2), vec![3.0; 4]),
        (matrix("and more", 2, 2), vec![3.0; 4]),
    ];
    let list = places(&[("</script><i>", "é&", 3), ("β", "w", 2)]);
    let (_folder, blocks) = result(&cases, list);
    for size in [64, 333] {
        let options = ShowOptions {
            size,
            ..ShowOptions::default()
        };
        let shown = all(&blocks, &options);
        let drawing = shown.drawing();
        assert_eq!(decoded(&drawing.png().unwrap()).0, drawing.size());
        assert_eq!(shown.not_drawn.len(), 2);
        assert!(drawing.svg().unwrap().contains("the 9 largest of 11 parts"));
        assert!(shown.table().contains("NaN, ∞"));
        let page = shown.html().unwrap();
        assert_eq!(page.matches("</script>").count(), 2, "a name ends a script");
        assert!(page.contains("&lt;b&gt;&amp;&quot;"));
    }
    for (layout, _) in &cases {
        let options = ShowOptions {
            parts: vec![layout.name.clone()],
            ..ShowOptions::default()
        };
        let shown = all(&blocks, &options);
        assert!(
            shown.drawing().png().is_ok() && shown.html().is_ok(),
            "{}",
            layout.name
        );
        let zeros = shown.parts[0].zero_share;
        assert_eq!(zeros == 1.0, layout.name == "zeros");
    }
}

#[test]
fn a_part_without_entries_is_shown_as_such() {
    let layout = PartLayout::matrix("none", Vec::new(), vec![0..3]);
    let (_folder, blocks) = result(&[(layout, Vec::new())], Vec::new());
    let shown = all(&blocks, &ShowOptions::default());
    assert!(shown.drawing().svg().unwrap().contains("no entries"));
    assert!(shown.html().is_ok() && shown.table().contains("none"));
}

#[test]
fn a_page_needs_no_other_file_and_its_values_are_those_of_the_entries() {
    let list = places(&[("a", "w", 3), ("b", "w", 2)]);
    let values: Vec<f64> = (0..25).map(|k| f64::from(k) * 1e-3).collect();
    let layout = PartLayout::matrix("full", vec![0..5], vec![0..5]);
    let (_folder, blocks) = result(&[(layout, values)], list);
    let page = all(&blocks, &ShowOptions::default()).html().unwrap();
    let without = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!without.contains("http") && !without.contains("src=") && !without.contains("@import"));
    let links = without.matches("href=").count();
    assert_eq!(
        links,
        without.matches("href=\"data:image/png;base64,").count()
    );
    for text in [
        "cross-entropy(mean)",
        "<svg",
        "a × b",
        "prefers-color-scheme: dark",
        "a.w",
    ] {
        assert!(page.contains(text), "no {text}");
    }
    let start = page.find("id=\"values\">").unwrap() + "id=\"values\">".len();
    let end = start + page[start..].find("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(&page[start..end]).unwrap();
    assert_eq!(data[0]["cells"], serde_json::json!([5, 5]));
    let singles = (0..25).flat_map(|k| ((f64::from(k) * 1e-3) as f32).to_le_bytes());
    let singles: Vec<u8> = singles.collect();
    let text = data[0]["low"].as_str().unwrap();
    assert_eq!(text, crate::figure::base64(&singles));
}

#[test]
fn a_pass_stops_when_it_is_asked_to() {
    let layout = PartLayout::vector("diag", vec![0..10]);
    let (_folder, blocks) = result(&[(layout, vec![1.0; 10])], Vec::new());
    let cancel = std::sync::atomic::AtomicBool::new(true);
    let control = Control::stopped_by(&cancel);
    let stopped = show_with(&blocks, "out", &ShowOptions::default(), &control);
    assert!(matches!(stopped.err(), Some(crate::Error::Interrupted)));
}

#[test]
fn a_table_leaves_out_small_blocks_zeros_and_what_symmetry_says() {
    let names: Vec<String> = (0..12).map(|k| format!("layer{k}")).collect();
    let list: Vec<_> = names.iter().map(|n| (n.as_str(), "w", 2)).collect();
    let mut values = vec![0.0; 24 * 24];
    for row in 0..24 {
        for column in 0..24 {
            // The last layer has zeros alone.
            if row < 22 && column < 22 {
                values[row * 24 + column] = 1.0 / (1.0 + (row as f64 - column as f64).abs());
            }
        }
    }
    let layout = PartLayout::matrix("full", vec![0..24], vec![0..24]);
    let (_folder, blocks) = result(&[(layout, values)], places(&list));
    let shown = all(&blocks, &ShowOptions::default());
    let lines = table::lines(&shown.parts[0]);
    assert_eq!(lines.len(), 1 + 11 * 12 / 2);
    let text = shown.table();
    // All of the part, the layers, the pairs.
    assert_eq!(text.lines().count(), 1 + 1 + 11 + 40 + 1, "{text}");
    assert!(
        text.contains("15 more pairs") && text.contains("all"),
        "{text}"
    );
    assert!(
        !text.contains("layer11") && !text.contains("layer1 × layer0"),
        "{text}"
    );
}

#[test]
fn every_layer_has_its_line_however_many_there_are() {
    let names: Vec<String> = (0..60).map(|k| format!("layer{k}")).collect();
    let list: Vec<_> = names.iter().map(|n| (n.as_str(), "w", 1)).collect();
    let parts = [
        (
            PartLayout::matrix("full", vec![0..60], vec![0..60]),
            vec![1.0; 3600],
        ),
        (PartLayout::vector("diag", vec![0..60]), vec![1.0; 60]),
    ];
    let (_folder, blocks) = result(&parts, places(&list));
    let text = all(&blocks, &ShowOptions::default()).table();
    assert_eq!(text.lines().count(), 1 + 1 + 60 + 40 + 1 + 60 + 1, "{text}");
    assert!(text.contains("1,730 more pairs"), "{text}");
}

/// The square of them would be.
#[test]
fn layers_without_number_take_no_memory() {
    let side = 2000;
    let names: Vec<String> = (0..side).map(|k| format!("layer{k}")).collect();
    let list: Vec<_> = names.iter().map(|n| (n.as_str(), "w", 1)).collect();
    let values: Vec<f64> = (0..side * side).map(|k| (k % 13) as f64).collect();
    let parts = [
        (
            PartLayout::matrix("full", vec![0..side], vec![0..side]),
            values.clone(),
        ),
        (
            PartLayout::matrix("row", vec![0..1], vec![0..side]),
            values[..side].to_vec(),
        ),
    ];
    let (_folder, blocks) = result(&parts, places(&list));
    let shown = all(&blocks, &ShowOptions::default());
    let part = &shown.parts[0];
    assert_eq!(part.blocks.len(), side);
    assert!(part.blocks.iter().all(|b| b.row_layer == b.column_layer));
    let entry = |k: usize| values[k * side + k];
    assert!((0..side).all(|k| part.blocks[k].statistics.trace == Some(entry(k))));
    // What is not told apart is in what is said of all.
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!((part.statistics.norm - norm).abs() < 1e-9 * norm);
    assert_eq!(part.statistics.entries, (side * side) as u64);
    assert_eq!(part.statistics.trace, Some((0..side).map(entry).sum()));
    assert_eq!(shown.parts[1].blocks.len(), side);
    assert!(
        shown.notes[0].contains("only blocks of a layer with itself are told apart in full;"),
        "{:?}",
        shown.notes
    );
}

#[test]
fn no_text_leaves_its_panel() {
    let long = "transformer.encoder.blocks.11.attention.projection.c_attn.xyz";
    let names = [format!("{long}.a"), format!("{long}.b")];
    let list = places(&[(&names[0], "weight", 3), (&names[1], "weight", 2)]);
    let huge = usize::MAX - 1_000_000;
    let heading = format!("layer={},{}", names[0], names[1]);
    let parts = [
        (
            PartLayout::matrix(heading.clone(), vec![0..3], vec![3..5]),
            vec![1e-300; 6],
        ),
        (
            PartLayout::matrix(long, vec![0..5], vec![0..5]),
            vec![-1e-300; 25],
        ),
        (
            PartLayout::matrix("far", vec![huge..huge + 1], vec![huge..huge + 9]),
            vec![-1e-300; 9],
        ),
        (
            PartLayout::matrix("odd", vec![0..2], vec![0..1]),
            vec![f64::NAN, -1e300],
        ),
        (
            PartLayout::vector(long.repeat(3), vec![huge..huge + 2]),
            vec![-1e-300, 1e-301],
        ),
    ];
    let (_folder, blocks) = result(&parts, list);
    let table = all(&blocks, &ShowOptions::default()).table();
    for text in ["layer=transformer.en", "c_attn.xyz.a × ", "c_attn.xyz.b"] {
        assert!(table.contains(text), "no {text} in {table}");
    }
    for size in [64, 150, 800] {
        let shown = all(&blocks, &ShowOptions::default());
        for picture in shown.pictures() {
            let (drawing, _) = sheet::alone(picture, size);
            for (text, left, right) in drawing.texts() {
                assert!(
                    left >= 4 && right <= drawing.size().0 as i32 - 4,
                    "{left} {right} {text}"
                );
            }
        }
        let drawing = shown.drawing();
        assert!(
            drawing
                .texts()
                .iter()
                .all(|(_, left, right)| *left >= 0 && *right <= drawing.size().0 as i32)
        );
        let heading = drawing
            .texts()
            .into_iter()
            .find(|t| t.0.starts_with("layer="))
            .unwrap();
        assert!(
            heading.0.ends_with("xyz.b") && heading.0.contains('…'),
            "{}",
            heading.0
        );
    }
}

#[test]
fn numbers_that_json_or_single_precision_lack_are_told_from_others() {
    let matrix =
        |name: &str, values: Vec<f64>| (PartLayout::matrix(name, vec![0..2], vec![0..2]), values);
    let max = f64::MAX;
    let parts = [
        matrix("nan", vec![1.0, 2.0, 3.0, f64::NAN]),
        matrix("more", vec![max, max, max, max]),
        matrix("less", vec![-max, 0.0, 0.0, -max]),
        (
            PartLayout::matrix("none", vec![0..1], vec![1..2]),
            vec![1.0],
        ),
    ];
    let (_folder, blocks) = result(&parts, Vec::new());
    let shown = serde_json::to_value(all(&blocks, &ShowOptions::default())).unwrap();
    let of = |k: usize, what: &str| shown["parts"][k][what].clone();
    assert_eq!(
        (of(0, "trace"), of(0, "non_finite")),
        (1.0.into(), 1.into())
    );
    assert_eq!(
        (of(1, "trace"), of(1, "norm")),
        ("Infinity".into(), "Infinity".into())
    );
    assert_eq!(of(2, "trace"), "-Infinity");
    assert!(of(3, "trace").is_null() && of(3, "norm") == 1.0);

    let values = vec![1e-300, -1e-40, 1e200, -1e39];
    let (_folder, blocks) = result(&[matrix("m", values)], Vec::new());
    let page = all(&blocks, &ShowOptions::default()).html().unwrap();
    let tiny = f32::from_bits(0x0001_0000);
    let singles = [tiny, -tiny, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_le_bytes);
    assert!(page.contains(&crate::figure::base64(singles.as_flattened())));
    assert!(page.contains("< 1.18e−38") && page.contains("> 3.39e+38"));
}
