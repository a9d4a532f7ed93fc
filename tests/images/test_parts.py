"""What's taken away from doubtful ink, and what isn't."""

import cv2
import numpy as np

from hccr_tf.images.parts import alternatives


def test_of_a_cross_no_bar_is_left_and_of_a_bar_in_a_box_one_is():
    cross = np.zeros((96, 60), np.uint8)
    cv2.line(cross, (30, 0), (30, 95), 255, 3)  # 十, its level stroke the shorter one
    cv2.line(cross, (4, 46), (56, 36), 255, 3)
    assert not alternatives(cross, (False,) * 4)
    boxed = np.zeros((96, 96), np.uint8)
    cv2.rectangle(boxed, (2, 2), (93, 93), 255, 2)
    cv2.line(boxed, (20, 52), (76, 44), 255, 5)
    bars = [less for less in alternatives(boxed, (False,) * 4) if less[40:56, 20:76].any()]
    assert any(not less[:30].any() for less in bars)
