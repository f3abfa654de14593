//! What lies aside, over real files: given back, thrown away, dropped because there was no room, and what is known of
//! it after a restart.

use std::path::PathBuf;

use handfast_pki::SystemEntropy;
use handfast_proto::skywalking::v3::LogData;
use prost::Message as _;

use super::*;

struct Place {
    directory: tempfile::TempDir,
    limit: u64,
}

impl Place {
    fn of(limit: u64) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), limit }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("aside")
    }

    fn open(&self) -> Arc<Aside> {
        Arc::new(Aside::open(&self.path(), self.limit).unwrap())
    }

    fn spool(&self, limit_bytes: u64) -> Journal {
        let settings = JournalSettings { limit_bytes, ..JournalSettings::default() };
        Journal::open(self.directory.path().join("spool"), settings).unwrap().0
    }
}

fn record(service: &str, endpoint: &str) -> Record {
    let log = LogData {
        service: service.to_owned(),
        endpoint: endpoint.to_owned(),
        ..LogData::default()
    };
    Record {
        body: log.encode_to_vec().into(),
        kind: RecordKind::Log,
        received: moment(),
        reporter: Bytes::from_static(b"spiffe://shop.example/agent/shop"),
    }
}

fn moment() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn of(service: &str) -> Chosen {
    Chosen { services: vec![service.to_owned()], ..Chosen::default() }
}

async fn put(aside: &Aside, records: Vec<Record>) {
    aside.put(records, "PERMISSION_DENIED: no", moment(), &Dice::new(SystemEntropy)).await;
}

fn all(journal: &Journal) -> Vec<Record> {
    let mut reader = journal.reader(Position::START);
    reader.next_batch(usize::MAX).unwrap().into_iter().map(|(_, record)| record).collect()
}

#[tokio::test]
async fn what_is_put_back_is_as_it_was_and_the_rest_stays_over_a_restart() {
    let place = Place::of(ASIDE_BYTES);
    let aside = place.open();
    for n in 0..6 {
        put(&aside, vec![record(["shop", "bank"][n % 2], &n.to_string())]).await;
    }
    let listed = aside.list(&Chosen::default(), None, 100).unwrap();
    assert_eq!(listed.len(), 6);
    assert_eq!((listed[1].service.as_str(), listed[1].kind), ("bank", RecordKind::Log));
    assert_eq!(
        (listed[1].at, listed[1].reason.as_str()),
        (Some(moment()), "PERMISSION_DENIED: no")
    );
    assert_eq!(listed[1].reporter, "spiffe://shop.example/agent/shop");
    let page = aside.list(&Chosen::default(), Some(listed[1].id), 2).unwrap();
    assert_eq!(page, listed[2..4]);
    let (facts, body) = aside.find(listed[3].id).unwrap().expect("it is there");
    assert_eq!((facts, body), (listed[3].clone(), record("bank", "3").body));
    assert_eq!(aside.find(listed[3].id + 1).unwrap(), None, "in the middle of one is none");

    let spool = place.spool(1 << 20);
    let dealt = aside.deal(&of("bank"), Some(&spool)).await.unwrap();
    assert_eq!((dealt.records, dealt.bytes), (3, 3 * record("bank", "0").body.len() as u64));
    assert_eq!(all(&spool), [1, 3, 5].map(|n| record("bank", &n.to_string())));
    let one = Chosen { ids: vec![listed[0].id, listed[1].id], ..Chosen::default() };
    assert_eq!(aside.deal(&one, None).await.unwrap().records, 1, "the other is gone already");
    assert_eq!(aside.status(), AsideStatus { records: 2, dropped: 0, count: 6 });
    drop(aside);
    let aside = place.open();
    assert_eq!(aside.status(), AsideStatus { records: 2, dropped: 0, count: 0 });
    let left: Vec<u64> =
        aside.list(&Chosen::default(), None, 9).unwrap().iter().map(|one| one.id).collect();
    assert_eq!(left, [listed[2].id, listed[4].id]);
    put(&aside, vec![record("shop", "later")]).await;
    assert_eq!(aside.status().records, 3);
}

#[tokio::test]
async fn without_room_in_the_spool_what_does_not_fit_stays_aside() {
    let place = Place::of(ASIDE_BYTES);
    let aside = place.open();
    put(&aside, (0..200).map(|n| record("shop", &format!("{n:0>200}"))).collect()).await;
    let spool = place.spool(16 << 10);
    let error = aside.deal(&Chosen::default(), Some(&spool)).await.unwrap_err();
    assert!(matches!(error.why, AsideFault::Spool(AppendError::Full { .. })), "{error}");
    let (there, here) = (all(&spool).len() as u64, aside.status().records);
    assert!(there > 0, "as many as fit are put back");
    assert!(there + here >= 200 && here > 0, "{there} there, {here} here");
}

#[tokio::test]
async fn what_has_no_room_is_counted_and_what_was_dealt_with_before_is_not() {
    let place = Place::of(64 << 10);
    let aside = place.open();
    let some = |n: usize| (0..n).map(|n| record("shop", &format!("{n:0>300}"))).collect::<Vec<_>>();
    let mut ever = 0;
    while aside.journal.status().chunks < 3 {
        put(&aside, some(5)).await;
        ever += 5;
    }
    // All but the first record are dealt with: the chunk of that one cannot be given back.
    let first = aside.list(&Chosen::default(), None, 1).unwrap()[0].id;
    let others = aside.list(&Chosen::default(), Some(first), 1000).unwrap();
    let ids = others.iter().map(|one| one.id).collect();
    aside.deal(&Chosen { ids, ..Chosen::default() }, None).await.unwrap();
    assert_eq!(aside.status(), AsideStatus { records: 1, dropped: 0, count: ever });
    while aside.journal.status().dropped_records == 0 {
        put(&aside, some(5)).await;
    }
    assert_eq!(aside.status().dropped, 1);
    let gone = aside.journal.status().dropped_records;
    while aside.journal.status().dropped_records < gone + 60 {
        put(&aside, some(5)).await;
    }
    let status = aside.status();
    assert!(status.dropped > 1 && status.dropped < aside.journal.status().dropped_records);
    let listed = aside.list(&Chosen::default(), None, 10_000).unwrap().len() as u64;
    assert_eq!(listed, status.records);
    assert_eq!(status.count, listed + status.dropped + others.len() as u64);
}

#[tokio::test]
async fn what_is_all_dealt_with_gives_its_room_back() {
    let place = Place::of(256 << 10);
    let aside = place.open();
    while aside.journal.status().chunks < 4 {
        put(&aside, (0..20).map(|n| record("shop", &format!("{n:0>300}"))).collect()).await;
    }
    let before = aside.status().records;
    assert_eq!(aside.deal(&Chosen::default(), None).await.unwrap().records, before);
    assert_eq!(aside.journal.status().chunks, 1, "the one that is appended to stays");
    assert_eq!((aside.status().records, aside.status().dropped), (0, 0));
    drop(aside);
    assert_eq!(place.open().status().records, 0);
}

#[tokio::test]
async fn an_emptied_directory_hides_nothing_that_comes_later() {
    let place = Place::of(ASIDE_BYTES);
    let aside = place.open();
    put(&aside, vec![record("shop", "1")]).await;
    aside.deal(&Chosen::default(), None).await.unwrap();
    drop(aside);
    // Only the chunks: what says what was dealt with is left.
    for entry in std::fs::read_dir(place.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "chunk") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let aside = place.open();
    put(&aside, vec![record("shop", "2")]).await;
    assert_eq!(aside.list(&Chosen::default(), None, 9).unwrap().len(), 1);
}
