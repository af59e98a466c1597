//! One request to another admin listener.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, ToSocketAddrs};

/// Asks for a path, over a connection of its own that ends with this. A reply of more than `most` octets is an error.
pub async fn reply(
    address: impl ToSocketAddrs,
    authority: &str,
    path: &str,
    most: usize,
) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close")
        .header(super::host::NO_BROWSER, "1")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let reply = async {
        let reply = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = reply.status();
        let body =
            Limited::new(reply.into_body(), most).collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    };
    // The connection moves only while it is polled.
    tokio::pin!(reply);
    tokio::select! {
        reply = &mut reply => reply,
        ended = connection => match ended {
            Ok(()) => reply.await,
            Err(error) => Err(error.to_string()),
        },
    }
}
