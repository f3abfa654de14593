//! Verbs that edit resources, on a home without a node: what they write, and what they refuse to overwrite.

use crate::desk::{Desk, mode};

#[test]
fn a_site_with_link_access_is_two_files() {
    let desk = Desk::new();
    desk.check(
        "--home w site create west --trust-domain demo.example --enable-link-access --link-host 127.0.0.1 --link-port 55671",
        0,
        "Site/west is declared:\n  [DIR]/w/input/resources/Site-west.yaml\n  \
         [DIR]/w/input/resources/RouterAccess-west.yaml\n\
         It founds the trust domain demo.example; its root key stays in this home.\n\
         No node runs on this home yet. Start it: handfast --home w run\n",
        "",
    );
    let site = desk.read("w/input/resources/Site-west.yaml");
    assert!(site.contains("trust-domain: demo.example"), "{site}");
    let access = desk.read("w/input/resources/RouterAccess-west.yaml");
    assert!(access.contains("port: 55671") && access.contains("handfast-site-server"), "{access}");
    assert_eq!(mode(&desk.path("w")), 0o700);
    assert_eq!(mode(&desk.path("w/input/resources/Site-west.yaml")), 0o600);
}

#[test]
fn access_on_loopback_alone_binds_loopback_and_other_access_binds_everything() {
    let desk = Desk::new();
    let create = |home: &str, hosts: &str| {
        let ran = desk.run(&format!(
            "--home {home} site create s --enable-link-access {hosts} --link-port 7000"
        ));
        assert_eq!(ran.code, 0, "{ran:?}");
        desk.read(&format!("{home}/input/resources/RouterAccess-s.yaml"))
    };
    assert!(create("a", "--link-host 127.0.0.1").contains("bindHost"));
    assert!(!create("b", "--link-host 127.0.0.1 --link-host west.example").contains("bindHost"));
}

#[test]
fn a_grant_port_that_is_the_link_port_is_refused() {
    let desk = Desk::new();
    desk.check(
        "--home w site create west --enable-link-access --link-host h --link-port 7000 --grant-port 7000",
        2,
        "",
        "error: links and token redemption need a port each\n  why    --link-port is 7000\n  \
         to do  name another port with --grant-port\n",
    );
    assert!(!desk.path("w").exists(), "nothing was written");
}

#[test]
fn a_second_site_in_one_home_is_refused() {
    let desk = Desk::new();
    assert_eq!(desk.run("--home w site create west").code, 0);
    let again = desk.run("--home w site create east");
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("Site/west") && again.stderr.contains("--home"), "{again:?}");
}

#[test]
fn listeners_and_connectors_come_and_go_as_files() {
    let desk = Desk::new();
    for (noun, kind) in [("listener", "Listener"), ("connector", "Connector")] {
        let file = format!("h/input/resources/{kind}-payments.yaml");
        desk.check(
            &format!("--home h {noun} create payments 9090 --routing-key payments-v2"),
            0,
            &format!("{kind}/payments is declared in [DIR]/{file}\nNo node runs on this home yet. Start it: handfast --home h run\n"),
            "",
        );
        let text = desk.read(&file);
        assert!(text.contains("routingKey: payments-v2") && text.contains("port: 9090"), "{text}");
        assert_eq!(desk.run(&format!("--home h {noun} create payments 9090")).code, 1);
        assert_eq!(desk.run(&format!("--home h {noun} delete payments")).code, 0);
        assert!(!desk.path(&file).exists());
        assert_eq!(desk.run(&format!("--home h {noun} delete payments")).code, 11);
    }
}

#[test]
fn results_are_json_and_yaml_documents() {
    let desk = Desk::new();
    desk.check(
        "--home h -o json listener create payments 9090",
        0,
        "{\n  \"resource\": \"Listener/payments\",\n  \"file\": \"[DIR]/h/input/resources/Listener-payments.yaml\",\n  \
         \"nodeRunning\": false,\n  \"status\": null\n}\n",
        "",
    );
    let yaml = desk.run("--home h site create west -o yaml");
    assert_eq!(yaml.code, 0, "{yaml:?}");
    assert!(yaml.stdout.starts_with("site: west\n"), "{yaml:?}");
}
