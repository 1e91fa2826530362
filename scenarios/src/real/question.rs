//! One request to a server by hand, as a user of its own: what clients are not told, the system account is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What is answered first, if anything is in time.
pub(super) async fn ask(
    address: SocketAddr,
    user: &str,
    subject: &str,
    body: &str,
) -> Option<Value> {
    let asked = timeout(ANSWER_MAX, exchange(address, user, subject, body)).await;
    asked.ok()?.ok()
}

async fn exchange(address: SocketAddr, user: &str, subject: &str, body: &str) -> io::Result<Value> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let question = format!(
        "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{user}\"}}\r\n\
         SUB answer 1\r\nPUB {subject} answer {size}\r\n{body}\r\n",
        size = body.len(),
    );
    stream.write_all(question.as_bytes()).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.starts_with("MSG answer") {
            let size = line.split_ascii_whitespace().next_back();
            let size = size.and_then(|size| size.parse().ok()).unwrap_or(0);
            let mut answer = vec![0; size];
            stream.read_exact(&mut answer).await?;
            return Ok(serde_json::from_slice(&answer)?);
        }
    }
}
