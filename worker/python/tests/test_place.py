"""Is a place read from the environment, and what is wrong with it named?"""

import os
import socket
import unittest

from ostler_worker import BadEnvironment, NotOurs, NotStarted, OtherProtocol
from ostler_worker._place import read_place, take_channel, take_listener
from ostler_worker._title import Doing, title

GOOD = {
    "OSTLER_PROTOCOL": "1",
    "OSTLER_POOL": "web",
    "OSTLER_WORKER": "3.7",
    "OSTLER_FDS": "later:9,doorbell:7,control:4,gauges:6,region:5",
}


class Places(unittest.TestCase):
    def test_a_place_is_read_from_the_environment(self) -> None:
        place = read_place(GOOD)
        self.assertEqual(str(place.name), "web/3.7")
        self.assertEqual(place[1:], (4, 5, 6, 7, 3, 0))

    def test_beside_listeners_the_mailbox_has_a_number_of_its_own(self) -> None:
        beside = {**GOOD, "OSTLER_FDS": "control:5,region:6,gauges:7,doorbell:8,mailbox:9"}
        place = read_place({**beside, "LISTEN_FDS": "2"})
        self.assertEqual(place[1:], (5, 6, 7, 8, 9, 2))
        for wrong in ("", "0", "7", "-1", "x", "²"):
            with self.subTest(wrong), self.assertRaisesRegex(BadEnvironment, "LISTEN_FDS"):
                read_place({**beside, "LISTEN_FDS": wrong})

    def test_what_is_wrong_with_the_environment_is_named(self) -> None:
        for name, bad in (
            ("OSTLER_POOL", "Web!"),
            ("OSTLER_POOL", "web\n"),
            ("OSTLER_WORKER", "3"),
            ("OSTLER_WORKER", "x.1"),
            ("OSTLER_FDS", "control:3,region:5,gauges:6,doorbell:7"),
            ("OSTLER_FDS", "control:4"),
            ("OSTLER_FDS", ""),
        ):
            with self.subTest(bad), self.assertRaisesRegex(BadEnvironment, name):
                read_place({**GOOD, name: bad})
        with self.assertRaisesRegex(OtherProtocol, "protocol '2', this worker speaks 1"):
            read_place({**GOOD, "OSTLER_PROTOCOL": "2"})
        with self.assertRaisesRegex(NotStarted, "not started by ostler: try `ostler run --listen unix:app.sock -- "):
            read_place({})


class Channels(unittest.TestCase):
    def test_a_channel_is_blocking_and_closed_on_exec_whatever_the_program_has_set(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(ours.close)
        fd = theirs.detach()
        os.set_inheritable(fd, True)
        socket.setdefaulttimeout(3.0)
        self.addCleanup(socket.setdefaulttimeout, None)
        with take_channel(fd, "mailbox") as channel:
            self.assertTrue(os.get_blocking(channel.fileno()))
            self.assertFalse(os.get_inheritable(channel.fileno()))
        self.assertEqual(socket.getdefaulttimeout(), 3.0)

    def test_what_is_something_else_stays_open(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        with self.assertRaisesRegex(NotOurs, "is not ostler's mailbox"):
            take_channel(theirs.fileno(), "mailbox")
        theirs.send(b"x")
        null = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, null)
        with self.assertRaises(NotOurs):
            take_channel(null, "mailbox")


    def test_a_listener_is_known_by_listening(self) -> None:
        listener, other = socket.socket(), socket.socket()
        self.addCleanup(other.close)
        other.bind(("127.0.0.1", 0))
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with take_listener(listener.detach()) as taken:
            self.assertTrue(os.get_blocking(taken.fileno()))
            self.assertFalse(os.get_inheritable(taken.fileno()))
        with self.assertRaisesRegex(NotOurs, "is not ostler's listener"):
            take_listener(other.fileno())
        self.assertGreater(other.getsockname()[1], 0, "it stays open")


class Titles(unittest.TestCase):
    def test_a_long_title_loses_the_word_before_the_name_and_the_name_before_the_number(self) -> None:
        for pool, slot, generation, doing, shown in (
            ("web", 3, 7, Doing.STARTING, "web/3.7 start"),
            ("hello", 3, 7, Doing.READY, "hello/3.7 ready"),
            ("backend", 12, 7, Doing.READY, "backend/12.7 r"),
            ("a-pool-with-a-long-name", 12, 105, Doing.DRAINING, "a-pool/12.105 d"),
            ("web", 4095, 1_000_000_000, Doing.READY, "/4095.100000000"),
        ):
            name = read_place({**GOOD, "OSTLER_POOL": pool, "OSTLER_WORKER": f"{slot}.{generation}"}).name
            self.assertEqual(title(name, doing), shown)


if __name__ == "__main__":
    unittest.main()
