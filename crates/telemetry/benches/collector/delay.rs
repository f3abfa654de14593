//! What a relay adds to a call, on an otherwise idle machine.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::load::{SEGMENTS, agent, segment};
use crate::server::Server;

/// The median of a call through the relay, less that of a call to the collector. Both answer when the
/// report is on the disk, so what is left is what the relay itself takes.
pub(crate) async fn added(
    place: &Path,
    collector: &Server,
    relay: &Server,
    life: Duration,
) -> Duration {
    let (direct, through) = (agent(place, collector), agent(place, relay));
    let (mut of_direct, mut of_relay, mut of_question) = (Vec::new(), Vec::new(), Vec::new());
    let mut of_question_direct = Vec::new();
    let start = Instant::now();
    let mut number = 1 << 40;
    // A question is passed through to the collector and back: what the way costs.
    let question = [Bytes::from_static(b"\x0a\x04shop\x12\x06shop-1")];
    let tasks = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
    while start.elapsed() < life {
        for (caller, took) in [(&direct, &mut of_direct), (&through, &mut of_relay)] {
            number += 1;
            let message = Bytes::from(segment(number));
            let begin = Instant::now();
            caller.call(SEGMENTS, &[message]).await.unwrap();
            took.push(begin.elapsed());
        }
        for (caller, took) in [(&direct, &mut of_question_direct), (&through, &mut of_question)] {
            let begin = Instant::now();
            caller.call(tasks, &question).await.unwrap();
            took.push(begin.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let p50 = |mut took: Vec<Duration>| {
        took.sort();
        took[took.len() / 2]
    };
    let (direct, relay) = (p50(of_direct), p50(of_relay));
    let (question_direct, question) = (p50(of_question_direct), p50(of_question));
    println!(
        "     a report, p50: {} us to the collector, {} us to the relay; a question: {} us, {} us through the relay",
        direct.as_micros(),
        relay.as_micros(),
        question_direct.as_micros(),
        question.as_micros(),
    );
    question.saturating_sub(question_direct)
}
