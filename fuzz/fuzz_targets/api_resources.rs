//! Resource files: no text makes the reader panic, and what it accepts it can write and read again.
#![no_main]

use std::path::Path;

use handfast_api::resources::{Listener, Resources, edit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (resources, faults) = Resources::parse(Path::new("fuzz.yaml"), text);
    for fault in faults {
        assert!(!fault.to_string().is_empty());
    }
    for listener in resources.listeners.values() {
        let written = edit::to_yaml(listener, "fuzz").expect("what was read can be written");
        let (again, _) = Resources::parse(Path::new("fuzz.yaml"), &written);
        let read = again.find::<Listener>(&listener.name).expect("and read again");
        assert_eq!(read.spec, listener.spec);
        assert_eq!(read.labels, listener.labels);
    }
});
