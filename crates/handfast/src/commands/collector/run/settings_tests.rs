//! Options and environment of a collector by itself.

use clap::Parser;

use super::super::super::super::lone::token::Token;
use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn settings(line: &str, environment: &[(&str, &str)]) -> Result<Settings, Failure> {
    let words = std::iter::once("run").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).expect("a command line");
    let find = |name: &str| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    Settings::of(line.arguments, &find)
}

#[test]
fn nothing_said_is_plaintext_on_the_usual_ports() {
    let settings = settings("--data d", &[]).expect("settings");
    assert_eq!(settings.grpc.address.to_string(), "0.0.0.0:11800");
    assert_eq!(settings.http.address.to_string(), "0.0.0.0:12800");
    assert_eq!(settings.grpc.mode, Mode::Plaintext);
}

#[test]
fn the_names_of_the_receiver_are_read_and_options_come_first() {
    let environment = [
        ("SW_RECEIVER_GRPC_HOST", "127.0.0.1"),
        ("SW_RECEIVER_GRPC_PORT", "21800"),
        ("SW_RECEIVER_GRPC_SSL_ENABLED", "true"),
        ("SW_RECEIVER_GRPC_SSL_KEY_PATH", "/k/server.pem"),
        ("SW_RECEIVER_GRPC_SSL_CERT_CHAIN_PATH", "/k/server.crt"),
        ("SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH", "/ca/ca.crt"),
        ("SW_RECEIVER_SHARING_REST_PORT", "22800"),
        ("SW_AUTHENTICATION", "secret"),
    ];
    let found = settings("--data d", &environment).expect("settings");
    assert_eq!(found.grpc.address.to_string(), "127.0.0.1:21800");
    assert_eq!((found.grpc.mode, found.http.mode), (Mode::Mtls, Mode::Plaintext));
    assert_eq!(found.http.address.port(), 22800);
    let watched = ["/ca/ca.crt", "/k/server.crt", "/k/server.pem"].map(PathBuf::from);
    assert_eq!(found.watched(), watched);
    let token = Token::open(found.authentication.clone()).expect("a token");
    assert_eq!(token.get().map(Secret::reveal), Some("secret"));
    let found =
        settings("--data d --grpc 127.0.0.1:1 --mode permissive --cert c --key k", &environment);
    let found = found.expect("settings");
    assert_eq!(found.grpc.address.to_string(), "127.0.0.1:1");
    assert_eq!((found.grpc.mode, found.http.mode), (Mode::Permissive, Mode::Permissive));
}

#[test]
fn what_cannot_be_is_refused_with_its_name() {
    for (line, environment) in [
        ("--data d --mode mtls", vec![]),
        ("--data d --mode mtls --cert c --key k", vec![]),
        ("--data d", vec![("SW_RECEIVER_GRPC_PORT", "many")]),
        ("--data d", vec![("SW_RECEIVER_GRPC_SSL_ENABLED", "true")]),
        ("--data d", vec![("SW_RECEIVER_GRPC_SSL_TRUSTED_CAS_PATH", "/ca/ca.crt")]),
    ] {
        assert!(settings(line, &environment).is_err(), "{line} {environment:?}");
    }
}

#[test]
fn cas_for_clients_without_tls_are_no_plaintext_port() {
    for prefix in ["SW_RECEIVER_GRPC", "SW_RECEIVER_SHARING_REST"] {
        let (cas, enabled) =
            (format!("{prefix}_SSL_TRUSTED_CAS_PATH"), format!("{prefix}_SSL_ENABLED"));
        for environment in [
            vec![(cas.as_str(), "/ca/ca.crt")],
            vec![(cas.as_str(), "/ca/ca.crt"), (enabled.as_str(), "false")],
        ] {
            let failure = settings("--data d", &environment).err().expect("a refusal");
            let report = crate::failure::Report::of(&failure.into());
            assert_eq!(report.place.as_deref(), Some(cas.as_str()));
            // Said outright, it is what was meant.
            settings("--data d --mode plaintext", &environment).expect("settings");
        }
    }
}

#[test]
fn a_binding_names_services_and_where_it_is_said_instances() {
    let read = |text: &str| {
        let found = rule(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let texts = |globs: &[Glob]| globs.iter().map(ToString::to_string).collect::<Vec<_>>();
        (found.identity.to_string(), texts(&found.services), texts(&found.instances))
    };
    let is = |identity: &str, services: &[&str], instances: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        (identity.to_owned(), owned(services), owned(instances))
    };
    assert_eq!(read("*=*"), is("*", &["*"], &[]));
    assert_eq!(read("/agent/r-*=shop, bank"), is("/agent/r-*", &["shop", "bank"], &[]));
    assert_eq!(read("cn:a=b=group::shop"), is("cn:a=b", &["group::shop"], &[]));
    let some = read("/agent/r-7=shop,pay-*;instances=*@10.1.7.*, a=b;c");
    assert_eq!(some, is("/agent/r-7", &["shop", "pay-*"], &["*@10.1.7.*", "a=b;c"]));
    for wrong in [
        "shop",
        "=shop",
        "/agent/a=",
        "/agent/a=shop,",
        "/agent/a=shop;instances=",
        "/agent/a=shop;instances=a,",
        "/agent/a=shop;instance=a",
        "/agent/a=shop;instances",
        ";instances=a",
    ] {
        assert!(rule(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_token_that_no_header_can_carry_is_refused_with_its_name() {
    let found = settings("--data d", &[("SW_AUTHENTICATION", "a\nb")]).expect("settings");
    let failure = Token::open(found.authentication).err().expect("a refusal");
    let report = crate::failure::Report::of(&failure.into());
    assert_eq!(report.place.as_deref(), Some("SW_AUTHENTICATION"));
}

#[test]
fn a_token_for_the_backends_is_read_only_where_there_are_some() {
    let environment = [("SW_AGENT_AUTHENTICATION", "word")];
    let said = |line: &str| {
        let found = settings(line, &environment).expect("settings");
        let token = Token::open(found.forward_authentication).expect("a token");
        token.get().map(|token| token.reveal().to_owned())
    };
    assert_eq!(said("--data d"), None);
    assert_eq!(said("--data d --forward oap:11800").as_deref(), Some("word"));
}
