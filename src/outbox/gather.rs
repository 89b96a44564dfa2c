//! Requests that come together are carried out together.

use tokio::task::yield_now;

/// Takes in what has come, and what callers bring who were `answered` just now and ask again: each of them is about to,
/// as soon as its task has its turn. `take` adds what is there, and says whether there is room for more.
pub(crate) async fn gather<T>(gathered: &mut Vec<T>, answered: usize, mut take: impl FnMut(&mut Vec<T>) -> bool) {
    let mut has_room = take(gathered);
    while has_room && gathered.len() < answered {
        let before = gathered.len();
        yield_now().await;
        has_room = take(gathered);
        if gathered.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Callers who ask again as soon as they are answered share each round.
    #[tokio::test]
    async fn who_asks_again_is_waited_for() {
        let (sender, mut inbox) = mpsc::channel::<oneshot::Sender<()>>(64);
        for _ in 0..8 {
            let sender = sender.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    let (reply, answer) = oneshot::channel();
                    sender.send(reply).await.unwrap();
                    answer.await.unwrap();
                }
            });
        }
        drop(sender);
        let (mut answered, mut rounds) = (0, Vec::new());
        while let Some(first) = inbox.recv().await {
            let mut replies = vec![first];
            gather(&mut replies, answered, |replies| {
                replies.extend(std::iter::from_fn(|| inbox.try_recv().ok()));
                true
            })
            .await;
            answered = replies.len();
            rounds.push(answered);
            replies.into_iter().for_each(|reply| reply.send(()).unwrap());
        }
        assert_eq!(rounds, [8; 5]);
    }

    /// Who does not come is not waited for, and who has no room waits.
    #[tokio::test]
    async fn nobody_else_is_waited_for() {
        let mut left = vec![1, 2, 3];
        let mut gathered = vec![0];
        gather(&mut gathered, 100, |gathered| {
            gathered.extend(left.pop());
            true
        })
        .await;
        assert_eq!(gathered, [0, 3, 2, 1]);
        gather(&mut gathered, 100, |_| false).await;
        assert_eq!(gathered.len(), 4);
    }
}
