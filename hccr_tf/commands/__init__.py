"""What the commands do, a group a file: their arguments, and the functions behind them."""
