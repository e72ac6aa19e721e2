//! Normalisations: shared scales, statistics of the file and those of training mode.

use super::*;

fn norms() -> Sketch {
    Sketch::new(&[-1, 3])
        .values("n1.weight", &[3], &[1.0; 3])
        .weight("n1.bias", &[3])
        .weight("n2.bias", &[3])
        .weight("mean", &[3])
        .node(
            "BatchNormalization",
            &["x", "n1.weight", "n1.bias", "mean", "n1.weight"],
            "a",
        )
        .node(
            "BatchNormalization",
            &["a", "n1.weight", "n2.bias", "mean", "n1.weight"],
            "y",
        )
}

#[test]
fn a_shared_scale_is_warned_of_and_can_be_untied() {
    let network = norms().load("y").unwrap();
    assert_eq!(network.parameter_count(), 9);
    assert!(
        network.warnings[0].contains("--untie n1.weight"),
        "{:?}",
        network.warnings
    );
    let options = OnnxOptions {
        untie: vec!["n1.weight".into()],
        ..Default::default()
    };
    let network = norms().load_with("y", &options).unwrap();
    assert_eq!(network.parameter_count(), 12);
    assert!(network.warnings.is_empty(), "{:?}", network.warnings);
    let layers: Vec<_> = network
        .parameters
        .iter()
        .map(|p| p.layer.as_str())
        .collect();
    assert_eq!(layers, ["n1", "n2", "n1", "n2"]);
}

#[test]
fn a_norm_in_training_mode_is_refused_with_the_reason() {
    let make = |operation: &str, output: &str| {
        Sketch::new(&[-1, 3])
            .weight("s", &[3])
            .weight("b", &[3])
            .node(operation, &["x", "s", "b", "s", "s"], output)
            .refused("y")
    };
    assert!(make("BatchNormalization training_mode=1", "y").contains("model.eval()"));
    // The name that PyTorch gives results of training mode that nothing uses.
    let dead = "y m v batch_norm_dead_output-1 batch_norm_dead_output-2";
    assert!(make("BatchNormalization", dead).contains("batch_norm_dead_output-1"));
}

#[test]
fn a_norm_whose_further_results_nothing_uses_has_the_statistics_of_the_file() {
    let norm = |output: &str| {
        Sketch::new(&[-1, 2])
            .values("s", &[2], &[2.0, 0.5])
            .values("m", &[2], &[1.0, -1.0])
            .values("v", &[2], &[4.0, 0.25])
            .node(
                "BatchNormalization epsilon=0.0",
                &["x", "s", "m", "m", "v"],
                output,
            )
    };
    let network = norm("y m2 v2 s1 s2").load("y").unwrap();
    run::gives(&network, 1, &[3.0, 1.0], &[3.0, 1.0]);
    let said = |w: &String| w.contains("training mode") && w.contains("running statistics");
    assert!(network.warnings.iter().any(said), "{:?}", network.warnings);
    let used = norm("n m2").node("Add", &["n", "m2"], "y").refused("y");
    assert!(
        used.contains("training mode") && used.contains("\"m2\""),
        "{used}"
    );
}

#[test]
fn a_norm_over_its_own_statistics_takes_them_over_its_axes() {
    let norm = Sketch::new(&[-1, 2, 2])
        .node("MeanVarianceNormalization axes=1,2", &["x"], "y")
        .load("y")
        .unwrap();
    let (low, high) = (-1.341_640_786_5, -0.447_213_595_5);
    run::gives(&norm, 1, &[1.0, 2.0, 3.0, 4.0], &[low, high, -high, -low]);
    // Those of the operation, where the file names none, hold the samples.
    let message = Sketch::new(&[-1, 2, 2, 1])
        .node("MeanVarianceNormalization", &["x"], "y")
        .refused("y");
    assert!(message.contains("mixes"), "{message}");
}
