//! A journal whose files were cut or changed by a disk: what was not hit is all there, in order, once.

use std::path::Path;

use handfast_telemetry::journal::{Journal, JournalSettings, Position, frame};
use proptest::prelude::*;

use crate::support::{chunks, number, open, read_all, record, run, small};

/// A journal of records with these sizes, one batch each; says where each ends.
fn filled(directory: &Path, sizes: &[usize], settings: JournalSettings) -> Vec<Position> {
    run(async {
        let (journal, _) = open(directory, settings);
        let mut ends = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let batch = vec![record(n as u64, *size)];
            ends.push(journal.append(batch).await.unwrap().durable().await.unwrap());
        }
        ends
    })
}

fn numbers(journal: &Journal) -> Vec<u64> {
    read_all(journal).iter().map(|(_, record)| number(record)).collect()
}

#[test]
fn an_end_cut_at_any_byte_leaves_what_is_before_it_and_new_records_go_behind() {
    let directory = tempfile::tempdir().unwrap();
    let ends = filled(directory.path(), &[20, 8, 300, 64], JournalSettings::default());
    let path = chunks(directory.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let first = usize::try_from(ends[0].as_u64()).unwrap() - frame::length(&record(0, 20));
    for cut in 0..whole.len() {
        for chunk in chunks(directory.path()) {
            std::fs::remove_file(chunk).unwrap();
        }
        std::fs::write(&path, &whole[..cut]).unwrap();
        let kept = ends.iter().filter(|end| end.as_u64() <= cut as u64).count();
        let (journal, repair) = open(directory.path(), JournalSettings::default());
        let whole_ones = 0..kept as u64;
        assert_eq!(numbers(&journal), whole_ones.clone().collect::<Vec<_>>(), "cut at {cut}");
        if cut >= first {
            let good = if kept == 0 { first as u64 } else { ends[kept - 1].as_u64() };
            assert_eq!(repair.cut_bytes, cut as u64 - good, "cut at {cut}");
            assert_eq!(repair.set_aside.len(), usize::from(repair.cut_bytes > 0));
        }
        run(async {
            journal.append(vec![record(77, 50)]).await.unwrap().durable().await.unwrap();
        });
        let expected: Vec<u64> = whole_ones.chain([77]).collect();
        assert_eq!(numbers(&journal), expected, "cut at {cut}");
        drop(journal);
        let (journal, again) = open(directory.path(), JournalSettings::default());
        assert!(again.is_clean(), "repaired once: {again:?}");
        assert_eq!(numbers(&journal), expected, "reopened, cut at {cut}");
    }
    let aside = std::fs::read_dir(directory.path()).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|ending| ending == "damaged")
    });
    assert!(aside.count() <= 8, "what is kept aside does not grow for ever");
}

#[test]
fn a_changed_byte_anywhere_costs_one_record_at_most() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[20, 8, 300, 64, 10], JournalSettings::default());
    let path = chunks(directory.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    for byte in 0..whole.len() {
        for chunk in chunks(directory.path()) {
            std::fs::remove_file(chunk).unwrap();
        }
        let mut changed = whole.clone();
        changed[byte] ^= 0x10;
        std::fs::write(&path, &changed).unwrap();
        let (journal, repair) = open(directory.path(), JournalSettings::default());
        let left = numbers(&journal);
        assert!(left.len() >= 4, "byte {byte}: {left:?}");
        assert!(left.windows(2).all(|two| two[0] < two[1]));
        // Both copies of the chunk's header are there for the case that one is hit.
        assert_eq!(left.len() == 5, repair.is_clean(), "byte {byte}");
    }
}

#[test]
fn damage_in_a_sealed_chunk_is_stepped_over_and_counted_by_who_reads() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[500; 30], small());
    let path = chunks(directory.path()).remove(1);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 700].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let (journal, repair) = open(directory.path(), small());
    assert!(repair.is_clean(), "only the newest chunk is read when it is opened");
    let mut reader = journal.reader(Position::START);
    let mut left = Vec::new();
    loop {
        let batch = reader.next_batch(1 << 20).unwrap();
        if batch.is_empty() {
            break;
        }
        left.extend(batch.iter().map(|(_, record)| number(record)));
    }
    assert!((27..=28).contains(&left.len()), "{left:?}");
    assert!(left.windows(2).all(|two| two[0] < two[1]));
    assert!(reader.damaged_bytes() >= 700);
    assert_eq!(reader.position(), journal.end());
}

#[test]
fn a_chunk_of_nonsense_is_kept_aside_and_the_rest_is_read() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), &[500; 30], small());
    let all = chunks(directory.path());
    let end = std::fs::metadata(all.last().unwrap()).unwrap().len();
    for path in [&all[0], all.last().unwrap()] {
        let length = std::fs::metadata(path).unwrap().len();
        std::fs::write(path, vec![b'?'; usize::try_from(length).unwrap()]).unwrap();
    }
    let (journal, repair) = open(directory.path(), small());
    assert_eq!(repair.damaged_chunks, 2);
    assert_eq!(repair.set_aside.len(), 2);
    assert!(repair.set_aside.iter().all(|path| path.exists()));
    let before = numbers(&journal);
    assert!(!before.is_empty());
    // Nothing new is put where something else was.
    let last: u64 = all.last().unwrap().file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!(journal.end(), Position::new(last + end));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_files_what_was_not_hit_is_read_in_order_once(
        sizes in prop::collection::vec(8_usize..2_000, 1..40),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let ends = filled(directory.path(), &sizes, small());
        let files = chunks(directory.path());
        let base = |path: &Path| -> u64 {
            path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
        };
        // What was hit, as positions in the journal.
        let mut hit = Vec::new();
        for (file, byte, with) in hits {
            let path = &files[file.index(files.len())];
            let mut bytes = std::fs::read(path).unwrap();
            let at = byte.index(bytes.len());
            bytes[at] ^= with;
            hit.push(base(path) + at as u64);
            std::fs::write(path, bytes).unwrap();
        }
        if let Some(cut) = cut {
            let path = files.last().unwrap();
            let mut bytes = std::fs::read(path).unwrap();
            let at = cut.index(bytes.len());
            hit.extend((at..bytes.len()).map(|at| base(path) + at as u64));
            bytes.truncate(at);
            std::fs::write(path, bytes).unwrap();
        }
        // A chunk of which both copies of the header were hit, or that has no whole one, is lost as a whole.
        let header = |base: u64| (base..base + 40, base + 40..base + 80);
        let lost_chunk = |base: u64| {
            let (first, second) = header(base);
            hit.iter().any(|at| first.contains(at)) && hit.iter().any(|at| second.contains(at))
        };
        let expected: Vec<u64> = (0..sizes.len()).filter(|index| {
            let end = ends[*index].as_u64();
            let begin = end - frame::length(&record(*index as u64, sizes[*index])) as u64;
            let chunk = files.iter().map(|path| base(path)).filter(|base| *base <= begin).max().unwrap();
            !lost_chunk(chunk) && !hit.iter().any(|at| (begin..end).contains(at))
        }).map(|index| index as u64).collect();

        let (journal, _) = open(directory.path(), small());
        let left = numbers(&journal);
        // A hit that changed nothing (exclusive or with zero) costs nothing: at least what was not hit is there.
        prop_assert!(left.windows(2).all(|two| two[0] < two[1]), "{:?}", left);
        prop_assert!(expected.iter().all(|number| left.binary_search(number).is_ok()), "{:?} {:?}", expected, left);
        for record in read_all(&journal) {
            prop_assert_eq!(&record.1, &self::record(number(&record.1), sizes[usize::try_from(number(&record.1)).unwrap()]));
        }
        // And it goes on from there.
        run(async {
            journal.append(vec![record(1_000, 100)]).await.unwrap().durable().await.unwrap();
        });
        let after = numbers(&journal);
        prop_assert_eq!(after.last(), Some(&1_000));
        prop_assert_eq!(&after[..after.len() - 1], &left[..]);
    }
}
