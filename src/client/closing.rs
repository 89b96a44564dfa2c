//! The end of a client: what is under way is let end, and what is open is handed out.

use std::time::Duration;

use super::connection::Client;
use crate::{job::SignedJob, node::Deadline};

impl Client {
    /// Ends the client: it takes no new work, and this waits until what is under way has ended, but no longer than
    /// this. To be called before a process ends: a node whose call is cut off can lose its task for the consumer, and
    /// then answers nothing for that consumer until it is restarted.
    ///
    /// From the first poll on, everything that signs a job, or sends the node one or a program, fails with
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), for all clones of the client: nothing was sent then, and the
    /// nonce is free; a job that was sent before is told as [`Outcome::Unknown`](crate::Outcome::Unknown). Waits go on,
    /// but send no lost job again. Reads work. So does [`post_result`](Self::post_result), which sends nothing to the
    /// node.
    ///
    /// No call is aborted, neither at the deadline nor when the future is dropped: what is under way goes on as long as
    /// the runtime does. Dropping the future loses nothing; the client stays closed, and `close` can be called again.
    ///
    /// Returns the signed jobs of [`unresolved`](Self::unresolved): those whose outcome is open, and those that are
    /// still under way. Store them, and after a restart [`submit_signed`](Self::submit_signed) them. Transactions of
    /// [`open_posts`](Self::open_posts) are not waited for.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doc_scene.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> doc::Outcome {
    /// # use std::time::Duration;
    /// # let doc::Scene { client, job, node: _node } = doc::scene().await;
    /// # client.submit(job.clone()).await?;
    /// let open = client.close(Duration::from_secs(30)).await;
    /// println!("{} jobs are to be submitted again", open.len());
    /// # assert!(open.is_empty());
    /// # let error = client.submit(job).await.unwrap_err();
    /// # assert_eq!(error.kind(), infinityvm_sdk::ErrorKind::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self, deadline: Duration) -> Vec<SignedJob> {
        let (node, submissions) = (&self.parts.node, &self.parts.submissions);
        node.close();
        submissions.hurry();
        let ended = async {
            submissions.ended().await;
            node.lists_ended().await;
        };
        _ = Deadline::after(deadline).bound(ended).await;
        self.unresolved()
    }
}
