//! Keeps one account logged in over short-lived user JWTs, after the `daemon` package of ppz.

mod auth;
mod config;
mod refresher;

pub use self::auth::{Account, ApiKey, AuthService, ExchangeError, ExchangeRequest, Issued};
pub use self::config::{Config, ConfigError};
pub use self::refresher::{
    Exchange, Generation, LoginNumber, Refresher, RefresherEffect, RefresherEvent,
};
