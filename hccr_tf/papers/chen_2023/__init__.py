"""Chen, Xiao & Meng 2023: transfer to Chinese MNIST."""
