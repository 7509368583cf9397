"""Is every connection claimed that can be received, and none that can't?"""

import contextlib
import gc
import io
import os
import resource
import socket
import threading
import unittest
from typing import Iterator

from fake import Fake
from ostler_worker import BadMessage, Connection, NextError, Outcome, Starved
from ostler_worker._claim import Claims, Received, Truncated, Word
from ostler_worker._stage import Stage, StageCell
from ostler_worker._wire import DRAINING, READY

LIMIT = 64


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[list[int]]:
    """Opens all that the process may have; they are closed behind the block, those that are not taken out before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, hard))
    opened: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        yield opened
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in opened:
            os.close(fd)


class Claiming(unittest.TestCase):
    def setUp(self) -> None:
        self.fake = Fake(concurrency=4)
        self.addCleanup(self.fake.close)

    def claim(self) -> Connection:
        connection = self.fake.worker.next()
        assert connection is not None
        return connection

    def test_a_connection_is_claimed_closed_and_then_reported(self) -> None:
        client = self.fake.hand()
        connection = self.claim()
        self.assertEqual(self.fake.control.recv(99), READY)
        connection.socket.sendall(b"hi")
        self.assertEqual(client.recv(9), b"hi")
        self.assertEqual((connection.ticket.conn, connection.peer and connection.peer.pid), (0, os.getpid()))
        self.assertGreaterEqual(connection.waited_s, 0)
        self.assertEqual(self.fake.ended(), [])
        self.fake.begin_to_wait()
        for _ in range(2):
            connection.close()
            self.assertEqual(client.recv(9), b"")
            self.assertEqual([(end.conn, end.outcome) for end in self.fake.ended()], [(0, 0)])
        self.assertEqual(self.fake.rings(), 1)

    def test_an_exception_is_an_outcome_unless_it_says_that_the_client_has_gone(self) -> None:
        for problem in (KeyError("x"), BrokenPipeError(), ConnectionResetError(), EOFError(), OSError("x")):
            self.fake.hand()
            with contextlib.suppress(KeyError, OSError, EOFError), self.claim():
                raise problem
        self.assertEqual([end.outcome for end in self.fake.ended()], [1, 0, 0, 0, 1])

    def test_a_connection_that_nobody_holds_any_more_is_closed_and_reported_by_somebody_else(self) -> None:
        client = self.fake.hand()
        poked = threading.Event()
        self.fake.station.poke = poked.set
        connection = self.claim()
        left = connection.socket
        del connection
        gc.collect()
        self.assertTrue(poked.is_set())
        self.assertEqual(self.fake.ended(), [], "a collector of garbage takes no lock")
        self.fake.station.end_what_was_left_behind()
        self.assertEqual(client.recv(9), b"")
        self.assertEqual([end.outcome for end in self.fake.ended()], [0])
        self.assertEqual(left.fileno(), -1)

    def test_a_socket_that_its_handler_has_closed_is_reported_all_the_same(self) -> None:
        client = self.fake.hand()
        with self.claim() as connection:
            connection.socket.close()
        self.assertEqual(client.recv(9), b"")
        self.assertEqual(len(self.fake.ended()), 1)

    def test_what_is_recalled_before_the_take_is_not_ours(self) -> None:
        clients = [self.fake.hand(), self.fake.hand()]
        claims = Claims(self.fake.station)
        receive = claims._receive
        recalled: list[int] = []

        def recall_first(flags: int) -> Received | Truncated | Word:
            if flags & socket.MSG_PEEK == 0 and not recalled:
                recalled.append(self.fake.recall())
            return receive(flags)

        claims._receive = recall_first  # type: ignore[method-assign]
        before = len(os.listdir("/proc/self/fd"))
        claimed = claims.claim()
        assert claimed is not None
        self.assertEqual((recalled, claimed.ticket.conn), ([0], 1))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1, "of two copies one is kept")
        os.close(claimed.fd)
        self.assertEqual([client.recv(9) for client in clients], [b"", b""])

    def test_what_is_recalled_altogether_leaves_nothing(self) -> None:
        self.fake.hand()
        self.fake.recall()
        self.assertIs(Claims(self.fake.station).try_claim(), Word.NOTHING)

    def test_at_the_end_of_the_mailbox_what_is_in_it_is_claimed_and_then_the_worker_leaves(self) -> None:
        clients = [self.fake.hand(), self.fake.hand()]
        self.fake.mailbox.shutdown(socket.SHUT_WR)
        self.assertTrue(self.fake.worker.is_draining)
        for connection in self.fake.worker.connections():
            connection.close()
        self.assertEqual([client.recv(9) for client in clients], [b"", b""])
        self.assertEqual(len(self.fake.ended()), 2)

    def test_who_leaves_says_so_and_claims_nothing_more(self) -> None:
        self.fake.hand()
        self.fake.station.leave(Stage.LEAVING)
        self.assertIsNone(self.fake.worker.next())
        self.assertEqual(self.fake.control.recv(99), DRAINING)
        self.assertEqual(self.fake.recall(), 0)

    def test_a_claimer_that_sleeps_is_woken_when_the_worker_leaves(self) -> None:
        ends: list[object] = []
        sleeper = threading.Thread(target=lambda: ends.append(self.fake.worker.next()))
        sleeper.start()
        self.fake.station.leave(Stage.LEAVING)
        sleeper.join(20)
        self.assertEqual(ends, [None])

    def test_a_message_that_is_no_connection_is_said_and_removed(self) -> None:
        self.fake.mailbox.send(b"x" * 41)
        with self.assertRaises(BadMessage):
            self.fake.worker.next()
        client = self.fake.hand()
        self.claim().close()
        self.assertEqual(client.recv(9), b"")

    def test_without_a_free_descriptor_the_reserve_serves_and_nothing_is_lost(self) -> None:
        clients = [self.fake.hand() for _ in range(4)]
        with no_descriptor_left():
            for _ in clients:
                self.claim().close()
        self.assertEqual([client.recv(9) for client in clients], [b""] * 4)
        self.assertEqual([end.outcome for end in self.fake.ended()], [0] * 4)

    def test_who_holds_the_reserve_s_descriptors_too_claims_nothing_until_one_is_free(self) -> None:
        for _ in range(4):
            self.fake.hand()
        claims = Claims(self.fake.station)
        with no_descriptor_left() as opened:
            first = claims.try_claim()
            assert isinstance(first, Received)
            opened.append(first.fd)  # this one stays
            seconds = [claims.try_claim() for _ in range(3)]
            held = [look.fd for look in seconds if isinstance(look, Received)]
            self.assertIn(Word.STARVED, seconds)
            self.assertEqual(self.fake.ended(), [])
            # Even a look at what waits is nobody's loss.
            os.close(opened.pop(0))
            os.close(opened.pop(0))
            later = claims.try_claim()
            assert isinstance(later, Received)
            opened += [*held, later.fd]

    def test_who_starves_for_too_long_says_so_and_leaves(self) -> None:
        self.fake.hand()
        said = io.StringIO()
        with no_descriptor_left() as opened, contextlib.redirect_stderr(said):
            self.fake.station.reserve.lend()
            with contextlib.suppress(OSError):
                while True:
                    opened.append(os.open("/dev/null", os.O_RDONLY))
            with self.assertRaises(Starved):
                self.fake.worker.next()
        self.assertIn("no free file descriptor for 1s (raise `process.nofile`", said.getvalue())
        self.assertEqual([self.fake.control.recv(99) for _ in range(2)], [READY, DRAINING])
        self.assertEqual(self.fake.recall(), 0)
        with self.assertRaises(NextError):
            self.fake.worker.next()

    def test_a_loss_at_the_limit_is_reported_as_what_it_is(self) -> None:
        self.fake.hand()
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            claims = Claims(self.fake.station)
            seen = claims._receive(socket.MSG_PEEK)
            assert isinstance(seen, Received)
            claims._report_truncated(seen.ticket)
            os.close(seen.fd)
        self.assertEqual([end.outcome for end in self.fake.ended()], [Outcome.TRUNCATED])
        self.assertIn("lost conn=c0", said.getvalue())


class Stages(unittest.TestCase):
    def test_term_is_taken_once_and_not_after_the_supervisor_is_gone(self) -> None:
        stage = StageCell()
        told: list[str] = []
        stage.when_left_serving(lambda: told.append("early"))
        steps = [
            (Stage.DRAINING, True),
            (Stage.LEAVING, True),
            (Stage.LEAVING, False),
            (Stage.DRAINING, False),
            (Stage.ORPHANED, True),
            (Stage.LEAVING, False),
        ]
        self.assertEqual([stage.advance(to) for to, _ in steps], [taken for _, taken in steps])
        stage.when_left_serving(lambda: told.append("late"))
        self.assertEqual((stage.get(), told), (Stage.ORPHANED, ["early", "late"]))


if __name__ == "__main__":
    unittest.main()
