//! The real auth service: `POST /auth/exchange`, after the one of ppz.
//!
//! ```text
//! {"api_key": "...", "account_id": "..."}  ──▶  200 {"account_id", "account_name", "nats_user_jwt", "nats_user_seed", ..}
//!                                               401 the key is not accepted: the only definite answer
//!                                               anything else, or nothing: asked again later
//! ```
//!
//! Other fields of the answer are passed over: the end of the credential is what its token says, as servers go by that.
//! No redirect is followed, so that the key goes nowhere but where it was meant to go. There is no time-out in here: a
//! session brings its own, and dropping the exchange ends it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use crate::jwt::Seed;
use crate::session::{Account, AuthService, ExchangeError, ExchangeRequest, Issued};
use crate::transport::Credentials;

/// The longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// An auth service that is reached over HTTP. Must be used inside a tokio runtime. Clones share their connections.
#[derive(Clone)]
pub struct HttpAuth {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    exchange: Uri,
    account: Option<Arc<str>>,
}

/// There is no such service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpAuthError {
    /// Not an address of HTTP.
    #[error("{0:?} is not an address of an auth service, such as https://auth.example.com/api/v1")]
    Address(String),
    /// Nobody is trusted here, so that no service could be known by its certificate.
    #[error("the certificates that this machine trusts cannot be read: {0}")]
    Certificates(String),
}

/// What is asked.
#[derive(Serialize)]
struct Question<'a> {
    api_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
}

/// What is answered.
#[derive(Deserialize)]
struct Answer {
    account_id: Arc<str>,
    account_name: Arc<str>,
    nats_user_jwt: String,
    nats_user_seed: String,
}

impl fmt::Debug for HttpAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAuth({})", self.exchange)
    }
}

impl HttpAuth {
    /// The service at this address, for example `https://auth.example.com/api/v1`. Over TLS it is known by the
    /// certificates that this machine trusts.
    ///
    /// # Errors
    /// If that is no address, or there are no such certificates.
    pub fn new(address: &str) -> Result<Self, HttpAuthError> {
        let no_address = || HttpAuthError::Address(address.to_owned());
        let exchange = format!("{}/auth/exchange", address.trim_end_matches('/'));
        let exchange: Uri = exchange.parse().map_err(|_| no_address())?;
        if exchange.host().is_none() || !matches!(exchange.scheme_str(), Some("http" | "https")) {
            return Err(no_address());
        }
        let trusting = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| HttpAuthError::Certificates(error.to_string()))?;
        let connector = trusting.https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            exchange,
            account: None,
        })
    }

    /// Asks for credentials of this account, of several that a key may stand for.
    #[must_use]
    pub fn for_account(self, id: impl Into<Arc<str>>) -> Self {
        Self {
            account: Some(id.into()),
            ..self
        }
    }

    async fn ask(&self, question: Question<'_>) -> Result<Response<Incoming>, ExchangeError> {
        let body = serde_json::to_vec(&question).map_err(|error| unreachable(&error))?;
        let request = Request::post(&self.exchange)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::from(body))
            .map_err(|error| unreachable(&error))?;
        let answer = self.client.request(request).await;
        answer.map_err(|error| unreachable(&error))
    }
}

impl AuthService for HttpAuth {
    async fn exchange(&self, request: ExchangeRequest) -> Result<Issued, ExchangeError> {
        let question = Question {
            api_key: request.api_key.reveal(),
            account_id: self.account.as_deref(),
        };
        let response = self.ask(question).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(ExchangeError::Unauthorized("401 Unauthorized".into()));
            }
            status => return Err(ExchangeError::Status(status.as_u16())),
        }
        // An answer that breaks off is none.
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| unreachable(&*error))?.to_bytes();
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| ExchangeError::Malformed(error.to_string().into()))?;
        let account = Account {
            id: answer.account_id,
            name: answer.account_name,
        };
        let seed = Seed::new(answer.nats_user_seed);
        Issued::new(account, Credentials::new(answer.nats_user_jwt, seed))
    }
}

/// With all that led to it: the outermost error alone says nearly nothing.
fn unreachable(error: &(dyn std::error::Error + 'static)) -> ExchangeError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    ExchangeError::Unreachable(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_http_are_addresses() {
        for wrong in [
            "",
            "auth.example.com",
            "/api/v1",
            "nats://auth.example.com",
            "http://",
        ] {
            let refused = HttpAuth::new(wrong).map(drop);
            assert_eq!(refused, Err(HttpAuthError::Address(wrong.to_owned())));
        }
    }

    #[test]
    fn the_address_may_have_a_path() {
        for address in ["http://127.0.0.1:1/api/v1", "http://127.0.0.1:1/api/v1/"] {
            let auth = HttpAuth::new(address).expect("an address");
            assert_eq!(auth.exchange, "http://127.0.0.1:1/api/v1/auth/exchange");
        }
    }
}
