//! Planted faults keep to the code: a patch that no longer applies says nothing any more.

use std::path::Path;
use std::process::Command;

#[test]
fn every_planted_fault_applies_to_the_code_as_it_is() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut simulator = Command::new(env!("CARGO_BIN_EXE_tidegate-sim"));
    let output = simulator.args(["mutants", "--check", "--workspace"]).arg(workspace).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
