//! Servers that refuse a message before they have read it, as by a limit of its length.

use super::*;

/// What a server does once it has read the head and has answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It takes what else comes, for as long as it comes, as nginx does.
    Lingers,
    /// It closes the connection, which resets it where something is unread.
    Closes,
    /// The same, in the middle of its text.
    BreaksOff,
}

async fn refusing(status: u16, then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    if !socket.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                        return;
                    }
                }
                let text = "<html>413 Request Entity Too Large</html>";
                let len = text.len() + if then == Then::BreaksOff { 1000 } else { 0 };
                let head = format!("HTTP/1.1 {status} Some\r\ncontent-type: text/html\r\ncontent-length: {len}\r\n");
                let answer = format!("{head}connection: close\r\n\r\n{text}");
                socket.write_all(answer.as_bytes()).await.unwrap();
                if then == Then::Lingers {
                    _ = socket.shutdown().await;
                    let mut rest = vec![0; 64 << 10];
                    while socket.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
    });
    url
}

/// On several threads, so that the server answers while the client sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_refused_by_its_length_is_told_as_too_large() {
    for then in [Then::Lingers, Then::Closes, Then::BreaksOff] {
        for size in [100, 10_000, 1 << 20, 16 << 20] {
            for _ in 0..10 {
                let url = refusing(413, then).await;
                let rest = RestTransport::builder(&url).build().unwrap();
                let error = rest.call(Method::SubmitJob, Bytes::from(vec![b' '; size]).into()).await.unwrap_err();
                // Of a long message that a server resets the connection of, HTTP clients can lose the answer.
                let may_be_lost = then != Then::Lingers && size > 10_000;
                match error.failure {
                    CallFailure::Http(413) => {}
                    CallFailure::Interrupted if may_be_lost => {
                        assert!(format!("{error:?}").contains("takes smaller messages only"), "{error:?}");
                    }
                    _ => panic!("{then:?}, {size} bytes: {error:?}"),
                }
            }
        }
    }
}

/// What the head of an answer says alone is not lost with the text.
#[tokio::test]
async fn a_refusal_whose_text_breaks_off_is_one_if_its_status_alone_says_so() {
    for (status, expected) in [
        (401, "Http(401)"),
        (407, "Http(407)"),
        (413, "Http(413)"),
        (400, "Interrupted"),
        (403, "Interrupted"),
        (429, "Interrupted"),
        (502, "Interrupted"),
        (503, "Interrupted"),
    ] {
        let url = refusing(status, Then::BreaksOff).await;
        let rest = RestTransport::builder(&url).build().unwrap();
        assert_failure(&submit(&rest).await, expected);
    }
}
