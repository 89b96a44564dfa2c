//! The examples do what they say.

use std::{
    path::PathBuf,
    process::{Child, Command, Output},
};

mod custom_transport;
mod observed;
mod orders;
mod quickstart;
mod square_root;

/// An example, which cargo builds before it runs all tests.
fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.push(format!("examples/{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: run all tests, or `cargo build --examples`, first", path.display());
    let mut command = Command::new(path);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Ended with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn printed(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}
