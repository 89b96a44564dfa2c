//! The checked-in generated code is what the `.proto` files give. No protoc, no build script.
//!
//! `BLESS=1 cargo test --test codegen` writes the files anew.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

use protox::prost::Message as _;
use tonic_prost_build::Config;

/// One pass per revision: both have the same package name, so one pass cannot hold both.
fn generate(revision: &str, out: &Path) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto").join(revision);
    let mut compiler = protox::Compiler::new([&root]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("coprocessor_node/v1/coprocessor_node.proto").unwrap();
    let commented = compiler.file_descriptor_set();
    let mut bare = commented.clone();
    // A node's reflection answer carries no comments, so ours does not either.
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);

    let run = |name: &str, builder: tonic_prost_build::Builder| {
        let dir = out.join(name);
        fs::create_dir_all(&dir).unwrap();
        builder
            .out_dir(&dir)
            .emit_rerun_if_changed(false)
            .compile_fds_with_config(commented.clone(), Config::new())
            .unwrap();
        fs::read(dir.join("coprocessor_node.v1.rs")).unwrap()
    };
    let ours = tonic_prost_build::configure()
        .build_client(false)
        .bytes(".")
        .server_mod_attribute(".", "#[cfg(feature = \"devnode\")]");
    let plain = tonic_prost_build::configure().build_server(false);
    vec![
        (format!("src/wire/generated/{revision}.rs"), run("ours", ours)),
        (format!("src/wire/generated/{revision}.bin"), bare.encode_to_vec()),
        (format!("tests/support/src/plain_client/{revision}.rs"), run("plain", plain)),
    ]
}

#[test]
fn generated_code_is_up_to_date() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("codegen-{}", std::process::id()));
    let mut stale = Vec::new();
    for revision in ["state", "relay"] {
        for (path, fresh) in generate(revision, &out.join(revision)) {
            let target = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
            if bless {
                fs::write(&target, &fresh).unwrap();
            } else if fs::read(&target).ok().as_deref() != Some(&*fresh) {
                stale.push(path);
            }
        }
    }
    let _ = fs::remove_dir_all(&out);
    assert!(
        stale.is_empty(),
        "generated files differ from what proto/ gives: {stale:?}\nrun `BLESS=1 cargo test --test codegen` and commit them"
    );
}
