"""Are frames the bytes that shared/src/wire.rs holds, and is everything else refused?"""

import random
import unittest

from ostler_worker import _wire
from ostler_worker._wire import BadFrame, Drain, Fork, NoFork, Ping, Welcome, decode, varint

WELCOME = bytes([1, 0, 1, 4, 0xB0, 0xEA, 1, 0xB0, 0xEA, 1, 1])


class Frames(unittest.TestCase):
    def test_the_frames_are_these_bytes(self) -> None:
        self.assertEqual(_wire.hello("py"), bytes([1, 0, 1, 2]) + b"py")
        self.assertEqual(_wire.READY, bytes([1, 1]))
        self.assertEqual(_wire.DRAINING, bytes([1, 2]))
        self.assertEqual(_wire.pong(7), bytes([1, 3, 7]))
        self.assertEqual(decode(WELCOME), Welcome(1, 4, 30_000, 30_000, True))
        self.assertEqual(decode(WELCOME[:-1] + b"\0"), Welcome(1, 4, 30_000, 30_000, False))
        self.assertEqual(decode(bytes([1, 1])), Drain())
        self.assertEqual(decode(bytes([1, 2, 7])), Ping(7))
        self.assertEqual(_wire.hello_of_template("py"), bytes([1, 5, 1, 2]) + b"py")
        self.assertEqual(_wire.LOADED, bytes([1, 6]))
        self.assertEqual(_wire.forked(300, 200), bytes([1, 7, 0xAC, 2, 0xC8, 1]))
        self.assertEqual(_wire.not_forked(7, NoFork.UNFIT, "no"), bytes([1, 8, 7, 1, 2]) + b"no")
        self.assertEqual(decode(bytes([1, 3, 0xAC, 2, 3])), Fork(300, 3))

    def test_numbers_are_these_bytes_and_read_back_up_to_the_largest(self) -> None:
        for number, text in ((4, "04"), (128, "8001"), (300, "ac02"), (30_000, "b0ea01")):
            self.assertEqual(varint(number).hex(), text)
        for number in (0, 127, 128, 2**32, 2**64 - 1):
            self.assertEqual(decode(bytes([1, 2]) + varint(number)), Ping(number))

    def test_what_is_not_one_whole_frame_is_refused(self) -> None:
        bad = {
            "empty": b"",
            "another version": bytes([9, 1]),
            "an unknown kind": bytes([1, 99]),
            "bytes left over": bytes([1, 1, 0]),
            "over the limit": bytes([1] * 513),
            "cut": WELCOME[:-1],
            "no kind": bytes([1]),
            "a choice of two that is the third": WELCOME[:-1] + b"\2",
            "a protocol of 17 bits": bytes([1, 0, 0x80, 0x80, 4]) + WELCOME[3:],
            "a concurrency of 33 bits": bytes([1, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x10]) + WELCOME[4:],
            "a nonce of 65 bits": bytes([1, 2] + [0xFF] * 9 + [2]),
            "a number without end": bytes([1, 2] + [0x80] * 20),
        }
        for what, frame in bad.items():
            with self.subTest(what), self.assertRaises(BadFrame):
                decode(frame)

    def test_a_text_over_its_limit_is_refused(self) -> None:
        with self.assertRaises(BadFrame):
            _wire.hello("x" * 257)
        self.assertEqual(len(_wire.not_forked(7, NoFork.SHORTAGE, "ä" * 300)), 6 + 256)

    def test_no_bytes_do_worse_than_to_be_refused(self) -> None:
        dice = random.Random(5)
        for _ in range(20_000):
            frame = bytes([1, dice.randrange(5)]) + dice.randbytes(dice.randrange(24))
            try:
                decode(frame)
            except BadFrame:
                pass


if __name__ == "__main__":
    unittest.main()
