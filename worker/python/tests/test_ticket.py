"""Is a ticket the bytes that shared/src/ticket.rs holds?"""

import unittest

from ostler_worker import Family, Peer, Ticket
from ostler_worker._ticket import BadTicket, read_ticket

GOLDEN = bytes.fromhex(
    "0100010103000000 0807060504030201 1817161514131211 e803000064000000 9210000000000000".replace(" ", "")
)


class Tickets(unittest.TestCase):
    def test_the_layout_of_a_ticket_is_these_bytes(self) -> None:
        read = Ticket(0x0102030405060708, 3, Family.UNIX, 0x1112131415161718, Peer(1000, 100, 4242))
        self.assertEqual(read_ticket(GOLDEN), read)

    def test_over_tcp_nobody_knows_the_peer(self) -> None:
        over_tcp = GOLDEN[:2] + bytes([6, 0]) + GOLDEN[4:]
        ticket = read_ticket(over_tcp)
        self.assertEqual((ticket.family, ticket.peer), (Family.V6, None))

    def test_what_is_not_a_ticket_is_refused(self) -> None:
        for bad in (b"", GOLDEN[:39], GOLDEN + b"\0", b"\2" + GOLDEN[1:], GOLDEN[:2] + b"\x09" + GOLDEN[3:]):
            with self.subTest(bad), self.assertRaises(BadTicket):
                read_ticket(bad)


if __name__ == "__main__":
    unittest.main()
