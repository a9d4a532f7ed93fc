"""Keras's optimisers, and Adam in one pass over its values on TensorFlow.

Keras writes Adam's update as a dozen operations on whole arrays, each with an array of its own for
its result. TensorFlow's kernel computes the same formula in place: a step of the brick network of
407 million values takes 0.6 times the processor time (`benchmarks/train_step.py brick`).
"""

import keras


def optimizer_class(name: str) -> type[keras.optimizers.Optimizer]:
    """Returns the class of an optimiser of Keras by its name, as it's fastest on the backend.

    Raises:
        ValueError: Keras has none of the name.
    """
    found = type(keras.optimizers.get(name))
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return _IN_PLACE.get(found, found) if on_tensorflow else found


class _InPlace:
    """Updates by `ResourceApplyAdam`; its variables are those of Keras's Adam."""

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index = self._get_variable_index(variable)
        steps = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, steps),
            beta2_power=tf.pow(self.beta_2, steps),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


class _Adam(_InPlace, keras.optimizers.Adam):
    pass


class _AdamW(_InPlace, keras.optimizers.AdamW):
    pass


_IN_PLACE = {keras.optimizers.Adam: _Adam, keras.optimizers.AdamW: _AdamW}
