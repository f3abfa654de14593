//! Over real files: a directory that is looked at while somebody writes it, and changed while nobody does.

use handfast_pki::SystemEntropy;
use handfast_proto::skywalking::v3::LogData;
use jiff::Timestamp;
use prost::Message as _;

use super::*;
use crate::record::RecordKind;
use crate::upstream::Dice;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// Where a forwarder was, with these services' records aside.
    async fn with(services: &[&str]) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        drop(place.spool());
        Cursor::open(place.path(CURSOR)).unwrap();
        put(&place.running(), services).await;
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn running(&self) -> Aside {
        Aside::open(&self.path(ASIDE), ASIDE_BYTES).unwrap()
    }

    fn spool(&self) -> Journal {
        Journal::open(self.path(SPOOL), JournalSettings::default()).unwrap().0
    }

    fn found(&self) -> AsideDirectory {
        AsideDirectory::find(self.directory.path()).expect("a forwarder was there")
    }

    fn services(&self) -> Vec<String> {
        let all = self.found().list(&Chosen::default(), None, 1000).unwrap();
        all.into_iter().map(|one| one.service).collect()
    }

    /// What whoever forwards next sends.
    fn to_send(&self) -> Vec<Record> {
        let spool = self.spool();
        let mut reader = spool.reader(Cursor::open(self.path(CURSOR)).unwrap().position());
        reader.next_batch(usize::MAX).unwrap().into_iter().map(|(_, record)| record).collect()
    }
}

fn record(service: &str) -> Record {
    let log = LogData { service: service.to_owned(), ..LogData::default() };
    Record {
        body: log.encode_to_vec().into(),
        kind: RecordKind::Log,
        received: Timestamp::UNIX_EPOCH,
        reporter: Bytes::from_static(b"spiffe://shop.example/agent/shop"),
    }
}

async fn put(aside: &Aside, services: &[&str]) {
    let dice = Dice::new(SystemEntropy);
    for service in services {
        aside.put(vec![record(service)], "no", Timestamp::UNIX_EPOCH, &dice).await;
    }
}

fn of(service: &str) -> Chosen {
    Chosen { services: vec![service.to_owned()], ..Chosen::default() }
}

#[tokio::test]
async fn it_is_looked_at_while_somebody_writes_and_changed_by_nobody_else() {
    let place = Place::with(&["shop", "bank"]).await;
    let running = Arc::new(place.running());
    put(&running, &["mint"]).await;
    assert_eq!(place.services(), ["shop", "bank", "mint"]);
    running.deal(&of("bank"), None).await.unwrap();
    assert_eq!(place.services(), ["shop", "mint"]);
    let listed = place.found().list(&Chosen::default(), None, 10).unwrap();
    assert_eq!(listed, running.list(&Chosen::default(), None, 10).unwrap());
    let one = place.found().one(listed[1].id).unwrap().unwrap();
    assert_eq!(one, (listed[1].clone(), record("mint").body));
    for refused in [
        place.found().retry(&Chosen::default(), 1 << 20).await,
        place.found().discard(&Chosen::default()).await,
    ] {
        let refused = refused.unwrap_err();
        let in_use = AsideDirectoryError::Open(JournalError::InUse { directory: PathBuf::new() });
        assert_eq!(std::mem::discriminant(&refused), std::mem::discriminant(&in_use), "{refused}");
    }
    assert_eq!(place.services(), ["shop", "mint"]);
}

#[tokio::test]
async fn what_is_half_written_is_not_there_yet_and_stays_as_it_is() {
    let place = Place::with(&["shop", "bank"]).await;
    let chunk = std::fs::read_dir(place.path(ASIDE)).unwrap().map(|entry| entry.unwrap().path());
    let chunk = chunk.into_iter().find(|path| path.extension().is_some_and(|it| it == "chunk"));
    let chunk = chunk.unwrap();
    let whole = std::fs::read(&chunk).unwrap();
    let one = (whole.len() - 80) / 2;
    for cut in 1..one {
        std::fs::write(&chunk, &whole[..whole.len() - cut]).unwrap();
        assert_eq!(place.services(), ["shop"], "without {cut} bytes");
        assert_eq!(std::fs::metadata(&chunk).unwrap().len(), (whole.len() - cut) as u64);
    }
    std::fs::write(&chunk, &whole).unwrap();
    assert_eq!(place.services(), ["shop", "bank"]);
}

#[tokio::test]
async fn what_is_put_back_is_sent_by_whoever_forwards_next() {
    let place = Place::with(&["shop", "bank", "shop"]).await;
    let spool = place.spool();
    let before = spool.append(vec![record("before")]).await.unwrap().durable().await.unwrap();
    Cursor::open(place.path(CURSOR)).unwrap().commit(before).unwrap();
    drop(spool);
    let dealt = place.found().retry(&of("shop"), 1 << 20).await.unwrap();
    assert_eq!(dealt.records, 2);
    assert_eq!(place.to_send(), [record("shop"), record("shop")]);
    assert_eq!(place.found().discard(&Chosen::default()).await.unwrap().records, 1);
    assert!(place.services().is_empty());
    assert_eq!(place.found().discard(&Chosen::default()).await.unwrap(), Dealt::default());
}

#[tokio::test]
async fn what_is_put_into_a_spool_that_somebody_emptied_is_sent_too() {
    let place = Place::with(&["shop"; 20]).await;
    // Farther than everything that is put there will reach, and than the first of it.
    for far in [1 << 30, 200] {
        std::fs::remove_dir_all(place.path(SPOOL)).unwrap();
        Cursor::open(place.path(CURSOR)).unwrap().commit(Position::new(far)).unwrap();
        let ids = place.found().list(&Chosen::default(), None, 10).unwrap();
        let ids = ids.into_iter().map(|one| one.id).collect();
        let chosen = Chosen { ids, ..Chosen::default() };
        assert_eq!(place.found().retry(&chosen, 1 << 20).await.unwrap().records, 10);
        assert_eq!(place.to_send().len(), 10, "{far}");
    }
}

#[tokio::test]
async fn without_room_in_the_spool_the_rest_stays_aside() {
    let place = Place::with(&[]).await;
    let long = "x".repeat(300);
    let services: Vec<&str> = std::iter::repeat_n(long.as_str(), 100).collect();
    put(&place.running(), &services).await;
    let refused = place.found().retry(&Chosen::default(), 16 << 10).await.unwrap_err();
    let AsideDirectoryError::Deal(AsideError { dealt, .. }) = &refused else {
        panic!("{refused}");
    };
    let (there, here) = (place.to_send().len(), place.services().len());
    assert!(there > 0 && here > 0 && there + here >= 100, "{there} there, {here} here: {dealt:?}");
}

#[test]
fn where_nobody_forwarded_nothing_is_found_and_nothing_made() {
    let directory = tempfile::tempdir().unwrap();
    assert!(AsideDirectory::find(directory.path()).is_none());
    assert!(AsideDirectory::find(directory.path().join("nowhere")).is_none());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
