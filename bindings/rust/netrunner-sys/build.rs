// SPDX-License-Identifier: Apache-2.0

//! Finds libnetrunner.so: in `NETRUNNER_LIB_DIR`, else by pkg-config, else in
//! the `build` directory of the repository that this crate is a part of.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const SONAME: &str = "libnetrunner.so.0";
const SHEPHERD: &str = "netrunner-shepherd";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=NETRUNNER_LIB_DIR");
    println!("cargo:rerun-if-env-changed=DOCS_RS");
    if env::var_os("DOCS_RS").is_some() {
        return; // documentation is made without linking
    }
    if let Some(dir) = env::var_os("NETRUNNER_LIB_DIR") {
        let dir = PathBuf::from(dir);
        let library = dir.join("libnetrunner.so");
        assert!(library.exists(), "NETRUNNER_LIB_DIR: there is no {}", library.display());
        return vendor(&dir);
    }
    let refusal = match pkg_config::Config::new().atleast_version("0.1.0").probe("netrunner") {
        Ok(found) => {
            if let Some(dir) = found.link_paths.first() {
                println!("cargo:lib_dir={}", dir.display());
            }
            return;
        }
        Err(refusal) => refusal,
    };
    let repository = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../../build");
    assert!(
        repository.join("libnetrunner.so").exists(),
        "libnetrunner.so was not found. Say where it is with NETRUNNER_LIB_DIR=<directory of \
         libnetrunner.so and netrunner-shepherd>, install its netrunner.pc for pkg-config, or run \
         `make` in the repository.\npkg-config said: {refusal}"
    );
    vendor(&repository);
}

/// Copies the library, and the shepherd that it looks for beside itself, to
/// where `cargo run` and `cargo test` let the dynamic linker look: they keep
/// only directories below the target directory in its search path.
fn vendor(from: &Path) {
    let to = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("lib");
    fs::create_dir_all(&to).unwrap();
    for (name, copy) in
        [("libnetrunner.so", "libnetrunner.so"), ("libnetrunner.so", SONAME), (SHEPHERD, SHEPHERD)]
    {
        let source = from.join(name);
        println!("cargo:rerun-if-changed={}", source.display());
        if name == SHEPHERD && !source.exists() {
            continue; // it may be elsewhere, see $NETRUNNER_SHEPHERD
        }
        let target = to.join(copy);
        // A new file: the old one may be running.
        let _ = fs::remove_file(&target);
        if let Err(error) = fs::copy(&source, &target) {
            panic!("copy {} to {}: {error}", source.display(), to.display());
        }
    }
    println!("cargo:rustc-link-search=native={}", to.display());
    println!("cargo:rustc-link-lib=dylib=netrunner");
    println!("cargo:lib_dir={}", to.display());
}
