//! A way to a PostgreSQL that can be cut, and that can lead to another one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::postgres::{new_folder, through};

const SOCKET: &str = ".s.PGSQL.5432";

/// A socket that leads to a server's. While it is cut nothing comes through, and nobody hears of that.
pub struct CutWire {
    folder: PathBuf,
    to: Arc<Mutex<PathBuf>>,
    cut: watch::Sender<bool>,
}

impl Drop for CutWire {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl CutWire {
    /// To the server with its socket in this folder.
    pub fn to(server: &Path) -> Self {
        let folder = new_folder("ivm-wire");
        let listener = UnixListener::bind(folder.join(SOCKET)).expect("a socket");
        let to = Arc::new(Mutex::new(server.to_owned()));
        let (cut, is_cut) = watch::channel(false);
        let leads = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let socket = leads.lock().expect("no panic").join(SOCKET);
                // A server that is gone is one that closes.
                let Ok(far) = UnixStream::connect(socket).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, is_cut.clone()));
                tokio::spawn(pass(far_in, near_out, is_cut.clone()));
            }
        });
        Self { folder, to, cut }
    }

    /// Cuts it, or mends it.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Has connections that are made from now on lead to another server.
    pub fn lead_to(&self, server: &Path) {
        server.clone_into(&mut self.to.lock().expect("no panic"));
    }

    /// The URL of the server's database by this way.
    pub fn url(&self, url: &str) -> String {
        through(&self.folder, url)
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // What was on its way when the wire was cut arrives once it is mended.
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
