"""The matrices of a problem: G, H, H − G, and the Fisher matrices."""

from __future__ import annotations

from ._operator import Operator
from ._problem import Problem


def ggn(problem: Problem) -> Operator:
    """Returns G = Σ_n J_nᵀ(∇²ℓ_n)J_n, the generalized Gauss-Newton matrix of a problem.

    J_n is the Jacobian of the outputs of sample n, ℓ_n its loss with the reduction's weight.

    Args:
        problem: The model with its data and loss.

    Source: Skorski, "Approximating Hessians for Neural Networks", 2021, "approximate chain rule"; Schraudolph 2002.
    """
    return Operator(problem, "ggn")


def hessian(problem: Problem) -> Operator:
    """Returns H, the exact Hessian of a problem's loss.

    Args:
        problem: The model with its data and loss.

    Raises:
        RequestError: The loss gives no gradient, which H needs.

    Source: H = G + Σ_n Σ_c (∂ℓ_n/∂z_c) ∇²z_{n,c}.
    """
    return Operator(problem, "exact")


def residual(problem: Problem) -> Operator:
    """Returns H − G, the part of the Hessian that the generalized Gauss-Newton matrix leaves out.

    Args:
        problem: The model with its data and loss.

    Raises:
        RequestError: The loss gives no gradient, which H − G needs.
    """
    return Operator(problem, "residual")


def fisher(problem: Problem, samples: int = 8, seed: int = 0) -> Operator:
    """Returns the Fisher matrix of the model's own predictions, estimated with drawn labels.

    Its expectation is G for cross-entropy, squared error and binary cross-entropy.

    Args:
        problem: The model with its data and loss.
        samples: The number of labels drawn for each sample of the data.
        seed: Decides the draws.

    Raises:
        RequestError: The loss is not the logarithm of a likelihood that labels can be drawn from.

    Source: Martens, "New insights and perspectives on the natural gradient method", 2020, section 5.
    """
    return Operator(problem, "mc-ggn", samples=samples, seed=seed)


def empirical_fisher(problem: Problem) -> Operator:
    """Returns Σ_n ω_n g_n g_nᵀ, the empirical Fisher matrix.

    g_n is the gradient of sample n's loss without its weight ω_n in the reduction. For a mean, ω_n is 1/N; for that of
    MSELoss and BCEWithLogitsLoss it is 1/(N·C), as they average over the C outputs too.

    Args:
        problem: The model with its data and loss.

    Raises:
        RequestError: The loss gives no gradient.

    Source: Kunstner, Balles and Hennig, "Limitations of the empirical Fisher approximation", 2019.
    """
    return Operator(problem, "empirical-fisher")
