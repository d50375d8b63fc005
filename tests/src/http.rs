//! A look at the operations port: one plain GET.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// One answer may take this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The code and the body of an answer; the error says why there is none.
pub async fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, exchange).await;
    let answer = answer.map_err(|_| format!("{address} does not answer"))?.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of headers")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no code")?;
    Ok((code, body.to_owned()))
}

/// The value of a metric with exactly these labels (as written, without braces); none if it is not there.
pub fn metric(text: &str, name: &str, labels: &str) -> Option<f64> {
    let full = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
    text.lines().find_map(|line| line.strip_prefix(&full)?.strip_prefix(' ')?.parse().ok())
}
