//! The control socket: one fault as a line of JSON, and one line of JSON for an answer.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use infinityvm_sdk::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{fault::FaultCommand, state::Session};
use crate::text::refused;

/// The most bytes of a line.
const LINE: u64 = 64 << 10;
/// How long a node may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the socket of a node is that listens on this port, unless told otherwise.
pub fn default_socket(grpc_port: u16) -> PathBuf {
    // The folder of this user alone, where there is one.
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    folder.join(format!("ivm-devnode-{grpc_port}.sock"))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Done(Value),
    Failed { why: String, next: Option<String> },
}

/// Listens until it is dropped, which also removes the socket.
pub struct Control {
    path: PathBuf,
    task: tokio::task::AbortHandle,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        _ = fs::remove_file(&self.path);
    }
}

impl Control {
    pub async fn listen(path: PathBuf, session: &Arc<Session>) -> Result<Self> {
        let failed = |error: std::io::Error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another node has it, or it is no socket; name another one with --socket"
                }
                _ => "name one with --socket: a short path, in a folder that is there",
            };
            refused(format!("the control socket {} cannot be made", path.display())).with_source(error).with_hint(hint)
        };
        // What a node left behind that was killed. Nothing but a socket is ever removed.
        let is_socket = fs::symlink_metadata(&path).is_ok_and(|there| there.file_type().is_socket());
        if is_socket && UnixStream::connect(&path).await.is_err() {
            _ = fs::remove_file(&path);
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        // Nobody else on this machine may make the node go wrong.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let session = Arc::clone(session);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let session = Arc::clone(&session);
                tokio::spawn(async move { serve(stream, &session).await });
            }
        });
        Ok(Self { path, task: task.abort_handle() })
    }
}

async fn serve(mut stream: UnixStream, session: &Session) {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    if BufReader::new(read.take(LINE)).read_line(&mut line).await.is_err() {
        return;
    }
    let done = serde_json::from_str::<FaultCommand>(&line)
        .map_err(|error| refused("the control socket got no fault").with_source(error))
        .and_then(|fault| session.apply(&fault));
    let failed = |error: Error| Reply::Failed { why: error.to_string(), next: error.hint().map(str::to_owned) };
    let reply = done.map_or_else(failed, Reply::Done);
    let text = serde_json::to_string(&reply).unwrap_or_default();
    _ = write.write_all(format!("{text}\n").as_bytes()).await;
}

/// Has a running node do it, and returns its answer.
pub async fn tell(socket: &Path, fault: &FaultCommand) -> Result<Value> {
    let unreachable = |why: std::io::Error| {
        Error::new(ErrorKind::Unavailable, format!("no development node answers on {}", socket.display()))
            .with_source(why)
            .with_hint("start one with `ivm devnode`, or name its socket with --socket, as it printed it")
    };
    let line = serde_json::to_string(fault).map_err(|error| refused("this fault cannot be told").with_source(error))?;
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok(answer)
    };
    let late = |_| Err(std::io::ErrorKind::TimedOut.into());
    let answer = timeout(PATIENCE, talk).await.unwrap_or_else(late).map_err(unreachable)?;
    match serde_json::from_str(&answer) {
        Ok(Reply::Done(said)) => Ok(said),
        Ok(Reply::Failed { why, next }) => {
            // Its kind is said again here.
            let why = why.trim_start_matches("invalid input: ").to_owned();
            Err(match next {
                Some(next) => refused(why).with_hint(next),
                None => refused(why),
            })
        }
        Err(error) => Err(refused("the socket's answer makes no sense").with_source(error)),
    }
}
