//! Entries by number: padding in all modes, repetition, resizing, blocks of positions.

use super::run::gives;
use super::*;

fn padded(operation: &str, extent: i64, pads: &[i64]) -> Sketch {
    Sketch::new(&[-1, extent])
        .ints("pads", pads)
        .values("value", &[], &[7.0])
        .ints("axes", &[-1])
        .node(operation, &["x", "pads", "value", "axes"], "y")
}

#[test]
fn padding_has_four_modes_and_may_cut_off() {
    let x = [1.0, 2.0, 3.0, 4.0];
    for (mode, pads, expected) in [
        ("Pad", [1, 2], &[7.0, 1.0, 2.0, 3.0, 4.0, 7.0, 7.0][..]),
        (
            "Pad mode=reflect",
            [2, 3],
            &[3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0],
        ),
        (
            "Pad mode=edge",
            [1, 2],
            &[1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0],
        ),
        (
            "Pad mode=wrap",
            [1, 2],
            &[4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0],
        ),
        ("Pad", [-1, -1], &[2.0, 3.0]),
        // What is cut off is not mirrored.
        ("Pad mode=reflect", [-1, 1], &[2.0, 3.0, 4.0, 3.0]),
        ("Pad", [1, -2], &[7.0, 1.0, 2.0]),
    ] {
        let network = padded(mode, 4, &pads).load("y").unwrap();
        gives(&network, 1, &x, expected);
    }
}

#[test]
fn padding_of_many_axes_goes_axis_by_axis() {
    let network = Sketch::new(&[-1, 1, 2, 1, 2])
        .ints("pads", &[0, 1, 0, 1, 0, 0, 0, 1, 0, 0])
        .node("Pad", &["x", "pads"], "y")
        .load("y")
        .unwrap();
    assert_eq!(network.rest(network.output), [1, 2, 3, 2, 2]);
    let mut expected = vec![0.0; 24];
    expected[14..16].copy_from_slice(&[1.0, 2.0]);
    expected[18..20].copy_from_slice(&[3.0, 4.0]);
    gives(&network, 1, &[1.0, 2.0, 3.0, 4.0], &expected);
}

#[test]
fn padding_that_cannot_be_is_refused_by_name() {
    let refused = |sketch: Sketch, why: &str| {
        let message = sketch.refused("y");
        assert!(
            message.contains("node_y") && message.contains(why),
            "{message}"
        );
    };
    refused(padded("Pad mode=mirror", 4, &[1, 1]), "mirror");
    refused(padded("Pad", 4, &[1]), "[1]");
    refused(padded("Pad", 4, &[1 << 40, 0]), "1099511627776");
    refused(padded("Pad", 4, &[i64::MIN, 0]), "pads");
    refused(padded("Pad", 4, &[-3, -2]), "no entries");
    let over_samples =
        Sketch::new(&[-1, 2])
            .ints("pads", &[1, 0, 0, 0])
            .node("Pad", &["x", "pads"], "y");
    refused(over_samples, "samples");
    let values = Sketch::new(&[-1, 2])
        .ints("pads", &[0, 1, 0, 0])
        .values("value", &[2], &[1.0, 2.0])
        .node("Pad", &["x", "pads", "value"], "y");
    refused(values, "one number");
}

#[test]
fn a_tile_repeats_entries_and_a_parameter_for_every_sample() {
    let network = Sketch::new(&[-1, 1, 2])
        .ints("repeats", &[1, 2, 2])
        .node("Tile", &["x", "repeats"], "y")
        .load("y")
        .unwrap();
    gives(
        &network,
        1,
        &[1.0, 2.0],
        &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
    );
    let network = Sketch::new(&[-1, 2])
        .values("token", &[1, 2], &[10.0, 20.0])
        .node("Shape end=1", &["x"], "batch")
        .ints("one", &[1])
        .node("Concat axis=0", &["batch", "one"], "repeats")
        .node("Tile", &["token", "repeats"], "t")
        .node("Add", &["x", "t"], "y")
        .load("y")
        .unwrap();
    gives(
        &network,
        2,
        &[1.0, 2.0, 3.0, 4.0],
        &[11.0, 22.0, 13.0, 24.0],
    );
    let over_samples =
        Sketch::new(&[-1, 2])
            .ints("repeats", &[2, 1])
            .node("Tile", &["x", "repeats"], "y");
    assert!(over_samples.refused("y").contains("samples"));
}

fn resized(attributes: &str, scale: f32) -> Sketch {
    Sketch::new(&[-1, 1, 4])
        .values("scales", &[3], &[1.0, 1.0, scale])
        .node(&format!("Resize{attributes}"), &["x", "", "scales"], "y")
}

#[test]
fn nearest_and_linear_resizing_follow_the_named_coordinates() {
    let x = [1.0, 2.0, 4.0, 8.0];
    let nearest = " coordinate_transformation_mode=asymmetric nearest_mode=floor";
    for (attributes, scale, expected) in [
        (nearest, 2.0, &[1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0][..]),
        (nearest, 0.5, &[1.0, 4.0]),
        ("", 0.5, &[1.0, 4.0]),
        (" nearest_mode=round_prefer_ceil", 0.5, &[2.0, 8.0]),
        (" nearest_mode=ceil", 1.5, &[1.0, 2.0, 4.0, 4.0, 8.0, 8.0]),
        (
            " mode=linear",
            2.0,
            &[1.0, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0, 8.0],
        ),
        (" mode=linear", 0.5, &[1.5, 6.0]),
        (
            " mode=linear coordinate_transformation_mode=align_corners",
            1.75,
            &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
        ),
        (
            " mode=linear coordinate_transformation_mode=asymmetric",
            2.0,
            &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 8.0],
        ),
        (
            " mode=linear coordinate_transformation_mode=pytorch_half_pixel",
            0.25,
            &[1.0],
        ),
        (" mode=linear", 0.25, &[3.0]),
    ] {
        let network = resized(attributes, scale).load("y").unwrap();
        gives(&network, 1, &x, expected);
    }
}

#[test]
fn older_spellings_of_a_resize_are_read() {
    for operation in ["Resize mode=nearest", "Upsample mode=nearest", "Upsample"] {
        let network = Sketch::new(&[-1, 1, 2])
            .values("scales", &[3], &[1.0, 1.0, 2.0])
            .node(operation, &["x", "scales"], "y")
            .load("y")
            .unwrap();
        gives(&network, 1, &[1.0, 2.0], &[1.0, 1.0, 2.0, 2.0]);
    }
}

#[test]
fn sizes_may_hold_the_number_of_samples() {
    let network = Sketch::new(&[-1, 1, 2])
        .node("Shape end=2", &["x"], "lead")
        .ints("last", &[3])
        .node("Concat axis=0", &["lead", "last"], "sizes")
        .node(
            "Resize mode=linear coordinate_transformation_mode=align_corners",
            &["x", "", "", "sizes"],
            "y",
        )
        .load("y")
        .unwrap();
    gives(
        &network,
        2,
        &[0.0, 1.0, 2.0, 4.0],
        &[0.0, 0.5, 1.0, 2.0, 3.0, 4.0],
    );
    let baked = Sketch::new(&[-1, 1, 2]).ints("sizes", &[2, 1, 3]).node(
        "Resize",
        &["x", "", "", "sizes"],
        "y",
    );
    assert!(baked.refused("y").contains("samples"));
}

#[test]
fn resizing_that_is_not_supported_is_refused_by_name() {
    for (attributes, scale, why) in [
        (" mode=lanczos", 2.0, "lanczos"),
        (" mode=linear antialias=1", 0.5, "antialias"),
        (
            " coordinate_transformation_mode=tf_crop_and_resize",
            2.0,
            "tf_crop_and_resize",
        ),
        (" nearest_mode=somehow", 2.0, "somehow"),
        ("", 0.0, "scales"),
        ("", -1.0, "scales"),
        ("", f32::NAN, "scales"),
        ("", 1e9, "scales"),
        (" axes=7", 2.0, "axis 7"),
        (" axes=1", 2.0, "scales"),
    ] {
        let message = resized(attributes, scale).refused("y");
        assert!(
            message.contains("node_y") && message.contains(why),
            "{message}"
        );
    }
}

#[test]
fn blocks_of_positions_become_channels_and_back() {
    let x: Vec<f64> = (0..8).map(f64::from).collect();
    for (mode, expected) in [
        ("", [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]),
        (" mode=CRD", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
    ] {
        let network = Sketch::new(&[-1, 8, 1, 1])
            .node(&format!("DepthToSpace blocksize=2{mode}"), &["x"], "y")
            .load("y")
            .unwrap();
        assert_eq!(network.rest(network.output), [1, 2, 2, 2]);
        gives(&network, 1, &x, &expected);
    }
    let network = Sketch::new(&[-1, 2, 2, 2])
        .node("SpaceToDepth blocksize=2", &["x"], "y")
        .load("y")
        .unwrap();
    gives(&network, 1, &x, &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    for operation in [
        "SpaceToDepth blocksize=3",
        "SpaceToDepth",
        "DepthToSpace blocksize=4294967296",
    ] {
        let message = Sketch::new(&[-1, 4, 4, 4])
            .node(operation, &["x"], "y")
            .refused("y");
        assert!(
            message.contains("node_y") && message.contains("blocks"),
            "{message}"
        );
    }
}
