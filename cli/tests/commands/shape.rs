//! Help, completions and the manual page.

use std::process::{Command, Stdio};

use crate::rig::Folder;

#[test]
fn the_help_fits_a_screen() {
    let help = Folder::new().ivm(&["--help"]);
    let lines: Vec<_> = help.ok().lines().collect();
    assert!(lines.len() <= 30, "{} lines:\n{}", lines.len(), help.out);
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{}", help.out);
    for word in ["job", "node", "nonce", "--json", "--timeout", "ETH_RPC_URL", "Exit codes"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
}

#[test]
fn shells_and_manuals_know_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.ivm(&["completions", shell]);
        assert!(script.ok().contains("private-key-file"), "{shell}: {} bytes", script.out.len());
    }
    let man = folder.ivm(&["man"]);
    assert!(man.ok().contains(".SH \"IVM JOB SIGN\"") || man.out.contains(".SH IVM JOB SIGN"), "{}", man.out);
    // The node's own options and faults, too; and what every command takes is told once.
    assert!(man.out.contains("anvil\\-port") && man.out.contains("IVM DEVNODE FAULT DROP"), "{}", man.out);
    assert_eq!(man.out.matches("JobManager contract on the chain").count(), 1);
    assert!(!man.out.contains("guard") && !folder.ivm(&["completions", "bash"]).out.contains("guard"));
}

#[test]
fn the_version_is_the_package_s() {
    assert_eq!(Folder::new().ivm(&["--version"]).ok(), concat!("ivm ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_arguments_are_told_as_text_and_as_json() {
    let folder = Folder::new();
    let text = folder.ivm(&["job", "bild"]);
    assert!(text.fails(2).contains("build"), "{}", text.err);
    let json = folder.ivm(&["job", "bild", "--json"]);
    let error: serde_json::Value = serde_json::from_str(json.fails(2)).expect("JSON");
    assert_eq!((error["exit_code"].as_u64(), error["error"]["kind"].as_str()), (Some(2), Some("invalid_input")));
}

/// `script` gives the command a terminal of its own.
#[cfg(target_os = "linux")]
#[test]
fn only_a_terminal_gets_colours() {
    let plain = Folder::new().ivm(&["job", "id", "nowhere"]);
    assert!(plain.fails(2).starts_with("error: ") && !plain.err.contains('\x1b'), "{}", plain.err);
    for colours in [true, false] {
        let line = concat!(env!("CARGO_BIN_EXE_ivm"), " job id nowhere");
        let mut command = Command::new("script");
        command.args(["-qec", line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm").env_remove("CLICOLOR");
        command.env_remove("NO_COLOR").env_remove("CI");
        if !colours {
            command.env("NO_COLOR", "1");
        }
        let done = command.output().expect("script, of Debian's bsdutils");
        let text = String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.code(), Some(2), "{text}");
        assert!(text.contains("nowhere cannot be read") && text.contains('\x1b') == colours, "{text:?}");
    }
}
