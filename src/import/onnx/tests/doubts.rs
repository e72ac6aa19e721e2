//! Constants that may be parameters are reported with the flag that includes them; ties are found by their values.

use super::*;

fn trainable(names: &[&str]) -> OnnxOptions {
    OnnxOptions {
        trainable: names.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

fn tie(text: &str) -> OnnxOptions {
    OnnxOptions {
        tie: vec![text.into()],
        ..Default::default()
    }
}

/// Values of single precision that no chance gives twice.
fn drawn(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / f64::from(u32::MAX)
    };
    (0..count).map(|_| (next() - 0.5) as f32).collect()
}

fn names(network: &Network) -> Vec<(&str, &str)> {
    let parameters = network.parameters.iter();
    parameters
        .map(|p| (p.name.as_str(), p.layer.as_str()))
        .collect()
}

/// A linear layer of two features, and what the folded scale of a norm of module `n` does.
fn folded(scale: &[f32]) -> Sketch {
    let mut sketch = Sketch::new(&[-1, 3])
        .values("a.weight", &[3, 2], &drawn(1, 6))
        .values("onnx::Mul_24", &[2], scale)
        .node("MatMul", &["x", "a.weight"], "a")
        .node("Mul", &["a", "onnx::Mul_24"], "s")
        .node("Tanh", &["s"], "y");
    sketch.graph().node[1].name = "/layers/layers.0/n/Mul".into();
    sketch
}

#[test]
fn a_constant_that_meets_data_is_reported_with_its_flag() {
    let network = folded(&drawn(2, 2)).load("y").unwrap();
    assert_eq!(names(&network), [("a.weight", "a")]);
    let [warning] = &network.warnings[..] else {
        panic!("{:?}", network.warnings)
    };
    assert!(
        warning.contains("onnx::Mul_24 [2]") && warning.contains("--trainable 'onnx::Mul_24'"),
        "{warning}"
    );
    let network = folded(&drawn(2, 2))
        .load_with("y", &trainable(&["onnx::Mul_24"]))
        .unwrap();
    assert_eq!(
        names(&network),
        [("a.weight", "a"), ("onnx::Mul_24", "layers.0.n")]
    );
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    let constant = OnnxOptions {
        constant: vec!["onnx::*".into()],
        ..Default::default()
    };
    let network = folded(&drawn(2, 2)).load_with("y", &constant).unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
}

#[test]
fn ones_along_the_features_are_reported_and_scalars_are_not() {
    let network = folded(&[1.0, 1.0]).load("y").unwrap();
    assert!(
        network.warnings[0].contains("onnx::Mul_24"),
        "{:?}",
        network.warnings
    );
    let network = Sketch::new(&[-1, 3])
        .values("a.weight", &[3, 2], &drawn(1, 6))
        .values("onnx::Mul_24", &[], &[0.123_456_79])
        .values("onnx::Add_25", &[1, 1], &[0.123_456_79])
        .node("MatMul", &["x", "a.weight"], "a")
        .node("Mul", &["a", "onnx::Mul_24"], "s")
        .node("Add", &["s", "onnx::Add_25"], "y")
        .load("y")
        .unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
}

#[test]
fn many_doubtful_constants_are_one_line() {
    let mut sketch = Sketch::new(&[-1, 3]);
    let mut last = "x".to_string();
    for k in 0..5 {
        let name = format!("onnx::Mul_{k}");
        let next = format!("h{k}");
        sketch = sketch
            .values(&name, &[3], &drawn(k + 1, 3))
            .node("Mul", &[&last, &name], &next);
        last = next;
    }
    let network = sketch
        .values("w", &[3, 1], &drawn(9, 3))
        .node("MatMul", &["h4", "w"], "y")
        .load("y")
        .unwrap();
    let [warning] = &network.warnings[..] else {
        panic!("{:?}", network.warnings)
    };
    assert!(
        warning.contains("onnx::Mul_2 [3] and 2 more") && !warning.contains("onnx::Mul_3"),
        "{warning}"
    );
}

/// An encoder, and a decoder whose weight has these values and dimensions.
fn autoencoder(decoder: &str, dims: &[i64], values: &[f32]) -> Sketch {
    Sketch::new(&[-1, 4])
        .values("enc.weight", &[4, 3], &drawn(1, 12))
        .values(decoder, dims, values)
        .node("MatMul", &["x", "enc.weight"], "h")
        .node("Tanh", &["h"], "t")
        .node("MatMul", &["t", decoder], "y")
}

fn transpose(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    let at = |k: usize| values[(k % rows) * columns + k / rows];
    (0..values.len()).map(at).collect()
}

#[test]
fn a_transposed_copy_is_said_and_tied_on_demand() {
    let turned = transpose(&drawn(1, 12), 4);
    let make = || autoencoder("onnx::MatMul_7", &[3, 4], &turned);
    let network = make().load("y").unwrap();
    assert_eq!(network.parameter_count(), 24);
    let [warning] = &network.warnings[..] else {
        panic!("{:?}", network.warnings)
    };
    assert!(
        warning.contains("--tie 'onnx::MatMul_7=enc.weight[T]'"),
        "{warning}"
    );
    let x = [0.3, -0.2, 0.7, 0.1];
    let expected = run::run(&network, 1, &x);
    for text in [
        "auto",
        "onnx::MatMul_7=enc.weight[T]",
        "onnx::MatMul_7=enc.weight",
    ] {
        let network = make().load_with("y", &tie(text)).unwrap();
        assert_eq!(names(&network), [("enc.weight", "enc")], "{text}");
        assert!(network.warnings.is_empty(), "{:?}", network.warnings);
        run::gives(&network, 1, &x, &expected);
    }
    for (text, reason) in [
        ("onnx::MatMul_7=enc.weigh", "enc.weight"),
        ("enc.weight=enc.weight", "does not have"),
        ("x=enc.weight", "auto"),
    ] {
        let error = make().load_with("y", &tie(text)).unwrap_err();
        assert!(matches!(&error, Error::Request(_)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let other = autoencoder("onnx::MatMul_7", &[3, 4], &drawn(5, 12));
    let error = other.load_with("y", &tie("onnx::MatMul_7=enc.weight[T]"));
    assert!(error.unwrap_err().to_string().contains("transpose"));
    let both = OnnxOptions {
        tie: vec![
            "onnx::MatMul_7=enc.weight".into(),
            "enc.weight=onnx::MatMul_7".into(),
        ],
        ..Default::default()
    };
    let error = make().load_with("y", &both).unwrap_err().to_string();
    assert!(error.contains("each made from the other"), "{error}");
}

#[test]
fn a_copy_of_a_copy_is_computed_after_it_whatever_the_order_of_the_ties() {
    let weight = drawn(1, 9);
    let (turned, double) = (transpose(&weight, 3), weight.iter().map(|w| 2.0 * w));
    let double: Vec<f32> = double.collect();
    let make = || {
        Sketch::new(&[-1, 3])
            .values("c.weight", &[3, 3], &double)
            .values("b.weight", &[3, 3], &turned)
            .values("a.weight", &[3, 3], &weight)
            .values("d.weight", &[3, 3], &weight)
            .node("MatMul", &["x", "a.weight"], "h")
            .node("MatMul", &["h", "b.weight"], "i")
            .node("MatMul", &["i", "c.weight"], "j")
            .node("MatMul", &["j", "d.weight"], "y")
    };
    let x = [0.3, -0.2, 0.7];
    let expected = run::run(&make().load("y").unwrap(), 1, &x);
    let ties = [
        "b.weight=a.weight",
        "c.weight=b.weight",
        "d.weight=a.weight",
    ];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let options = OnnxOptions {
            tie: order.map(|k| ties[k].to_string()).to_vec(),
            ..Default::default()
        };
        let network = make().load_with("y", &options).unwrap();
        assert_eq!(names(&network), [("a.weight", "a")], "{order:?}");
        run::gives(&network, 1, &x, &expected);
    }
}

#[test]
fn values_that_are_equal_by_chance_are_no_copies() {
    for values in [[0.0; 12], [1.0; 12], [0.5; 12]] {
        let network = Sketch::new(&[-1, 4])
            .values("enc.weight", &[4, 3], &values)
            .values("dec.weight", &[3, 4], &values)
            .node("MatMul", &["x", "enc.weight"], "h")
            .node("MatMul", &["h", "dec.weight"], "y")
            .load("y")
            .unwrap();
        assert_eq!(network.parameter_count(), 24);
        assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    }
    // One number that is the same in two places.
    let network = Sketch::new(&[-1, 1])
        .values("a.weight", &[1, 1], &[0.123_456_79])
        .values("b.weight", &[1, 1], &[0.123_456_79])
        .node("MatMul", &["x", "a.weight"], "h")
        .node("MatMul", &["h", "b.weight"], "y")
        .load("y")
        .unwrap();
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
}

#[test]
fn a_constant_made_of_a_parameter_is_a_function_of_it() {
    let weight = drawn(1, 12);
    let column: Vec<f32> = (0..4).map(|k| weight[3 * k + 1]).collect();
    let halves: Vec<f32> = weight.iter().map(|w| w / 2.0).collect();
    let rows = transpose(&weight[3..9], 2);
    let negative: Vec<f32> = column.iter().map(|w| -2.0 * w).collect();
    for (dims, values, view) in [
        (&[4][..], &column, "a column"),
        (&[1, 4], &column, "a column with an axis"),
        (&[12], &weight, "all in a line"),
        (&[12], &halves, "half of it"),
        (&[4], &negative, "a column with another sign"),
        (&[3, 2], &rows, "rows, transposed"),
    ] {
        let make = || {
            let flat = values.len() as i64;
            Sketch::new(&[-1, 4])
                .values("w", &[4, 3], &weight)
                .values("onnx::Mul_9", dims, values)
                .ints("flat", &[1, flat])
                .ints("sums", &[1])
                .node("MatMul", &["x", "w"], "h")
                .node("ReduceSum", &["h", "sums"], "s")
                .node("Reshape", &["onnx::Mul_9", "flat"], "line")
                .node("Mul", &["s", "line"], "y")
        };
        let network = make().load("y").unwrap_or_else(|e| panic!("{view}: {e}"));
        assert_eq!(names(&network), [("w", "w")], "{view}");
        assert!(network.warnings.is_empty(), "{:?}", network.warnings);
        // What is computed of the parameter has its values, and is read from it.
        let constant = OnnxOptions {
            constant: vec!["onnx::Mul_9".into()],
            ..Default::default()
        };
        let as_it_is = make().load_with("y", &constant).unwrap();
        let x = [0.3, -0.2, 0.7, 0.1];
        run::gives(&network, 1, &x, &run::run(&as_it_is, 1, &x));
        let reads = |network: &Network| {
            let inputs = network.nodes.iter().flat_map(|n| &n.inputs);
            inputs
                .filter(|i| matches!(i, Operand::Parameter(0)))
                .count()
        };
        assert!(reads(&network) > reads(&as_it_is), "{view}");
    }
}

#[test]
fn an_array_of_no_name_is_a_parameter_by_its_place() {
    let make = |producer: &str, bias: &[f32]| {
        let mut sketch = Sketch::new(&[-1, 5, 3])
            .values("const_0", &[3, 2], &drawn(1, 6))
            .values("const_1", &[1, 1, 2], bias)
            .values("const_2", &[1, 5, 2], &drawn(3, 10))
            .values("const_3", &[], &[0.707_106_77])
            .node("MatMul", &["x", "const_0"], "m")
            .node("Add", &["m", "const_1"], "a")
            .node("Add", &["a", "const_2"], "p")
            .node("Mul", &["p", "const_3"], "y");
        sketch.0.producer_name = producer.into();
        sketch.load("y").unwrap()
    };
    for bias in [drawn(2, 2), vec![0.0; 2]] {
        let network = make("jax2onnx", &bias);
        assert_eq!(
            names(&network),
            [("const_0", "node_m"), ("const_1", "node_m")]
        );
        // A table of positions may be one or not.
        let [warning] = &network.warnings[..] else {
            panic!("{:?}", network.warnings)
        };
        assert!(warning.contains("--trainable 'const_2'"), "{warning}");
    }
}

#[test]
fn features_are_followed_through_reshapes_and_transposes() {
    // A convolution whose channels are moved last, and heads of a product.
    let mut sketch = Sketch::new(&[-1, 1, 2, 2])
        .values("const_0", &[4, 1, 1, 1], &drawn(1, 4))
        .values("const_1", &[4], &drawn(2, 4))
        .values("const_2", &[4, 4], &drawn(3, 16))
        .values("const_3", &[2, 2], &drawn(4, 4))
        .ints("split", &[-1, 2, 2, 2, 2])
        .node("Conv", &["x", "const_0"], "c")
        .node("Transpose perm=0,2,3,1", &["c"], "t")
        .node("Add", &["t", "const_1"], "a")
        .node("MatMul", &["a", "const_2"], "m")
        .node("Reshape", &["m", "split"], "heads")
        .node("Add", &["heads", "const_3"], "y");
    sketch.0.producer_name = String::new();
    let network = sketch.load("y").unwrap();
    let found: Vec<&str> = network.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(found, ["const_0", "const_1", "const_2", "const_3"]);
}

#[test]
fn an_epsilon_of_tensorflow_is_no_parameter() {
    let mut sketch = Sketch::new(&[-1, 3])
        .values("dense/MatMul/ReadVariableOp:0", &[3, 3], &drawn(1, 9))
        .values("norm/add/y:0", &[], &[1e-5])
        .values("norm/mul/ReadVariableOp:0", &[3], &drawn(2, 3))
        .ints("last", &[-1])
        .node("MatMul", &["x", "dense/MatMul/ReadVariableOp:0"], "h")
        .node("Mul", &["h", "h"], "q")
        .node("ReduceMean", &["q"], "s")
        .node("Add", &["s", "norm/add/y:0"], "e")
        .node("Sqrt", &["e"], "r")
        .node("Div", &["h", "r"], "n")
        .node("Mul", &["n", "norm/mul/ReadVariableOp:0"], "y");
    sketch.graph().node[2].attribute = vec![proto::Attribute {
        name: "axes".into(),
        ints: vec![-1],
        ..Default::default()
    }];
    sketch.0.producer_name = "tf2onnx".into();
    let network = sketch.load("y").unwrap();
    assert_eq!(
        names(&network),
        [
            ("dense/MatMul/ReadVariableOp:0", "dense"),
            ("norm/mul/ReadVariableOp:0", "norm")
        ]
    );
}

/// A graph whose weights are nodes, as a value attribute or a list of numbers.
fn as_nodes(producer: &str, prefix: &str) -> Sketch {
    let (w, b) = (format!("{prefix}W"), format!("{prefix}b"));
    let mut sketch = Sketch::new(&[-1, 3])
        .node("Constant", &[], &w)
        .node("Constant", &[], &b)
        .node("MatMul", &["x", &w], "m")
        .node("Add", &["m", &b], "y");
    let value = |name: &str| proto::Attribute {
        name: name.into(),
        ..Default::default()
    };
    let tensor = proto::Tensor {
        dims: vec![3, 2],
        data_type: data_type::FLOAT,
        float_data: drawn(1, 6),
        ..Default::default()
    };
    sketch.graph().node[0].attribute = vec![proto::Attribute {
        t: Some(tensor),
        ..value("value")
    }];
    sketch.graph().node[1].attribute = vec![proto::Attribute {
        floats: drawn(2, 2),
        ..value("value_floats")
    }];
    sketch.0.producer_name = producer.into();
    sketch
}

#[test]
fn weights_that_are_nodes_are_initializers() {
    let network = as_nodes("", "").load("y").unwrap();
    assert_eq!(names(&network), [("W", "W"), ("b", "b")]);
    // Of PyTorch they are literals, unless nothing else is a parameter.
    let network = as_nodes("pytorch", "/").load("y").unwrap();
    assert_eq!(names(&network), [("/W", "node_m")]);
    let network = as_nodes("pytorch", "/")
        .values("fc.weight", &[2, 2], &drawn(3, 4))
        .node("MatMul", &["y", "fc.weight"], "z")
        .load("z")
        .unwrap();
    assert_eq!(names(&network), [("fc.weight", "fc")]);
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    let network = as_nodes("pytorch", "/")
        .values("fc.weight", &[2, 2], &drawn(3, 4))
        .node("MatMul", &["y", "fc.weight"], "z")
        .load_with("z", &trainable(&["/W", "/b"]))
        .unwrap();
    assert_eq!(network.parameter_count(), 12);
}

#[test]
fn nodes_in_any_order_are_sorted_and_circles_are_named() {
    let make = || {
        Sketch::new(&[-1, 2])
            .values("w", &[2, 2], &drawn(1, 4))
            .node("Tanh", &["h"], "t")
            .node("Add", &["t", "h"], "y")
            .node("MatMul", &["x", "w"], "h")
    };
    let sorted = make().load("y").unwrap();
    let operations: Vec<&str> = sorted.nodes.iter().map(|n| n.operation.as_str()).collect();
    assert_eq!(operations, ["MatMul", "Tanh", "Add"]);
    let mut circle = make();
    circle.graph().node[2].input[0] = "t".into();
    let message = circle.refused("y");
    assert!(
        message.contains("circle")
            && message.contains("\"node_t\"")
            && message.contains("\"node_h\"")
            && !message.contains("node_y"),
        "{message}"
    );
    let message = make().node("Relu", &["nothing"], "z").refused("y");
    assert!(message.contains("which nothing makes"), "{message}");
}

#[test]
fn a_choice_of_a_known_condition_is_what_it_takes() {
    for (condition, expected) in [(1.0, 6.0), (0.0, -3.0)] {
        let sketch = Sketch::new(&[-1, 1])
            .values("val_0", &[], &[condition])
            .values("val_1", &[], &[0.5])
            .values("val_2", &[], &[f32::NAN])
            .values("double", &[1, 1], &[2.0])
            .node("Greater", &["val_0", "val_1"], "c")
            .node("MatMul", &["x", "double"], "d")
            .node("Sub", &["x", "d"], "n");
        // As JAX guards a variance against no samples: the other choice is not a number.
        let operands = if condition == 1.0 {
            ["c", "d", "val_2"]
        } else {
            ["c", "val_2", "n"]
        };
        let network = sketch.node("Where", &operands, "y").load("y").unwrap();
        run::gives(&network, 1, &[3.0], &[expected]);
    }
}
