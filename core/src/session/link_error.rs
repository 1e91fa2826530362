//! What an error of the seam says to whoever may try again on another connection.

use std::fmt;

use crate::transport::{
    AckError, BucketError, ConsumerError, CreateError, FlushError, PublishError, PullError,
    ReadError, ReadStreamError, RequestError, StoreError, StreamError, SubscribeError, UpdateError,
    WatchError, WriteError,
};

/// An error that a connection gave.
pub(super) trait LinkError: fmt::Display + Send {
    /// The connection was closed, and nothing has happened: it can be done on another one.
    fn is_unsent(&self) -> bool;

    /// Nobody answered who always should: the connection may be dead.
    fn is_silence(&self) -> bool;

    /// The login is over.
    fn closed() -> Self;

    /// There was no connection in time.
    fn timed_out() -> Self;
}

macro_rules! link_error {
    ($($error:ident: unsent $unsent:pat $(if $u:literal)?, silence $silence:pat $(if $s:literal)?, closed $closed:expr, late $late:expr;)*) => {$(
        impl LinkError for $error {
            fn is_unsent(&self) -> bool {
                matches!(self, $unsent $(if $u)?)
            }

            fn is_silence(&self) -> bool {
                matches!(self, $silence $(if $s)?)
            }

            fn closed() -> Self {
                $closed
            }

            fn timed_out() -> Self {
                $late
            }
        }
    )*};
}

// Administration does not say whether a connection that was closed had sent it: it is not done again. Somebody who does
// not answer a request need not be the server, and so says nothing of the connection.
link_error! {
    PublishError: unsent Self::Closed, silence _ if false, closed Self::Closed, late Self::NoConnection;
    RequestError: unsent Self::Publish(PublishError::Closed), silence _ if false,
        closed Self::Publish(PublishError::Closed), late Self::TimedOut;
    SubscribeError: unsent Self::Closed, silence _ if false, closed Self::Closed, late Self::NoConnection;
    FlushError: unsent Self::Closed, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    BucketError: unsent _ if false, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    ReadError: unsent Self::Closed, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    WriteError: unsent Self::Closed, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    CreateError: unsent Self::Write(WriteError::Closed), silence Self::Write(WriteError::TimedOut),
        closed Self::Write(WriteError::Closed), late Self::Write(WriteError::TimedOut);
    UpdateError: unsent Self::Write(WriteError::Closed), silence Self::Write(WriteError::TimedOut),
        closed Self::Write(WriteError::Closed), late Self::Write(WriteError::TimedOut);
    WatchError: unsent Self::Closed, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    StreamError: unsent _ if false, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    ReadStreamError: unsent Self::Closed, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    StoreError: unsent Self::Publish(PublishError::Closed), silence Self::TimedOut,
        closed Self::Publish(PublishError::Closed), late Self::TimedOut;
    ConsumerError: unsent _ if false, silence Self::TimedOut, closed Self::Closed, late Self::TimedOut;
    PullError: unsent Self::Closed, silence _ if false, closed Self::Closed, late Self::Closed;
    AckError: unsent Self::Publish(PublishError::Closed), silence Self::TimedOut,
        closed Self::Publish(PublishError::Closed), late Self::TimedOut;
}
