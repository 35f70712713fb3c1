"""Where the library's solver gives up, the answer is a rounding error away."""

import torch

from tunnelscope.linalg.eigen import eigen
from tunnelscope.probes import fit_probe


def test_a_matrix_the_library_gives_up_on_is_solved_all_the_same(monkeypatch):
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 12, generator=draws, dtype=torch.float64)
    matrix, solve = rows.T @ rows, torch.linalg.eigh

    def gives_up_on_it(given):
        if torch.equal(given, matrix):
            raise torch.linalg.LinAlgError("The algorithm failed to converge")
        return solve(given)

    expected = solve(matrix).eigenvalues
    monkeypatch.setattr(torch.linalg, "eigh", gives_up_on_it)
    values, vectors = eigen(matrix)
    torch.testing.assert_close(values, expected, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(vectors * values @ vectors.T, matrix)


def test_rows_that_come_many_times_are_fitted():
    draws = torch.Generator().manual_seed(0)
    few = torch.randn(64, 300, generator=draws) * torch.logspace(-12, 0, 300)
    rows, labels = few.repeat(8, 1), (torch.arange(64) % 4).repeat(8)
    probe = fit_probe(rows, labels, tolerance=1e-2).scored(rows, labels)
    assert probe.converged
    assert probe.accuracy == 1
