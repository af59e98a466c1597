//! SARIF 2.1.0 (OASIS), as code scanning reads it: every result has a place in a file, or all of them are refused. What
//! is found outside of files is a notification of the run.

use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

use super::Located;
use crate::finding::{Code, Finding, Severity};
use crate::{COMMIT, VERSION};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The root that relative paths begin at: the directory the command runs in.
const ROOT: &str = "%SRCROOT%";

pub(super) fn text(findings: &[Located]) -> anyhow::Result<String> {
    let rules: Vec<Value> = Code::ALL.iter().map(|code| rule(*code)).collect();
    let here = std::env::current_dir().ok();
    let (mut results, mut notifications) = (Vec::new(), Vec::new());
    // Notes are nothing to review: there is one for each host of somebody else's.
    for located in findings.iter().filter(|located| located.finding.code.severity() != Severity::Info) {
        match &located.file {
            Some(file) => results.push(result(located, file, here.as_deref())),
            None => notifications.push(notification(&located.finding)),
        }
    }
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "globaldns", "semanticVersion": VERSION, "version": format!("{VERSION} ({COMMIT})"),
                "rules": rules,
            }},
            "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": notifications}],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&log)?))
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.as_str(),
        "shortDescription": {"text": code.about()},
        "defaultConfiguration": {"level": level(code.severity())},
    })
}

fn index(code: Code) -> Option<usize> {
    Code::ALL.iter().position(|known| *known == code)
}

fn object(finding: &Finding) -> Value {
    json!([{"fullyQualifiedName": finding.object, "kind": "resource"}])
}

fn notification(finding: &Finding) -> Value {
    json!({
        "associatedRule": {"id": finding.code.as_str(), "index": index(finding.code)},
        "level": level(finding.code.severity()),
        "message": {"text": finding.told()},
        "locations": [{"logicalLocations": object(finding)}],
    })
}

fn result(located: &Located, file: &str, here: Option<&Path>) -> Value {
    let finding = &located.finding;
    // Code scanning shows nothing without a region.
    let mut region = json!({"startLine": located.line.unwrap_or(1)});
    if let Some(column) = located.column {
        region["startColumn"] = column.into();
    }
    json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": index(finding.code),
        "level": level(finding.code.severity()),
        "message": {"text": finding.told()},
        "locations": [{
            "physicalLocation": {"artifactLocation": artifact(file, here), "region": region},
            "logicalLocations": object(finding),
        }],
        // The same finding stays the same when lines above it come and go.
        "partialFingerprints": {
            "globaldns/v1": format!("{}|{}|{}|{}", finding.code.as_str(), finding.object, finding.field, finding.value),
        },
    })
}

/// Below the directory we run in a relative path, as code scanning wants it; else where it is.
fn artifact(file: &str, here: Option<&Path>) -> Value {
    let path = without_parents(Path::new(file));
    let path = path.as_path();
    let inside =
        if path.is_absolute() { here.and_then(|here| path.strip_prefix(here).ok()) } else { Some(path) };
    let leads_out = |path: &&Path| path.components().any(|part| part == Component::ParentDir);
    match (inside.filter(|path| !leads_out(path)), std::path::absolute(path)) {
        (Some(path), _) => {
            let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
            json!({"uri": encoded(&plain), "uriBaseId": ROOT})
        }
        (None, Ok(path)) => json!({"uri": format!("file://{}", encoded(&path))}),
        (None, Err(_)) => json!({"uri": encoded(path)}),
    }
}

/// The same file without `..` on the way, where the way can be followed: what is before a `..` may be a link.
fn without_parents(path: &Path) -> PathBuf {
    let followed = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let leads_up = path.components().any(|part| part == Component::ParentDir);
    leads_up.then(followed).flatten().unwrap_or_else(|| path.to_owned())
}

/// RFC 3986 section 2.1: everything but unreserved octets and `/`.
fn encoded(path: &Path) -> String {
    const REPLACED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    percent_encode(path.as_os_str().as_encoded_bytes(), REPLACED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [F2]
    #[test]
    fn paths_are_relative_to_where_the_command_runs() {
        let uri = |file: &str| artifact(file, Some(Path::new("/repo")));
        for file in ["a b/c.yaml", "./a b/c.yaml", "/repo/a b/c.yaml"] {
            assert_eq!(uri(file), json!({"uri": "a%20b/c.yaml", "uriBaseId": ROOT}), "{file}");
        }
        assert_eq!(uri("/else/c.yaml"), json!({"uri": "file:///else/c.yaml"}));
        let above = uri("../c.yaml")["uri"].as_str().map(str::to_owned).expect("a text");
        assert!(above.starts_with("file:///"), "{above}");
        let here = std::env::current_dir().expect("a directory");
        let own = here.file_name().expect("a name").to_string_lossy();
        for file in [format!("../{own}/src/lib.rs"), format!("{}/tests/../src/lib.rs", here.display())] {
            let artifact = artifact(&file, Some(&here));
            assert_eq!(artifact, json!({"uri": "src/lib.rs", "uriBaseId": ROOT}), "{file}");
        }
    }
}
