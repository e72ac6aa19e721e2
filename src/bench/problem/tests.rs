//! Problems are those that are meant, and their results agree with the definition.

use super::*;
use crate::bench::check::SINGLE;
use crate::contraction::Contraction;

fn small(task: Task, model: Model) -> Opened {
    let problem = Problem {
        model,
        samples: 3,
        task,
    };
    problem.open().unwrap()
}

#[test]
fn networks_are_those_that_are_meant() {
    let count = |model: Model| model.network().unwrap().parameter_count();
    assert_eq!(count(Model::Lenet5), 44_426);
    assert_eq!(count(Model::Resnet20), 272_474);
    // Nothing is saturated, or products would be of rounding alone.
    for model in [Model::Lenet5, Model::Resnet20] {
        let opened = small(Task::Gradient, model);
        let device = Device::cpu(Precision::F32);
        let gradient = opened.session.with_device(device).gradient();
        let loss = gradient.unwrap().loss;
        assert!(loss > 1.0 && loss < 6.0, "{model:?}: {loss}");
    }
}

#[test]
fn each_contraction_is_the_one_it_is_named_after() {
    let meant = [
        ("outer-outer", Contraction::OuterOuter),
        ("outer-dense", Contraction::OuterDense),
        ("dense-dense", Contraction::DenseDense),
    ];
    for (name, contraction) in meant {
        let (_, _, problem) = problems()
            .into_iter()
            .find(|(full, _, _)| full.ends_with(name))
            .unwrap();
        let opened = problem.open().unwrap();
        let operator = opened.session.ggn();
        let request = operator.parts([opened.part().unwrap()]).unwrap();
        let plan = operator.plan_within(
            request.resolved().to_vec(),
            Precision::F32,
            Limits::ENDLESS,
            RunOptions::default(),
            Grid::Whole,
        );
        let pairs = plan.unwrap().pairs;
        assert!(
            pairs.iter().all(|pair| pair.contraction == contraction),
            "{name}: {pairs:?}"
        );
    }
}

#[test]
fn every_problem_names_parts_that_are_there_and_counts_its_work() {
    for (name, _, problem) in problems() {
        let small = Problem {
            samples: 2,
            ..problem
        };
        let opened = small.open().unwrap();
        let (operations, numbers) = opened.work().unwrap();
        assert!(operations > 100_000, "{name}: {operations}");
        let (rows, columns) = opened.indices();
        if let Some(numbers) = numbers {
            assert_eq!(numbers as usize, rows.len() * columns.len(), "{name}");
        }
    }
}

#[test]
fn results_agree_with_the_definition_and_wrong_ones_do_not() {
    let tasks = [
        (Task::Layer("dense3"), Model::Lenet5),
        (Task::Rectangle(150..160, 2560..2590), Model::Lenet5),
        (Task::Gradient, Model::Lenet5),
        (Task::Product(Curvature::Ggn), Model::Lenet5),
        (Task::Product(Curvature::Exact), Model::Lenet5),
        (Task::Diagonal, Model::Lenet5),
        (Task::Layer("stage1.1.norm1"), Model::Resnet20),
        (Task::Gradient, Model::Resnet20),
        (Task::Product(Curvature::Exact), Model::Resnet20),
    ];
    for (task, model) in tasks {
        let opened = small(task.clone(), model);
        let reference = opened.reference().unwrap();
        let check = opened.definition(&reference).unwrap();
        assert!(check.passed(), "{task:?}: {check:?}");
        let wrong: Vec<f64> = reference.iter().map(|v| 1.01 * v).collect();
        assert!(!opened.definition(&wrong).unwrap().passed(), "{task:?}");
        let device = Device::cpu(Precision::F32);
        let ready = opened.on(&device);
        assert!(
            ready.check(&reference, SINGLE).unwrap().passed(),
            "{task:?}"
        );
        assert!(!ready.check(&wrong, SINGLE).unwrap().passed(), "{task:?}");
        ready.start().unwrap();
        ready.wait().unwrap();
    }
}
