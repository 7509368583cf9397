"""Does a worker that accepts for itself take what it may, count it, and nothing else?"""

import asyncio
import contextlib
import io
import os
import re
import select
import socket
import tempfile
import threading
import unittest
import unittest.mock
from typing import Callable

from fake import RECORDS, Fake
from ostler_worker import AsyncConnection, Connection, Family, MailboxFailed, Starved
from ostler_worker._claim import Word
from ostler_worker._stage import Stage
from ostler_worker._wire import DRAINING, READY
from test_claim import no_descriptor_left

PATIENCE_S = 20


class Accepting(unittest.TestCase):
    """A worker with one listener at a path and one at TCP."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/app.sock"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.path)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix.listen()
        self.addCleanup(self.unix.close)
        self.addCleanup(self.tcp.close)
        self.begin(concurrency=4)

    def begin(self, concurrency: int) -> None:
        self.fake = Fake(concurrency=concurrency, listeners=[self.unix, self.tcp])
        self.addCleanup(self.fake.close)
        self.fake.open_gate()

    def open(self, by: socket.AddressFamily = socket.AF_UNIX) -> socket.socket:
        client = socket.socket(by)
        client.settimeout(PATIENCE_S)
        client.connect(self.path if by == socket.AF_UNIX else self.tcp.getsockname())
        self.addCleanup(client.close)
        return client

    def accept(self) -> Connection:
        connection = self.fake.worker.next()
        assert connection is not None
        return connection

    def in_thread(self, act: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        return thread


class Books(Accepting):
    def test_a_connection_is_accepted_counted_closed_and_then_reported(self) -> None:
        client = self.open()
        connection = self.accept()
        self.assertEqual(self.fake.control.recv(99), READY)
        self.assertEqual((self.fake.counts(), self.fake.ended()), ((1, 0), []))
        connection.socket.sendall(b"hi")
        self.assertEqual(client.recv(9), b"hi")
        connection.close()
        self.assertEqual(client.recv(9), b"")
        self.assertEqual([(end.conn, end.outcome) for end in self.fake.ended()], [(1, 0)])

    def test_a_ticket_says_where_and_who(self) -> None:
        ours = {self.open().fileno(), self.open(socket.AF_INET).fileno()}
        self.assertEqual(len(ours), 2)
        first, second = self.accept(), self.accept()
        with first, second:
            tickets = [connection.ticket for connection in (first, second)]
            self.assertEqual([ticket.conn for ticket in tickets], [1, 2])
            self.assertEqual([(ticket.listener, ticket.family) for ticket in tickets], [(0, Family.UNIX), (1, Family.V4)])
            self.assertEqual(first.peer, (os.getuid(), os.getgid(), os.getpid()))
            self.assertIsNone(second.peer)
            self.assertEqual((first.socket.family, second.socket.family), (socket.AF_UNIX, socket.AF_INET))
            for connection in (first, second):
                self.assertTrue(connection.socket.getblocking() and os.get_blocking(connection.socket.fileno()))
                self.assertFalse(os.get_inheritable(connection.socket.fileno()))
                self.assertGreaterEqual(connection.waited_s, 0)

    def test_a_client_wakes_one_of_those_who_wait_and_the_listeners_do_not_block(self) -> None:
        listeners = self.fake.station.listeners
        assert listeners is not None
        with open(f"/proc/self/fdinfo/{listeners.fileno()}") as said:
            watched = dict(re.findall(r"tfd: +(\d+) events: +([0-9a-f]+)", said.read()))
        for listener in (self.unix, self.tcp):
            self.assertTrue(int(watched[str(listener.fileno())], 16) & select.EPOLLEXCLUSIVE)
            self.assertFalse(os.get_blocking(listener.fileno()))
        self.assertTrue(os.get_blocking(self.fake.station.mailbox.fileno()), "its description is the supervisor's too")

    def test_no_listener_waits_behind_another_one(self) -> None:
        for _ in range(3):
            self.open()
            self.open(socket.AF_INET)
        listeners = []
        for _ in range(6):
            with self.accept() as connection:
                listeners.append(connection.ticket.listener)
        self.assertEqual(listeners, [0, 1, 0, 1, 0, 1])

    def test_what_the_ring_has_no_room_for_is_counted_and_nobody_waits(self) -> None:
        for number in range(RECORDS + 3):
            self.open()
            self.accept().close()
        self.assertEqual((self.fake.counts(), len(self.fake.ended())), ((RECORDS + 3, 3), RECORDS))
        self.fake.consume()
        self.open()
        self.accept().close()
        self.assertEqual((self.fake.counts(), self.fake.region[16]), ((RECORDS + 4, 3), RECORDS + 1))


class Places(Accepting):
    def test_one_is_accepted_for_each_free_place_and_the_others_stay_where_they_are(self) -> None:
        self.begin(concurrency=2)
        clients = [self.open() for _ in range(3)]
        held = [self.accept(), self.accept()]
        third: list[Connection] = []
        waiting = self.in_thread(lambda: third.append(self.accept()))
        waiting.join(0.3)  # longer than between two looks at the gate
        self.assertEqual((self.fake.counts(), third), ((2, 0), []))
        held[0].close()
        waiting.join(PATIENCE_S)
        self.assertEqual((self.fake.counts(), third[0].ticket.conn), ((3, 0), 3))
        for connection in (held[1], third[0]):
            connection.close()
        self.assertEqual([client.recv(9) for client in clients], [b""] * 3)

    def test_who_waits_for_a_place_is_told_that_the_worker_leaves(self) -> None:
        self.begin(concurrency=1)
        self.open()
        with self.accept():
            ends: list[object] = []
            waiting = self.in_thread(lambda: ends.append(self.fake.worker.next()))
            self.fake.station.leave(Stage.LEAVING)
            waiting.join(PATIENCE_S)
        self.assertEqual(ends, [None])


class Gates(Accepting):
    def test_nothing_is_accepted_while_the_gate_is_closed(self) -> None:
        self.fake.close_gate()
        self.open()
        accepted: list[Connection] = []
        waiting = self.in_thread(lambda: accepted.append(self.accept()))
        waiting.join(0.3)  # longer than between two looks at the gate
        self.assertEqual((self.fake.counts(), accepted), ((0, 0), []))
        self.fake.open_gate()
        waiting.join(PATIENCE_S)
        self.assertEqual(self.fake.counts(), (1, 0))
        accepted[0].close()

    def test_a_gate_that_closes_while_a_worker_waits_is_closed_to_who_comes_then(self) -> None:
        ends: list[object] = []
        waiting = self.in_thread(lambda: ends.append(self.fake.worker.next()))
        self.assertEqual(self.fake.control.recv(99), READY)
        self.fake.close_gate()
        self.open()
        self.fake.mailbox.shutdown(socket.SHUT_WR)
        waiting.join(PATIENCE_S)
        self.assertEqual((ends, self.fake.counts()), ([None], (0, 0)))


class Turns(Accepting):
    def setUp(self) -> None:
        super().setUp()
        for _ in range(3):
            self.open()
        patch = unittest.mock.patch("os.sched_yield")
        self.sched_yield = patch.start()
        self.addCleanup(patch.stop)

    def has_run_since(self, at_ns: int) -> None:
        self.fake.worker._claims._running_since_ns = at_ns  # type: ignore[attr-defined]

    def test_who_has_run_long_lets_others_run_between_two_connections_and_then_runs_on(self) -> None:
        self.has_run_since(0)
        self.accept().close()
        self.sched_yield.assert_not_called()
        # What is accepted after the turn, is accepted soon after it.
        with unittest.mock.patch("ostler_worker._accept.time.monotonic_ns", return_value=2**62):
            self.accept().close()
        self.sched_yield.assert_called_once()
        self.accept().close()
        self.sched_yield.assert_called_once()

    def test_nobody_who_is_held_waits_while_others_run(self) -> None:
        self.has_run_since(0)
        first, second = self.accept(), self.accept()
        first.close()
        self.accept().close()
        self.sched_yield.assert_not_called()
        second.close()
        self.open()
        self.accept().close()
        self.sched_yield.assert_called_once()


class Ends(Accepting):
    def test_a_drained_worker_takes_nothing_more(self) -> None:
        self.open()
        self.fake.close_gate()
        self.fake.station.advance(Stage.DRAINING)
        self.assertIsNone(self.fake.worker.next())
        self.assertEqual(self.fake.counts(), (0, 0))

    def test_the_mailbox_s_end_alone_says_drain(self) -> None:
        ends: list[object] = []
        waiting = self.in_thread(lambda: ends.append(self.fake.worker.next()))
        self.fake.mailbox.shutdown(socket.SHUT_WR)
        waiting.join(PATIENCE_S)
        self.assertEqual((ends, self.fake.station.stage.get()), ([None], Stage.DRAINING))

    def test_who_leaves_says_so_wakes_who_sleeps_and_takes_nothing_more(self) -> None:
        ends: list[object] = []
        waiting = self.in_thread(lambda: ends.append(self.fake.worker.next()))
        self.assertEqual(self.fake.control.recv(99), READY)
        self.fake.station.leave(Stage.LEAVING)
        self.open()
        waiting.join(PATIENCE_S)
        self.assertEqual((ends, self.fake.control.recv(99)), ([None], DRAINING))
        self.assertEqual(self.fake.counts(), (0, 0))

    def test_an_orphan_accepts_whoever_waits_whatever_the_gate_says_and_leaves(self) -> None:
        clients = [self.open(), self.open(socket.AF_INET), self.open()]
        self.fake.close_gate()
        self.fake.mailbox.close()
        self.fake.kept.close()
        self.fake.station.advance(Stage.ORPHANED)
        for connection in self.fake.worker.connections():
            connection.close()
        self.assertEqual([client.recv(9) for client in clients], [b""] * 3)

    def test_who_comes_between_a_look_and_the_end_of_the_supervisor_is_served(self) -> None:
        accept = self.fake.station.listeners.accept  # type: ignore[union-attr]
        clients: list[socket.socket] = []

        def accept_too_early() -> object:
            looked = accept()
            if not clients:
                clients.extend(self.open() for _ in range(3))
                self.fake.mailbox.close()
            return looked

        with unittest.mock.patch.object(self.fake.station.listeners, "accept", accept_too_early):
            for connection in self.fake.worker.connections():
                connection.close()
        self.assertEqual([client.recv(9) for client in clients], [b""] * 3)

    def assert_nothing_to_accept(self) -> None:
        """Also where it would be readable for ever."""
        self.assertIs(self.fake.worker._try_claim(), Word.NOTHING)
        listeners = self.fake.station.listeners
        assert listeners is not None
        waiting = select.poll()
        waiting.register(listeners, select.POLLIN)
        self.assertEqual(waiting.poll(0), [])

    def test_a_path_that_is_shut_down_is_served_to_its_end_and_waited_at_no_more(self) -> None:
        client = self.open()
        self.unix.shutdown(socket.SHUT_RD)
        self.accept().close()
        self.assertEqual(client.recv(9), b"")
        self.assert_nothing_to_accept()
        self.open(socket.AF_INET)
        with self.accept() as connection:
            self.assertEqual(connection.ticket.listener, 1)

    def test_tcp_that_is_shut_down_is_waited_at_no_more(self) -> None:
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.assert_nothing_to_accept()
        self.open()
        with self.accept() as connection:
            self.assertEqual(connection.ticket.listener, 0)

    def test_a_listener_that_the_program_has_closed_is_an_error(self) -> None:
        self.unix.close()
        with self.assertRaisesRegex(MailboxFailed, "cannot receive a connection"):
            self.fake.worker.next()


class Descriptors(Accepting):
    def test_without_a_free_descriptor_the_reserve_serves_and_nothing_is_lost(self) -> None:
        clients = [self.open() for _ in range(4)]
        with no_descriptor_left():
            for _ in clients:
                self.accept().close()
        self.assertEqual([client.recv(9) for client in clients], [b""] * 4)
        self.assertEqual((self.fake.counts(), [end.outcome for end in self.fake.ended()]), ((4, 0), [0] * 4))

    def test_who_starves_for_too_long_says_so_and_leaves_them_to_others(self) -> None:
        client = self.open()
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
        self.assertEqual(self.fake.counts(), (0, 0))
        theirs, _address = self.unix.accept()
        theirs.close()
        self.assertEqual(client.recv(9), b"")


class Crowds(Accepting):
    def test_threads_accept_each_connection_once(self) -> None:
        served: list[int] = []

        def handler(connection: Connection) -> None:
            served.append(connection.ticket.conn)

        serving = self.in_thread(lambda: self.fake.worker.serve(handler))
        for _ in range(RECORDS):
            self.assertEqual(self.open().recv(9), b"")
        self.fake.mailbox.shutdown(socket.SHUT_WR)
        serving.join(PATIENCE_S)
        self.assertFalse(serving.is_alive())
        self.assertEqual((sorted(served), self.fake.counts()), (list(range(1, RECORDS + 1)), (RECORDS, 0)))

    def test_two_workers_at_one_listener_take_each_connection_once(self) -> None:
        other = Fake(listeners=[self.unix, self.tcp])
        self.addCleanup(other.close)
        other.open_gate()
        serving = [
            self.in_thread(lambda: self.fake.worker.serve(lambda _connection: None, 1)),
            self.in_thread(lambda: other.worker.serve(lambda _connection: None)),
        ]
        for _ in range(RECORDS):
            self.assertEqual(self.open().recv(9), b"")
        for fake, thread in zip((self.fake, other), serving):
            fake.mailbox.shutdown(socket.SHUT_WR)
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        self.assertEqual(self.fake.counts()[0] + other.counts()[0], RECORDS)


class Loops(Accepting):
    def serve(self, handler: Callable[[AsyncConnection], object]) -> threading.Thread:
        async def handle(connection: AsyncConnection) -> None:
            result = handler(connection)
            if asyncio.iscoroutine(result):
                await result

        return self.in_thread(lambda: asyncio.run(self.fake.worker.aserve(handle)))

    def drain(self, serving: threading.Thread) -> None:
        self.fake.mailbox.shutdown(socket.SHUT_WR)
        serving.join(PATIENCE_S)
        self.assertFalse(serving.is_alive())

    def test_a_loop_accepts_and_leaves_at_the_mailbox_s_end(self) -> None:
        serving = self.serve(lambda connection: None)
        for _ in range(3):
            self.assertEqual(self.open().recv(9), b"")
            self.assertEqual(self.open(socket.AF_INET).recv(9), b"")
        self.drain(serving)
        self.assertEqual((self.fake.counts(), len(self.fake.ended())), ((6, 0), 6))

    def test_a_loop_holds_as_many_as_it_has_places(self) -> None:
        self.begin(concurrency=2)
        held = threading.Semaphore(0)

        async def echo(connection: AsyncConnection) -> None:
            held.release()
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection.socket, await loop.sock_recv(connection.socket, 9))

        serving = self.serve(echo)
        clients = [self.open() for _ in range(3)]
        self.assertTrue(held.acquire(timeout=PATIENCE_S) and held.acquire(timeout=PATIENCE_S))
        self.assertFalse(held.acquire(timeout=0.3))
        self.assertEqual(self.fake.counts(), (2, 0))
        for client in clients:
            client.sendall(b"hi")
            self.assertEqual(client.recv(9), b"hi")
        self.drain(serving)
        self.assertEqual((self.fake.counts(), len(self.fake.ended())), ((3, 0), 3))

    def test_a_loop_looks_at_its_gate_by_itself(self) -> None:
        self.fake.close_gate()
        serving = self.serve(lambda connection: None)
        client = self.open()
        self.assertEqual(self.fake.control.recv(99), READY)
        self.fake.open_gate()
        self.assertEqual(client.recv(9), b"")
        self.fake.close_gate()
        self.drain(serving)
        self.assertEqual(self.fake.counts(), (1, 0))


if __name__ == "__main__":
    unittest.main()
