//! Makes the Rust of the telemetry protocols from their `.proto` files: one module for each file,
//! with the file's comments as documentation. `--check` writes nothing and says what differs.
//!
//! The link's messages are not made here: theirs are few, and written by hand.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use prost::Message;
use prost_build::{Config, Module};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lies below the crate");
    let check = std::env::args().nth(1).as_deref() == Some("--check");
    let mut differ = false;
    for (path, text) in modules(described(&root.join("proto"))?)? {
        let path = root.join("src").join(path);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        differ = true;
        println!("{}", path.display());
        if !check {
            std::fs::create_dir_all(path.parent().expect("has a folder"))?;
            std::fs::write(&path, text)?;
        }
    }
    Ok(if check && differ { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What `protoc` makes of the definitions.
fn described(proto: &Path) -> Result<Vec<FileDescriptorProto>, Box<dyn Error>> {
    let mut files = Vec::new();
    for protocol in ["skywalking", "opentelemetry"] {
        definitions(&proto.join(protocol), &mut files)?;
    }
    files.sort();
    let out = std::env::temp_dir().join(format!("handfast-proto-{}.pb", std::process::id()));
    let status = Command::new("protoc")
        .arg("--include_source_info")
        .arg(format!("--descriptor_set_out={}", out.display()))
        .arg(format!("-I{}", proto.display()))
        .args(&files)
        .status()?;
    if !status.success() {
        return Err("protoc refused the definitions".into());
    }
    let set = FileDescriptorSet::decode(std::fs::read(&out)?.as_slice())?;
    std::fs::remove_file(&out)?;
    Ok(set.file)
}

fn definitions(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            definitions(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

/// Where each module goes, below `src`, and its text.
fn modules(files: Vec<FileDescriptorProto>) -> Result<BTreeMap<PathBuf, String>, Box<dyn Error>> {
    let homes: Vec<(PathBuf, String)> =
        files.iter().map(|file| (home(file), format!("proto/{}", file.name()))).collect();
    let types = types_by_home(&files);
    // A module for each file: a whole package would be too long to read.
    let keys: Vec<Module> = (0..files.len()).map(|i| Module::from_parts([format!("m{i}")])).collect();
    let mut config = Config::new();
    // Profiles are wide: they are cut out of what was received, not copied.
    config.bytes([".skywalking.v3.GoProfileData", ".skywalking.v10"]);
    config.btree_map(["."]);
    let generated = config.generate(keys.iter().cloned().zip(files).collect())?;
    let mut modules = BTreeMap::new();
    for (key, (path, proto)) in keys.iter().zip(homes) {
        let body = generated.get(key).cloned().unwrap_or_default();
        let foreign = imports(&body, &path, &types);
        let text = format!("//! Generated from `{proto}`: see there.\n\n{foreign}{body}");
        modules.insert(path, formatted(&text)?);
    }
    Ok(modules)
}

/// `skywalking/v3/tracing.rs` for a file of `skywalking.v3`, where one package is many files;
/// `otlp/trace/v1.rs` for the one file of `opentelemetry.proto.trace.v1`.
fn home(file: &FileDescriptorProto) -> PathBuf {
    let package = file.package().replace('.', "/");
    if let Some(signal) = package.strip_prefix("opentelemetry/proto/") {
        return PathBuf::from("otlp").join(format!("{signal}.rs"));
    }
    let name = Path::new(file.name()).file_stem().expect("has a name").to_owned();
    PathBuf::from(package).join(name).with_extension("rs")
}

/// The names of the types that each module defines.
fn types_by_home(files: &[FileDescriptorProto]) -> BTreeMap<PathBuf, Vec<String>> {
    files
        .iter()
        .map(|file| {
            let messages = file.message_type.iter().map(|m| m.name());
            let names = messages.chain(file.enum_type.iter().map(|e| e.name()));
            (home(file), names.map(rust_name).collect())
        })
        .collect()
}

/// As prost spells it: `JVMMetric` is `JvmMetric`.
fn rust_name(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let upper = |i: usize| letters.get(i).is_some_and(|c| c.is_uppercase());
    let lower = |i: usize| letters.get(i).is_some_and(|c| c.is_lowercase());
    letters
        .iter()
        .enumerate()
        .map(|(i, c)| if i > 0 && upper(i - 1) && upper(i) && !lower(i + 1) { c.to_ascii_lowercase() } else { *c })
        .collect()
}

/// `use` of the types of the same package that this module's text names.
fn imports(body: &str, path: &Path, types: &BTreeMap<PathBuf, Vec<String>>) -> String {
    let mut lines = String::new();
    for (other, names) in types {
        if other == path || other.parent() != path.parent() || !path.starts_with("skywalking") {
            continue;
        }
        let module = other.file_stem().expect("has a name").to_string_lossy();
        for name in names.iter().filter(|name| uses(body, name)) {
            lines += &format!("use super::{module}::{name};\n");
        }
    }
    if lines.is_empty() { lines } else { lines + "\n" }
}

fn uses(body: &str, name: &str) -> bool {
    let code = body.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|w| w == name)
}

/// By the repository's own rules.
fn formatted(text: &str) -> Result<String, Box<dyn Error>> {
    use std::io::Write;
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=100,use_small_heuristics=Max"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    rustfmt.stdin.take().expect("is piped").write_all(text.as_bytes())?;
    let output = rustfmt.wait_with_output()?;
    if !output.status.success() {
        return Err("rustfmt refused what was generated".into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
