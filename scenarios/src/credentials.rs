//! The ways between agents, servers and the [`Authority`]: exchanges, and pushes of accounts' tokens.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use squall_core::transport::{ConnectOptions, Connection, Credentials, CredentialsCell};
use squall_core::transport::{Message, Outcome, Transport};
use squall_core::{Clock, Env};

use crate::authority::{ACCOUNTS, Authority, Denied};
use crate::history::Reply;
use crate::parse::MONITOR;
use crate::testbed::Testbed;

/// Servers that have not answered by then are taken not to know.
const PATIENCE: Duration = Duration::from_secs(1);

/// Exchanges what an agent is known by for credentials of an account.
pub(crate) type Exchange =
    Arc<dyn Fn(&str) -> BoxFuture<'static, Result<Credentials, Denied>> + Send + Sync>;

/// How an agent gets its credentials. What it is issued is dated in the middle of the exchange.
pub(crate) fn exchange<T: Testbed>(
    testbed: &T,
    authority: &Authority<T::Key>,
    agent: &str,
) -> Exchange {
    let (testbed, authority, agent) = (testbed.clone(), authority.clone(), agent.to_owned());
    Arc::new(move |account| {
        let (testbed, authority) = (testbed.clone(), authority.clone());
        let (agent, account) = (agent.clone(), account.to_owned());
        Box::pin(async move {
            let half = authority.takes() / 2;
            testbed.sleep_until(testbed.now() + half).await;
            let issued = authority.exchange(&agent, &account, testbed.wall());
            testbed.sleep_until(testbed.now() + half).await;
            issued
        })
    })
}

/// An answer as histories tell it.
pub(crate) fn told(answer: &Result<Credentials, Denied>) -> Result<Reply, (Outcome, String)> {
    match answer {
        Ok(credentials) => {
            let claims = credentials.claims();
            Ok(Reply::Issued {
                token: claims.map_or("", |claims| &*claims.name).into(),
                expires: claims.and_then(|claims| claims.expires),
            })
        }
        Err(denied) => Err((Outcome::Refused, denied.to_string())),
    }
}

/// Tells the servers what has become of the accounts. Those that nobody has logged in to need not know.
pub(crate) async fn push<T: Testbed>(
    testbed: &T,
    authority: &Authority<T::Key>,
) -> Result<(), String> {
    let (env, servers) = testbed.start(MONITOR, &MONITOR.into());
    let deadline = env.clock().now() + PATIENCE;
    tokio::select! {
        biased;
        pushed = push_all(&env, servers, authority) => pushed,
        () = env.clock().sleep_until(deadline) => Err("no answer".to_owned()),
    }
}

async fn push_all<E: Env, K: squall_core::jwt::KeyPair>(
    env: &E,
    servers: Vec<String>,
    authority: &Authority<K>,
) -> Result<(), String> {
    let options = ConnectOptions {
        servers,
        credentials: Some(CredentialsCell::filled(authority.system())),
        ..ConnectOptions::default()
    };
    let connecting = env.transport().connect(options).await;
    let connection = connecting.map_err(|error| error.to_string())?;
    for account in ACCOUNTS {
        let (subject, token) = authority.update(account);
        let answer = connection
            .request(Message::new(subject.as_str(), token))
            .await;
        answer.map_err(|error| error.to_string())?;
    }
    connection.close().await;
    Ok(())
}
