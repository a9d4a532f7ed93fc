"""The command `hccr`: arguments, one call of the public function, printing."""
