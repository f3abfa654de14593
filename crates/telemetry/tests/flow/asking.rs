//! Agents that ask at the same time, through relays and a collector: each is answered what was meant for it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use handfast_proto::skywalking::v3::{
    Command, Commands, ConfigurationSyncRequest, ProfileTaskCommandQuery,
};
use handfast_telemetry::forward::Dialect;
use handfast_telemetry::grpc::{Body, Code, Coding, Messages, message};
use handfast_telemetry::journal::JournalSettings;
use handfast_telemetry::port::Mode;
use handfast_telemetry::station::Output;
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::mirror::Mirror;
use crate::support::{Scene, grpc, plain_caller};

const TASKS: &str = "/skywalking.v3.ProfileTask/getProfileTaskCommands";
const SETTINGS: &str = "/skywalking.v3.ConfigurationDiscoveryService/fetchConfigurations";

/// Those who wait for their answer.
type Waiting = Arc<Mutex<Vec<oneshot::Sender<()>>>>;

/// A task for whoever asks. Four wait for one another, and who came last is answered first.
async fn answer(request: Request<Incoming>, waiting: Waiting) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let patience = std::time::Duration::from_secs(10);
    let question = Messages::new(request.into_body(), Coding::Identity, 1 << 16, patience)
        .only()
        .await
        .expect("one question");
    let asker = if path == TASKS {
        let query = ProfileTaskCommandQuery::decode(question).expect("a query");
        format!("{}/{}/{}", query.service, query.service_instance, query.last_command_time)
    } else {
        let request = ConfigurationSyncRequest::decode(question).expect("a request");
        format!("{}/{}", request.service, request.uuid)
    };
    let (sender, turn) = oneshot::channel();
    let four = {
        let mut waiting = waiting.lock().expect("no panic");
        waiting.push(sender);
        if waiting.len() == 4 { std::mem::take(&mut *waiting) } else { Vec::new() }
    };
    for next in four.into_iter().rev() {
        next.send(()).expect("it waits");
    }
    turn.await.expect("its turn comes");
    message(&commands(&path, &asker).encode_to_vec())
}

fn commands(path: &str, asker: &str) -> Commands {
    let command = format!("{path} for {asker}");
    Commands { commands: vec![Command { command, ..Command::default() }] }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_answered_what_was_meant_for_it() {
    let scene = Scene::new();
    let waiting = Waiting::default();
    let behind = Mirror::start(move |request| answer(request, Arc::clone(&waiting))).await;
    let output = scene.forward(Scene::plain_upstream(&[behind.address]));
    let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
    let relay = |service: &str| {
        let output = Output::Forward {
            dialect: Dialect::SkyWalking,
            directory: scene.path(service),
            spool: JournalSettings::default(),
            upstream: scene.upstream_plan(grpc(&collector), Some(&scene.agent(service))),
        };
        scene.start(scene.plan(service, Mode::Plaintext, output))
    };
    let relays = [("shop", relay("shop")), ("bank", relay("bank"))];
    let mut asking = JoinSet::new();
    for (service, relay) in &relays {
        for instance in ["1", "2"] {
            let agent = Arc::new(plain_caller(grpc(relay)));
            for number in 0..100 {
                let query = ProfileTaskCommandQuery {
                    service: (*service).to_owned(),
                    service_instance: instance.to_owned(),
                    last_command_time: number,
                };
                let asker = format!("{instance}/{number}");
                let settings = ConfigurationSyncRequest {
                    service: (*service).to_owned(),
                    uuid: asker.clone(),
                };
                for (path, question) in
                    [(TASKS, query.encode_to_vec()), (SETTINGS, settings.encode_to_vec())]
                {
                    let agent = Arc::clone(&agent);
                    let meant = commands(path, &format!("{service}/{asker}"));
                    asking.spawn(async move {
                        let answer = agent.call(path, &[question.into()]).await;
                        let answer = answer.unwrap_or_else(|status| panic!("{meant:?}: {status}"));
                        assert_eq!(Commands::decode(answer).expect("commands"), meant);
                    });
                }
            }
        }
    }
    assert_eq!(asking.len(), 800);
    while let Some(asked) = asking.join_next().await {
        asked.expect("answered its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_keeps_gives_no_tasks_and_takes_no_recordings() {
    let scene = Scene::new();
    let collector = scene.collector(Mode::Mtls);
    let relay = scene.relay(grpc(&collector), "shop");
    let agent = plain_caller(grpc(&relay));
    let query = ProfileTaskCommandQuery { service: "shop".to_owned(), ..Default::default() };
    let query = Bytes::from(query.encode_to_vec());
    // Field 1, the metadata, begins with the service as a query does.
    let whose = [&[0x0a, 6], &query[..6]].concat();
    for (asks, brings) in [
        ("AsyncProfilerTask/getAsyncProfilerTaskCommands", "AsyncProfilerTask/collect"),
        ("PprofTask/getPprofTaskCommands", "PprofTask/collect"),
    ] {
        let asks = format!("/skywalking.v10.{asks}");
        let answer = agent.call(&asks, std::slice::from_ref(&query)).await.expect("answered");
        assert_eq!(Commands::decode(answer).expect("commands"), Commands::default(), "{asks}");
        let brings = format!("/skywalking.v10.{brings}");
        let refused =
            agent.call(&brings, &[whose.clone().into()]).await.expect_err("no use for it");
        assert_eq!(refused.code, Code::Unimplemented, "{refused}");
        assert!(refused.message.contains("gives no tasks"), "{refused}");
        assert!(refused.message.contains("`forward`"), "{refused}");
    }
    assert!(collector.status().counted.accepted.is_empty());
}
