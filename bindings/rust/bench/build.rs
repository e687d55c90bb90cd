// SPDX-License-Identifier: Apache-2.0

//! Compiles what the bindings are compared with.

fn main() {
    println!("cargo:rerun-if-changed=src/baseline.c");
    cc::Build::new()
        .file("src/baseline.c")
        .include("../../../include")
        .opt_level(2)
        .compile("baseline");
}
