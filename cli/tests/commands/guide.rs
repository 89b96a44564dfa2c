//! The commands of the guide's page run, in a shell, in their order.

use std::{env, path::Path, process::Command};

use infinityvm_sdk::Revision;

use crate::{
    chain::ChainScene,
    rig::Folder,
    scene::{CONSUMER, Scene},
};

const PAGE: &str = include_str!("../../../src/guide/command_line.md");

/// The page's blocks for a shell: those that need a chain, or the others.
fn blocks(chain: bool) -> Vec<&'static str> {
    let blocks = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("an end"));
    blocks.filter(|block| block.starts_with("# Needs a chain.") == chain).collect()
}

/// Runs a block, which ends with the first command that fails.
fn run(folder: &Folder, block: &str, variables: &[(&str, String)]) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_ivm")).parent().expect("a folder");
    let path = env::join_paths(
        [programs.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").expect("a path"))),
    );
    let mut command = Command::new("sh");
    command.args(["-euc", block]).current_dir(folder.path()).env_clear().env("PATH", path.expect("a path"));
    command.env("HOME", folder.path()).envs(variables.iter().map(|(name, value)| (name, value)));
    let output = tokio::task::block_in_place(|| command.output()).expect("a shell");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{block}\n{out}{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_s_commands_run() {
    let scene = Scene::start(Revision::Relay).await;
    let variables = [
        ("IVM_NODE", scene.node.grpc_url()),
        ("IVM_OPERATOR", scene.node.operator().to_string()),
        ("CONSUMER", CONSUMER.to_string()),
        ("PROGRAM", scene.root.to_string()),
    ];
    let printed: Vec<_> = blocks(false).iter().map(|block| run(&scene.folder, block, &variables)).collect();
    assert_eq!(printed.len(), 5);
    assert!(printed[0].contains("(12, the root of 144)"), "{}", printed[0]);
    assert!(printed[1].contains("(42, the root of 1764)"), "{}", printed[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs anvil: tests/run installs it"]
async fn those_that_need_a_chain_run_too() {
    let scene = ChainScene::start(Revision::Relay).await;
    let blocks = blocks(true);
    assert_eq!(blocks.len(), 1);
    let printed = run(&scene.folder, blocks[0], &scene.variables());
    assert!(printed.contains("complete on chain already") && printed.contains("somebody else"), "{printed}");
}
