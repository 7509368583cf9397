"""Are records, gauges and marks the words that shared/src/region.rs, completion.rs and marks.rs hold?"""

import os
import threading
import unittest

from fake import FIRST_MARK, FIRST_RECORD, RECORDS, memories, words
from ostler_worker import Marker, Outcome
from ostler_worker._completions import BadRegion, Beats, Completions, RingFull, WhenFull
from ostler_worker._marks import MarkBook


class Memory(unittest.TestCase):
    def setUp(self) -> None:
        self.region, self.gauges = memories()
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.addCleanup(os.close, self.doorbell)
        self.completions = Completions(self.region, self.gauges, self.doorbell)


class Records(Memory):
    def test_the_records_are_these_words_and_each_rings_once_while_the_supervisor_waits(self) -> None:
        self.gauges[17] = 1
        for number, outcome in enumerate(Outcome):
            self.completions.report(7, 8, outcome)
            at = FIRST_RECORD + 4 * number
            self.assertEqual((self.region[at], self.region[at + 1], self.region[at + 3]), (7, 8, number))
            self.assertGreater(self.region[at + 2], 8)
            self.assertEqual(self.region[16], number + 1)
            self.assertEqual(os.eventfd_read(self.doorbell), 1)

    def test_nobody_is_rung_for_who_looks_by_himself(self) -> None:
        self.completions.report(7, 8, Outcome.DONE)
        self.assertEqual(self.region[16], 1)
        with self.assertRaises(BlockingIOError):
            os.eventfd_read(self.doorbell)

    def test_a_full_bell_has_been_heard_or_will_be(self) -> None:
        self.gauges[17] = 1
        os.eventfd_write(self.doorbell, 2**64 - 2)
        self.completions.report(7, 8, Outcome.DONE)
        self.assertEqual(self.region[16], 1)

    def test_a_slot_is_used_again_when_its_record_is_consumed_and_not_before(self) -> None:
        for conn in range(RECORDS):
            self.completions.report(conn, 1, Outcome.DONE)
        with self.assertRaises(RingFull):
            self.completions.report(99, 1, Outcome.DONE)
        self.assertEqual((self.region[16], self.region[FIRST_RECORD]), (RECORDS, 0))
        self.gauges[16] = 1
        self.completions.report(99, 1, Outcome.DONE)
        self.assertEqual((self.region[16], self.region[FIRST_RECORD]), (RECORDS + 1, 99))

    def test_of_who_accepts_for_himself_what_has_no_room_is_counted(self) -> None:
        completions = Completions(self.region, self.gauges, self.doorbell, WhenFull.COUNTED)
        for _ in range(RECORDS + 3):
            conn = completions.note_accept()
        self.assertEqual((conn, self.region[5], completions.unfinished()), (RECORDS + 3, RECORDS + 3, RECORDS + 3))
        for conn in range(1, RECORDS + 3):
            completions.report(conn, 1, Outcome.DONE)
        self.assertEqual((self.region[16], self.region[6], completions.unfinished()), (RECORDS, 2, 1))
        self.gauges[16] = 1
        completions.report(RECORDS + 3, 1, Outcome.DONE)
        self.assertEqual((self.region[16], self.region[6], completions.unfinished()), (RECORDS + 1, 2, 0))
        self.assertEqual(self.region[FIRST_RECORD], RECORDS + 3)

    def test_threads_that_report_at_once_leave_no_record_out(self) -> None:
        region, gauges = words(32 + 1024 * 6), words(48)
        gauges[0], gauges[1] = self.gauges[0], 1024
        completions = Completions(region, gauges, self.doorbell)

        def report(first: int) -> None:
            for conn in range(first, first + 128):
                completions.report(conn, 1, Outcome.DONE)

        threads = [threading.Thread(target=report, args=(128 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(region[16], 1024)
        self.assertEqual(sorted(region[32 + 4 * number] for number in range(1024)), list(range(1024)))


class Gauges(Memory):
    def test_the_gauges_are_these_words(self) -> None:
        self.completions.offer(4)
        self.completions.note_claim(99)
        self.completions.promise(Beats.ALWAYS)
        self.assertEqual((self.region[1], self.region[2], self.region[3]), (4, 1, 2))
        self.assertGreater(self.region[0], 99)
        self.gauges[33] = 750
        self.assertEqual(self.completions.pressure(), 750)
        self.assertFalse(self.completions.may_accept())
        self.gauges[32] = 1
        self.assertTrue(self.completions.may_accept())

    def test_another_layout_and_a_ring_that_does_not_fit_are_refused(self) -> None:
        for at, bad in ((0, 1), (1, 0), (1, 3), (1, RECORDS * 2), (1, 1 << 25)):
            region, gauges = memories()
            gauges[at] = bad
            with self.subTest((at, bad)), self.assertRaises(BadRegion):
                Completions(region, gauges, self.doorbell)
        with self.assertRaises(BadRegion):
            Completions(words(8), words(8), self.doorbell)


class Marks(Memory):
    def setUp(self) -> None:
        super().setUp()
        self.book = MarkBook(self.completions)

    def mark(self, place: int) -> tuple[int, int]:
        at = FIRST_MARK + 2 * place
        return self.region[at], self.region[at + 1]

    def test_a_connection_is_not_marked_until_its_handler_marks_it(self) -> None:
        self.assertEqual(self.region[4], 1, "it says that it keeps marks")
        mark = self.book.begin(5)
        assert mark is not None
        self.assertEqual(self.mark(0), (5, 2))
        marker = Marker(mark)
        self.assertEqual(self.mark(0), (5, 1))
        with marker.busy():
            since = self.mark(0)[1]
            self.assertGreater(since, 2)
            with marker.busy():
                self.assertEqual(self.mark(0)[1], since)
            self.assertGreater(self.mark(0)[1], since, "the other one gets its time anew")
        self.assertEqual(self.mark(0), (5, 1))
        mark.end()
        self.assertEqual(self.mark(0), (5, 0))

    def test_nobody_writes_into_a_place_any_more_who_had_it_before(self) -> None:
        first = self.book.begin(5)
        assert first is not None
        marker = Marker(first)
        with marker.busy():
            first.end()
            self.book.begin(6)
        self.assertEqual(self.mark(0), (6, 2))
        Marker(first)
        self.assertEqual(self.mark(0), (6, 2))

    def test_more_connections_than_places_have_no_mark(self) -> None:
        for conn in range(RECORDS):
            self.assertIsNotNone(self.book.begin(conn))
        self.assertIsNone(self.book.begin(99))
        with Marker(None).busy():
            pass


if __name__ == "__main__":
    unittest.main()
