from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from stepstream.streaming.limits import DeadLetterLimit

POLLS = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), max_size=12)


@given(POLLS, st.integers(1, 20), st.sampled_from([0.1, 0.5, 1.0]), st.integers(1, 15))
def test_limits_are_those_of_the_messages_counted_one_by_one(
    polls: list[list[bool]], window: int, share: float, streak: int
) -> None:
    limit = DeadLetterLimit(window, share, streak)
    recent: deque[bool] = deque(maxlen=window)
    in_a_row = 0
    for letters in polls:
        limit.note(len(letters), [row for row, is_letter in enumerate(letters) if is_letter])
        for is_letter in letters:
            recent.append(is_letter)
            in_a_row = in_a_row + 1 if is_letter else 0
        too_many = len(recent) == window and sum(recent) >= share * window
        assert bool(limit.exceeded) == (too_many or in_a_row >= streak)


def test_what_is_said_names_the_limit() -> None:
    limit = DeadLetterLimit(window=4, share=0.5, streak=3)
    limit.note(4, [0, 2])
    assert limit.exceeded == "2 of the last 4 messages are dead letters"
    limit.note(3, [0, 1, 2])
    assert limit.exceeded == "the last 3 messages are dead letters"
