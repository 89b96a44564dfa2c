//! Keys, by the names that cast has for them. A key is in memory only, and in nothing that is printed.

use std::{
    env,
    ffi::OsString,
    fs, panic,
    path::{Path, PathBuf},
};

use clap::Args;
use infinityvm_sdk::{Error, ErrorKind, LocalSigner, Result};
use zeroize::Zeroizing;

use crate::{
    output::Output,
    text::{refused, unreadable},
};

const HINT: &str = "give one of --keystore, --account, --private-key-file or --interactive";

/// Whose key signs. One of them; a keystore also by ETH_KEYSTORE, its password file also by ETH_PASSWORD.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Keys")]
pub struct KeyOptions {
    /// A keystore file (web3 secret storage) [env: ETH_KEYSTORE]
    #[arg(long, value_name = "PATH", group = "key")]
    keystore: Option<PathBuf>,

    /// A keystore of this name in ~/.foundry/keystores [env: ETH_KEYSTORE_ACCOUNT]
    #[arg(long, value_name = "NAME", group = "key")]
    account: Option<String>,

    /// The file with the keystore's password, which is else asked for [env: ETH_PASSWORD]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["private_key", "private_key_file", "interactive"])]
    password_file: Option<PathBuf>,

    /// Ask for the private key on the terminal
    #[arg(long, short, group = "key")]
    interactive: bool,

    /// The file with the private key, as hex digits
    #[arg(long, value_name = "PATH", group = "key")]
    private_key_file: Option<PathBuf>,

    /// The private key itself. Everybody on this machine can see it in the list of processes: for tests only
    #[arg(long, value_name = "HEX", group = "key", hide_default_value = true)]
    private_key: Option<Secret>,
}

/// Text that is never shown.
#[derive(Clone)]
struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl KeyOptions {
    /// The key that was named.
    pub fn key(&self, output: &Output) -> Result<Zeroizing<[u8; 32]>> {
        if let Some(Secret(key)) = &self.private_key {
            output.warn("--private-key shows the key to everybody on this machine, and to the shell's history; use --private-key-file");
            return from_hex(key, "--private-key");
        }
        if let Some(path) = &self.private_key_file {
            return from_file(path);
        }
        if self.interactive {
            return from_hex(&ask("private key: ")?, "what was typed");
        }
        let path = self.keystore_path()?;
        self.decrypt(&path)
    }

    /// Who signs jobs.
    pub fn signer(&self, output: &Output) -> Result<LocalSigner> {
        LocalSigner::from_bytes(*self.key(output)?)
    }

    fn keystore_path(&self) -> Result<PathBuf> {
        let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = &self.keystore {
            return Ok(path.clone());
        }
        if let Some(name) = &self.account {
            return of_account(name.into());
        }
        match (given("ETH_KEYSTORE"), given("ETH_KEYSTORE_ACCOUNT")) {
            (Some(path), _) => Ok(path.into()),
            (None, Some(name)) => of_account(name),
            (None, None) => {
                Err(Error::new(ErrorKind::InvalidConfig, "a signature is needed, and no key was named").with_hint(HINT))
            }
        }
    }

    fn decrypt(&self, path: &Path) -> Result<Zeroizing<[u8; 32]>> {
        let what = path.display().to_string();
        // Before anybody is asked for a password.
        fs::File::open(path).map_err(|error| unreadable(&what, error))?;
        let file = self
            .password_file
            .clone()
            .or_else(|| env::var_os("ETH_PASSWORD").filter(|path| !path.is_empty()).map(PathBuf::from));
        let password = match file {
            Some(file) => {
                let text = fs::read_to_string(&file).map(Zeroizing::new);
                let text = text.map_err(|error| unreadable(&file.display().to_string(), error))?;
                // An editor ends the last line of a file.
                Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => ask("password of the keystore: ")?,
        };
        let no_key = || {
            refused(format!("{what} gives no key"))
                .with_hint("check the password, and that the file is a keystore as `cast wallet new` writes it")
        };
        let decrypted = quietly(|| eth_keystore::decrypt_key(path, password.as_bytes()).map(Zeroizing::new));
        let key = decrypted.ok_or_else(no_key)?.map_err(|error| no_key().with_source(error))?;
        let bytes: Result<[u8; 32], _> = key.as_slice().try_into();
        bytes.map(Zeroizing::new).map_err(|_| refused(format!("{what} holds no key of 32 bytes")))
    }
}

fn of_account(name: OsString) -> Result<PathBuf> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home
        .ok_or_else(|| refused("HOME is not set, so there is no ~/.foundry/keystores").with_hint("use --keystore"))?;
    let mut parts = Path::new(&name).components();
    if !matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None)) {
        return Err(refused("--account is a name and not a path").with_hint("use --keystore for a file elsewhere"));
    }
    Ok(Path::new(&home).join(".foundry/keystores").join(name))
}

/// The key in a file, as hex digits.
pub fn from_file(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let what = path.display().to_string();
    let text = fs::read_to_string(path).map(Zeroizing::new);
    from_hex(&text.map_err(|error| unreadable(&what, error))?, &what)
}

/// Runs what panics at a keystore whose fields have wrong lengths. Nothing is printed of that.
fn quietly<T>(what: impl FnOnce() -> T) -> Option<T> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let done = panic::catch_unwind(panic::AssertUnwindSafe(what));
    panic::set_hook(hook);
    done.ok()
}

/// What is wrong with a key is said without the key.
fn from_hex(text: &str, whence: &str) -> Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let text = text.trim();
    infinityvm_sdk::primitives::hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut *key).map_err(
        |_| refused(format!("{whence} holds no private key")).with_hint("a key is 64 hex digits, with or without 0x"),
    )?;
    Ok(key)
}

fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| {
        refused("there is no terminal to ask on")
            .with_source(error)
            .with_hint("name a file: --password-file for a keystore, or --private-key-file")
    })
}
