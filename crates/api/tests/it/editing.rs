//! The command line's writing of single resources.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use handfast_api::resources::edit::{self, EditError, Existing};
use handfast_api::resources::{Kind, Listener, Resource, Resources, ServiceType, Site};

fn listener(port: u16) -> Resource<Listener> {
    Resource::new(
        "payments".parse().expect("a name"),
        Listener {
            routing_key: "payments".parse().expect("a key"),
            host: "127.0.0.1".parse().expect("a host"),
            port,
            tls_credentials: None,
            service_type: ServiceType::Tcp,
            observer: None,
            expose_pods_by_name: false,
            settings: std::collections::BTreeMap::new(),
        },
    )
}

#[test]
fn a_resource_is_written_once_replaced_and_deleted() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("input/resources");
    let command = "handfast listener create payments 9090";

    let written =
        edit::write(&directory, &listener(9090), command, Existing::Keep).expect("written");
    assert!(!written.replaced);
    assert_eq!(written.file, directory.join("Listener-payments.yaml"));
    let text = fs::read_to_string(&written.file).expect("readable");
    assert_eq!(
        text,
        "# Made by `handfast listener create payments 9090`. Edit freely: changes take effect at once.\n\
         apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata:\n  name: payments\n\
         spec:\n  routingKey: payments\n  host: \"127.0.0.1\"\n  port: 9090\n"
    );
    let mode = |path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&written.file), 0o600);
    assert_eq!(mode(&directory), 0o700);

    let again = edit::write(&directory, &listener(9091), command, Existing::Keep);
    assert!(matches!(again, Err(EditError::Exists { .. })), "{again:?}");
    assert_eq!(fs::read_to_string(&written.file).expect("readable"), text, "untouched");

    let replaced =
        edit::write(&directory, &listener(9091), command, Existing::Replace).expect("written");
    assert!(replaced.replaced);
    let (resources, faults) = Resources::load(&directory);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(resources.listeners.len(), 1);
    assert_eq!(resources.listeners.values().next().expect("one").spec.port, 9091);

    let name = "payments".parse().expect("a name");
    assert_eq!(edit::delete(&directory, Kind::Listener, &name).expect("deleted"), written.file);
    let gone = edit::delete(&directory, Kind::Listener, &name);
    assert!(matches!(gone, Err(EditError::Absent { .. })), "{gone:?}");
    assert_eq!(fs::read_dir(&directory).expect("listed").count(), 0, "nothing is left behind");
}

#[test]
fn the_users_own_arrangement_of_files_is_respected() {
    let home = tempfile::tempdir().expect("a directory");
    let document = edit::to_yaml(&listener(9090), "x").expect("written");
    let name = "payments".parse().expect("a name");

    // Alone in a file of another name: that file is replaced.
    let alone = home.path().join("mine.yaml");
    fs::write(&alone, &document).expect("written");
    let written = edit::write(home.path(), &listener(1), "x", Existing::Replace).expect("written");
    assert_eq!(written.file, alone);

    // Among others: it is not touched.
    let shared = format!("{document}---\n{}", document.replace("name: payments", "name: other"));
    fs::write(&alone, &shared).expect("written");
    let refused = edit::write(home.path(), &listener(1), "x", Existing::Replace);
    assert!(matches!(refused, Err(EditError::Shared { .. })), "{refused:?}");
    let refused = edit::delete(home.path(), Kind::Listener, &name);
    assert!(matches!(refused, Err(EditError::Shared { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&alone).expect("readable"), shared);

    // Broken and alone: it can be deleted by its name, and is not overwritten unseen.
    fs::remove_file(&alone).expect("removed");
    let broken = home.path().join("Listener-payments.yaml");
    fs::write(&broken, document.replace("port: 9090", "port: none")).expect("written");
    let refused = edit::write(home.path(), &listener(1), "x", Existing::Keep);
    assert!(matches!(refused, Err(EditError::Exists { .. })), "{refused:?}");
    assert_eq!(edit::delete(home.path(), Kind::Listener, &name).expect("deleted"), broken);
}

#[test]
fn a_home_is_one_site() {
    let home = tempfile::tempdir().expect("a directory");
    let site = |name: &str| Resource::new(name.parse().expect("a name"), Site::default());
    edit::write(home.path(), &site("west"), "x", Existing::Keep).expect("written");
    let refused = edit::write(home.path(), &site("east"), "x", Existing::Replace);
    assert!(matches!(refused, Err(EditError::OtherSite { .. })), "{refused:?}");
}

#[test]
fn what_no_node_would_take_is_known_before_it_is_written() {
    use handfast_api::resources::{Collector, CollectorPort};
    let port = |port| Some(CollectorPort { port, mode: "mtls".parse().expect("a mode") });
    let named = |spec| Resource::new("telemetry".parse().expect("a name"), spec);
    let file = std::path::Path::new("Collector-telemetry.yaml");
    let twice = Collector { grpc: port(1), http: port(1), ..Collector::default() };
    let faults = edit::faults_of(&named(twice), file).expect("a text");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].file, file);
    assert!(faults[0].what.contains("port 1"), "{faults:?}");
    let good = Collector { grpc: port(1), http: port(2), ..Collector::default() };
    assert_eq!(edit::faults_of(&named(good), file).expect("a text"), []);
}
