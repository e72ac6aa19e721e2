//! Files that look optimised are warned of, those that were left as they were traced are not.

use super::*;

/// A convolution, its result under that name, and an activation.
fn convolution(weight: &str, bias: &str, output: &str) -> Sketch {
    let sketch = Sketch::new(&[-1, 1, 3]).weight(weight, &[2, 1, 1]);
    let sketch = match bias {
        "" => sketch.node("Conv", &["x", weight], output),
        bias => sketch
            .weight(bias, &[2])
            .node("Conv", &["x", weight, bias], output),
    };
    sketch.node("Relu", &[output], "y")
}

#[test]
fn a_norm_merged_into_a_convolution_is_warned_of() {
    for (weight, bias, output) in [
        // The older exporter, folding constants.
        ("onnx::Conv_42", "onnx::Conv_43", "/conv1/Conv_output_0"),
        // The newer one, optimising: a convolution that had no bias, and one that had.
        ("conv1.weight", "conv1.weight_bias", "conv2d"),
        ("conv2.weight", "conv2.bias", "getitem"),
        ("conv2.weight", "conv2.bias", "getitem_3"),
        // ONNX Runtime, and onnxsim.
        (
            "ConvBnFusion_W_conv2.weight",
            "ConvBnFusion_BN_B_bn2.bias",
            "conv2d_1",
        ),
        ("up.weight", "up.bias", "/bn3/BatchNormalization_output_0"),
        ("_v_52", "_v_53", "conv2d_1"),
        // A bias of zeros is dropped.
        ("conv1.weight", "", "getitem"),
    ] {
        let network = convolution(weight, bias, output).load("y").unwrap();
        let [warning] = &network.warnings[..] else {
            panic!("{weight}: {:?}", network.warnings);
        };
        assert!(warning.contains(&format!("node_{output}")), "{warning}");
        assert!(warning.contains("examples/export.py"), "{warning}");
    }
}

#[test]
fn what_was_left_as_traced_is_not_warned_of() {
    for (weight, bias, output) in [
        ("conv1.weight", "conv1.bias", "conv2d"),
        ("conv1.weight", "conv1.bias", "/conv1/Conv_output_0"),
    ] {
        let network = convolution(weight, bias, output).load("y").unwrap();
        assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    }
    // A weight that was transposed and renamed is still the module's, as is one without a bias.
    let network = Sketch::new(&[-1, 2])
        .weight("onnx::MatMul_12", &[2, 3])
        .weight("fc.bias", &[3])
        .node("MatMul", &["x", "onnx::MatMul_12"], "a")
        .node("Add", &["fc.bias", "a"], "y")
        .load("y")
        .unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    let network = Sketch::new(&[-1, 1, 3])
        .weight("onnx::Conv_12", &[2, 1, 1])
        .node("Conv", &["x", "onnx::Conv_12"], "y")
        .load("y")
        .unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
}

#[test]
fn parameters_that_the_exporter_lists_and_the_file_lacks_are_named() {
    let make = |output: &str, listed: &[&str]| {
        let mut sketch = convolution("conv1.weight", "conv1.bias", output);
        let line = |name: &&str| format!("p: PARAMETER target='{name}'\n");
        sketch.graph().metadata_props.push(proto::Entry {
            key: "pkg.torch.export.ExportedProgram.graph_signature".into(),
            value: listed.iter().map(line).collect(),
        });
        sketch.load("y").unwrap().warnings
    };
    let own = ["conv1.weight", "conv1.bias"];
    assert!(make("conv2d", &own).is_empty());
    let all = ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"];
    for (output, reason) in [("conv2d", "does not use them"), ("getitem", "are gone")] {
        let warnings = make(output, &all);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("bn1.bias, bn1.weight"), "{warnings:?}");
        assert!(warnings[0].contains(reason), "{warnings:?}");
    }
    // fc.weight was transposed and renamed.
    let mut sketch =
        Sketch::new(&[-1, 2])
            .weight("val_12", &[2, 3])
            .node("MatMul", &["x", "val_12"], "y");
    sketch.graph().metadata_props.push(proto::Entry {
        key: "pkg.torch.export.ExportedProgram.graph_signature".into(),
        value: "p: PARAMETER target='fc.weight'\n".into(),
    });
    let warnings = sketch.load("y").unwrap().warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn many_merged_nodes_are_counted() {
    let mut sketch = Sketch::new(&[-1, 1, 3]);
    let mut last = "x".to_string();
    for k in 0..5 {
        let (weight, bias) = (
            format!("onnx::Conv_{}", 2 * k),
            format!("onnx::Conv_{}", 2 * k + 1),
        );
        let next = format!("z{k}");
        sketch = sketch.weight(&weight, &[1, 1, 1]).weight(&bias, &[1]).node(
            "Conv",
            &[&last, &weight, &bias],
            &next,
        );
        last = next;
    }
    let network = sketch.load("z4").unwrap();
    assert!(
        network.warnings[0].contains("node_z2 and 2 more"),
        "{:?}",
        network.warnings
    );
}

#[test]
fn an_optimiser_that_names_itself_is_warned_of() {
    let mut sketch = convolution("conv1.weight", "conv1.bias", "conv2d");
    sketch.0.producer_name = "onnxruntime.transformers".into();
    let network = sketch.load("y").unwrap();
    assert!(
        network.warnings[0].contains("onnxruntime.transformers"),
        "{:?}",
        network.warnings
    );
    let mut sketch =
        convolution("conv1.weight", "conv1.bias", "conv2d").node("FusedConv", &["y"], "f");
    sketch.graph().node[2].domain = "com.microsoft".into();
    let message = sketch.refused("f");
    assert!(
        message.contains("node_f") && message.contains("export.py"),
        "{message}"
    );
}
