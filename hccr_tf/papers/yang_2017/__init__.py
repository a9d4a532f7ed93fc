"""Yang et al. 2017: iterative refinement."""
