// SPDX-License-Identifier: Apache-2.0

//! Each example is run, and prints what its first lines say.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn examples_print_what_they_say() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let test = std::env::current_exe().unwrap();
    let programs = test.parent().unwrap().parent().unwrap().join("examples");
    let mut count = 0;
    for source in fs::read_dir(sources).unwrap() {
        let source = source.unwrap().path();
        let name = source.file_stem().unwrap().to_owned();
        if !cfg!(feature = "tokio") && name.to_string_lossy().starts_with("tokio") {
            continue;
        }
        let text = fs::read_to_string(&source).unwrap();
        let expected = text.split("```text\n").nth(1).and_then(|rest| rest.split("//! ```").next());
        let lines = expected.expect("what it prints").lines();
        let expected: Vec<_> = lines.map(|line| line.trim_start_matches("//! ")).collect();
        let output = Command::new(programs.join(&name)).output().unwrap();
        assert!(output.status.success(), "{name:?}: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{name:?}");
        count += 1;
    }
    assert!(count >= 5);
}
