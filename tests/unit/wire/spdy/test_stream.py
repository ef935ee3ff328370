from crid.wire.spdy.stream import MOVES, Half, Move


def test_nothing_moves_a_finished_half_and_only_a_reply_a_waiting_one() -> None:
    assert not [move for half, move in MOVES if half is Half.FINISHED]
    assert [move for half, move in MOVES if half is Half.AWAITING_REPLY] == [Move.REPLY]
    assert {half for half, move in MOVES.items() if move is Half.FINISHED} == {(Half.OPEN, Move.FIN)}
