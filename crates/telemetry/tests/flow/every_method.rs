//! Every service and method of the protocol, as agents of either age call it: taken or passed on for the service that
//! the certificate names, and for no other.

use bytes::{Bytes, BytesMut};
use handfast_telemetry::grpc::{Code, Status, encode, stream};
use handfast_telemetry::port::Mode;
use handfast_telemetry::protocol::method::{Handling, Method};
use http::HeaderMap;
use hyper::body::Frame;

use crate::backend::{Backend, TAKEN};
use crate::support::{Scene, accepted, grpc, until};

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fate {
    /// Passed on at once, and answered by who is behind.
    Asked,
    /// A record of this kind.
    Kept(&'static str),
}
use Fate::{Asked, Kept};

/// `/Service/method` without its package, whether it has a twin there, where its message has the service (the numbers of
/// the fields, outermost first; nowhere where it has none), and what becomes of it.
type Row = (&'static str, bool, &'static [u32], Fate);

const V3: &[Row] = &[
    ("ManagementService/reportInstanceProperties", true, &[1], Kept("instance_properties")),
    ("ManagementService/keepAlive", true, &[1], Kept("instance_ping")),
    ("TraceSegmentReportService/collect", true, &[4], Kept("segment")),
    ("TraceSegmentReportService/collectInSync", true, &[1, 4], Kept("segment")),
    ("SpanAttachedEventReportService/collect", false, &[], Kept("span_attached_event")),
    ("JVMMetricReportService/collect", true, &[2], Kept("jvm")),
    ("CLRMetricReportService/collect", true, &[2], Kept("clr")),
    ("MeterReportService/collect", true, &[3], Kept("meter")),
    ("MeterReportService/collectBatch", false, &[1, 3], Kept("meter")),
    ("LogReportService/collect", false, &[2], Kept("log")),
    ("EventService/collect", false, &[2, 1], Kept("event")),
    ("ConfigurationDiscoveryService/fetchConfigurations", false, &[1], Asked),
    ("ProfileTask/getProfileTaskCommands", true, &[1], Asked),
    ("ProfileTask/collectSnapshot", true, &[], Kept("thread_snapshot")),
    ("ProfileTask/goProfileReport", true, &[], Kept("go_profile")),
    ("ProfileTask/reportTaskFinish", true, &[1], Kept("profile_task_finish")),
    ("BrowserPerfService/collectPerfData", true, &[1], Kept("browser_perf")),
    ("BrowserPerfService/collectWebVitalsPerfData", true, &[1], Kept("browser_web_vitals")),
    ("BrowserPerfService/collectResourcePerfData", true, &[1], Kept("browser_resource_perf")),
    (
        "BrowserPerfService/collectWebInteractionsPerfData",
        true,
        &[1],
        Kept("browser_web_interaction"),
    ),
    ("BrowserPerfService/collectErrorLogs", true, &[2], Kept("browser_error_log")),
    ("ServiceMeshMetricService/collect", false, &[1, 1, 3], Kept("service_mesh")),
    ("EBPFProcessService/reportProcesses", false, &[1, 1, 1, 2], Asked),
    ("EBPFProcessService/keepAlive", false, &[1, 1, 2], Asked),
    ("EBPFProfilingService/queryTasks", false, &[], Asked),
    ("EBPFProfilingService/collectProfilingData", false, &[], Kept("ebpf_profiling")),
    ("ContinuousProfilingService/queryPolicies", false, &[1, 1], Asked),
    ("ContinuousProfilingService/reportProfilingTask", false, &[2], Asked),
    ("EBPFAccessLogService/collect", false, &[2, 1, 1, 1], Kept("ebpf_access_log")),
];

const V10: &[Row] = &[
    ("AsyncProfilerTask/collect", false, &[1, 1], Asked),
    ("AsyncProfilerTask/getAsyncProfilerTaskCommands", false, &[1], Asked),
    ("PprofTask/collect", false, &[1, 1], Asked),
    ("PprofTask/getPprofTaskCommands", false, &[1], Asked),
];

/// A message with this text in the field at the end of a path.
fn message(path: &[u32], text: &str) -> Bytes {
    let mut bytes = text.as_bytes().to_vec();
    for number in path.iter().rev() {
        let length = u8::try_from(bytes.len()).expect("short");
        let key = u8::try_from(number << 3 | 2).expect("small");
        bytes = [&[key, length], bytes.as_slice()].concat();
    }
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_taken_for_its_own_service_and_refused_for_anothers() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let output = scene.forward(Scene::plain_upstream(&[backend.address]));
    let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    let v3 = V3.iter().map(|row| ("skywalking.v3.", row));
    for (package, (method, twin, service, fate)) in
        v3.chain(V10.iter().map(|row| ("skywalking.v10.", row)))
    {
        let old = twin.then(|| format!("/{method}"));
        for path in [format!("/{package}{method}")].into_iter().chain(old) {
            let (own, other) = match *service {
                [] => (Bytes::new(), None),
                service => (message(service, "shop"), Some(message(service, "bank"))),
            };
            let count = || match fate {
                Asked => backend.asked(&path) as u64,
                Kept(kind) => accepted(&collector, kind),
            };
            let before = count();
            shop.call(&path, &[own]).await.unwrap_or_else(|status| panic!("{path}: {status}"));
            assert_eq!(count(), before + 1, "{path}");
            if let Some(other) = other {
                let refused = shop.call(&path, &[other]).await.expect_err(&path);
                assert_eq!(refused.code, Code::PermissionDenied, "{path}: {refused}");
                assert_eq!(count(), before + 1, "{path} of another");
            }
        }
        assert!(*twin || Method::at(&format!("/{method}")).is_none(), "{method} never had a twin");
    }
    // None was forgotten, here or there.
    let listed = V3.len() + V10.len();
    let served = Method::all().filter(|method| method.path.starts_with("/skywalking.")).count();
    assert_eq!(listed, served);
    let claiming = V3.iter().chain(V10).filter(|(_, _, service, _)| !service.is_empty());
    let denials: usize = claiming.map(|(_, twin, ..)| 1 + usize::from(*twin)).sum();
    assert_eq!(scene.denials.lock().expect("no panic").len(), denials, "each is on record");
    until("all of it goes out", || {
        collector.status().forward.is_some_and(|forward| forward.lag_bytes == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_dialogue_every_message_is_judged() {
    let scene = Scene::new();
    let backend = Backend::start(|_| TAKEN).await;
    let output = scene.forward(Scene::plain_upstream(&[backend.address]));
    let collector = scene.start(scene.plan("collector", Mode::Mtls, output));
    let shop = scene.caller(grpc(&collector), Some(&scene.agent("shop")));
    for path in ["/skywalking.v10.AsyncProfilerTask/collect", "/skywalking.v10.PprofTask/collect"] {
        let dialogue = Method::at(path).expect("known");
        assert_eq!(dialogue.handling, Handling::Ask);
        let (own, other) = (message(&[1, 1], "shop"), message(&[1, 1], "bank"));
        let content = message(&[3], "recorded");
        let nobody = shop.call(path, std::slice::from_ref(&content)).await.expect_err("nobody's");
        assert_eq!(nobody.code, Code::InvalidArgument, "{nobody}");
        shop.call(path, &[own.clone(), content.clone()]).await.expect("its own");
        let at_once =
            shop.call(path, &[own.clone(), other.clone()]).await.expect_err("not its own");
        assert_eq!(at_once.code, Code::PermissionDenied, "{at_once}");
        // In the middle: what may not be said and what follows do not arrive, and what was said before is not whole.
        let (sender, body) = stream(4);
        let passed = || collector.status().counted.calls_passed;
        let before = passed();
        let speaking = async {
            let sender = sender;
            for (message, first) in [(&own, true), (&other, false), (&content, false)] {
                let mut framed = BytesMut::new();
                encode(message, &mut framed);
                let sent = sender.send(Frame::data(framed.freeze())).await;
                if first {
                    sent.expect("listens");
                    until("it is passed on", || passed() == before + 1).await;
                }
            }
            drop(sender);
        };
        let headers = HeaderMap::new();
        let (answer, ()) = tokio::join!(shop.request(path, &headers, body), speaking);
        let told = Status::read(answer.expect("answered").headers()).expect("refused");
        assert_eq!(told.code, Code::PermissionDenied, "{told}");
        let said = backend.each(|call| (call.path.clone(), call.messages.clone()));
        let said: Vec<_> =
            said.into_iter().filter(|(at, _)| at == path).map(|(_, it)| it).collect();
        assert_eq!(said, [[own, content]]);
    }
    let denials = scene.denials.lock().expect("no panic");
    assert!(denials.iter().all(|denial| denial.service == "bank") && denials.len() == 4);
}
