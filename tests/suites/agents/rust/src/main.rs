//! A program that reports with the Rust agent, as it is: each line on its standard input makes one trace (an entry and an exit
//! span), a log record that belongs to it and a step of a counter, and is answered with the trace's id. The settings are those that the other programs of
//! this folder take; the agent itself has none, so whoever writes the program hands it a channel.

use std::env;
use std::error::Error;
use std::fs;
use std::time::Duration;

use skywalking::logging::logger::Logger;
use skywalking::logging::record::LogRecord;
use skywalking::management::instance::Properties;
use skywalking::management::manager::Manager;
use skywalking::metrics::meter::Counter;
use skywalking::metrics::metricer::Metricer;
use skywalking::reporter::grpc::GrpcReporter;
use skywalking::trace::span::HandleSpanObject as _;
use skywalking::trace::tracer::Tracer;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = env::var("SW_AGENT_NAME")?;
    let instance = env::var("SW_AGENT_INSTANCE_NAME")?;
    let mut reporter = GrpcReporter::new(channel()?);
    if let Ok(token) = env::var("SW_AGENT_AUTHENTICATION") {
        reporter = reporter.with_authentication(token);
    }
    reporter
        .reporting()
        .await
        .with_status_handle(|what, status| eprintln!("{what}: {status}"))
        .spawn();

    Manager::new(&service, &instance, reporter.clone()).report_and_keep_alive(
        move || {
            let mut all = Properties::new();
            all.insert("language", "rust");
            all
        },
        Duration::from_secs(2),
        10,
    );
    let mut metricer = Metricer::new(&service, &instance, reporter.clone());
    metricer.set_report_interval(Duration::from_secs(1));
    let traces = metricer.register(Counter::new("rust_traces"));
    let _metering = metricer.boot();
    let tracer = Tracer::new(&service, &instance, reporter.clone());
    let logger = Logger::new(&service, &instance, reporter);

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        let mut context = tracer.create_trace_context();
        let id = context.trace_id().to_owned();
        {
            let mut entry = context.create_entry_span("/rust/hello");
            entry.span_object_mut().component_id = 10_000;
            let _exit = context.create_exit_span("/rust/query", "127.0.0.1:5432");
            logger.log(
                LogRecord::new()
                    .with_tracing_context(&context)
                    .endpoint("/rust/hello")
                    .content("said hello"),
            );
        }
        drop(context);
        traces.increment(1.0);
        println!("{id}");
    }
    Ok(())
}

/// The connection, made when the first call needs it and again whenever it was lost.
fn channel() -> Result<Channel, Box<dyn Error>> {
    let backend = env::var("SW_AGENT_COLLECTOR_BACKEND_SERVICES")?;
    let Ok(ca) = env::var("SW_TLS_CA") else {
        return Ok(Endpoint::from_shared(format!("http://{backend}"))?.connect_lazy());
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(ca)?));
    if let (Ok(chain), Ok(key)) = (env::var("SW_TLS_CERT"), env::var("SW_TLS_KEY")) {
        tls = tls.identity(Identity::from_pem(fs::read(chain)?, fs::read(key)?));
    }
    Ok(Endpoint::from_shared(format!("https://{backend}"))?.tls_config(tls)?.connect_lazy())
}
