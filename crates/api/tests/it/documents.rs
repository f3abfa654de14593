//! Documents as people write them, and what they are told.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use handfast_api::resources::{
    Kind, LinkAccess, Listener, ResourceFault, Resources, RoleName, Severity, declared,
};
use handfast_pki::Name;
use handfast_store::Audience;

fn parse(text: &str) -> (Resources, Vec<ResourceFault>) {
    Resources::parse(Path::new("site.yaml"), text)
}

/// The one fault of a document, as printed.
fn fault_of(text: &str) -> String {
    let (_, faults) = parse(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].to_string()
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Written after the field table of `skupper.io/v2alpha1`, every kind and every field.
const EVERYTHING: &str = r#"
apiVersion: skupper.io/v2alpha1
kind: Site
metadata:
  name: west
  namespace: default
  uid: 0b0f3a5e
  resourceVersion: "12"
spec:
  linkAccess: default
  defaultIssuer: my-ca
  edge: false
  ha: false
  serviceAccount: skupper-router
  settings: {router-logging: info, trust-domain: demo.example, leaf-ttl: 30s, ca-ttl: 1h}
status: {endpoints: [{name: inter-router, host: a, port: "1", group: x}], sitesInNetwork: 2}
---
apiVersion: skupper.io/v2alpha1
kind: RouterAccess
metadata: {name: access}
spec:
  accessType: loadbalancer
  roles: [{name: inter-router, port: 55671}, {name: edge}]
  tlsCredentials: skupper-site-server
  generateTlsCredentials: true
  issuer: my-ca
  bindHost: 0.0.0.0
  subjectAlternativeNames: [west.example, 192.0.2.1, "::1"]
  settings: {grant-port: "9443"}
---
apiVersion: skupper.io/v2alpha1
kind: Link
metadata: {name: to-east}
spec:
  endpoints:
    - {name: inter-router, host: east.example, port: "55671", group: skupper-router}
    - {name: edge, host: east.example, port: 45671}
  tlsCredentials: east-token
  cost: 7
---
apiVersion: skupper.io/v2alpha1
kind: AccessGrant
metadata: {name: grant}
spec: {redemptionsAllowed: 3, expirationWindow: 15m, code: 0123456789abcdefghijklmn, issuer: my-ca, settings: {site: east}}
---
apiVersion: handfast.dev/v1alpha1
kind: Listener
metadata: {name: payments, labels: {a: b}, annotations: {c: d}}
spec: {routingKey: payments, host: 127.0.0.1, port: 9090, type: tcp, observer: none, exposePodsByName: true, settings: {}}
---
apiVersion: handfast.dev/v1alpha1
kind: Connector
metadata: {name: payments}
spec: {routingKey: payments, host: localhost, port: 8080, verifyHostname: true, includeNotReadyPods: true, exposePodsByName: true, type: tcp}
---
apiVersion: skupper.io/v2alpha1
kind: MultiKeyListener
metadata: {name: many}
spec: {host: 127.0.0.1, port: 9091, strategy: {weighted: {routingKeys: {a: 1, b: 2}}}, requireClientCert: true, observer: auto}
---
apiVersion: skupper.io/v2alpha1
kind: Certificate
metadata: {name: cert}
spec: {ca: my-ca, subject: east, hosts: [a.example], client: true}
"#;

#[test]
fn every_kind_and_field_of_skupper_is_read_as_it_is() {
    let (resources, faults) = parse(EVERYTHING);
    let errors: Vec<_> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(resources.len(), 8);

    let site = resources.site.as_ref().expect("a site");
    assert_eq!(site.spec.link_access, Some(LinkAccess::Default));
    let settings = site.spec.settings().expect("settings");
    assert_eq!(settings.trust_domain.expect("declared").to_string(), "demo.example");
    assert_eq!(settings.lifetimes.leaf().as_secs(), 30);

    let access = &resources.router_accesses[&name("access")].spec;
    assert_eq!((access.link_port(), access.grant_port()), (Some(55671), Some(9443)));
    assert_eq!(access.roles[1].name, RoleName::Edge);
    assert_eq!(access.roles[1].port(), 45671);
    assert_eq!(access.hosts().len(), 3, "0.0.0.0 is no host to be reached at");

    let link = &resources.links[&name("to-east")];
    assert_eq!(link.spec.endpoint().map(|endpoint| endpoint.port), Some(55671));
    assert_eq!(link.credential(), &name("east-token"));
    assert_eq!(link.spec.cost, 7);

    let grant = &resources.access_grants[&name("grant")].spec;
    assert_eq!(grant.expiration_window.expect("declared").duration().as_secs(), 900);
    assert_eq!(grant.audience(), Ok(Audience::Site(name("east"))));

    let listener = resources.find::<Listener>(&name("payments")).expect("a listener");
    assert_eq!(listener.spec.port, 9090);
    assert_eq!(listener.labels["a"], "b");
    let kind_line = EVERYTHING.lines().position(|line| line == "kind: Listener");
    assert_eq!(listener.origin.line, kind_line.expect("there") as u64, "one before its kind");
    assert!(listener.origin.shared);
}

#[test]
fn the_authority_gets_what_it_works_from() {
    let (resources, _) = parse(EVERYTHING);
    let (site, problems) = declared(&resources);
    let site = site.expect("a site");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(site.site, name("west"));
    assert_eq!(site.accesses.len(), 1);
    assert_eq!(site.accesses[0].resource.to_string(), "RouterAccess/access");
    assert_eq!(site.links[0].credential, name("east-token"));

    assert!(declared(&Resources::default()).0.is_none());
}

#[test]
fn the_authority_is_told_which_credentials_a_collector_uses_as_they_are() {
    let site =
        "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: west}\nspec: {}\n---\n";
    let collector = "apiVersion: handfast.dev/v1alpha1\nkind: Collector\nmetadata: {name: telemetry}\n\
        spec: {trust: [partners], forward: {backends: ['oap:11801'], tls: {tlsCredentials: to-oap}}}\n";
    let (resources, faults) = parse(&format!("{site}{collector}"));
    assert!(faults.is_empty(), "{faults:?}");
    let used = declared(&resources).0.expect("a site").used;
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [name("partners"), name("to-oap")]);
}

#[test]
fn link_access_without_a_router_access_asks_for_hosts() {
    let site = "apiVersion: skupper.io/v2alpha1\nkind: Site\nmetadata: {name: west}\nspec: {linkAccess: default}\n";
    let (resources, faults) = parse(site);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(resources.effective_accesses()[0].spec.link_port(), Some(55671));
    let (_, problems) = declared(&resources);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].remedy.contains("subjectAlternativeNames"), "{problems:?}");
    assert_eq!(problems[0].line, Some(1));
}

#[test]
fn an_unknown_field_is_named_with_file_line_and_the_nearest_known_one() {
    let fault = fault_of(
        "# payments\n---\napiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata:\n  name: payments\nspec:\n  routing_key: payments\n  host: 127.0.0.1\n  port: 9090\n",
    );
    assert_eq!(
        fault,
        "site.yaml:8: Listener/payments: unknown field `routing_key`; did you mean `routingKey`?"
    );
    let fault = fault_of(
        "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {name: a, colour: red}\nspec: {}\n",
    );
    assert!(
        fault.starts_with("site.yaml:3: Site/a: unknown field `colour`; known fields: name,"),
        "{fault}"
    );
}

#[test]
fn wrong_values_are_named_with_their_field_and_line() {
    let listener = |spec: &str| {
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: Listener\nmetadata:\n  name: a\nspec:\n  routingKey: a\n{spec}"
        )
    };
    for (text, expected) in [
        (
            listener("  host: 127.0.0.1\n  port: 70000\n"),
            "site.yaml:8: Listener/a: `port` has a wrong value; expected: a port between 1 and 65535",
        ),
        (listener("  host: 127.0.0.1\n  port: 0\n"), "`port` has a wrong value"),
        (listener("  host: 127.0.0.1\n  port: -1\n"), "`port` has a wrong value"),
        (listener("  host: 127.0.0.1\n  port: http\n"), "a port between 1 and 65535"),
        (
            listener("  host: http://a\n  port: 80\n"),
            "site.yaml:7: Listener/a: `host` has a wrong value",
        ),
        (listener("  host: a\n"), "field `port` is missing; add `port:`"),
        (
            listener("  host: a\n  port: 80\n  type: tpc\n"),
            "site.yaml:9: Listener/a: `type` cannot be `tpc`; did you mean `tcp`?",
        ),
        (
            listener("  host: a\n  port: 80\n  host: b\n"),
            "site.yaml:9: Listener/a: `host` is given twice",
        ),
        (
            listener("  host: a\n  port: 80\n  tlsCredentials: mine\n"),
            "site.yaml:9: Listener/a: TLS at the edge is not served yet",
        ),
        (listener("  host: [a\n"), "not readable as YAML"),
    ] {
        let fault = fault_of(&text);
        assert!(fault.contains(expected), "{fault}\nwanted: {expected}");
    }
}

#[test]
fn what_excludes_or_needs_each_other_is_checked() {
    let document = |kind: &str, spec: &str| {
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
        )
    };
    for (kind, spec, expected) in [
        ("Connector", "{routingKey: a, port: 1}", "neither `host` nor `selector`"),
        ("Connector", "{routingKey: a, port: 1, host: a, selector: app=a}", "exclude each other"),
        ("Connector", "{routingKey: a, port: 1, selector: app=a}", "replace it with `host`"),
        ("Link", "{endpoints: []}", "no endpoint of role `inter-router`"),
        ("Link", "{endpoints: [{host: a, port: 1}], cost: 0}", "at least 1"),
        ("Link", "{endpoints: [{host: a, port: 1}], cost: -3}", "at least 1"),
        ("RouterAccess", "{roles: [], tlsCredentials: a}", "`roles` is empty"),
        (
            "RouterAccess",
            "{roles: [{name: inter-router, port: 65535}], tlsCredentials: a}",
            "no port after 65535",
        ),
        (
            "RouterAccess",
            "{roles: [{name: inter-router, port: 5}], tlsCredentials: a, settings: {grant-port: '5'}}",
            "the link port itself",
        ),
        ("RouterAccess", "{roles: [{name: inter}], tlsCredentials: a}", "cannot be `inter`"),
        ("Site", "{settings: {leaf-ttl: 24h, ca-ttl: 48h}}", "sixth"),
        ("Site", "{settings: {leaf-ttl: soon}}", "`soon`"),
        (
            "Site",
            "{settings: {leaf-ttl: 48h, renewal-grace: 24h}}",
            "set leaf-ttl to 3d18h or more",
        ),
        ("Site", "{settings: {renewal-grace: 9d}}", "or renewal-grace to 4d or less"),
        ("Site", "{settings: {trust-domain: 'Not A Domain'}}", "trust-domain"),
        ("Site", "{linkAccess: loadbalancr}", "did you mean `loadbalancer`?"),
        ("AccessGrant", "{redemptionsAllowed: 0}", "at least 1"),
        ("AccessGrant", "{expirationWindow: 15}", "length of time"),
        ("AccessGrant", "{code: short}", "could be guessed"),
        ("AccessToken", "{url: 'http://a/b', code: x, ca: ''}", "`https://`"),
        ("AccessToken", "{url: 'https://a/b', code: x, ca: nonsense}", "no usable CA certificate"),
    ] {
        let (resources, faults) = parse(&document(kind, spec));
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|fault| fault.contains(expected)), "{kind} {spec}: {told:?}");
        assert!(resources.is_empty(), "{kind} {spec} must not be used");
    }
}

#[test]
fn a_broken_document_hides_no_other_and_duplicates_are_named() {
    let (resources, faults) = parse(
        "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {name: west}\nspec: {}\n--- # broken\nkind: [\n---\napiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {name: east}\nspec: {}\n---\napiVersion: handfast.dev/v1alpha1\nkind: Listner\nmetadata: {name: a}\n---\nkind: Link\n---\napiVersion: v1\nkind: Secret\n---\n\n# nothing\n---\napiVersion: handfast.dev/v1alpha1\nkind: AccessGrant\nmetadata: {name: good}\nspec: {}\n...\n",
    );
    assert_eq!(resources.site.as_ref().map(|site| site.name.to_string()).as_deref(), Some("west"));
    assert!(resources.access_grants.contains_key(&name("good")));
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told[0].contains("not readable as YAML"), "{}", told[0]);
    assert!(
        told[1].starts_with("site.yaml:8: Site/east: a site is already declared at site.yaml:1;"),
        "{}",
        told[1]
    );
    assert!(told[2].contains("did you mean `Listener`?"), "{}", told[2]);
    assert!(told[3].contains("has no `apiVersion`"), "{}", told[3]);
    assert!(told[4].contains("input/certs/<name>/"), "{}", told[4]);
}

#[test]
fn settings_nobody_reads_are_a_warning_and_the_rest_is_used() {
    let (resources, faults) = parse(
        "apiVersion: handfast.dev/v1alpha1\nkind: Site\nmetadata: {name: west}\nspec:\n  settings:\n    trust_domain: demo.example\n",
    );
    assert!(resources.site.is_some());
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].severity, Severity::Warning);
    assert_eq!(faults[0].remedy, "did you mean `trust-domain`?");
}

#[test]
fn faults_never_quote_secrets() {
    let secret = "hunter2-hunter2-hunter2";
    for text in [
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessToken\nmetadata: {{name: a}}\nspec:\n  url: 'https://a/b'\n  code: {secret}\n  ca: x\n  linkCost: 0\n"
        ),
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessToken\nmetadata: {{name: a}}\nspec:\n  code: [{secret}]\n"
        ),
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessToken\nmetadata: {{name: a}}\nspec:\n  code: \"{secret}\n"
        ),
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessToken\nmetadata: {{name: a}}\nspec:\n  code: {{{secret}: 1}}\n"
        ),
    ] {
        let (resources, faults) = parse(&text);
        assert!(!faults.is_empty(), "{text}");
        for fault in faults {
            assert!(!fault.to_string().contains(secret), "{fault}");
        }
        assert!(!format!("{resources:?}").contains(secret));
    }
}

#[test]
fn a_directory_is_read_in_order_and_within_bounds() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let grant = |name: &str| {
        format!(
            "apiVersion: handfast.dev/v1alpha1\nkind: AccessGrant\nmetadata: {{name: {name}}}\nspec: {{}}\n"
        )
    };
    fs::write(path.join("b.yaml"), grant("twice")).expect("written");
    fs::write(path.join("a.yml"), grant("twice")).expect("written");
    fs::write(path.join("c.json"), r#"{"apiVersion": "skupper.io/v2alpha1", "kind": "AccessGrant", "metadata": {"name": "json"}, "spec": {"redemptionsAllowed": 2}}"#).expect("written");
    fs::write(path.join(".hidden.yaml"), grant("hidden")).expect("written");
    fs::write(path.join("notes.txt"), "not ours").expect("written");
    fs::write(path.join("binary.yaml"), [0xff, 0xfe]).expect("written");
    fs::write(path.join("huge.yaml"), vec![b'#'; 1024 * 1024 + 1]).expect("written");
    fs::create_dir(path.join("directory.yaml")).expect("made");
    // As a mounted volume does it.
    fs::create_dir(path.join("..2026")).expect("made");
    fs::write(path.join("..2026/mounted.yaml"), grant("mounted")).expect("written");
    symlink("..2026", path.join("..data")).expect("linked");
    symlink("..data/mounted.yaml", path.join("mounted.yaml")).expect("linked");

    let (resources, faults) = Resources::load(path);
    let names: Vec<_> = resources.access_grants.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["json", "mounted", "twice"]);
    let first = resources.origin(Kind::AccessGrant, &name("twice")).expect("declared");
    assert_eq!(first.file, path.join("a.yml"));
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    for expected in ["a.yml:1", "not UTF-8", "not a regular file", "larger than 1024 KiB"] {
        assert!(told.iter().any(|fault| fault.contains(expected)), "{expected}: {told:#?}");
    }

    let (none, faults) = Resources::load(&path.join("absent"));
    assert!(none.is_empty() && faults.is_empty());
}

#[test]
fn bombs_are_refused_quickly() {
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ('a'..='h').zip('b'..='i') {
        let aliases = vec![format!("*{from}"); 9].join(",");
        writeln!(laughs, "{to}: &{to} [{aliases}]").expect("text grows");
    }
    let deep = "[".repeat(100_000);
    let many = "- a\n".repeat(200_000);
    for text in [laughs, deep, many] {
        let (resources, faults) = parse(&text);
        assert!(resources.is_empty());
        assert_eq!(faults.len(), 1);
    }
}
