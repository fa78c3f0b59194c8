//! Four-letter words, with which servers tell of themselves outside of any session.

use crate::Host;
use crate::limits::WORD_ANSWER_MAX;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for one read.
const CHUNK: usize = 4096;

impl Host {
    /// The answer of this server to a four-letter word such as `srvr`, over a plain connection of its own. A server
    /// that doesn't answer that word says so in its answer.
    ///
    /// # Errors
    /// The system's words for a connection that can't be had; [`io::ErrorKind::TimedOut`] when all together takes
    /// longer than `within`; [`io::ErrorKind::InvalidData`] for more than [`WORD_ANSWER_MAX`] bytes.
    pub async fn word(&self, word: &str, within: Duration) -> io::Result<String> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}"));
        tokio::time::timeout(within, self.ask(word)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, word: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect((&*self.name, self.port)).await?;
        stream.write_all(word.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            answer.reserve(CHUNK);
            match stream.read_buf(&mut answer).await {
                Ok(0) => break,
                Ok(_) if answer.len() <= WORD_ANSWER_MAX => {}
                Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not end")),
                // Some servers reset instead of closing; what came is the answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// What comes of asking a server that answers everything with this, or nothing at all.
    async fn asked(answer: Option<Vec<u8>>, within: Duration) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("someone asks");
            let mut word = [0; 4];
            stream.read_exact(&mut word).expect("a word");
            assert_eq!(&word, b"srvr");
            match answer {
                // Whoever asked may have had enough.
                Some(answer) => drop(stream.write_all(&answer)),
                None => drop(stream.read(&mut word)),
            }
        });
        let host: Host = format!("127.0.0.1:{port}").parse().expect("a host");
        let result = host.word("srvr", within).await;
        server.join().expect("the server does not panic");
        result
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_and_not_beyond_its_limit() {
        let patience = Duration::from_secs(60);
        assert_eq!(asked(Some(b"Mode: leader\n".to_vec()), patience).await.expect("an answer"), "Mode: leader\n");
        assert_eq!(asked(Some(Vec::new()), patience).await.expect("an empty answer"), "");
        let endless = asked(Some(vec![b'x'; WORD_ANSWER_MAX + 1]), patience).await.expect_err("it is too long");
        assert_eq!(endless.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let error = asked(None, Duration::from_millis(20)).await.expect_err("nothing came");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
