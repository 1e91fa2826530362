//! An auth service on a port of this machine: what any [`AuthService`] answers, over HTTP, and each of its failures as
//! the network or the service would show it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use squall_core::session::{ApiKey, AuthService, ExchangeError, ExchangeRequest, Issued};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A running service; ends with its value, and with it all its connections.
#[derive(Debug)]
pub struct AuthServer {
    address: SocketAddr,
    serves: JoinHandle<Infallible>,
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gone")
    }
}

impl std::error::Error for Gone {}

impl AuthServer {
    /// Answers as `auth` does. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start<A: AuthService>(auth: A) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serves = tokio::spawn(serve(listener, auth));
        Ok(Self { address, serves })
    }

    /// Where it is, as clients want to be told.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

async fn serve<A: AuthService>(listener: TcpListener, auth: A) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        // Who has hung up before being accepted wants no answer.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let auth = auth.clone();
        let answers = service_fn(move |request| answer(auth.clone(), request));
        let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answers);
        connections.spawn(async move {
            // A connection ends when its client wants, or as a failure has it.
            let _over = serving.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer<A: AuthService>(
    auth: A,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Gone> {
    if request.method() != Method::POST || request.uri().path() != "/api/v1/auth/exchange" {
        return said(StatusCode::NOT_FOUND, "");
    }
    let body = request.into_body().collect().await.map_err(|_| Gone)?;
    let Some(api_key) = api_key(&body.to_bytes()) else {
        return said(StatusCode::BAD_REQUEST, "");
    };
    match auth.exchange(ExchangeRequest { api_key }).await {
        Ok(issued) => said(StatusCode::OK, told(&issued)),
        Err(ExchangeError::Unauthorized(why)) => {
            said(StatusCode::UNAUTHORIZED, why.as_bytes().to_vec())
        }
        Err(ExchangeError::Status(status)) => {
            said(StatusCode::from_u16(status).map_err(|_| Gone)?, "")
        }
        Err(ExchangeError::Malformed(text)) => said(StatusCode::OK, text.as_bytes().to_vec()),
        Err(ExchangeError::Unreachable(_)) => Err(Gone),
        Err(ExchangeError::TimedOut) => std::future::pending().await,
    }
}

fn api_key(body: &[u8]) -> Option<ApiKey> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(ApiKey::new(body["api_key"].as_str()?))
}

fn told(issued: &Issued) -> String {
    let credentials = issued.credentials();
    serde_json::json!({
        "account_id": issued.account().id,
        "account_name": issued.account().name,
        "nats_user_jwt": credentials.jwt(),
        "nats_user_seed": credentials.seed().reveal(),
        "expires_at": issued.expires(),
    })
    .to_string()
}

fn said(status: StatusCode, body: impl Into<Bytes>) -> Result<Response<Full<Bytes>>, Gone> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    Ok(response)
}
