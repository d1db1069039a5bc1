//! What happens on a connection before HTTP: the PROXY protocol, TLS, and the refusal of a connection.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::socket::{LINGER, Socket};
use crate::http::proxy_protocol;
use crate::tls::client_certificate::ClientCertificate;
use crate::tls::server::TlsConfigRx;

/// From the first byte of a connection to the end of its TLS handshake, a few round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the first bytes of a refused request. After it the response is sent, whether they came or not.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a refused connection may take to read the response and to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(
    LINGER.as_secs() <= CLOSE_TIMEOUT.as_secs(),
    "shutting a socket down takes up to LINGER"
);

/// The response to a connection beyond the limit.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 170\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"too many connections\",\"status\":503,\
    \"detail\":\"there are too many connections, in total or from your address; come back in a second, please\"}";

/// The response to a connection for which there is no memory.
pub const TOO_LITTLE_MEMORY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 177\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"overloaded\",\"status\":503,\
    \"detail\":\"there is too little memory for more connections, in total or from your address; \
    come back in a second, please\"}";

/// The response to HTTP without TLS on a port with TLS.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
    connection: close\r\ncontent-length: 147\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"this port speaks TLS\",\"status\":400,\
    \"detail\":\"the request came without TLS; send it to https:// in place of http://\"}";

/// A connection's bytes, in the clear or through TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Accepts TLS, if this port has it, and returns the certificate that the client has shown. A client that speaks HTTP
/// without TLS to a port with TLS gets [`NO_TLS`].
///
/// # Errors
/// The handshake failed or took too long.
pub async fn accept_tls(
    socket: Socket,
    tls: Option<&TlsConfigRx>,
) -> io::Result<(Box<dyn Stream>, Option<ClientCertificate>)> {
    let Some(tls) = tls else {
        return Ok((Box::new(socket), None));
    };
    let config = Arc::clone(&tls.borrow().config);
    let handshake = async {
        // A method, in capital letters. TLS begins with the byte 22.
        match socket.first_byte().await? {
            Some(b'A'..=b'Z') => Ok(Err(socket)),
            _ => Ok(Ok(TlsAcceptor::from(config).accept(socket).await?)),
        }
    };
    let accepted: io::Result<_> = timeout(HANDSHAKE_TIMEOUT, handshake).await?;
    match accepted? {
        Ok(stream) => {
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.map(|chain| ClientCertificate::new(chain, tls));
            Ok((Box::new(stream), certificate))
        }
        Err(socket) => {
            respond_and_close(socket, NO_TLS).await;
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

/// Reads the client's address, which a proxy sends first with the PROXY protocol.
///
/// # Errors
/// The proxy sends something else, or nothing in time.
pub async fn read_client_address(socket: &mut Socket) -> io::Result<Option<IpAddr>> {
    timeout(HANDSHAKE_TIMEOUT, proxy_protocol::read(socket)).await?
}

/// Sends a response and waits a moment for what the client sends: closing before that would reset the connection, and
/// the client could not read the response.
pub async fn respond_and_close(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &[u8]) {
    let mut discarded = [0; 4096];
    // Clients such as hyper's and Go's take a response that comes before the request for a broken connection.
    let _ = timeout(FIRST_BYTES_TIMEOUT, stream.read(&mut discarded)).await;
    let respond = async {
        stream.write_all(response).await?;
        // Waits for the other side, see [`Socket`].
        stream.shutdown().await
    };
    let _ = timeout(CLOSE_TIMEOUT, respond).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canned_responses_are_as_long_as_they_say() {
        for canned in [TOO_MANY_CONNECTIONS, TOO_LITTLE_MEMORY, NO_TLS] {
            let text = std::str::from_utf8(canned).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("content-length: {}", body.len())),
                "{}",
                body.len()
            );
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
        }
    }
}
