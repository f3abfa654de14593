//! What is appended is read, in order, once, when it is durable and not before; within its limits.

use std::time::Duration;

use handfast_telemetry::Record;
use handfast_telemetry::journal::{
    AppendError, Cursor, Journal, JournalError, JournalSettings, Position, WhenFull, frame,
};

use crate::support::{chunks, number, open, read_all, read_from, record, records, run, small};

#[test]
fn what_was_appended_is_read_in_order_once_and_again_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let written: Vec<Record> = (0..500).map(|n| record(n, usize::try_from(n).unwrap())).collect();
    let end = run(async {
        let (journal, repair) = open(directory.path(), small());
        assert!(repair.is_clean());
        let mut end = Position::START;
        for batch in written.chunks(7) {
            end = journal.append(batch.to_vec()).await.unwrap().durable().await.unwrap();
            assert_eq!(journal.end(), end);
        }
        assert_eq!(records(read_all(&journal)), written);
        assert!(journal.status().chunks > 10);
        end
    });
    let (journal, repair) = open(directory.path(), small());
    assert!(repair.is_clean(), "{repair:?}");
    assert_eq!(journal.end(), end);
    assert_eq!(journal.status().records, 500);
    let all = read_all(&journal);
    // Each place leads to the rest.
    for (index, (position, _)) in all.iter().enumerate().step_by(37) {
        assert_eq!(read_from(&journal, *position), all[index..]);
    }
    assert_eq!(records(all), written);
    assert_eq!(journal.status().lag(end), 0);
}

#[test]
fn many_at_once_share_flushes_and_each_batch_stays_together() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (journal, _) = open(directory.path(), small());
        let mut tasks = Vec::new();
        for task in 0..20_u64 {
            let journal = journal.clone();
            tasks.push(tokio::spawn(async move {
                for round in 0..20_u64 {
                    let first = task * 1000 + round * 10;
                    let batch = (first..first + 10).map(|n| record(n, 40)).collect();
                    let end = journal.append(batch).await.unwrap().durable().await.unwrap();
                    // Whoever was answered can read it.
                    let read = read_from(&journal, Position::START);
                    assert!(read.iter().any(|(at, r)| number(r) == first + 9 && *at < end));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let numbers: Vec<u64> = read_all(&journal).iter().map(|(_, r)| number(r)).collect();
        assert_eq!(numbers.len(), 4000);
        assert!(numbers.chunks(10).all(|batch| batch.windows(2).all(|two| two[0] + 1 == two[1])));
        for task in 0..20 {
            let of_task: Vec<u64> =
                numbers.iter().copied().filter(|number| number / 1000 == task).collect();
            assert!(of_task.is_sorted(), "what one appends stays in its order");
        }
    });
}

#[test]
fn who_reads_is_woken_by_what_is_durable_and_by_the_end() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (journal, _) = open(directory.path(), small());
        let before = journal.end();
        let waiting = tokio::spawn({
            let journal = journal.clone();
            async move {
                assert!(journal.grown(before).await);
                journal.reader(before).next_batch(1).unwrap().len()
            }
        });
        journal.append(vec![record(1, 8)]).await.unwrap().durable().await.unwrap();
        assert_eq!(waiting.await.unwrap(), 1);
    });
}

#[test]
fn what_waits_in_memory_is_bounded_and_nobody_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let settings = JournalSettings { queue_bytes: 10_000, ..small() };
        let (journal, _) = open(directory.path(), settings);
        // Together far more than may wait, and one alone too.
        let mut waiting = Vec::new();
        for n in 0..50 {
            let journal = journal.clone();
            waiting.push(tokio::spawn(async move {
                let size = if n == 25 { 200_000 } else { 5_000 };
                journal.append(vec![record(n, size)]).await.unwrap().durable().await.unwrap();
            }));
        }
        for task in waiting {
            tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
        }
        assert_eq!(read_all(&journal).len(), 50);
    });
}

#[test]
fn a_full_journal_refuses_and_takes_again_when_it_was_drained() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let settings = JournalSettings { limit_bytes: 40_000, ..small() };
        let (journal, _) = open(directory.path(), settings);
        let mut accepted = 0;
        let refused = loop {
            match journal.append(vec![record(accepted, 900)]).await.unwrap().durable().await {
                Ok(_) => accepted += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, AppendError::Full { limit: 40_000, .. }), "{refused}");
        assert!(refused.to_string().contains("raise the limit"), "{refused}");
        assert!(journal.status().bytes <= 40_000);
        assert_eq!(journal.status().refused_batches, 1);
        assert_eq!(read_all(&journal).len() as u64, accepted, "what was refused is not there");

        let mut reader = journal.reader(Position::START);
        while !reader.next_batch(10_000).unwrap().is_empty() {}
        assert!(journal.release(reader.position()).unwrap() > 30_000);
        journal.append(vec![record(7, 900)]).await.unwrap().durable().await.unwrap();
        assert_eq!(number(&reader.next_batch(1).unwrap()[0].1), 7);
    });
}

#[test]
fn a_full_journal_drops_its_oldest_when_told_to_and_counts_it() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let settings =
            JournalSettings { limit_bytes: 40_000, when_full: WhenFull::DropOldest, ..small() };
        let (journal, _) = open(directory.path(), settings);
        let mut early = journal.reader(Position::START);
        for n in 0..200 {
            journal.append(vec![record(n, 900)]).await.unwrap().durable().await.unwrap();
            if n == 0 {
                assert_eq!(early.next_batch(1).unwrap().len(), 1);
            }
            assert!(journal.status().bytes <= 40_000);
        }
        let status = journal.status();
        let left: Vec<u64> = read_all(&journal).iter().map(|(_, r)| number(r)).collect();
        assert_eq!(*left.last().unwrap(), 199);
        assert!(left.windows(2).all(|two| two[0] + 1 == two[1]), "the newest, without holes");
        assert_eq!(status.dropped_records + left.len() as u64, 200);
        assert!(status.dropped_bytes > 0 && status.oldest > Position::START);
        // Who was reading goes on with what is left.
        assert_eq!(number(&early.next_batch(1).unwrap()[0].1), left[0]);
    });
}

/// The newest chunk cannot be given back, and may be all that there is: of a time when the limit was higher, or one batch
/// that was larger than a chunk should be.
#[test]
fn a_limit_below_the_one_chunk_that_is_left_does_not_refuse_for_ever() {
    for (before, sizes, after, fits) in [
        (small().limit_bytes, &[900; 60][..], 40_000, true),
        (100_000, &[90_000], 100_000, true),
        // Nothing goes for what would not fit then either.
        (small().limit_bytes, &[900; 60], 20_000, false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let journal = |limit_bytes, when_full| {
            let chunk_bytes = small().limit_bytes;
            let settings = JournalSettings { chunk_bytes, limit_bytes, when_full, ..small() };
            open(directory.path(), settings).0
        };
        let written: Vec<Record> = (0..).zip(sizes).map(|(n, size)| record(n, *size)).collect();
        let more = record(99, if fits { 19_000 } else { 20_000 });
        run(async {
            let append = async |journal: &Journal, records| {
                journal.append(records).await.unwrap().durable().await
            };
            let first = journal(before, WhenFull::Refuse);
            let end = append(&first, written.clone()).await.unwrap();
            assert_eq!(first.status().chunks, 1);
            drop(first);

            let lowered = journal(after, WhenFull::Refuse);
            for _ in 0..2 {
                let refused = append(&lowered, vec![more.clone()]).await.unwrap_err();
                assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
            }
            assert_eq!(lowered.status().chunks, 1);
            let mut reader = lowered.reader(Position::START);
            let mut read = Vec::new();
            for _ in &written {
                read.extend(reader.next_batch(1).unwrap());
                lowered.release(reader.position()).unwrap();
                if reader.position() < end {
                    append(&lowered, vec![more.clone()]).await.unwrap_err();
                }
            }
            assert_eq!(records(read), written, "nothing that was accepted is lost");
            if !fits {
                append(&lowered, vec![more.clone()]).await.unwrap_err();
                assert_eq!(records(read_all(&lowered)), written, "nor given up in vain");
                return;
            }
            append(&lowered, vec![more.clone()]).await.unwrap();
            assert_eq!(reader.next_batch(1).unwrap()[0].1, more);
            let status = lowered.status();
            assert!(status.bytes <= after && status.oldest >= end, "{status:?}");
            assert_eq!((status.dropped_records, status.records), (0, written.len() as u64 + 1));
        });
    }
}

#[test]
fn who_drops_the_oldest_drops_the_one_chunk_that_is_larger_than_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (journal, _) =
            open(directory.path(), JournalSettings { chunk_bytes: 1 << 20, ..small() });
        let batch = (0..60).map(|n| record(n, 900)).collect();
        journal.append(batch).await.unwrap().durable().await.unwrap();
        drop(journal);
        let settings =
            JournalSettings { limit_bytes: 40_000, when_full: WhenFull::DropOldest, ..small() };
        let (journal, _) = open(directory.path(), settings);
        // What can never be taken costs nobody anything.
        let never = journal.append(vec![record(60, 40_000)]).await.unwrap().durable().await;
        assert!(matches!(never, Err(AppendError::Full { .. })), "{never:?}");
        assert_eq!(journal.status().dropped_records, 0);
        journal.append(vec![record(61, 900)]).await.unwrap().durable().await.unwrap();
        let left: Vec<u64> = read_all(&journal).iter().map(|(_, r)| number(r)).collect();
        assert_eq!((left, journal.status().dropped_records), (vec![61], 60));
    });
}

#[test]
fn a_journal_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path(), small());
    let second = Journal::open(directory.path(), small()).unwrap_err();
    assert!(matches!(second, JournalError::InUse { .. }), "{second}");
    drop(journal);
    open(directory.path(), small());
}

#[test]
fn a_record_that_is_too_large_is_refused_before_it_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let (journal, _) = open(directory.path(), small());
        let refused = journal.append(vec![record(1, frame::LARGEST_BODY + 1)]).await.unwrap_err();
        assert!(matches!(refused, AppendError::RecordTooLarge { .. }), "{refused}");
        let mut named = record(1, 8);
        named.reporter = vec![b'a'; frame::LONGEST_REPORTER + 1].into();
        assert!(journal.append(vec![named]).await.is_err());
        assert!(read_all(&journal).is_empty());
    });
}

#[test]
fn a_cursor_and_what_was_released_are_where_they_were_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("forwarder.cursor");
    run(async {
        let (journal, _) = open(directory.path(), small());
        for n in 0..100 {
            journal.append(vec![record(n, 500)]).await.unwrap().durable().await.unwrap();
        }
        let mut reader = journal.reader(Position::START);
        let mut done = 0;
        while done < 60 {
            done += reader.next_batch(1000).unwrap().len();
        }
        let mut cursor = Cursor::open(&place).unwrap();
        cursor.commit(reader.position()).unwrap();
        journal.release(cursor.position()).unwrap();
        assert!(chunks(directory.path()).len() < 10);
    });
    let (journal, _) = open(directory.path(), small());
    let cursor = Cursor::open(&place).unwrap();
    let rest: Vec<u64> =
        read_from(&journal, cursor.position()).iter().map(|(_, r)| number(r)).collect();
    assert_eq!(rest.last(), Some(&99));
    assert_eq!(rest.len() as u64, 100 - rest[0]);
    assert!(rest[0] >= 60);

    // Somebody emptied the directory but for the cursor: everything new is seen.
    drop(journal);
    for chunk in chunks(directory.path()) {
        std::fs::remove_file(chunk).unwrap();
    }
    run(async {
        let (journal, _) = open(directory.path(), small());
        let mut reader = journal.reader(cursor.position());
        journal.append(vec![record(5, 8)]).await.unwrap().durable().await.unwrap();
        assert_eq!(number(&reader.next_batch(1).unwrap()[0].1), 5);
    });
}
