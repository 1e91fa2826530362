//! What the server refuses and with which numbers, and the bytes that count against its limits.
//!
//! Texts and numbers are those of the real server, because clients act on them.

use std::sync::Arc;

use squall_core::transport::{ApiError, Sequence, Storage};

/// Why a message was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The last sequence, of the stream or of the subject, is another.
    WrongLast(Sequence),
    /// The last message has another id; empty where it has none.
    WrongLastId(Arc<str>),
    /// A limit, or a setting.
    Error(ApiError),
    /// Nothing is said.
    Silence,
}

impl Refusal {
    /// As the server says it; `None` where it says nothing.
    pub(super) fn error(self) -> Option<ApiError> {
        match self {
            Self::Silence => None,
            Self::WrongLast(actual) => {
                let why = format!("wrong last sequence: {actual}");
                Some(api_error(400, 10071, why))
            }
            Self::WrongLastId(actual) => {
                let why = format!("wrong last msg ID: {actual}");
                Some(api_error(400, 10070, why))
            }
            Self::Error(error) => Some(error),
        }
    }
}

pub(super) fn api_error(code: u16, err_code: u64, description: impl Into<Arc<str>>) -> ApiError {
    ApiError {
        code,
        err_code,
        description: description.into(),
    }
}

pub(super) fn stream_not_found() -> ApiError {
    api_error(404, 10059, "stream not found")
}

pub(super) fn invalid_config(why: impl Into<Arc<str>>) -> ApiError {
    api_error(500, 10052, why)
}

/// What a message counts against `max_bytes`.
pub(super) const fn record_size(
    storage: Storage,
    subject: usize,
    headers: usize,
    payload: usize,
) -> u64 {
    let size = match storage {
        Storage::File if headers > 0 => 30 + subject + 4 + headers + payload,
        Storage::File => 30 + subject + payload,
        Storage::Memory => 16 + subject + headers + payload,
    };
    size as u64
}
