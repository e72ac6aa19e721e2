//! Batched product of two operands of any origin, as NumPy's `matmul` broadcasts it.

use super::{Forward, Operation, Pullback, SiteKind, reduce_to, shape_error};
use crate::error::Result;
use crate::tensor::{Backend, Einsum, broadcast_rest};

/// z[…, m, n] = Σ_k x[…, m, k] y[…, k, n], leading axes broadcast. Operands: x, y of two axes or more.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul;

const BATCH: &[u8] = b"abcefghjpq";

impl MatMul {
    /// Labels of both operands and the result; those of leading axes align at the back.
    fn labels(x: &[usize], y: &[usize]) -> [String; 3] {
        let lead = |rank: usize, of: usize| {
            let letters = &BATCH[of - (rank - 2)..of];
            letters.iter().map(|&b| b as char).collect::<String>()
        };
        let most = x.len().max(y.len()) - 2;
        [
            format!("sd{}mk", lead(x.len(), most)),
            format!("sd{}kn", lead(y.len(), most)),
            format!("sd{}mn", lead(most + 2, most)),
        ]
    }

    fn cotangent<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        let rests = [0, 1].map(|k| backend.shape(&pullback.inputs[k]).rest);
        let [x, y, z] = Self::labels(&rests[0], &rests[1]);
        let most = z.len() - 4;
        let full = |last: &str| format!("{}{last}", &z[..2 + most]);
        let back = if operand == 0 {
            let einsum = Einsum::new(&format!("{z},{y}->{}", full("mk")));
            backend.einsum(&einsum, pullback.cotangent, &pullback.inputs[1])
        } else {
            let einsum = Einsum::new(&format!("{z},{x}->{}", full("kn")));
            backend.einsum(&einsum, pullback.cotangent, &pullback.inputs[0])
        };
        reduce_to(backend, &back, &rests[operand])
    }
}

impl Operation for MatMul {
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, y] = inputs else {
            return shape_error(format!(
                "a matrix product has two operands, not {}",
                inputs.len()
            ));
        };
        if x.len() < 2 || y.len() < 2 || x.len().max(y.len()) - 2 > BATCH.len() {
            return shape_error(format!("a matrix product of {x:?} and {y:?}"));
        }
        let (x_lead, y_lead) = (&x[..x.len() - 2], &y[..y.len() - 2]);
        match broadcast_rest(x_lead, y_lead) {
            Some(mut rest) if x[x.len() - 1] == y[y.len() - 2] => {
                rest.extend([x[x.len() - 2], y[y.len() - 1]]);
                Ok(rest)
            }
            _ => shape_error(format!("a matrix product of {x:?} and {y:?}")),
        }
    }

    fn forward<B: Backend>(&self, backend: &B, inputs: &[B::Tensor]) -> Forward<B> {
        let [x, y, z] = Self::labels(
            &backend.shape(&inputs[0]).rest,
            &backend.shape(&inputs[1]).rest,
        );
        let einsum = Einsum::new(&format!("{x},{y}->{z}"));
        Forward::value(backend.einsum(&einsum, &inputs[0], &inputs[1]))
    }

    fn vjp<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> B::Tensor {
        self.cotangent(backend, pullback, operand)
    }

    fn site<B: Backend>(
        &self,
        backend: &B,
        pullback: &Pullback<'_, B>,
        operand: usize,
    ) -> SiteKind<B::Tensor> {
        SiteKind::Rows(self.cotangent(backend, pullback, operand))
    }
}
