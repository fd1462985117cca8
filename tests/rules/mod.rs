//! House rules as tests: what the compiler cannot see and a reviewer would have to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a source folder is readable") {
        let path = entry.expect("a folder entry is readable").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of the three crates, and what is in it.
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["src", "schemas/src", "sinks/src"] {
        rust_files(&root().join(folder), &mut files);
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        (path, text)
    };
    files.into_iter().map(read).collect()
}

/// Package name and version of everything in the lock file, with what each depends on.
fn resolved() -> (BTreeMap<String, BTreeSet<String>>, serde_json::Value) {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let mut majors: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name").to_owned();
        let version = package["version"].as_str().expect("version");
        let major = version.split('.').next().expect("a major").to_owned();
        majors.entry(name).or_default().insert(major);
    }
    (majors, metadata)
}

#[test]
fn only_the_two_expected_arrow_majors_exist() {
    let (majors, _) = resolved();
    let expected: BTreeSet<String> = ["58", "59"].map(String::from).into();
    for name in ["arrow-array", "arrow-schema", "parquet"] {
        assert_eq!(
            majors[name], expected,
            "{name}: a third Arrow, or one that went: see ARCHITECTURE.md"
        );
    }
    let one: BTreeSet<String> = ["0".to_owned()].into();
    assert_eq!(majors["object_store"], one);
    assert_eq!(majors["deltalake-core"], ["1".to_owned()].into());
}

#[test]
fn the_second_arrow_is_reached_through_iceberg_alone() {
    let (_, metadata) = resolved();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let id = node["id"].as_str().expect("id");
        if !id.contains("/schemas#") && !id.contains("/sinks#") && !id.contains("lakebed") {
            continue;
        }
        for dependency in node["dependencies"].as_array().expect("dependencies") {
            let dependency = dependency.as_str().expect("id");
            let ours =
                ["arrow", "parquet"].iter().any(|name| dependency.contains(&format!("#{name}")));
            assert!(!ours || dependency.contains("@59."), "{id} depends on {dependency}");
        }
    }
}

#[test]
fn no_arrow_type_crosses_into_iceberg() {
    for (path, text) in sources() {
        for banned in ["iceberg::arrow", "iceberg::writer", "iceberg::scan"] {
            assert!(!text.contains(banned), "{}: `{banned}` is on the other Arrow", path.display());
        }
    }
}

#[test]
fn crates_point_one_way() {
    for (path, text) in sources() {
        let inside = path.strip_prefix(root()).expect("inside the repository");
        if inside.starts_with("schemas") {
            assert!(
                !text.contains("lakebed_sinks") && !text.contains("tokio::"),
                "{}",
                inside.display()
            );
            assert!(
                !text.contains("Instant::now") && !text.contains("Utc::now"),
                "{} reads a clock",
                inside.display()
            );
        }
        if inside.starts_with("sinks") {
            assert!(
                !text.contains("rdkafka"),
                "{}: only the service talks to a broker",
                inside.display()
            );
        }
    }
}

#[test]
fn every_module_says_what_it_owns() {
    for (path, text) in sources() {
        let inside = path.strip_prefix(root()).expect("inside the repository");
        assert!(
            text.starts_with("//!"),
            "{} does not begin with what it owns (`//!`)",
            inside.display()
        );
        for unfinished in ["todo!(", "unimplemented!(", "dbg!(", "FIXME"] {
            assert!(!text.contains(unfinished), "{} has `{unfinished}`", inside.display());
        }
    }
}

#[test]
fn no_git_dependencies() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    assert!(!lock.contains("git+"), "a git dependency: publishable sources only");
}
